r"""Samplers: from noise to data in steps from t to s < t.

The deterministic samplers integrate :math:`dx/dt = v` from :math:`t = 1` to 0; the random ones
draw from transitions with the same marginals. With the denoised mean :math:`m = m(x_t, t)`, every
step with one evaluation has the form

.. math:: x_s = a \, x_t + b \, m + c \, \xi, \qquad \xi \sim \mathcal{N}(0, I),

and the samplers differ in a, b, c. These are computed in float64 as plain numbers; the state keeps
its own type, float32 in production. In a step to s = 0 the posterior's median takes the place of
its mean m where the denoiser knows one: "denoised mean" below means that, too. Products and sums
are separate elementwise operations: a fused multiply-add is applied to some elements of an array
and not to others (the remainder of a vector loop), so that a value would depend on its place in
memory and a sample on the layout of tiles.

A sampler knows neither tiles nor ranks nor conditions: those are the denoiser's. Random samplers
ask a function of the draw number for noise, so that the keyed generator can be plugged in. Draw 0
is the initial one; step number i takes draw i + 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from halocline.flow.denoiser import Denoiser
from halocline.flow.path import Path, noise_from_mean, velocity_from_mean

Noise = Callable[[int], Tensor]
Progress = Callable[[int, float, float], None]


class Sampler(ABC):
    """Steps along a grid of times.

    Arguments:
        denoiser: The denoiser; it carries the path.
        times: Decreasing times in [0, 1], the first that of the noise, the last usually 0.
        progress: Called with (step, t, s) after each step.

    Raises:
        ValueError: Times are fewer than two, outside [0, 1], or not decreasing.
    """

    def __init__(self, denoiser: Denoiser, times: Sequence[float], progress: Progress | None = None) -> None:
        self.denoiser = denoiser
        self.times = _checked(times)
        self.progress = progress

    @property
    def path(self) -> Path:
        return self.denoiser.path

    def init(self, noise: Tensor, mean: float | Tensor = 0.0, variance: float | Tensor = 1.0) -> Tensor:
        r"""Returns the state at the first time, :math:`\alpha\mu + \sqrt{\alpha^2 V + \sigma^2} z`.

        Mean and variance are those of the data, standardised unless given; at t = 1 they do not
        matter.

        Arguments:
            noise: z, draw 0, shape (...).
            mean: :math:`\mu`, broadcastable to the noise.
            variance: V, broadcastable to the noise.
        """
        alpha, sigma = self._scales(self.times[0])
        return alpha * mean + (alpha**2 * variance + sigma**2) ** 0.5 * noise

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Takes a state from the first time to the last; without gradients.

        Arguments:
            x: State at the first time, shape (...), as returned by init.

        Returns:
            State at the last time, shape (...), type of x.

        Collective: if the denoiser is.
        """
        for index, (t, s) in enumerate(pairwise(self.times)):
            x = self.step(x, t, s, index)
            if self.progress is not None:
                self.progress(index, t, s)
        return x

    @abstractmethod
    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        """Takes a state from t to s < t.

        Arguments:
            x: State at t, shape (...).
            t: Time of departure.
            s: Time of arrival.
            index: Number of the step; a random sampler takes draw index + 1.
        """

    def _mean(self, x: Tensor, t: float, s: float) -> Tensor:
        """Denoises for a step from t to s: to s = 0 the median, if the denoiser knows one, on which samples end."""
        found = self.denoiser(x, t)
        wanted = found.median if s == 0 and found.median is not None else found.mean
        return wanted.to(x.dtype)

    def _scales(self, t: float) -> tuple[float, float]:
        return float(self.path.alpha(t)), float(self.path.sigma(t))


class EulerSampler(Sampler):
    r"""Steps along the velocity at departure. Order 1, one evaluation a step.

    .. math:: x_s = x_t + (s - t) \, v(x_t, t)

    On the linear path a step to s = 0 returns the denoised mean itself.
    """

    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        return _euler(self.path, x, self._mean(x, t, s), t, s)


