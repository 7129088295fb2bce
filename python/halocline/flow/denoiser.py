r"""Denoisers, and the loss that trains them.

A denoiser maps a noisy state :math:`x_t = \alpha_t x_0 + \sigma_t z` to the posterior of the clean
one, of which samplers use the mean :math:`m = \mathbb{E}[x_0 \mid x_t]`. It is pure: equal
arguments give equal results, nothing is drawn and nothing is communicated. Observations,
constraints and bounds are denoisers around a denoiser.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from halocline.flow.path import Path, Time, align


@dataclass(frozen=True)
class Posterior:
    r"""Holds what is known of :math:`p(x_0 \mid x_t)`.

    Arguments:
        mean: m, shape of the state.
        variance: Diagonal of the covariance, broadcastable to the mean; None where not known.
        median: Where samples end, which need not be the mean if much probability lies in one place, as on a bound;
            None: the mean.
    """

    mean: Tensor
    variance: Tensor | None = None
    median: Tensor | None = None


@runtime_checkable
class Denoiser(Protocol):
    """Whatever has a path and returns a posterior; conditions are already bound to it."""

    @property
    def path(self) -> Path:
        """The path on which the noisy states lie."""
        ...

    def __call__(self, x: Tensor, t: Time) -> Posterior:
        """Denoises a state x of shape (...) at time t, a number or one value per first axes."""
        ...


class GaussianDenoiser:
    r"""Denoises a Gaussian with independent components exactly.

    For :math:`x_0 \sim \mathcal{N}(\mu, V)`, V diagonal,

    .. math::
        m = \mu + \frac{\alpha V}{\alpha^2 V + \sigma^2} (x - \alpha \mu), \qquad
        \mathrm{Var}[x_0 \mid x_t] = \frac{\sigma^2 V}{\alpha^2 V + \sigma^2} .

    Arguments:
        path: The path.
        mean: :math:`\mu`, broadcastable to the state, unit of the state.
        variance: V > 0, broadcastable to the state, unit squared.

    Raises:
        ValueError: A variance is not positive.
    """

    def __init__(self, path: Path, mean: float | Tensor, variance: float | Tensor) -> None:
        self.path = path
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.variance = torch.as_tensor(variance, dtype=torch.float64)
        if not bool((self.variance > 0).all()):
            raise ValueError(
                f"Variances of a Gaussian must be positive, got {self.variance.min():g}: leave constant components out."
            )

    def __call__(self, x: Tensor, t: Time) -> Posterior:
        alpha = align(self.path.alpha(t), x).to(x.device)
        sigma = align(self.path.sigma(t), x).to(x.device)
        mu, variance = self.mean.to(x.device), self.variance.to(x.device)
        total = alpha**2 * variance + sigma**2
        gain = (alpha * variance / total).to(x.dtype)
        mean = mu.to(x.dtype) + gain * (x - (alpha * mu).to(x.dtype))
        return Posterior(mean, (sigma**2 * variance / total).to(x.dtype))


class Preconditioning(NamedTuple):
    """The three coefficients of a preconditioned denoiser, broadcastable to the state."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


