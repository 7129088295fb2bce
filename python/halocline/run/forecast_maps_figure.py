"""Maps in the report on forecasts: truth, a member, mean and spread of thickness, damage and deformation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cmocean
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from halocline.constants import DAY
from halocline.mesh.grid import Grid
from halocline.physics.deformation import drift_strain, mean_drift
from halocline.run.forecast_score_cases import Case, Fields
from halocline.state.variables import variable

__all__ = ["Example", "draw_maps"]

LAND = "#b9b4a8"
SHOWN = ("thickness", "damage")
COLOURS = {"thickness": cmocean.cm.ice, "damage": cmocean.cm.matter}
LEAST_RATE = 1e-3  # of the deformation that is drawn, 1/day


@dataclass(frozen=True, eq=False)
class Example:
    """What the maps show.

    Attributes:
        case: A start with its forecasts.
        forecast: Name of one of them.
        lead: Hours.
        drift_hours: Over which drift is averaged; less where the lead is.
    """

    case: Case
    forecast: str
    lead: float
    drift_hours: float

    def time(self) -> int:
        """Number of the time of the lead.

        Raises:
            ValueError: The forecast is not there or does not reach it.
        """
        fields = self.case.forecasts.get(self.forecast)
        if fields is None:
            known = ", ".join(self.case.forecasts) or "none"
            raise ValueError(f"Forecast '{self.forecast}' is not in the case, expected one of {known}.")
        reached = self.case.hours[: next(iter(fields.values())).shape[1]]
        for n, hour in enumerate(reached):
            if math.isclose(hour, self.lead, abs_tol=1e-6):
                return n
        raise ValueError(
            f"Lead {self.lead:g} h is not in forecast '{self.forecast}', which goes to {reached[-1]:g} h: choose one "
            "of its times."
        )


def draw_maps(axes: np.ndarray, example: Example, grid: Grid) -> None:
    """Draws rows of four maps, as many as the forecast has variables for; others stay empty.

    Arguments:
        axes: Shape (3, 4).

    Raises:
        ValueError: See `Example.time`.

    Collective: no.
    """
    n, wet = example.time(), grid.tmask[0]
    forecast, truth = example.case.forecasts[example.forecast], example.case.truth
    for row, name in zip(axes, SHOWN, strict=False):
        if name in forecast:
            unit = variable(name).unit
            here, members = (np.where(wet, x, np.nan) for x in (truth[name][n], forecast[name][:, n]))
            ends = (0.0, 1.0) if name == "damage" else np.nanquantile(here, (0.005, 0.995)).tolist()
            draw_row(row, name, "" if unit == "1" else unit, here, members, COLOURS[name], Normalize(*ends))
    if {"ice_u", "ice_v"} <= set(forecast):
        hours = np.asarray(example.case.hours)
        times = slice(int(np.flatnonzero(hours >= example.lead - example.drift_hours - 1e-6)[0]), n + 1)
        members = deformation(forecast, times, grid)
        expected = deformation({k: x[None] for k, x in truth.items()}, times, grid)[0]
        high = max(float(np.nanquantile(expected, 0.998)), 10 * LEAST_RATE)
        label = f"{example.lead - hours[times.start]:g} h deformation"
        draw_row(axes[2], label, "1/day", expected, members, cmocean.cm.dense, LogNorm(LEAST_RATE, high, clip=True))


def deformation(fields: Fields, times: slice, grid: Grid) -> np.ndarray:
    """Total deformation of mean drift, (member, nj - 1, ni - 1), 1/day; NaN where it is not defined."""
    u, v = (mean_drift(fields[name][:, times], axis=1) for name in ("ice_u", "ice_v"))
    strain = drift_strain(u, v, grid)
    return np.where(strain.area > 0, strain.rates.total * DAY, np.nan)


def draw_row(
    row: np.ndarray, name: str, unit: str, truth: np.ndarray, members: np.ndarray, colours: Any, norm: Normalize
) -> None:
    """Truth (j, i), first member, mean and spread of (member, j, i)."""
    panels = [(f"{name}: truth", truth), ("member 0", members[0])]
    if len(members) > 1:
        panels.append((f"mean of {len(members)} members", members.mean(axis=0)))
    for axis, (title, x) in zip(row, panels, strict=False):
        draw_map(axis, title, x, colours, norm, unit)
    if len(members) > 1:
        spread = members.std(axis=0, ddof=1)
        high = max(float(np.nanquantile(spread, 0.995)), 1e-12)
        draw_map(row[3], "spread", spread, cmocean.cm.amp, Normalize(0.0, high), unit)


def draw_map(axis: Axes, title: str, x: np.ndarray, colours: Any, norm: Normalize, unit: str) -> None:
    """One field (j, i) with its colour bar; land is grey."""
    axis.set_facecolor(LAND)
    mesh = axis.pcolormesh(np.ma.masked_invalid(x), cmap=colours, norm=norm, rasterized=True)
    axis.figure.colorbar(mesh, ax=axis, label=unit, shrink=0.8, pad=0.02)
    axis.set(title=title, aspect="equal", xticks=[], yticks=[])
