r"""Projection onto stable columns: the least change of temperature and salinity that leaves none unstable.

Let :math:`\Delta_k` be the density step of :func:`halocline.physics.stability.density_step`, and

.. math:: \tilde\rho_k = -\sum_{1 \le n \le k} \Delta_n

the density of a column relative to its top cell, each pair of neighbours compared at the interface between them. The
column is stable where :math:`\tilde\rho` nowhere decreases downwards. With thicknesses e and a change
:math:`\delta\rho = -a\,\delta T + b\,\delta S`, the least of

.. math:: \sum_k e_k \big[ (\delta T_k / \tau)^2 + (\delta S_k / s)^2 \big] \quad \text{with} \quad
    \sum_k e_k\,\delta T_k = \sum_k e_k\,\delta S_k = 0, \quad \tilde\rho_k - \tilde\rho_{k-1} \ge \epsilon

is, for a linear equation of state, the isotonic regression of :math:`\tilde\rho` with weights e,

.. math:: \rho^\star_k = \max_{i \le k} \min_{j \ge k} \frac{\sum_{n=i}^{j} e_n \tilde\rho_n}{\sum_{n=i}^{j} e_n},
    \qquad (\delta T, \delta S) = \frac{(-a \tau^2,\ b s^2)}{a^2 \tau^2 + b^2 s^2}\,(\rho^\star - \tilde\rho),

which moves density within layers that were unstable and nowhere else; heat and salt of each layer stay. Expansion
coefficients a and b are those of the layer's mean water, and the regression is repeated until curvature and depth
dependence of the equation of state are met. Unlike convective adjustment it keeps what differs along a surface of equal
density.

References: Barlow and Brunk, 1972, The isotonic regression problem and its dual, JASA 67.
"""

from __future__ import annotations

import torch
from torch import Tensor

from halocline.constants import RHO0
from halocline.physics.columns import from_columns, to_columns, unstable_columns
from halocline.physics.seawater import EquationOfState
from halocline.physics.stability import density_step

__all__ = ["MARGIN", "ROUNDS", "isotonic", "project_columns"]

MARGIN = 2.0e-5
"""Least density step between neighbours that were unstable, kg/m3: they are stable in float32 files, too, whose last
digit is worth 5e-6 kg/m3."""

ROUNDS = 6  # of the regression; the second leaves about 1e-5 kg/m3 of a kg/m3, each further one squares that
COLUMNS = 2048  # regressed at once: their tables of means, 8 levels^2 bytes each, stay small


def project_columns(
    T: Tensor,
    S: Tensor,
    e3t: Tensor,
    gdepw: Tensor,
    tmask: Tensor,
    eos: EquationOfState,
    scale: tuple[float, float] = (1.0, 0.2),
    rounds: int = ROUNDS,
) -> tuple[Tensor, Tensor]:
    """Makes columns stable by the least change; those that are stable keep their bits.

    Arguments:
        T: Temperature, degC, shape (..., k, j, i); finite on land.
        S: Salinity, same shape.
        e3t: Thickness, m, broadcasting.
        gdepw: Depth of the top of each cell, m, broadcasting.
        tmask: Wet cells, bool, broadcasting; each column is wet from its top down, without gaps.
        eos: Equation of state of the model.
        scale: Change of T and of S that count alike, degC and the unit of S; both positive.
        rounds: Regressions at most; 1 leaves what the curvature of the equation of state makes of the change.

    Returns:
        Temperature and salinity, float64; land as it was. Heat and salt of each column stay to round-off.

    Collective: no.
    """
    fields = torch.stack([to_columns(x.double(), T.shape) for x in (T, S)])
    thickness, top, wet = (to_columns(x, T.shape) for x in (e3t, gdepw, tmask))
    for part in unstable_columns(T, S, gdepw, tmask, eos).split(COLUMNS):
        here = fields[..., part], thickness[:, part], top[:, part], wet[:, part]
        fields[..., part] = _project(*here, eos, scale, rounds)
    return from_columns(fields, T.shape)


