"""Deformation of mean drift, by lead, over starts and members."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from halocline.mesh.grid import Grid
from halocline.physics.deformation import BoxMoments, box_moments, drift_strain, mean_drift, tail_excess
from halocline.physics.ice import EXTENT_CONCENTRATION
from halocline.run.forecast_score_cases import Fields

__all__ = ["DRIFT_HOURS", "DriftScores", "DriftTally"]

DRIFT_HOURS = 24.0
"""Hours over which drift is averaged."""

COMPONENTS = ("ice_u", "ice_v")


@dataclass(frozen=True)
class DriftScores:
    """Deformation of the drift that ends at each lead; NaN or empty where the drift would begin before the start.

    Attributes:
        beta: Exponents of q = 1, 2, 3.
        rate: Mean total deformation of the smallest boxes, 1/s.
        tail: Exponent of the largest tenth of the rates.
        lengths: Of the boxes, m.
        moments: Of order q at each length, s^-q: lead, q, length.
    """

    beta: tuple[tuple[float, ...], ...]
    rate: tuple[float, ...]
    tail: tuple[float, ...]
    lengths: tuple[tuple[float, ...], ...]
    moments: tuple[tuple[tuple[float, ...], ...], ...]


class DriftTally:
    """Sums over starts of one forecast.

    Arguments:
        hours: All times.
        window: Hours over which drift is averaged.
        grid: Of the drift, both components at cell centres.
    """

    def __init__(self, hours: tuple[float, ...], window: float, grid: Grid) -> None:
        self.hours, self.window, self.grid = hours, window, grid
        self.sums: list[BoxMoments | None] = [None] * len(hours)
        self.excess: list[list[float]] = [[] for _ in hours]

    @property
    def known(self) -> bool:
        """Whether there was any drift long enough."""
        return any(one is not None for one in self.sums)

    def add(self, fields: Fields, hours: tuple[float, ...]) -> None:
        """Adds a start; fields (member, time, nj, ni). Drift needs equal steps that divide its window."""
        if not set(COMPONENTS) <= set(fields):
            return
        for n in range(1, fields[COMPONENTS[0]].shape[1]):
            first = [k for k in range(n) if math.isclose(hours[k], hours[n] - self.window, abs_tol=1e-6)]
            if first and np.ptp(np.diff(hours[first[0] : n + 1])) < 1e-6:
                self._add_lead(n, {name: x[:, first[0] : n + 1] for name, x in fields.items()})

    def _add_lead(self, n: int, fields: Fields) -> None:
        u, v = (mean_drift(fields[name], axis=1) for name in COMPONENTS)
        covered = None
        if "concentration" in fields:
            covered = np.asarray(fields["concentration"][:, -1]) >= EXTENT_CONCENTRATION
        strain = drift_strain(u, v, self.grid, covered)
        before, moments = self.sums[n], box_moments(strain)
        self.sums[n] = moments if before is None else before + moments
        self.excess[n].append(tail_excess(strain.rates.total[strain.area > 0]))

    def scores(self) -> DriftScores:
        """Fits the exponents."""
        found = [None if one is None else one.scaling() for one in self.sums[1:]]
        nan = float("nan")
        excess = [np.array(x)[np.isfinite(x)] for x in self.excess[1:]]
        return DriftScores(
            beta=tuple((nan,) * 3 if one is None else one.beta for one in found),
            rate=tuple(nan if one is None else float(one.moments[0, 0]) for one in found),
            tail=tuple(float(1.0 / x.mean()) if x.size else nan for x in excess),
            lengths=tuple(() if one is None else tuple(one.lengths.tolist()) for one in found),
            moments=tuple(() if one is None else tuple(map(tuple, one.moments.tolist())) for one in found),
        )
