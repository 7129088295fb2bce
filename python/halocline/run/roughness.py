r"""Roughness of the drift: what a long forecast gathers at the scale of the cells, and how it is taken out.

With the differences over the open faces of a cell, :math:`L x = \sum (x_{neighbour} - x)`, whose eigenvalues
:math:`-\lambda` lie between 0 and -8 (a chessboard), and means over the sea :math:`a_n = \langle x (-L)^n x \rangle`,

.. math:: \rho = \frac{a_2}{a_1 + \epsilon}

is the mean :math:`\lambda` of the field, weighted by its gradients. It does not depend on how strong the drift is;
:math:`\epsilon`, a hundredth of the mean :math:`a_1` of the states that were learned, discounts ice at rest, which is
as rough as files are rounded. Where :math:`\rho` exceeds the largest value of these states, the field is smoothed by

.. math:: x \to x - \frac{c}{64} L^2 x, \quad 0 \le c \le 1,

with the least c that brings it back, which is the root of a quadratic equation in c. A wave loses the share
:math:`c (\lambda / 8)^2`: a chessboard up to all of itself, a wave of ten cells 0.2 %.

Why this is needed: a mode that the states do not have is one whose decay a network has not learned, so it may grow
slowly from step to step until it fills the fields. Velocities are what is smoothed, since they have no bounds, and
follow the wind within hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.grid import Grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.layout import Layout
from halocline.physics.integrals import level_sum
from halocline.state.state import Channels

__all__ = ["VELOCITIES", "Roughness"]

VELOCITIES = ("ice_u", "ice_v")
LARGEST = 64.0  # of the eigenvalues of L squared
AT_REST = 0.01  # of the mean a_1


@dataclass(frozen=True, eq=False)
class Roughness:
    """Roughness of some channels on the tiles of a layout. Built by `build`.

    Attributes:
        halo: Of the channels.
        sea: Where windows show sea, shape (1, tile, channel, window j, window i).
        counted: Sea cells that count, shape (tile, channel, j, i).
        cells: Their number, shape (channel).
    """

    halo: HaloPlan
    sea: Tensor
    counted: Tensor
    cells: Tensor

    @classmethod
    def build(cls, channels: Channels, grid: Grid, layout: Layout) -> Roughness:
        """Builds what does not change.

        Raises:
            ValueError: The tiles have no halo.

        Collective: yes.
        """
        with layout.comm.together():
            if not layout.lattice.halo:
                raise ValueError(
                    "lattice.halo is 0, expected at least 1 to smooth velocities: leave drift_control out."
                )
        halo = HaloPlan.build(layout, channels.points, channels.signs)
        mask = torch.as_tensor(layout.cut(channels.mask(grid)))
        own = [torch.as_tensor(layout.lattice.canonical_mask(p, layout.local)) for p in channels.points]
        counted = (mask & torch.stack(own, dim=1)).double()
        return cls(halo, halo.fill(mask[None].double()).abs() > 0, counted, level_sum(counted, layout))

    def smoothed(self, x: Tensor, limit: Tensor, rest: Tensor) -> Tensor:
        r"""Smooths where the roughness exceeds its limit.

        Arguments:
            x: Shape (member, tile, channel, j, i), float64, 0 on land.
            limit: Of the roughness, shape (channel).
            rest: :math:`\epsilon`, likewise.

        Collective: yes.
        """
        first = self._laplacian(x)
        second = self._laplacian(first)
        third = self._laplacian(second)
        products = [-x * first, first * first, -first * second, second * second, -second * third, third * third]
        a1, a2, a3, a4, a5, a6 = self._means(torch.stack(products))
        # Of a_2(c) - limit (a_1(c) + rest) = A + B c + C c^2.
        A = a2 - limit * (a1 + rest)
        B = -2 / LARGEST * (a4 - limit * a3)
        C = LARGEST**-2 * (a6 - limit * a5)
        root = (B * B - 4 * A * C).clamp(min=0.0).sqrt() - B
        c = torch.where((A > 0) & (root > 2 * A), 2 * A / root.clamp(min=1e-300), (A > 0).double())
        return x - (c / LARGEST)[:, None, :, None, None] * second

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a_1 and a_2, shape (member, channel) each. Collective: yes."""
        first = self._laplacian(x)
        a1, a2 = self._means(torch.stack([-x * first, first * first]))
        return a1, a2

    def _laplacian(self, x: Tensor) -> Tensor:
        """Adds the differences over open faces, always in the same order."""
        windows, sea, h = self.halo.fill(x), self.sea, self.halo.layout.lattice.halo
        nj, ni = x.shape[-2:]
        centre = (..., slice(h, h + nj), slice(h, h + ni))
        total = torch.zeros_like(x)
        for dj, di in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            beside = (..., slice(h + dj, h + dj + nj), slice(h + di, h + di + ni))
            total = total + torch.where(sea[beside] & sea[centre], windows[beside] - x, 0.0)
        return total

    def _means(self, products: Tensor) -> Tensor:
        return level_sum(products * self.counted, self.halo.layout) / self.cells


def limits(a1: Tensor, a2: Tensor) -> Tensor:
    r"""Returns the largest roughness of states and :math:`\epsilon`, shape (channel, 2), from moments (state, channel).

    Collective: no.
    """
    rest = AT_REST * a1.mean(dim=0)
    return torch.stack([(a2 / (a1 + rest).clamp(min=1e-300)).amax(dim=0), rest], dim=1)