class PreconditionedDenoiser(nn.Module):
    r"""Makes a denoiser of a network whose input and target have unit variance at every time.

    .. math::
        m = c_\mathrm{skip} x + c_\mathrm{out} F(c_\mathrm{in} x, t), \quad
        c_\mathrm{in} = \frac{1}{\sqrt{\alpha^2 s^2 + \sigma^2}}, \quad
        c_\mathrm{skip} = \frac{\alpha r^2}{D}, \quad
        c_\mathrm{out} = \frac{\sigma}{D} \sqrt{\sigma^2 s^2 + \alpha^2 r^4}, \quad
        D = \alpha^2 r^2 + \sigma^2

    for data of mean 0 and standard deviation s, of which r is not explained by the conditions. The
    skip is that of the exact denoiser of :math:`\mathcal{N}(0, r^2)`. With r = s (the default) this
    is the usual preconditioning. Where season and place determine a state almost entirely, r is far
    below s: with r = s the network would have to return the noise of every channel of every cell, for
    which it is too narrow; with a small r it returns the state. The network sees t itself, not
    :math:`\gamma_t`, which is infinite at the ends.

    The network is called as `network(x, t, **conditions)` with x of shape (batch, channel, wj, wi)
    and t of shape (batch), float32. It returns either the window or its owned cells.

    Arguments:
        network: F.
        path: The path.
        sigma_data: s > 0 in standardised units: a number, or one value per channel.
        sigma_given: r in (0, s], likewise; s unless given.

    Raises:
        ValueError: A standard deviation is not positive, or r exceeds s.

    References: Karras et al., 2022, Elucidating the Design Space of Diffusion-Based Generative
    Models, appendix B.6, there for alpha = 1 and r = s.
    """

    sigma_data: Tensor
    sigma_given: Tensor

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        sigma_data: float | Sequence[float] | Tensor = 1.0,
        sigma_given: float | Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        s = torch.as_tensor(sigma_data, dtype=torch.float64).reshape(-1, 1, 1)
        r = s if sigma_given is None else torch.as_tensor(sigma_given, dtype=torch.float64).reshape(-1, 1, 1)
        if not bool((s > 0).all() and (r > 0).all()):
            raise ValueError(
                f"Standard deviations of the data must be positive, got {min(s.min(), r.min()):g}: "
                "leave constant channels out."
            )
        if bool((r > s).any()):
            raise ValueError(
                f"Standard deviation given the conditions is {r.max():g}, expected at most that of the data, "
                f"{s.min():g}: lower sigma_given."
            )
        self.network = network
        self.path = path
        self.register_buffer("sigma_data", s, persistent=False)
        self.register_buffer("sigma_given", r, persistent=False)

    def forward(
        self,
        x: Tensor,
        t: Time,
        conditions: Mapping[str, Tensor] | None = None,
        owned: slice = slice(None),
        wet: Tensor | None = None,
    ) -> Posterior:
        r"""Returns the posterior on the owned cells of a batch of windows.

        Arguments:
            x: Noisy state, shape (batch, channel, wj, wi).
            t: Time, a number or shape (batch).
            conditions: Keyword arguments of the network, windows that belong to x.
            owned: The owned part of wj and of wi; everything unless given.
            wet: Mask of the window, broadcastable to x. Dry values reach the network as 0
                whatever x holds there, and the mean is 0 there.

        Returns:
            Posterior with mean of shape (batch, channel, j, i).

        Raises:
            ValueError: The network returned neither the window nor its owned cells.
        """
        x = x if wet is None else torch.where(wet, x, 0)
        _, c_skip, c_out = self.precondition(x, t)
        mean = c_skip * x[..., owned, owned] + c_out * self.estimate(x, t, conditions, owned)
        return Posterior(mean if wet is None else torch.where(wet[..., owned, owned], mean, 0))

    def estimate(
        self,
        x: Tensor,
        t: Time,
        conditions: Mapping[str, Tensor] | None = None,
        owned: slice = slice(None),
    ) -> Tensor:
        """Returns F on owned cells, unit variance; arguments and errors as in forward."""
        return self._owned(self._call(x, t, conditions), x, owned)

    def estimate_scaled(
        self, x: Tensor, t: Time, conditions: Mapping[str, Tensor] | None = None, owned: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Returns F on owned cells and ln s, shape (batch, channel), of a `halocline.flow.censored.ScaledNetwork`."""
        f, log_s = self._call(x, t, conditions, scaled=True)
        return self._owned(f, x, owned), log_s

    def deviation(self, t: float, conditions: Tensor) -> Tensor | None:
        r"""Returns the standard deviation :math:`c_\mathrm{out} s` of the latent state about m.

        Arguments:
            t: Time, one number.
            conditions: Numbers per sample, shape (sample, condition).

        Returns:
            Shape (sample, channel, 1, 1), float32; None of a network that is no
            `halocline.flow.censored.ScaledNetwork`, which has learned none.
        """
        log_scale = getattr(self.network, "log_scale", None)
        if log_scale is None:
            return None
        time = torch.full((1,), t, dtype=torch.float32, device=conditions.device)
        # One by one: in a batch the bits of a sample would depend on how many there are.
        s = torch.cat([log_scale(time, one[None]) for one in conditions]).exp()[:, :, None, None]
        return self.precondition(s, t).c_out * s

    def _call(self, x: Tensor, t: Time, conditions: Mapping[str, Tensor] | None, **how: bool) -> Any:
        times = torch.as_tensor(t, dtype=torch.float32, device=x.device).expand(x.shape[:-3])
        return self.network(self.precondition(x, t).c_in * x, times, **(conditions or {}), **how)

    @staticmethod
    def _owned(f: Tensor, x: Tensor, owned: slice) -> Tensor:
        """Cuts the owned cells out of what the network returned; errors as in forward."""
        if f.shape == x.shape:
            f = f[..., owned, owned]
        expected = x[..., owned, owned].shape
        if f.shape != expected:
            raise ValueError(
                f"Network output must have the shape {tuple(x.shape)} of the window or "
                f"{tuple(expected)} of its owned cells, got {tuple(f.shape)}: "
                "check the channels and the halo of the network."
            )
        return f.to(x.dtype)

    def target(self, x0: Tensor, z: Tensor, t: Time) -> Tensor:
        r"""Returns what F should be.

        .. math:: F^\star = \frac{x_0 - c_\mathrm{skip} x_t}{c_\mathrm{out}}
            = \frac{\sigma x_0 - \alpha r^2 z}{\sqrt{\sigma^2 s^2 + \alpha^2 r^4}}

        The second form has no difference of nearly equal terms and no division by 0 at t = 0.

        Arguments:
            x0: Clean state, shape (batch, channel, j, i).
            z: The noise added to it, same shape.
            t: Time, a number or shape (batch).
        """
        alpha, sigma, norm = self._scales(x0, t)
        a, b = sigma / norm, alpha * self.sigma_given**2 / norm
        return a.to(x0.dtype) * x0 - b.to(x0.dtype) * z

    def precondition(self, x: Tensor, t: Time) -> Preconditioning:
        """Returns the coefficients at time t, computed in float64, in the type of x."""
        alpha, sigma, norm = self._scales(x, t)
        s, r = self.sigma_data, self.sigma_given
        d = alpha**2 * r**2 + sigma**2
        coefficients = (1 / (alpha**2 * s**2 + sigma**2).sqrt(), alpha * r**2 / d, sigma * norm / d)
        return Preconditioning(*(c.to(x.dtype) for c in coefficients))

    def _scales(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Returns alpha, sigma and the norm of the target."""
        alpha = align(self.path.alpha(t), x).to(x.device)
        sigma = align(self.path.sigma(t), x).to(x.device)
        norm = (sigma**2 * self.sigma_data**2 + alpha**2 * self.sigma_given**4).sqrt()
        return alpha, sigma, norm


class Loss(NamedTuple):
    """A training loss.

    total: This rank's part of the loss, shape (); the parts of all ranks add up to the loss.
    per_sample: Mean over each sample's wet values, shape (batch), detached: for logs by noise
        level; 0 for a sample without wet values.
    """

    total: Tensor
    per_sample: Tensor

    @classmethod
    def add(cls, values: Tensor, wet: Tensor, wet_count: float) -> "Loss":
        """Adds up values of owned cells, 0 on land, shape (batch, channel, j, i).

        Arguments:
            values: Of each cell.
            wet: Mask, broadcastable to the values.
            wet_count: Wet values in the batch of all ranks.
        """
        sums = values.sum((-3, -2, -1))
        counts = wet.expand_as(values).sum((-3, -2, -1))
        return cls(sums.sum() / wet_count, sums.detach() / counts.clamp(min=1))


def noisy_state(path: Path, x0: Tensor, z: Tensor, t: Time) -> Tensor:
    r"""Returns :math:`x_t = \alpha_t x_0 + \sigma_t z`, for a time or one of each sample. Collective: no."""
    return align(path.alpha(t), x0).to(x0) * x0 + align(path.sigma(t), x0).to(x0) * z


def check_wet_count(wet_count: float) -> None:
    """Refuses a batch without water.

    Raises:
        ValueError: The count is not positive.
    """
    if not wet_count > 0:
        raise ValueError(f"Wet count of the batch must be positive, got {wet_count}: draw samples with water.")


def training_loss(
    denoiser: PreconditionedDenoiser,
    x0: Tensor,
    z: Tensor,
    t: Time,
    wet: Tensor,
    wet_count: float,
    channel_weights: Tensor | None = None,
    conditions: Mapping[str, Tensor] | None = None,
    owned: slice = slice(None),
) -> Loss:
    r"""Computes the denoising loss on wet, owned values.

    .. math::
        \mathcal{L} = \frac{1}{n} \sum_\mathrm{wet} w_c \, \frac{(m - x_0)^2}{c_\mathrm{out}^2}
        = \frac{1}{n} \sum_\mathrm{wet} w_c \, (F - F^\star)^2

    so that an untrained network (F = 0) of unit-variance data starts near the mean weight at every
    time. As n counts the batch of all ranks, the losses and gradients of the ranks are summed,
    never averaged: a rank with few wet values then does not count for more than it holds.

    Arguments:
        denoiser: The denoiser to train.
        x0: Clean windows, standardised, shape (batch, channel, wj, wi).
        z: White noise, same shape.
        t: Time in [0, 1], a number or shape (batch).
        wet: Mask of the windows, broadcastable to x0. What x0 and z hold on land is not used.
        wet_count: n, wet owned values (not cells) in the batch of all ranks.
        channel_weights: w, shape (channel); 1 unless given.
        conditions: Keyword arguments of the network.
        owned: The owned part of wj and of wi.

    Raises:
        ValueError: The wet count is not positive.

    Collective: no; the caller sums over ranks.
    """
    check_wet_count(wet_count)
    x0, z = torch.where(wet, x0, 0), torch.where(wet, z, 0)
    f = denoiser.estimate(noisy_state(denoiser.path, x0, z, t), t, conditions, owned)
    target = denoiser.target(x0[..., owned, owned], z[..., owned, owned], t)
    error = torch.where(wet[..., owned, owned], (f - target).square(), 0)
    if channel_weights is not None:
        error = error * channel_weights.to(error).reshape(-1, 1, 1)
    return Loss.add(error, wet[..., owned, owned], wet_count)