class HeunSampler(Sampler):
    r"""Steps along the mean velocity of departure and arrival. Order 2, two evaluations a step.

    .. math::
        x' = x_t + (s - t) \, v(x_t, t), \qquad
        x_s = x_t + \frac{s - t}{2} \big( v(x_t, t) + v(x', s) \big)

    A step to s = 0 is an Euler step, because the denoised mean does not determine the velocity
    there. Its single local error is of second order, so the order remains 2; n steps take 2n - 1
    evaluations, and on the linear path the result is the last denoised mean itself.

    References: Karras et al., 2022, Elucidating the Design Space of Diffusion-Based Generative
    Models, algorithm 1.
    """

    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        m = self._mean(x, t, s)
        guess = _euler(self.path, x, m, t, s)
        if s == 0:
            return guess
        departure = velocity_from_mean(self.path, x, m, t)
        arrival = velocity_from_mean(self.path, guess, self._mean(guess, s, s), s)
        return x + (s - t) / 2 * (departure + arrival)


class MultistepSampler(Sampler):
    r"""Steps along the velocity extrapolated from the last two departures. Order 2, one evaluation a step.

    .. math::
        x_s = x_t + (s - t) \Big( v_t + \frac{s - t}{2 (t - t')} (v_t - v_{t'}) \Big)

    with the time t' of the departure before; the first step and one to s = 0 are Euler steps, as in `HeunSampler`, and
    the order remains 2.

    References: Adams-Bashforth; for samplers Zhang and Chen, 2023, Fast Sampling of Diffusion Models with Exponential
    Integrator.
    """

    _before: tuple[float, Tensor] | None = None

    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        m = self._mean(x, t, s)
        if s == 0:
            return _euler(self.path, x, m, t, s)
        v = velocity_from_mean(self.path, x, m, t)
        before, self._before = self._before if index else None, (t, v)
        if before is None:
            return x + (s - t) * v
        earlier, u = before
        return x + (s - t) * v + (s - t) ** 2 / (2 * (t - earlier)) * (v - u)


class DDIMSampler(Sampler):
    r"""Moves the mean and the expected noise to the new time. Order 1, one evaluation a step.

    .. math::
        x_s = \alpha_s m + \sigma_s \big( \sqrt{1 - \eta^2 \tau} \, \hat z + \eta \sqrt\tau \, \xi
        \big), \qquad \hat z = \frac{x_t - \alpha_t m}{\sigma_t}, \qquad
        \tau = 1 - \frac{\alpha_t^2 \sigma_s^2}{\alpha_s^2 \sigma_t^2}

    With :math:`\eta = 0` it is deterministic: Euler's method for :math:`x/\alpha` as a function of
    :math:`\sigma/\alpha`, on the linear path the same as `EulerSampler`. With :math:`\eta = 1` it
    is the `AncestralSampler`. A step to s = 0 returns the denoised mean itself on every path.

    Arguments:
        denoiser, times, progress: As for `Sampler`.
        eta: :math:`\eta` in [0, 1], the share of ancestral noise, as a standard deviation.
        noise: Function of the draw number, shape of the state; not needed for eta = 0.

    Raises:
        ValueError: eta outside [0, 1], or no noise for a random sampler.

    References: Song et al., 2021, Denoising Diffusion Implicit Models, equations 12 and 16.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        times: Sequence[float],
        eta: float = 0.0,
        noise: Noise | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(denoiser, times, progress)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}: 0 is deterministic, 1 ancestral.")
        if eta > 0 and noise is None:
            raise ValueError(f"A DDIM sampler with eta = {eta} draws noise: pass noise, or eta = 0.")
        self.eta = eta
        self.noise = noise

    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        alpha_t, sigma_t = self._scales(t)
        alpha_s, sigma_s = self._scales(s)
        tau = _forgotten(self.path, t, s)
        a = sigma_s * math.sqrt(1 - self.eta**2 * tau) / sigma_t
        c = sigma_s * self.eta * math.sqrt(tau)
        x = a * x + (alpha_s - a * alpha_t) * self._mean(x, t, s)
        return x if self.noise is None or c == 0 else x + c * self.noise(index + 1)


class AncestralSampler(Sampler):
    r"""Draws from the posterior of the forward transition, given the mean. Order 1 in distribution.

    .. math::
        x_s = \frac{\alpha_t \sigma_s^2}{\alpha_s \sigma_t^2} \, x_t + \alpha_s \tau \, m
        + \sigma_s \sqrt\tau \, \xi, \qquad
        \tau = 1 - \frac{\alpha_t^2 \sigma_s^2}{\alpha_s^2 \sigma_t^2}

    For neighbouring times of `ddpm_times` this is the step of DDPM,

    .. math::
        x_{j-1} = \frac{1}{\sqrt{1 - \beta_j}}
        \Big( x_j - \frac{\beta_j}{\sqrt{1 - \bar\alpha_j}} \hat z \Big) + \varsigma_j \xi, \qquad
        \varsigma_j^2 = \frac{1 - \bar\alpha_{j-1}}{1 - \bar\alpha_j} \beta_j ,

    and between distant times the same with the product of the :math:`1 - \beta` between them. A
    step to s = 0 draws nothing and returns the denoised mean itself.

    Arguments:
        denoiser, times, progress: As for `Sampler`.
        noise: Function of the draw number, shape of the state.

    References: Ho et al., 2020, Denoising Diffusion Probabilistic Models, equations 7 and 11.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        times: Sequence[float],
        noise: Noise,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(denoiser, times, progress)
        self.noise = noise

    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        alpha_t, sigma_t = self._scales(t)
        alpha_s, sigma_s = self._scales(s)
        tau = _forgotten(self.path, t, s)
        a, b = alpha_t / alpha_s * (sigma_s / sigma_t) ** 2, alpha_s * tau
        x = a * x + b * self._mean(x, t, s)
        return x if sigma_s == 0 else x + sigma_s * math.sqrt(tau) * self.noise(index + 1)


