r"""Convective adjustment: what a model does to an unstable column in its first time step, done beforehand.

A generated mixed layer is mixed only to within the error of the network, so about half of its interfaces are
unstable by a hair. Unstable neighbours are replaced by their mean,

.. math:: \bar T = \frac{\sum_k e_k T_k}{\sum_k e_k}, \qquad \bar S = \frac{\sum_k e_k S_k}{\sum_k e_k},

and the mixed part grows until it rests on denser and under lighter water. Heat and salt of the column are
conserved, and nothing is exchanged between columns; sums over depth are elementwise, one level after another.
So the bits of a column depend neither on its tile nor on the columns beside it.

References: Rahmstorf, 1993, A fast and complete convection scheme for ocean models; NEMO's trc/tra npc.
"""

import torch
from torch import Tensor

from halocline.physics.columns import from_columns, to_columns, unstable_columns
from halocline.physics.integrals import add_along
from halocline.physics.seawater import EquationOfState

__all__ = ["adjust_columns"]


def adjust_columns(
    T: Tensor, S: Tensor, e3t: Tensor, gdepw: Tensor, tmask: Tensor, eos: EquationOfState
) -> tuple[Tensor, Tensor]:
    """Mixes unstable columns until none is left.

    Arguments:
        T: Temperature, degC, shape (..., k, j, i); finite on land.
        S: Salinity, same shape.
        e3t: Thickness, m, broadcasting.
        gdepw: Depth of the top of each cell, m, broadcasting.
        tmask: Wet cells, bool, broadcasting; each column is wet from its top down, without gaps.
        eos: Equation of state of the model.

    Returns:
        Adjusted temperature and salinity, float64; land as it was.

    Collective: no.
    """
    chosen = unstable_columns(T, S, gdepw, tmask, eos)
    fields = torch.stack([to_columns(x.double(), T.shape) for x in (T, S)])
    thickness, top, wet = (to_columns(x, T.shape)[:, chosen] for x in (e3t, gdepw, tmask))
    mixed = _mix(fields[..., chosen], thickness, top, wet, eos)
    return from_columns(fields.index_copy(2, chosen, mixed), T.shape)


def _mix(fields: Tensor, e3t: Tensor, gdepw: Tensor, wet: Tensor, eos: EquationOfState) -> Tensor:
    """Mixes columns, fields (2, k, column): sweeps down; where a layer is heavier than the next, merges.

    `top[k]` is the first level of the mixed layer that level k belongs to.
    """
    levels, columns = wet.shape
    level = torch.arange(levels)[:, None]
    top = level.expand(levels, columns).clone()
    for k in range(1, levels):
        active = wet[k].clone()
        while True:
            upper = top[k] - 1  # last level of the layer above the one that holds k
            here = upper.clamp(min=0)[None]
            above = fields.gather(1, here.expand(2, 1, columns)).squeeze(1)
            depth = gdepw.gather(0, top[k][None]).squeeze(0)
            below = fields[:, k]
            heavier = eos.density(above[0], above[1], depth) > eos.density(below[0], below[1], depth)
            active = active & (upper >= 0) & heavier
            if not active.any():
                break
            first = torch.where(active, top.gather(0, here).squeeze(0), top[k])
            layer = (level >= first) & (level <= k) & active
            weight = torch.where(layer, e3t, 0.0)
            content = add_along((fields * weight)[:, : k + 1], 1)  # what lies below k has no weight yet
            mean = content / add_along(weight[: k + 1], 0).clamp(min=1e-30)
            fields = torch.where(layer, mean[:, None], fields)
            top = torch.where(layer, first, top)
    return fields
