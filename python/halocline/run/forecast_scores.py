"""Forecasts against what happened: a table by forecast, variable and lead, over several starts.

Squares, energies, counts and moments are averaged over starts before roots, ratios, logarithms and fits are taken of
them. All numbers come from the measures of `physics`, which judge a running forecast with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from halocline.physics.sharpness import Faces, Window, fine_scales, log_power
from halocline.run.coherence import plain
from halocline.run.forecast_score_cases import Case, Fields, check_case
from halocline.run.forecast_score_drift import DRIFT_HOURS, DriftScores, DriftTally
from halocline.run.forecast_score_means import (
    IceScores,
    Means,
    VariableScores,
    ice_scores,
    variable_scores,
)
from halocline.state.variables import VARIABLES

__all__ = ["TRUTH", "ScoreOptions", "Scores", "score_forecasts", "to_plain"]

TRUTH = "truth"
"""Name of the truth among the forecasts of `Scores.drift`."""


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


@dataclass(frozen=True)
class Scores:
    """The table. Sequences over leads have one entry for each of `leads`, NaN where there is none.

    Attributes:
        leads: Hours, without 0.
        starts: How many cases were scored.
        threshold, drift_hours: See `ScoreOptions`.
        wavenumber: Of the spectra, 1/m.
        members: Of each forecast.
        reached: Number of starts of each forecast at each lead.
        variables: Forecast to variable to scores.
        ice: Forecast to scores of extent, volume and edge; only with a concentration.
        drift: Forecast, and the truth, to deformation; only with a drift.
    """

    leads: tuple[float, ...]
    starts: int
    threshold: float
    drift_hours: float
    wavenumber: tuple[float, ...]
    members: Mapping[str, int]
    reached: Mapping[str, tuple[int, ...]]
    variables: Mapping[str, Mapping[str, VariableScores]]
    ice: Mapping[str, IceScores]
    drift: Mapping[str, DriftScores]


def score_forecasts(
    cases: Iterable[Case], grid: Grid, lattice: Lattice | None = None, options: ScoreOptions | None = None
) -> Scores:
    """Scores all forecasts of all starts. Cases are taken one at a time and not kept.

    Arguments:
        cases: Starts; leads are those of the first, others may end earlier.
        grid: Of all fields.
        lattice: Tiles in whose order sums are taken, with a halo; one tile by default.
        options: Choices; the defaults if left out.

    Raises:
        ValueError: There is no case, or one does not fit the grid, the table of variables or the first.

    Collective: no.
    """
    table: Table | None = None
    for case in cases:
        table = table or Table(case.hours, grid, lattice, options or ScoreOptions())
        table.add(case)
    if table is None:
        raise ValueError("There are no forecasts to score, expected at least one start: name some.")
    return table.scores()


def to_plain(scores: Scores) -> dict[str, Any]:
    """Returns all scores as numbers, lists and words; None where there is no number. Collective: no."""
    return dict(plain(asdict(scores)))


class Table:
    """Sums over starts."""

    def __init__(self, hours: tuple[float, ...], grid: Grid, lattice: Lattice | None, options: ScoreOptions) -> None:
        self.hours, self.grid, self.options = tuple(float(hour) for hour in hours), grid, options
        lattice = lattice or Lattice.from_grid(grid, (grid.nj, grid.ni), 1)
        self.layout = Layout.build(lattice, Serial())
        self.geometry = Geometry.build(grid, self.layout)
        self.starts = 0
        self.members: dict[str, int] = {}
        self.means: dict[tuple[str, str], Means] = {}
        self.drift: dict[str, DriftTally] = {}
        self.wavenumber: tuple[float, ...] = ()
        self._faces: dict[tuple[str, int], Faces] = {}

    @cached_property
    def window(self) -> Window:
        """Of the spectra."""
        size = np.sqrt(self.grid.e1t * self.grid.e2t)
        return self.options.window or Window.largest(self.grid.tmask[0], size)

    def add(self, case: Case) -> None:
        """Adds a start."""
        check_case(case, self.hours, self.grid)
        self.starts += 1
        for name, fields in case.forecasts.items():
            count = len(next(iter(fields.values())))
            if self.members.setdefault(name, count) != count:
                raise ValueError(
                    f"Forecast '{name}' has {count} members at one start and {self.members[name]} at another, expected "
                    "the same: choose as many everywhere."
                )
            for variable, x in fields.items():
                self._add_variable(name, variable, x, case.truth[variable])
            self._add_ice(name, fields, case.truth)
        for name, fields in {TRUTH: {k: x[None] for k, x in case.truth.items()}, **case.forecasts}.items():
            tally = self.drift.setdefault(name, DriftTally(self.hours, self.options.drift_hours, self.grid))
            tally.add(fields, case.hours)

    def _add_variable(self, name: str, variable: str, forecast: np.ndarray, truth: np.ndarray) -> None:
        means = self.means.setdefault((name, variable), Means(len(self.hours)))
        for n in range(1, forecast.shape[1]):
            means.add(n, self._measured(variable, forecast[:, n], truth[None, n]))

    def _measured(self, variable: str, forecast: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Everything about a variable at one lead that may be averaged over starts; fields (member, nj, ni)."""
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

    def _spectra(self, x: np.ndarray) -> dict[str, Any]:
        """Energy of fine scales, and logarithms of spectra; nothing of what is not finite."""
        inside = x[:, self.window.rows, self.window.columns]
        if min(inside.shape[1:]) < 2 or not np.isfinite(inside).all():
            return {"fine": np.nan}
        wavenumber, power = self.window.power(x)
        self.wavenumber = tuple(wavenumber.tolist())
        logarithms, count = log_power(power)
        return {"fine": fine_scales(power.mean(axis=0)), "log_power": logarithms, "log_count": count}

    def _add_ice(self, name: str, fields: Fields, truth: Fields) -> None:
        if "concentration" not in fields:
            return
        means = self.means.setdefault((name, ""), Means(len(self.hours)))
        for n in range(1, fields["concentration"].shape[1]):
            here = {key: x[:, n] for key, x in fields.items()}
            means.add(n, self._ice_measured(here, {key: x[None, n] for key, x in truth.items()}))

    def _ice_measured(self, forecast: Fields, truth: Fields) -> dict[str, Any]:
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

    def scores(self) -> Scores:
        """Takes roots, ratios and fits."""
        variables: dict[str, dict[str, VariableScores]] = {name: {} for name in self.members}
        ice = {}
        for (name, variable), means in self.means.items():
            if variable:
                variables[name][variable] = variable_scores(means, self.members[name])
            else:
                ice[name] = ice_scores(means)
        reached = {
            name: tuple(max(self.means[name, v].counts[n] for v in found) for n in range(1, len(self.hours)))
            for name, found in variables.items()
        }
        drift = {name: tally.scores() for name, tally in self.drift.items() if tally.known}
        return Scores(
            self.hours[1:], self.starts, self.options.threshold, self.options.drift_hours, self.wavenumber,
            dict(self.members), reached, variables, ice, drift,
        )  # fmt: skip
