"""Columns of water along one axis: what works on whole columns sees (k, column) and chooses those that it needs."""

from __future__ import annotations

import torch
from torch import Tensor

from halocline.physics.seawater import EquationOfState
from halocline.physics.stability import density_step, interfaces

__all__ = ["from_columns", "to_columns", "unstable_columns"]


def to_columns(x: Tensor, shape: torch.Size) -> Tensor:
    """Puts columns along one axis: broadcasting to (..., k, j, i) gives (k, column). Collective: no."""
    return x.expand(shape).movedim(-3, 0).reshape(shape[-3], -1)


def from_columns(fields: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Gives two fields (2, k, column) the shape (..., k, j, i) again. Collective: no."""
    first, second = fields.reshape(2, shape[-3], *shape[:-3], *shape[-2:]).movedim(1, -3)
    return first, second


def unstable_columns(T: Tensor, S: Tensor, gdepw: Tensor, tmask: Tensor, eos: EquationOfState) -> Tensor:
    """Numbers the columns that are anywhere unstable.

    Arguments:
        T: Temperature, degC, shape (..., k, j, i).
        S: Salinity, same shape.
        gdepw: Depth of the top of each cell, m, broadcasting.
        tmask: Wet cells, bool, broadcasting.
        eos: Equation of state.

    Collective: no.
    """
    unstable = (density_step(T, S, gdepw, eos) > 0) & interfaces(tmask)
    return unstable.any(dim=-3).reshape(-1).nonzero().squeeze(1)
