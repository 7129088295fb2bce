"""How the diagnostics follow from what the tiles contribute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from halocline.constants import RCP, RHO0
from halocline.mesh.layout import Layout
from halocline.physics import circulation
from halocline.physics.geometry import Geometry

__all__ = ["FORMULAS", "Formula", "Totals"]


@dataclass(frozen=True, eq=False)
class Totals:
    """What all tiles contribute together; see :mod:`~halocline.physics.contributions`.

    Arguments:
        told: Contribution to its value, shape (member, ...), or (tile, member, ...) for pieces of maps.
        geometry: Any rank's geometry.
        layout: Of its tiles.
    """

    told: Mapping[str, Tensor]
    geometry: Geometry
    layout: Layout

    def __getitem__(self, name: str) -> Tensor:
        return self.told[name]

    @cached_property
    def transport(self) -> Tensor:
        """Depth transport along i, m3/s, (member, nj, ni)."""
        return circulation.transport_on_grid(self["columns"].numpy(), self.layout)

    @cached_property
    def barotropic(self) -> Tensor:
        """Barotropic streamfunction, Sv, (member, nj, ni)."""
        return circulation.barotropic_streamfunction(self.transport, self.geometry)

    @cached_property
    def gyre(self) -> tuple[Tensor, Tensor]:
        """Its largest and smallest value."""
        return circulation.gyre_transport(self.barotropic, self.geometry)

    @cached_property
    def overturning(self) -> Tensor:
        """Overturning streamfunction, Sv, (member, nk, nj)."""
        return circulation.overturning_of_rows(self["rows"].numpy(), self.layout)


@dataclass(frozen=True)
class Formula:
    """A diagnostic: the contributions that it needs, and its value."""

    needs: tuple[str, ...]
    value: Callable[[Totals], Tensor]


def _sum(name: str, factor: float = 1.0) -> Formula:
    return Formula((name,), lambda totals: factor * totals[name])


def _mean(name: str, weight: str) -> Formula:
    return Formula((name, weight), lambda totals: totals[name] / totals[weight])


def _root(name: str, weight: str) -> Formula:
    return Formula((name, weight), lambda totals: (totals[name] / totals[weight]).sqrt())


def _tracer(name: str) -> dict[str, Formula]:
    return {
        f"{name}_mean": _mean(f"{name}_levels", "volume_levels"),
        f"{name}_std": _root(f"{name}_spread", "volume_levels"),
        f"{name}_volume_mean": _mean(name, "volume"),
        f"{name}_deep": _mean(f"{name}_deep", "volume_deep"),
        f"{name}_bottom": _mean(f"{name}_bottom", "volume_bottom"),
    }


FORMULAS: Mapping[str, Formula] = {
    "nonfinite_cells": _sum("nonfinite"),
    "unstable_fraction": _mean("unstable", "volume"),
    "unstable_fraction_strict": _mean("unstable_strict", "volume"),
    "potential_density": _mean("potential_density", "rest_levels"),
    "stratification": _mean("stratification", "interface_area"),
    **_tracer("temperature"),
    **_tracer("salinity"),
    "heat_content": _sum("temperature", RHO0 * RCP),
    "heat_content_per_area": Formula(
        ("temperature", "area"), lambda totals: RHO0 * RCP * totals["temperature"] / totals["area"]
    ),
    "salt_content": _sum("salinity", 1.0e-3 * RHO0),
    "sea_level_mean": _mean("sea_level", "area"),
    "sea_level_rms": _root("sea_level_squares", "area"),
    "sea_level_min": _sum("sea_level_min"),
    "sea_level_max": _sum("sea_level_max"),
    "kinetic_energy": Formula(("energy", "volume"), lambda totals: 0.5 * totals["energy"] / totals["volume"]),
    "velocity_u_max": _sum("velocity_u_max"),
    "velocity_v_max": _sum("velocity_v_max"),
    "barotropic_streamfunction": Formula(("columns",), lambda totals: totals.barotropic),
    "gyre_transport_max": Formula(("columns",), lambda totals: totals.gyre[0]),
    "gyre_transport_min": Formula(("columns",), lambda totals: totals.gyre[1]),
    "channel_transport": Formula(("columns",), lambda totals: circulation.channel_transport(totals.transport)),
    "overturning_streamfunction": Formula(("rows",), lambda totals: totals.overturning),
    "overturning_max": Formula(("rows",), lambda totals: totals.overturning.amax((-2, -1))),
    "overturning_min": Formula(("rows",), lambda totals: totals.overturning.amin((-2, -1))),
}
"""That of every diagnostic, by its name."""
