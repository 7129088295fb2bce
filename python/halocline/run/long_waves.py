r"""Noise whose long waves are amplified: an ensemble that is spread wider where a forecast errs most.

A network that has learned from few trajectories is surer of what follows than it should be, above all of the large
scales; the small ones of its members look right. Scaling all of the noise that a sample starts from would make the
small scales too rough, so only a smoothed part is added to it:

.. math::
    z' = z + (f - 1) \, K K z, \qquad
    (K z)(j, i) = \frac{1}{(2 r + 1)^2} \sum_{|d_j|, |d_i| \le r} z(j + d_j, i + d_i)

with r the width of the halo. K K leaves waves of more than some ten r as they are, which thus grow by the factor f, and
takes away those of less than 2 r. Land counts as zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from halocline.mesh.halo import HaloPlan

__all__ = ["amplify_long_waves"]

PASSES = 2  # of K


def amplify_long_waves(z: Tensor, factor: float, halo: HaloPlan, width: int, mask: Tensor) -> Tensor:
    """Returns z'; see the module. Elementwise sums in one order: the same bits on any layout.

    Arguments:
        z: Noise on owned cells, 0 on land, shape (member, tile, channel, j, i).
        factor: f.
        halo: Of these channels.
        width: r, cells, of the halo.
        mask: Sea, broadcastable to z.

    Collective: yes, two halo exchanges; none where f is 1.
    """
    if factor == 1 or width == 0:
        return z
    smooth = z
    for _ in range(PASSES):
        smooth = _mean(_mean(halo.fill(smooth), width, -2), width, -1) * mask
    return z + (factor - 1) * smooth


def _mean(x: Tensor, width: int, axis: int) -> Tensor:
    """Averages 2 width + 1 neighbours along an axis, which loses its ends."""
    count = x.shape[axis] - 2 * width
    total = torch.zeros_like(x.narrow(axis, 0, count))
    for offset in range(2 * width + 1):
        total = total + x.narrow(axis, offset, count)
    return total / (2 * width + 1)
