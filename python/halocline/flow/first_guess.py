r"""A first guess of a target: what is to be expected in each cell, and how far from it the target usually lies.

A network without noise gives a mean :math:`\mu` and a spread :math:`\sigma` of every value, given the conditions.
It learns the mean from squares, so that it is the expectation, and beside it the mean absolute deviation, from the
likelihood of Laplace's law for what the mean leaves open, which does not move the mean:

.. math::
    \ell = \tfrac12 e^2 + w \Big( \ln \sigma + \frac{c\, |e|_\mathrm{held}}{\sigma} \Big), \qquad e = x_0 - \mu, \quad
    c = \sqrt{\pi / 2}, \quad w = 0.1 .

So :math:`\sigma = c\, \mathbb{E} |e|`, the standard deviation of a normal law. The likelihood of a normal law would
give the root mean square, but where values are calm and rarely jump, its gradient has spikes that drown the mean's.

A generator then makes :math:`(x_0 - \mu) / \sigma`. Where changes are large in some places and times and tiny in
most others, as those of ice are, this leaves it a target of nearly the same size everywhere, and a mean to begin with.

References: Mardani et al., 2025, Residual corrective diffusion modeling for km-scale atmospheric downscaling (arXiv
2309.15214), for generating what a regression leaves; Seitzer et al., 2022, On the pitfalls of heteroscedastic
uncertainty estimation with probabilistic neural networks (arXiv 2203.09168), for keeping the spread out of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from halocline.flow.denoiser import Loss, PreconditionedDenoiser, check_wet_count

__all__ = ["FirstGuess", "first_guess_loss", "relative_target"]

LOWEST = -5.0  # of ln sigma: finer than a hundredth of the usual change is the rounding of files
LARGEST = 3.0  # sigma: where the largest changes are possible the exponential would overshoot many times over
WEIGHT, NORMAL = 0.1, math.sqrt(math.pi / 2)  # w and c
BEGIN = 1.0  # path time without data in the state


class FirstGuess(NamedTuple):
    """What is to be expected, in units of the target.

    mean: Shape (..., channel, j, i).
    log_spread: Natural logarithm of the spread, likewise.
    """

    mean: Tensor
    log_spread: Tensor

    @classmethod
    def split(cls, values: Tensor) -> FirstGuess:
        r"""Takes it from what the network says, shape (..., 2 channel, j, i).

        :math:`\sigma = e^f / \sqrt{1 + (e^f / 3)^2}` of its second half f, so that no spread exceeds 3.
        """
        mean, f = values.chunk(2, dim=-3)
        excess = 2 * (f - math.log(LARGEST))
        return cls(mean, (f - 0.5 * functional.softplus(excess)).clamp(min=LOWEST))

    @classmethod
    def of(cls, denoiser: PreconditionedDenoiser, like: Tensor, conditions: Mapping[str, Tensor]) -> FirstGuess:
        """Evaluates the network on windows; land is meaningless.

        Arguments:
            denoiser: Its network has 2 channels for each of the target.
            like: Windows of the target, shape (sample, channel, j, i).
            conditions: Keyword arguments of the network.

        Collective: no.
        """
        nothing = like.new_zeros(like.shape[0], 2 * like.shape[1], *like.shape[2:])
        return cls.split(denoiser(nothing, BEGIN, conditions).mean)

    def masked(self, wet: Tensor) -> FirstGuess:
        """Nothing to be expected on land, and a spread of 1."""
        return FirstGuess(torch.where(wet, self.mean, 0), torch.where(wet, self.log_spread, 0))

    @property
    def told(self) -> Tensor:
        """What a generator is told of it, shape (..., 2 channel, j, i)."""
        return torch.cat([self.mean, self.log_spread], dim=-3)


def first_guess_loss(
    denoiser: PreconditionedDenoiser,
    x0: Tensor,
    wet: Tensor,
    wet_count: float,
    conditions: Mapping[str, Tensor],
    owned: slice = slice(None),
) -> Loss:
    r"""Computes the mean of :math:`\ell` over wet, owned values; see the module.

    Arguments:
        denoiser: Its network has 2 channels for each of the target.
        x0, wet, wet_count, conditions, owned: See `halocline.flow.denoiser.training_loss`.

    Returns:
        As `training_loss`; an untrained network has a loss near 0.6 where the target has unit variance.

    Raises:
        ValueError: The wet count is not positive.

    Collective: no; the caller sums over ranks.
    """
    check_wet_count(wet_count)
    guess, here = FirstGuess.of(denoiser, x0, conditions), wet[..., owned, owned]
    error, log_spread = (v[..., owned, owned] for v in (x0 - guess.mean, guess.log_spread))
    deviation = NORMAL * error.detach().abs() * torch.exp(-log_spread)
    loss = 0.5 * error.square() + WEIGHT * (log_spread + deviation)
    return Loss.add(torch.where(here, loss, 0), here, wet_count)


@torch.no_grad()
def relative_target(
    denoiser: PreconditionedDenoiser, x0: Tensor, wet: Tensor, conditions: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Turns a target into :math:`(x_0 - \mu) / \sigma`, and tells the first guess to whoever makes it.

    Arguments:
        denoiser: Of the first guess.
        x0: Windows, shape (sample, channel, j, i).
        wet: Mask of the windows.
        conditions: Keyword arguments of the network.

    Returns:
        The target, 0 on land, and the conditions with the first guess behind `static`.

    Collective: no.
    """
    guess = FirstGuess.of(denoiser, x0, conditions).masked(wet)
    relative = torch.where(wet, (x0 - guess.mean) * torch.exp(-guess.log_spread), 0)
    static = torch.cat([conditions["static"], guess.told.to(conditions["static"])], dim=1)
    return relative, {**conditions, "static": static}
