r"""Where the ice is: errors of the ice edge, and how reliable probabilities of presence are.

A cell is *covered* where its concentration is at least a threshold. With :math:`c_m` (1 where member m is covered, else
0), :math:`c` the truth's, :math:`p = \frac1M \sum_m c_m` the probability of presence and areas A,

.. math::

    O = \sum A \max(c_m - c, 0), \quad U = \sum A \max(c - c_m, 0), \quad \text{IIEE} = O + U, \quad
    \text{SPS} = \sum A (p - c)^2

the integrated ice-edge error (Goessling et al. 2016, doi:10.1002/2015GL067232) and its probabilistic twin (Goessling
and Jung 2018, doi:10.1002/qj.3242). The median forecast covers the cells that at least half of the members cover.

The Brier score of presence splits exactly, since p takes the values k / M only (Murphy 1973); with :math:`w_k` the
share of the sea with k members covered, :math:`o_k` the truth's frequency there and :math:`\bar o` everywhere,

.. math::

    \langle (p - c)^2 \rangle = \sum_k w_k (k/M - o_k)^2 - \sum_k w_k (o_k - \bar o)^2 + \bar o (1 - \bar o)

Where ice covers nearly all of the sea, as in the neXtSIM_DG trajectories, an edge at 0.15 is nowhere: choose a
threshold near 1 to judge leads instead. Same bits on every layout; NaN in wet cells makes the result NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.ensembles import check_ensemble
from halocline.physics.ice import EXTENT_CONCENTRATION
from halocline.physics.integrals import add_along, global_sum
from halocline.physics.stability import finite_on_land

__all__ = ["EdgeError", "Reliability", "edge_error", "presence_reliability"]


@dataclass(frozen=True)
class EdgeError:
    """Misplaced ice, m2.

    Attributes:
        over, under: O and U of each member.
        median_over, median_under: Those of the median forecast.
        sps: Spatial probability score; the IIEE if there is one member.
    """

    over: tuple[float, ...]
    under: tuple[float, ...]
    median_over: float
    median_under: float
    sps: float

    @property
    def iiee(self) -> tuple[float, ...]:
        """Integrated ice-edge error of each member."""
        return tuple(o + u for o, u in zip(self.over, self.under, strict=True))

    @property
    def median_iiee(self) -> float:
        """Integrated ice-edge error of the median forecast."""
        return self.median_over + self.median_under


@dataclass(frozen=True)
class Reliability:
    """Forecast probabilities of presence against what happened.

    Attributes:
        share: Of the sea with k members covered, k = 0 ... M.
        covered: Share of the sea with k members covered where the truth is covered, too; o_k is covered / share.
    """

    share: tuple[float, ...]
    covered: tuple[float, ...]

    @property
    def probability(self) -> tuple[float, ...]:
        """Forecast probabilities k / M."""
        return tuple(k / (len(self.share) - 1) for k in range(len(self.share)))

    @property
    def observed(self) -> tuple[float, ...]:
        """o_k; NaN where no cell has this probability."""
        return tuple(c / w if w != 0.0 else float("nan") for c, w in zip(self.covered, self.share, strict=True))

    @property
    def climate(self) -> float:
        """Share of the sea that is covered."""
        return sum(self.covered)

    @property
    def reliability(self) -> float:
        """First term of the split: 0 is best."""
        terms = zip(self.share, self.probability, self.observed, strict=True)
        return sum(w * (p - o) ** 2 for w, p, o in terms if w != 0.0)

    @property
    def resolution(self) -> float:
        """Second term, without its sign: large is good."""
        return sum(w * (o - self.climate) ** 2 for w, o in zip(self.share, self.observed, strict=True) if w != 0.0)

    @property
    def brier(self) -> float:
        """Brier score, added up without the split, whose terms cancel."""
        terms = zip(self.share, self.covered, self.probability, strict=True)
        return sum(c * (1.0 - p) ** 2 + (w - c) * p**2 for w, c, p in terms)


def edge_error(
    forecast: Tensor, truth: Tensor, weight: Tensor, layout: Layout, threshold: float = EXTENT_CONCENTRATION
) -> EdgeError:
    """Measures misplaced ice; see the module.

    Arguments:
        forecast: Concentration of the members, 1, on owned cells, shape (member, tile, 1, j, i).
        truth: Shape (1, tile, 1, j, i).
        weight: Areas of the sea, m2, zero on land, shape (tile, 1, j, i); see `ensembles.areas`.
        layout: Which tiles are here.
        threshold: Least concentration of a covered cell.

    Raises:
        ValueError: A shape is wrong.

    Collective: yes, one sum.
    """
    with layout.comm.together():
        check_ensemble(forecast, truth, weight)
    members = len(forecast)
    c, there = _covered(forecast, weight, threshold), _covered(truth, weight, threshold)
    p = add_along(c, 0)[None] / members
    # 0 * p keeps a NaN, which is neither above nor below one half.
    median = (p >= 0.5) + 0.0 * p
    both = torch.cat([c, median]) - there
    cells = torch.cat([both.clamp(min=0.0), (-both).clamp(min=0.0), (p - there) ** 2])
    sums = global_sum(cells * weight, layout).tolist()
    over, under = sums[: members + 1], sums[members + 1 : -1]
    return EdgeError(tuple(over[:-1]), tuple(under[:-1]), over[-1], under[-1], sums[-1])


def presence_reliability(
    forecast: Tensor, truth: Tensor, weight: Tensor, layout: Layout, threshold: float = EXTENT_CONCENTRATION
) -> Reliability:
    """Compares probabilities of presence with what happened; arguments and errors as `edge_error`.

    Collective: yes, one sum.
    """
    with layout.comm.together():
        check_ensemble(forecast, truth, weight)
    count = add_along(_covered(forecast, weight, threshold), 0)[None]
    there = _covered(truth, weight, threshold)
    levels = [((count == k) + 0.0 * count) * weight for k in range(len(forecast) + 1)]
    share = torch.cat(levels)
    sums = global_sum(torch.cat([share, share * there, weight.to(torch.float64)[None]]), layout).tolist()
    shares = tuple(total / sums[-1] for total in sums[:-1])
    half = len(levels)
    return Reliability(shares[:half], shares[half:])


def _covered(x: Tensor, weight: Tensor, threshold: float) -> Tensor:
    """1 where covered, 0 elsewhere, NaN where x is not finite."""
    x = finite_on_land(x, weight > 0)
    return (x >= threshold) + 0.0 * x
