r"""Censored flow matching: data that lie on their physical bounds, such as open water, undamaged ice, full cover.

The latent state may lie beyond a bound; what is observed is clipped to it. Given the noisy state, a preconditioned
denoiser (`halocline.flow.denoiser`) and a learned scale s for each channel say

.. math::
    x_0^\mathrm{latent} \sim \mathcal{N}\big(m, (c_\mathrm{out} s)^2\big), \qquad
    e = \frac{x_0 - m}{c_\mathrm{out} s} = \frac{F^\star - F}{s},

so that minus the logarithm of the likelihood of an observed value is, up to the constant :math:`\ln c_\mathrm{out}`,

.. math::
    \ell = \begin{cases}
    \tfrac12 e^2 + \ln s + \tfrac12 \ln 2\pi & \text{between the bounds} \\
    -\ln \Phi(e) & \text{at the lower bound} \\
    -\ln \Phi(-e) & \text{at the upper bound.}
    \end{cases}

A value at a bound thus pulls m no further than beyond it. What moves a sample towards the data is the mean of what can
be observed, the latent state clipped, not the latent mean clipped, which lies nearer to the bound (`censored_mean`):
with that, a third more cells of a forecast were closed after five days than in neXtSIM_DG. Samples end on m clipped,
the median of the observed, and so exactly on bounds (`BoundedDenoiser`).

Reference: Finn et al., 2025, GenSIM (arXiv 2508.14984), there for :math:`c_\mathrm{out} = t` and with m clipped
throughout; Tobin, 1958, Estimation of Relationships for Limited Dependent Variables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from halocline.flow.denoiser import (
    Denoiser,
    Loss,
    Posterior,
    PreconditionedDenoiser,
    check_wet_count,
    noisy_state,
)
from halocline.flow.networks.unet import TimeFeatures
from halocline.flow.path import Path, Time

__all__ = ["BoundedDenoiser", "ScaledNetwork", "censored_loss", "censored_mean"]

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
HIDDEN = 64  # units of the network that gives the scale
FAR = 10.0  # deviations
LOWEST, HIGHEST = -6.0, 3.0  # of ln s: a channel that is known to a four-hundredth is known


class ScaledNetwork(nn.Module):
    r"""A network, and beside it a small one that gives :math:`\ln s` of each channel from path time and conditions.

    Called as a network, it is one; with `scaled` it returns :math:`\ln s`, shape (sample, channel), too, which
    `log_scale` gives by itself. Untrained, s is 1.

    Arguments:
        network: F.
        channels: Channels of the state.
        conditions: Numbers of the conditions per sample.
    """

    def __init__(self, network: nn.Module, channels: int, conditions: int) -> None:
        super().__init__()
        self.network, self.channels = network, channels
        self.time = TimeFeatures()
        self.scale = nn.Sequential(
            nn.Linear(2 * len(self.time.frequencies) + conditions, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, channels)
        )
        for parameter in self.scale[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, x: Tensor, t: Tensor, static: Tensor, conditions: Tensor, cells: Tensor, scaled: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Evaluates both; arguments as of the network."""
        f: Tensor = self.network(x, t, static=static, conditions=conditions, cells=cells)
        if not scaled:
            return f
        return f, self.log_scale(t, conditions)

    def log_scale(self, t: Tensor, conditions: Tensor) -> Tensor:
        r"""Returns :math:`\ln s`, shape (sample, channel), at times of shape (sample)."""
        log_s: Tensor = self.scale(torch.cat([self.time(t), conditions], dim=1))
        return log_s.float().clamp(LOWEST, HIGHEST)


def censored_loss(
    denoiser: PreconditionedDenoiser,
    x0: Tensor,
    z: Tensor,
    t: Time,
    wet: Tensor,
    wet_count: float,
    bounds: Tensor,
    conditions: Mapping[str, Tensor],
    owned: slice = slice(None),
) -> Loss:
    r"""Computes the mean of :math:`\ell` over wet, owned values; see the module.

    Arguments:
        denoiser: Its network is a `ScaledNetwork`.
        x0, z, t, wet, wet_count, conditions, owned: See `halocline.flow.denoiser.training_loss`.
        bounds: -1 where x0 lies on its lower bound, 1 on its upper, 0 between, shape of x0.

    Returns:
        As `training_loss`; an untrained network has a loss near 1.4, and a trained one may have a negative one.

    Raises:
        ValueError: The wet count is not positive.

    Collective: no; the caller sums over ranks.
    """
    check_wet_count(wet_count)
    x0, z = torch.where(wet, x0, 0), torch.where(wet, z, 0)
    f, log_s = denoiser.estimate_scaled(noisy_state(denoiser.path, x0, z, t), t, conditions, owned)
    target = denoiser.target(x0[..., owned, owned], z[..., owned, owned], t)
    log_s = log_s[:, :, None, None]
    e = (target - f) * torch.exp(-log_s)
    side = bounds[..., owned, owned]
    inside = 0.5 * e.square() + log_s + HALF_LOG_2PI
    beyond = -torch.special.log_ndtr(torch.where(side > 0, -e, e))
    here = wet[..., owned, owned]
    loss = torch.where(here, torch.where(side == 0, inside, beyond), 0)
    return Loss.add(loss, here, wet_count)


def censored_mean(mean: Tensor, deviation: Tensor, low: Tensor, high: Tensor) -> Tensor:
    r"""Computes the mean of a normal variable that is observed within bounds only.

    .. math::
        \mathbb{E} \min(\max(x, b_-), b_+)
        = \mu + s \, R\Big(\frac{b_- - \mu}{s}\Big) - s \, R\Big(\frac{\mu - b_+}{s}\Big), \qquad
        R(a) = \mathbb{E} \max(a - z, 0) = a \, \Phi(a) + \varphi(a), \qquad x \sim \mathcal{N}(\mu, s^2)

    Arguments:
        mean: :math:`\mu`, shape (...).
        deviation: s > 0, broadcastable to the mean.
        low, high: :math:`b_-` and :math:`b_+`, likewise; infinite where there is none.

    Returns:
        The mean, within the bounds.

    Collective: no.
    """
    below, above = (deviation * _ramp(a / deviation) for a in (low - mean, mean - high))
    return (mean + below - above).clamp(low, high)


def _ramp(a: Tensor) -> Tensor:
    near = a.clamp(-FAR, FAR)  # further out it is 0 or a to the last bit, and infinity times 0 would be no number
    density = torch.exp(-0.5 * near * near - HALF_LOG_2PI)
    return torch.where(a > FAR, a, near * torch.special.ndtr(near) + density)


@dataclass(frozen=True)
class BoundedDenoiser:
    r"""A denoiser of what is observed within bounds.

    Its mean is the `censored_mean` of m and s, or where the denoiser knows no variance m clipped; its median is
    :math:`\min(\max(m, b_-), b_+)`.

    Attributes:
        denoiser: Of the latent state.
        low, high: Bounds in units of the state, broadcastable to it; infinite where there are none.
    """

    denoiser: Denoiser
    low: Tensor
    high: Tensor

    @property
    def path(self) -> Path:
        """The path on which the noisy states lie."""
        return self.denoiser.path

    def __call__(self, x: Tensor, t: Time) -> Posterior:
        """Denoises within bounds. Collective: if the denoiser is."""
        latent = self.denoiser(x, t)
        median = latent.mean.clamp(self.low, self.high)
        if latent.variance is None:
            return Posterior(median)
        return Posterior(censored_mean(latent.mean, latent.variance.sqrt(), self.low, self.high), median=median)
