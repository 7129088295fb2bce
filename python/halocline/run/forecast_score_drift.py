"""Deformation of mean drift, by lead, over starts and members."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from halocline.mesh.grid import Grid
from halocline.physics.deformation import BoxMoments, box_moments, drift_strain, mean_drift, tail_excess
from halocline.physics.ice import EXTENT_CONCENTRATION
from halocline.run.forecast_score_cases import Fields

__all__ = ["DRIFT_HOURS", "Deformation", "DriftScores", "DriftTally", "measure_drift"]

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


@dataclass(frozen=True, eq=False)
class Deformation:
    """Of the drift of one start that ends at one time.

    Attributes:
        moments: Over boxes, of all members.
        excess: Of the tail, see `tail_excess`.
    """

    moments: BoxMoments
    excess: float


def measure_drift(fields: Fields, hours: tuple[float, ...], window: float, grid: Grid) -> dict[int, Deformation]:
    """Deforms the drift of one start; drift needs equal steps that divide its window.

    Arguments:
        fields: Shape (member, time, nj, ni); nothing is found without both components.
        hours: Of all times.
        window: Hours over which drift is averaged.
        grid: Of the drift, both components at cell centres.

    Returns:
        By number of the time at which the window ends; only where it begins at a time.

    Collective: no.
    """
    if not set(COMPONENTS) <= set(fields):
        return {}
    result = {}
    for n in range(1, fields[COMPONENTS[0]].shape[1]):
        first = [k for k in range(n) if math.isclose(hours[k], hours[n] - window, abs_tol=1e-6)]
        if first and np.ptp(np.diff(hours[first[0] : n + 1])) < 1e-6:
            result[n] = deform({name: x[:, first[0] : n + 1] for name, x in fields.items()}, grid)
    return result


def deform(fields: Fields, grid: Grid) -> Deformation:
    """Deforms the mean drift of a few times, where ice is at the last of them."""
    u, v = (mean_drift(fields[name], axis=1) for name in COMPONENTS)
    covered = None
    if "concentration" in fields:
        covered = np.asarray(fields["concentration"][:, -1]) >= EXTENT_CONCENTRATION
    strain = drift_strain(u, v, grid, covered)
    return Deformation(box_moments(strain), tail_excess(strain.rates.total[strain.area > 0]))


class DriftTally:
    """Sums over starts of one forecast.

    Arguments:
        times: Number of times, the start included.
    """

    def __init__(self, times: int) -> None:
        self.sums: list[BoxMoments | None] = [None] * times
        self.excess: list[list[float]] = [[] for _ in range(times)]

    @property
    def known(self) -> bool:
        """Whether there was any drift long enough."""
        return any(one is not None for one in self.sums)

    def add(self, found: Mapping[int, Deformation]) -> None:
        """Adds a start, as `measure_drift` gives it."""
        for n, one in found.items():
            before = self.sums[n]
            self.sums[n] = one.moments if before is None else before + one.moments
            self.excess[n].append(one.excess)

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
