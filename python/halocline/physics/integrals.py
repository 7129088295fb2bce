r"""Sums, means and spreads over the globe, the same bits on every layout.

A tile is summed on its own, then tiles are added in lattice order. The sums can be differentiated:
every rank computes the same number from them, so the derivative of that number with respect to a
local cell needs no message.
"""

from typing import Any

import torch
from torch import Tensor

from halocline.mesh.layout import Layout, tile_sums


class _LatticeSum(torch.autograd.Function):
    """Layout.sum with its adjoint: each tile receives the derivative of the global sum."""

    @staticmethod
    def forward(ctx: Any, partial: Tensor, layout: Layout) -> Tensor:
        ctx.shape = partial.shape
        return layout.sum(partial)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].unsqueeze(-1).expand(ctx.shape), None


def global_sum(x: Tensor, layout: Layout) -> Tensor:
    """Adds all cells of all tiles.

    Arguments:
        x: Values on owned cells, zero where they do not count, shape (..., tile, k, j, i).
        layout: Which tiles are here.

    Returns:
        Sums, float64, shape (...).

    Collective: yes.
    """
    return lattice_sum(tile_sums(x, cells=3), layout)


def level_sum(x: Tensor, layout: Layout) -> Tensor:
    """Adds the cells of each level: shape (..., tile, k, j, i) to (..., k).

    Collective: yes.
    """
    return lattice_sum(level_sums(x), layout)


def level_sums(x: Tensor) -> Tensor:
    """Adds the cells of each level of each tile: (..., tile, k, j, i) to (..., k, tile). Collective: no."""
    return tile_sums(x, cells=2).mT


def lattice_sum(partial: Tensor, layout: Layout) -> Tensor:
    """Adds sums of tiles in lattice order, (..., tile) to (...), float64; differentiable. Collective: yes."""
    return _LatticeSum.apply(partial, layout)


def best_share(before: Tensor, change: Tensor, layout: Layout) -> Tensor:
    r"""Returns the share of a change, in [0, 1], that leaves the least sum of squares: 1 where nothing changes.

    .. math:: \arg\min_c \sum (b + c\,\delta)^2 = -\frac{\sum b\,\delta}{\sum \delta^2}

    Arguments:
        before, change: On owned cells, zero where they do not count, shape (member, tile, k, j, i).
        layout: Which tiles are here.

    Returns:
        Float64, shape (member).

    Collective: yes.
    """
    drawn, size = global_sum(torch.stack([-before * change, change * change]), layout)
    return torch.where(size > 0, drawn / size.clamp(min=1e-30), 1.0).clamp(0.0, 1.0)


def global_mean(x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    r"""Returns :math:`\sum w x / \sum w` over all cells of all tiles.

    Arguments:
        x: Values, finite where the weight is zero, shape (member, tile, k, j, i).
        weight: Weights, zero where cells do not count, broadcasting to x.
        layout: Which tiles are here.

    Returns:
        Means, float64, shape (member,); NaN if all weights are zero.

    Collective: yes, one sum.
    """
    partial = [tile_sums(x * weight, cells=3), tile_sums(weight.expand_as(x).to(x.dtype), cells=3)]
    total, norm = lattice_sum(torch.stack(partial), layout)
    return total / norm


def level_mean(x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    """Returns the weighted mean of each level, (member, k); NaN on levels without weight.

    Arguments as in :func:`global_mean`.

    Collective: yes, one sum.
    """
    total, norm = lattice_sum(
        torch.stack([level_sums(x * weight), level_sums(weight.expand_as(x).to(x.dtype))]), layout
    )
    there = norm > 0  # a level without weight must not spoil the gradient of the others
    return torch.where(there, total / torch.where(there, norm, 1.0), torch.nan)


def level_std(x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    """Returns the weighted standard deviation within each level, as :func:`level_mean`.

    Collective: yes, two sums.
    """
    mean = level_mean(x, weight, layout)
    anomaly = x - mean[:, None, :, None, None].nan_to_num()
    return level_mean(anomaly * anomaly, weight, layout).sqrt()


def add_along(x: Tensor, dim: int) -> Tensor:
    """Adds the slices of one dimension one after another.

    Elementwise, so the bits of a tile do not depend on how many tiles stand beside it, which a
    library reduction does not promise.
    """
    total, *rest = x.unbind(dim)
    for slice_ in rest:
        total = total + slice_
    return total


def place(x: Tensor, layout: Layout) -> Tensor:
    """Returns the global field, zero where there is no tile, on every rank.

    Arguments:
        x: Owned cells, shape (member, tile, j, i).
        layout: Which tiles are here.

    Returns:
        Global field, shape (member, nj, ni).

    Collective: yes, one gather.
    """
    return torch.as_tensor(layout.place(x.transpose(0, 1)))
