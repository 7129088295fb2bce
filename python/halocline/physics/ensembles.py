r"""Scores of an ensemble forecast against the truth: errors, CRPS, spread and ranks.

With members :math:`x_1 \dots x_M`, their mean :math:`\bar x`, truth :math:`y` and areas :math:`A` of the wet cells,
:math:`\langle\cdot\rangle = \sum A\,\cdot / \sum A`,

.. math::

    \text{bias} = \langle \bar x - y \rangle, \quad
    \text{MSE} = \langle (\bar x - y)^2 \rangle, \quad
    \text{MSE}_1 = \Big\langle \frac1M \sum_m (x_m - y)^2 \Big\rangle, \quad
    s^2 = \Big\langle \frac{1}{M-1} \sum_m (x_m - \bar x)^2 \Big\rangle

    \text{CRPS} = \Big\langle \frac1M \sum_m |x_m - y| - \frac{1}{M(M-1)} \sum_{k=1}^{M-1} k (M-k)
                  (x_{(k+1)} - x_{(k)}) \Big\rangle

which is the fair CRPS: its expectation does not depend on M (Ferro 2014, doi:10.1002/qj.2270). The sum over gaps of
the sorted members equals :math:`\sum_{i<j} |x_i - x_j|`; all its terms are positive, so nothing cancels. A calibrated
ensemble has a ratio of spread to skill of 1 (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1),

.. math:: r = \sqrt{\frac{M+1}{M} s^2 / \text{MSE}}

and ranks of the truth that are equally frequent (Hamill 2001).

All members of the owned cells are here. What is returned has the same bits on every rank and every layout. A value
that is not finite in a wet cell makes the scores NaN; values on land do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import add_along, global_sum
from halocline.physics.stability import finite_on_land

__all__ = [
    "EnsembleScores", "RankHistogram", "areas", "check_ensemble", "fair_crps", "rank_histogram", "score_ensemble",
    "spread_skill",
]  # fmt: skip


@dataclass(frozen=True)
class EnsembleScores:
    """Means over the sea of one variable at one time; to be averaged over forecasts before any root is taken.

    Attributes:
        members: M.
        bias: Of the ensemble mean, unit of the variable.
        mse: Mean square error of the ensemble mean, unit squared.
        mse_members: Mean over members of their mean square errors, unit squared.
        variance: s squared, unbiased, unit squared; NaN for one member.
        crps: Fair CRPS, unit of the variable; of one member the mean absolute error, which a CRPS of a forecast
            without spread is.
    """

    members: int
    bias: float
    mse: float
    mse_members: float
    variance: float
    crps: float


@dataclass(frozen=True)
class RankHistogram:
    """How often the truth has each rank among the members.

    Attributes:
        frequency: Share of the sea with r members below the truth, r = 0 ... M, of sum 1.
    """

    frequency: tuple[float, ...]

    @property
    def departure(self) -> float:
        r"""Distance from flatness :math:`\sum_r |f_r - 1/(M+1)|`, in [0, 2) (Delle Monache et al. 2006)."""
        flat = 1.0 / len(self.frequency)
        return sum(abs(f - flat) for f in self.frequency)

    @property
    def outliers(self) -> float:
        """Share of the sea where the truth is beyond all members, relative to a flat histogram: above 1, too little
        spread, below 1, too much."""
        return (self.frequency[0] + self.frequency[-1]) * len(self.frequency) / 2.0


def areas(geometry: Geometry, point: str = "T") -> Tensor:
    """Areas of the wet surface cells of a point that count, m2, (tile, 1, j, i), zero on land. Collective: no."""
    name = point.lower()
    size: Tensor = getattr(geometry, f"e1{name}") * getattr(geometry, f"e2{name}") * getattr(geometry, f"owned_{name}")
    mask: Tensor = getattr(geometry, f"{name}mask")
    return (size * mask[:, 0]).unsqueeze(1)


def score_ensemble(forecast: Tensor, truth: Tensor, weight: Tensor, layout: Layout) -> EnsembleScores:
    """Scores a variable; see the module.

    Arguments:
        forecast: Members on owned cells, shape (member, tile, 1, j, i).
        truth: Shape (1, tile, 1, j, i), same unit.
        weight: Of the cells, zero where they do not count, shape (tile, 1, j, i); see `areas`.
        layout: Which tiles are here.

    Raises:
        ValueError: A shape is wrong.

    Collective: yes, one sum.
    """
    with layout.comm.together():
        check_ensemble(forecast, truth, weight)
    members = len(forecast)
    error = _on_sea(forecast, weight) - _on_sea(truth, weight)
    mean = add_along(error, 0) / members
    spread = add_along((error - mean) ** 2, 0) / (members - 1) if members > 1 else torch.full_like(mean, torch.nan)
    crps = _crps(error) if members > 1 else error[0].abs()
    cells = torch.stack([mean, mean**2, add_along(error**2, 0) / members, spread, crps])
    sums = global_sum(torch.cat([cells * weight, weight.to(torch.float64)[None]]), layout).tolist()
    return EnsembleScores(members, *(total / sums[-1] for total in sums[:-1]))


def fair_crps(forecast: Tensor, truth: Tensor) -> Tensor:
    """Returns the fair CRPS of each cell, see the module, at O(M log M).

    Arguments:
        forecast: Shape (member, ...), any unit.
        truth: Shape (...) or (1, ...).

    Returns:
        Float64, shape (...).

    Raises:
        ValueError: There is one member only.

    Collective: no.
    """
    if len(forecast) < 2:
        raise ValueError(
            f"Fair CRPS of {len(forecast)} members is not defined, expected at least 2: forecast more members, or "
            "score a single one by its absolute error."
        )
    return _crps(forecast.to(torch.float64) - truth.to(torch.float64))


def _crps(error: Tensor) -> Tensor:
    """Fair CRPS of errors (member, ...), at least two."""
    members = len(error)
    ordered = error.sort(dim=0).values
    pairs = torch.zeros_like(error[0])
    for k in range(1, members):
        pairs = pairs + k * (members - k) * (ordered[k] - ordered[k - 1])
    return add_along(error.abs(), 0) / members - pairs / (members * (members - 1))


def spread_skill(scores: EnsembleScores) -> float:
    """Returns r of the module; NaN for one member, infinite where there is spread but no error. Collective: no."""
    inflated = (scores.members + 1) / scores.members * scores.variance
    if scores.mse == 0.0:
        return float("nan") if not inflated > 0.0 else float("inf")
    return float((inflated / scores.mse) ** 0.5)


def rank_histogram(forecast: Tensor, truth: Tensor, weight: Tensor, layout: Layout) -> RankHistogram:
    """Counts the ranks of the truth among the members, by area.

    Where the truth equals e members, as on bounds, its e + 1 possible ranks count 1 / (e + 1) each. That is the
    expectation of drawing one of them at random, without the draw.

    Arguments: see `score_ensemble`.

    Raises:
        ValueError: A shape is wrong.

    Collective: yes, one sum.
    """
    with layout.comm.together():
        check_ensemble(forecast, truth, weight)
    error = _on_sea(forecast, weight) - _on_sea(truth, weight)
    # A NaN is neither above nor below: zero times it brings it back.
    below = add_along((error < 0.0) + 0.0 * error, 0)
    equal = add_along((error == 0.0).to(torch.float64), 0)
    share = weight / (equal + 1.0)
    bins = [((below <= r) & (r <= below + equal)) * share + 0.0 * below for r in range(len(error) + 1)]
    sums = global_sum(torch.stack([*bins, weight.to(torch.float64)]), layout).tolist()
    return RankHistogram(tuple(total / sums[-1] for total in sums[:-1]))


def check_ensemble(forecast: Tensor, truth: Tensor, weight: Tensor) -> None:
    """Refuses shapes other than those of `score_ensemble`.

    Raises:
        ValueError: Some shape is.
    """
    cells = tuple(weight.shape)
    given = (tuple(forecast.shape[1:]), tuple(truth.shape))
    if len(cells) != 4 or not len(forecast) or given != (cells, (1, *cells)):
        raise ValueError(
            f"Forecast has shape {tuple(forecast.shape)} and truth {tuple(truth.shape)}, expected (member, tile, 1, j, "
            f"i) and (1, tile, 1, j, i) with weights of shape {cells}: pass owned cells of a surface field, without "
            "halo."
        )


def _on_sea(x: Tensor, weight: Tensor) -> Tensor:
    return finite_on_land(x, weight > 0)
