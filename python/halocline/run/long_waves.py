r"""Noise whose long waves and short waves are scaled apart, and whose long ones are remembered, variable by variable.

A network that has learned from few trajectories is surer of what follows than it should be, above all of the large
scales: the long waves of the noise that a sample starts from are amplified, by f. Of the smallest scales it takes some
for chance that are none, such as those of damage where the ice is broken and the model's damage is smooth: there the
shortest waves are damped, by s. The errors of a network, moreover, are alike
from one step to the next, so that those of what it adds up (thickness, snow) grow in proportion to time, where noise
that is new in every step spreads members only as its square root. With a memory T the long waves of step n are
therefore not those of its own noise :math:`z_n` but those of :math:`m_n`, whose variance is the same:

.. math::
    z_n' = z_n + (s - 1) (z_n - k k z_n) + K K (f m_n - z_n), \qquad
    m_n = \rho\, m_{n-1} + \sqrt{1 - \rho^2}\, z_n, \quad m_0 = z_0, \quad \rho = e^{-\tau / T},

.. math::
    (K z)(j, i) = \frac{1}{(2 r + 1)^2} \sum_{|d_j|, |d_i| \le r} z(j + d_j, i + d_i)

with :math:`\tau` the lead and r = 4 cells, or the width of the halo where that is less; k is K with r = 1. K K leaves
waves of more than some ten r as they are, which thus grow by the factor f, and takes away those of less than 2 r; of
waves of 2 and 3 cells k k leaves a ninth and nothing, so that these grow by some s, those of 10 cells hardly. Land
counts as zero.

Reference: Palmer et al., 2009, Stochastic parametrization and model uncertainty (ECMWF Technical Memorandum 598), for
perturbations of a model that are correlated in space and time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from halocline.mesh.halo import HaloPlan

__all__ = ["WIDEST", "LongWaves", "factors", "smooth"]

PASSES = 2  # of K and of k
WIDEST, NARROW = 4, 1  # r of both


def factors(of: float | Mapping[str, float], variables: Sequence[str], usual: float = 1.0) -> Tensor:
    """Returns a factor, or power, for each variable, shape (variable, 1, 1).

    Arguments:
        of: One for all, or by name.
        variables: Names of the channels.
        usual: Of those that are not named.

    Collective: no.
    """
    named = of if isinstance(of, Mapping) else dict.fromkeys(variables, of)
    return torch.tensor([float(named.get(name, usual)) for name in variables])[:, None, None]


def smooth(x: Tensor, r: int, halo: HaloPlan, width: int, mask: Tensor) -> Tensor:
    """Averages twice over squares of 2 r + 1 cells, land counting as zero: K K x of the module.

    Arguments:
        x: Owned cells, 0 on land, shape (..., tile, channel, j, i).
        r: At most the width.
        halo: Of x.
        width: Of the halo.
        mask: Sea, broadcastable to x; the result is 0 elsewhere.

    Collective: yes, two halo exchanges.
    """
    beyond = width - r
    for _ in range(PASSES):
        filled = halo.fill(x)
        for axis in (-2, -1):
            filled = _mean(filled.narrow(axis, beyond, filled.shape[axis] - 2 * beyond), r, axis)
        x = filled * mask
    return x


class LongWaves:
    """Scales the waves of the noise of a forecast and remembers the long ones; see the module.

    Elementwise sums in one order: the same bits on any layout, and whether or not the steps before were made by this
    object.

    Arguments:
        long, short: f and s, shape (channel, 1, 1).
        memory: T, hours; 0: each step has noise of its own.
        halo: Of the channels of the noise.
        width: Cells, of the halo.
        mask: Sea, broadcastable to the noise.
    """

    def __init__(self, long: Tensor, short: Tensor, memory: float, halo: HaloPlan, width: int, mask: Tensor) -> None:
        self._long, self._short, self._memory = long, short, memory
        self._halo, self._width, self._mask = halo, width, mask
        self._of: Hashable = None  # whose noise is remembered,
        self._step = -1  # up to which step,
        self._remembered = torch.empty(0)  # and m

    def __call__(self, draw: Callable[[int], Tensor], step: int, hours: float, of: Hashable) -> Tensor:
        """Returns z'.

        Arguments:
            draw: From the number of a step to its noise z on owned cells, 0 on land, (member, tile, channel, j, i).
            step: n. Draws that one and, where this was not called for step n - 1 before, all earlier ones.
            hours: Lead.
            of: What the noise belongs to, such as seed and members.

        Collective: yes, two halo exchanges for the long waves and two for the short; none where nothing is changed.
        """
        z = draw(step)
        if self._width == 0:
            return z
        changed = z
        if not bool((self._short == 1).all()):
            changed = z + (self._short - 1) * (z - self._smooth(z, NARROW))
        if bool((self._long == 1).all()) and not self._memory:
            return changed
        slow = self._recall(draw, z, step, hours, (of, hours)) if self._memory else z
        return changed + self._smooth(self._long * slow - z, min(self._width, WIDEST))

    def _recall(self, draw: Callable[[int], Tensor], z: Tensor, step: int, hours: float, of: Hashable) -> Tensor:
        rho = math.exp(-hours / self._memory)
        if of != self._of or self._step != step - 1:
            self._step, self._remembered = 0, draw(0) if step else z
        for n in range(self._step + 1, step + 1):
            new = z if n == step else draw(n)
            self._remembered = rho * self._remembered + math.sqrt(1 - rho**2) * new
        self._of, self._step = of, step
        return self._remembered

    def _smooth(self, x: Tensor, r: int) -> Tensor:
        return smooth(x, r, self._halo, self._width, self._mask)


def _mean(x: Tensor, width: int, axis: int) -> Tensor:
    """Averages 2 width + 1 neighbours along an axis, which loses its ends."""
    count = x.shape[axis] - 2 * width
    total = torch.zeros_like(x.narrow(axis, 0, count))
    for offset in range(2 * width + 1):
        total = total + x.narrow(axis, offset, count)
    return total / (2 * width + 1)
