r"""Blending: one field out of windows that overlap and do not agree.

A network on tiles gives each window its own estimate, also of the halo, which neighbours estimate, too. Taking owned
cells alone leaves a jump at the edge of tiles. A blend weighs the estimates of all windows that show a cell,

.. math::
    y(c) = \frac{\sum_k w_k(c)\, y_k(c)}{\sum_k w_k(c)},

with weights that fall linearly from 1 at b cells inside of a tile's edge to 0 at b cells outside, in both directions.
The sums run in the order of the lattice (`HaloPlan.adjoint`): the same bits on any layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.halo import HaloPlan
from halocline.mesh.layout import Layout

__all__ = ["Blend"]


@dataclass(frozen=True, eq=False)
class Blend:
    """Blends windows. Built by `build`.

    Attributes:
        plan: Of the channels.
        weight: w, shape (window j, window i).
        total: Sum of the weights in owned cells, shape (tile, channel, j, i); 1 where none is shown.
        repeats: Whether some cells repeat others, as along a fold: windows show only one of them.
    """

    plan: HaloPlan
    weight: Tensor
    total: Tensor
    repeats: bool

    @classmethod
    def build(cls, layout: Layout, points: Sequence[str], signs: Sequence[int], width: int) -> Blend:
        """Works out the weights.

        Arguments:
            layout: Tiles and their owners.
            points, signs: Of each channel, see `HaloPlan.build`.
            width: b, cells, at least 1 and at most that of the halo.

        Raises:
            ValueError: It is wider; see also `HaloPlan.build`.

        Collective: yes.
        """
        lattice = layout.lattice
        with layout.comm.together():
            if not 1 <= width <= lattice.halo:
                raise ValueError(
                    f"sampling.blend is {width}, expected at most {lattice.halo}, the width of the halo: lower it, or "
                    "train with a wider lattice.halo."
                )
        ramps = [ramp(size, lattice.halo, width) for size in (lattice.tile_j, lattice.tile_i)]
        weight = ramps[0][:, None] * ramps[1]
        plan, ones = HaloPlan.build(layout, points, signs), HaloPlan.build(layout, points, [1] * len(points))
        total = ones.adjoint(weight.expand(1, len(layout.local), len(points), *weight.shape))[0]
        cells = torch.as_tensor(lattice.cells(layout.local) >= 0)[:, None]
        repeats = any(layout.comm.allgather(bool((cells & (total == 0)).any())))
        return cls(plan, weight, torch.where(total > 0, total, 1.0), repeats)

    def __call__(self, windows: Tensor) -> Tensor:
        """Blends windows of shape (member, tile, channel, window j, window i) to owned cells.

        Values outside of the grid are not used. Differentiable.

        Collective: yes, one exchange, two where cells repeat others.
        """
        blended = self.plan.adjoint(windows.double() * self.weight) / self.total
        if self.repeats:
            halo = self.plan.layout.lattice.halo
            blended = self.plan.fill(blended)[..., halo:-halo, halo:-halo].contiguous()
        return blended.to(windows.dtype)


def ramp(size: int, halo: int, width: int) -> Tensor:
    """Weights along one direction of a window, shape (size + 2 halo), float64."""
    place = torch.arange(size + 2 * halo, dtype=torch.float64) + 0.5 - halo  # of cell centres, from the tile's edge
    inside = torch.minimum(place, size - place)
    return ((inside + width) / (2 * width)).clamp(0, 1)