def _project(
    fields: Tensor,
    e3t: Tensor,
    gdepw: Tensor,
    wet: Tensor,
    eos: EquationOfState,
    scale: tuple[float, float],
    rounds: int,
) -> Tensor:
    """Repeats regression and change, fields (2, k, column), in the columns that still move."""
    slack = MARGIN * torch.arange(len(wet))[:, None]
    left = torch.arange(wet.shape[1])
    for _ in range(rounds):
        part, here = fields[..., left], wet[:, left]
        weight, top = torch.where(here, e3t[:, left], 0.0), gdepw[:, left]
        step = density_step(part[0, :, None], part[1, :, None], top[:, None], eos)[:, 0]
        relative = torch.nn.functional.pad(-_running(torch.where(here[1:], step, -MARGIN)), (0, 0, 1, 0)) - slack
        target = isotonic(relative, weight, here)
        excess = torch.where(here, target - relative, 0.0)
        moves = (excess.abs() > 0.05 * MARGIN).any(dim=0)  # a column ends for itself: others do not change its bits
        if not bool(moves.any()):
            break
        a, b = _expansion(part, weight, target, top + 0.5 * e3t[:, left], eos)
        norm = (a * scale[0]) ** 2 + (b * scale[1]) ** 2
        part = part + torch.stack([-a * scale[0] ** 2, b * scale[1] ** 2]) / norm * excess
        left = left[moves]
        fields = fields.index_copy(2, left, part[..., moves])
    return fields


def isotonic(x: Tensor, weight: Tensor, wet: Tensor) -> Tensor:
    r"""Regresses on sequences that do not decrease.

    .. math:: x^\star_k = \max_{i \le k} \min_{j \ge k} \frac{\sum_{n=i}^{j} w_n x_n}{\sum_{n=i}^{j} w_n}

    Arguments:
        x: Values, shape (k, column).
        weight: Positive where wet, same shape.
        wet: True from the top of each column down, same shape.

    Returns:
        The regression, equal numbers within a layer; what is dry is not to be used.

    Collective: no.
    """
    levels = len(x)
    total = torch.nn.functional.pad(_running(x * weight), (0, 0, 1, 0))
    norm = torch.nn.functional.pad(_running(weight), (0, 0, 1, 0))
    rows = torch.arange(levels)
    forward = (rows[:, None] <= rows)[..., None]
    spread = (norm[1:] - norm[:-1, None]).clamp(min=1e-30)
    mean = torch.where(forward & wet, (total[1:] - total[:-1, None]) / spread, torch.inf)  # (i, j, column)
    least = mean.flip(1).cummin(dim=1).values.flip(1)  # over j >= k
    return torch.where(forward, least, -torch.inf).amax(dim=0)


def _running(x: Tensor) -> Tensor:
    """Sums from the top down to each level, one after another."""
    sums = [x[0]]
    for level in x[1:]:
        sums.append(sums[-1] + level)
    return torch.stack(sums)


def _expansion(
    fields: Tensor, weight: Tensor, target: Tensor, depth: Tensor, eos: EquationOfState
) -> tuple[Tensor, Tensor]:
    """Returns (a, b), kg/m3 per degC and per unit of S, of the mean water of the layer that each cell belongs to."""
    begins = torch.nn.functional.pad(target[1:] != target[:-1], (0, 0, 1, 0), value=True)
    layer = begins.long().cumsum(0) - 1
    both = torch.stack([*fields, depth]) * weight
    sums = torch.zeros_like(both).scatter_add(1, layer.expand_as(both), both)
    norm = torch.zeros_like(weight).scatter_add(0, layer, weight).clamp(min=1e-30)
    T, S, z = (sums / norm).gather(1, layer.expand_as(both))
    alpha, beta = eos.expansion(T, S, z)
    return alpha * RHO0, beta * RHO0

