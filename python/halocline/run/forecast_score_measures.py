"""What is measured of one start: everything that may be added over starts, and nothing that depends on another start.

All numbers come from the measures of `physics`, which judge a running forecast with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.bounds import on_bounds
from halocline.physics.ensembles import areas, rank_histogram, score_ensemble
from halocline.physics.geometry import Geometry
from halocline.physics.ice import EXTENT_CONCENTRATION, diagnose_ice
from halocline.physics.ice_edge import edge_error, presence_reliability
from halocline.physics.sharpness import Faces, FineScales, Window, log_power
from halocline.run.forecast_score_cases import Case, Fields, check_case
from halocline.run.forecast_score_drift import DRIFT_HOURS, Deformation, measure_drift
from halocline.state.variables import VARIABLES

__all__ = ["TRUTH", "Measured", "Measures", "ScoreOptions"]

TRUTH = "truth"
"""Name of the truth among the forecasts of `Measured.drift` and `Scores.drift`."""

SPECTRA = ("forecast_log_power", "truth_log_power")

Rows = Sequence[Mapping[str, Any]]
"""Named numbers and vectors, one entry for each time after the start."""


@dataclass(frozen=True)
class ScoreOptions:
    """Choices.

    Attributes:
        threshold: Least concentration of a covered cell, for edge and presence.
        drift_hours: Over which drift is averaged before it is deformed.
        window: Rectangle of spectra; the largest without land by default.
    """

    threshold: float = EXTENT_CONCENTRATION
    drift_hours: float = DRIFT_HOURS
    window: Window | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """Of one start; small beside its fields.

    Attributes:
        hours: See `Case`.
        members: Of each forecast.
        variables: Forecast to variable to what may be averaged over starts.
        ice: Forecast to amounts, edge and presence; only with a concentration.
        drift: Forecast, and the truth, to deformation.
        wavenumber: Of the spectra, 1/m; empty where there are none.
    """

    hours: tuple[float, ...]
    members: Mapping[str, int]
    variables: Mapping[str, Mapping[str, Rows]]
    ice: Mapping[str, Rows]
    drift: Mapping[str, Mapping[int, Deformation]]
    wavenumber: tuple[float, ...]


class Measures:
    """Measures starts of one grid.

    Arguments:
        grid: Of all fields.
        lattice: Tiles in whose order sums are taken, with a halo; one tile by default.
        options: Choices; the defaults if left out.

    Collective: no, all tiles are here.
    """

    def __init__(self, grid: Grid, lattice: Lattice | None = None, options: ScoreOptions | None = None) -> None:
        self.grid, self.options = grid, options or ScoreOptions()
        lattice = lattice or Lattice.from_grid(grid, (grid.nj, grid.ni), 1)
        self.layout = Layout.build(lattice, Serial())
        self.geometry = Geometry.build(grid, self.layout)
        self._faces: dict[tuple[str, int], Faces] = {}

    def of(self, case: Case) -> Measured:
        """Measures a start: a pure function of it.

        Raises:
            ValueError: It does not fit the grid or the table of variables.

        Collective: no.
        """
        check_case(case, self.grid)
        truth, hours = case.truth, tuple(float(hour) for hour in case.hours)
        variables = {
            name: {variable: self._variable(variable, x, truth[variable]) for variable, x in fields.items()}
            for name, fields in case.forecasts.items()
        }
        drifting = {TRUTH: {name: x[None] for name, x in truth.items()}, **case.forecasts}
        window = self.options.drift_hours
        rows = (row for found in variables.values() for by_lead in found.values() for row in by_lead)
        has_spectra = any(not row.keys().isdisjoint(SPECTRA) for row in rows)
        return Measured(
            hours=hours,
            members={name: len(next(iter(fields.values()))) for name, fields in case.forecasts.items()},
            variables=variables,
            ice={name: self._ice(x, truth) for name, x in case.forecasts.items() if "concentration" in x},
            drift={name: measure_drift(fields, hours, window, self.grid) for name, fields in drifting.items()},
            wavenumber=self._wavenumber if has_spectra else (),
        )

    @cached_property
    def _window(self) -> Window:
        size = np.sqrt(self.grid.e1t * self.grid.e2t)
        return self.options.window or Window.largest(self.grid.tmask[0], size)

    @cached_property
    def _wavenumber(self) -> tuple[float, ...]:
        return tuple(self._window.power(np.zeros((1, self.grid.nj, self.grid.ni)))[0].tolist())

    def _variable(self, variable: str, forecast: np.ndarray, truth: np.ndarray) -> Rows:
        """Fields (member, time, nj, ni) and (time, nj, ni)."""
        return [self._scored(variable, forecast[:, n], truth[None, n]) for n in range(1, forecast.shape[1])]

    def _scored(self, variable: str, forecast: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Everything about a variable at one lead; fields (member, nj, ni)."""
        row = VARIABLES[variable]
        x, y = self._tiles(forecast), self._tiles(truth)
        weight = areas(self.geometry, row.point)
        found: dict[str, Any] = asdict(score_ensemble(x, y, weight, self.layout))
        found["frequency"] = rank_histogram(x, y, weight, self.layout).frequency
        faces = self._faces_of(row.point, row.sign)
        for side, tiles, whole in (("forecast", x, forecast), ("truth", y, truth)):
            shares = on_bounds(tiles, row.bounds, weight, self.layout)
            found |= {f"{side}_{key}": value for key, value in asdict(shares).items()}
            found[f"{side}_gradient"] = float(faces.energy(tiles).mean())
            found |= {f"{side}_{key}": value for key, value in self._spectra(whole).items()}
        return found

    @cached_property
    def _fine(self) -> FineScales:
        return FineScales.over(self.grid.tmask[0], np.sqrt(self.grid.e1t * self.grid.e2t))

    def _spectra(self, x: np.ndarray) -> dict[str, Any]:
        """Energy of fine scales, and logarithms of spectra; nothing of what is not finite."""
        inside = x[:, self._window.rows, self._window.columns]
        if min(inside.shape[1:]) < 2 or not np.isfinite(x[:, self.grid.tmask[0]]).all():
            return {"fine": np.nan}
        logarithms, count = log_power(self._window.power(x)[1])
        return {"fine": float(self._fine.energy(x).mean()), "log_power": logarithms, "log_count": count}

    def _ice(self, fields: Fields, truth: Fields) -> Rows:
        return [
            self._ice_scored({k: x[:, n] for k, x in fields.items()}, {k: x[None, n] for k, x in truth.items()})
            for n in range(1, fields["concentration"].shape[1])
        ]

    def _ice_scored(self, forecast: Fields, truth: Fields) -> dict[str, Any]:
        """Amounts, edge and presence at one lead; fields (member, nj, ni)."""
        weight, threshold = areas(self.geometry), self.options.threshold
        x, y = self._tiles(forecast["concentration"]), self._tiles(truth["concentration"])
        error = edge_error(x, y, weight, self.layout, threshold)
        table = presence_reliability(x, y, weight, self.layout, threshold)
        found: dict[str, Any] = {
            "iiee": float(np.mean(error.iiee)),
            "median_iiee": error.median_iiee,
            "sps": error.sps,
            "share": table.share,
            "covered": table.covered,
        }
        for side, fields in (("forecast", forecast), ("truth", truth)):
            amounts = {k: self._tiles(fields[k]) for k in ("concentration", "thickness", "snow") if k in fields}
            diagnosed = diagnose_ice(amounts, self.geometry, self.layout)
            for key in ("ice_extent", "ice_area", "ice_volume", "snow_volume"):
                found[f"{side}_{key}"] = float(diagnosed[key].mean()) if key in diagnosed else np.nan
        return found

    def _tiles(self, x: np.ndarray) -> Tensor:
        """(member, nj, ni) to (member, tile, 1, j, i)."""
        return torch.as_tensor(self.layout.cut(np.asarray(x, np.float64)[:, None])).transpose(0, 1)

    def _faces_of(self, point: str, sign: int) -> Faces:
        if (point, sign) not in self._faces:
            self._faces[point, sign] = Faces.build(self.geometry, self.layout, point, sign)
        return self._faces[point, sign]