class LangevinSampler(Sampler):
    r"""Corrects each step of another sampler by Langevin steps at the time of arrival.

    .. math:: x \leftarrow x - \delta \sigma_s \hat z + \sigma_s \sqrt{2 \delta} \, \xi

    which is a Langevin step of size :math:`\delta \sigma_s^2` on the score :math:`-\hat z/\sigma_s`
    of the marginal at s. The step is a function of s alone, not scaled by the norm of the score,
    which would make a tile depend on all others. No correction at s = 0. On a marginal of
    variance :math:`\Sigma^2` the stationary variance is
    :math:`\Sigma^2 / (1 - \delta \sigma_s^2 / (2 \Sigma^2))`.

    Arguments:
        predictor: The sampler to correct; it gives denoiser, times, and its own draws.
        corrections: Langevin steps after each step, one evaluation each.
        delta: :math:`\delta > 0`.
        noise: Function of the draw number, shape of the state. A step of this sampler takes
            1 + corrections draws, the first of them the predictor's.
        progress: As for `Sampler`.

    Raises:
        ValueError: Negative corrections or a step size that is not positive.

    References: Song et al., 2021, Score-Based Generative Modeling through Stochastic Differential
    Equations, appendix G; Rozet and Louppe, 2023, Score-based Data Assimilation.
    """

    def __init__(
        self,
        predictor: Sampler,
        corrections: int,
        delta: float,
        noise: Noise,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(predictor.denoiser, predictor.times, progress)
        if corrections < 0 or not delta > 0:
            raise ValueError(
                "Langevin needs corrections >= 0 and delta > 0, "
                f"got {corrections} and {delta}: delta near 0.1 is usual."
            )
        self.predictor = predictor
        self.corrections = corrections
        self.delta = delta
        self.noise = noise

    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        draw = index * (1 + self.corrections)
        x = self.predictor.step(x, t, s, draw)
        if s == 0:
            return x
        sigma = self._scales(s)[1]
        for k in range(self.corrections):
            z = noise_from_mean(self.path, x, self._mean(x, s, s), s)
            x = x - self.delta * sigma * z
            x = x + sigma * math.sqrt(2 * self.delta) * self.noise(draw + 2 + k)
        return x


def _euler(path: Path, x: Tensor, m: Tensor, t: float, s: float) -> Tensor:
    # As a x + b m, not x + (s - t) v: on the linear path a is exactly 0 and b exactly 1 at s = 0.
    sigma = float(path.sigma(t))
    a = (sigma + (s - t) * float(path.sigma_rate(t))) / sigma
    b = (t - s) * float(path.wronskian(t)) / sigma
    return a * x + b * m


def _forgotten(path: Path, t: float, s: float) -> float:
    """Returns tau, the share of the noise variance at s that the state at t does not determine."""
    return -math.expm1(float(path.gamma(t)) - float(path.gamma(s)))


def _checked(times: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(t) for t in times)
    decreasing = all(t > s for t, s in pairwise(values))
    if len(values) < 2 or not decreasing or values[0] > 1 or values[-1] < 0:
        raise ValueError(
            "Times of a sampler must be at least two, decreasing, within [0, 1], "
            f"got {len(values)} from {values[:1]} to {values[-1:]}: see uniform_times."
        )
    return values
