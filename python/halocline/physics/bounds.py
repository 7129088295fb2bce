"""Values on physical bounds, and beyond them: as shares of the sea, the same bits on every layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.ice import BOUND_TOLERANCE
from halocline.physics.integrals import global_sum
from halocline.physics.stability import finite_on_land

__all__ = ["BoundShares", "on_bounds"]


@dataclass(frozen=True)
class BoundShares:
    """Shares of the sea's area, averaged over members.

    Attributes:
        lower, upper: On or beyond a bound; 0 where there is none.
        beyond: Beyond either bound, without any tolerance.
    """

    lower: float
    upper: float
    beyond: float


def on_bounds(
    x: Tensor,
    bounds: tuple[float, float],
    weight: Tensor,
    layout: Layout,
    tolerance: float = BOUND_TOLERANCE,
) -> BoundShares:
    """Measures how much of the sea lies on bounds.

    Arguments:
        x: Owned cells, shape (member, tile, 1, j, i); anything on land, NaN of the sea make NaN.
        bounds: Lowest and highest value, infinite where there is none.
        weight: Areas of the sea, zero on land, shape (tile, 1, j, i); see `ensembles.areas`.
        layout: Which tiles are here.
        tolerance: Distance within which a value lies on a bound, unit of x.

    Collective: yes, one sum.
    """
    x = finite_on_land(x, weight > 0)
    low, high = bounds
    shares = [x <= low + tolerance, x >= high - tolerance, (x < low) | (x > high)]
    cells = torch.stack([share + 0.0 * x for share in shares])  # 0 * x keeps a NaN, which compares with nothing
    sums = global_sum(cells * weight, layout).mean(-1) / global_sum(weight, layout)
    return BoundShares(*sums.tolist())
