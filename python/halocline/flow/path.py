r"""Paths from data to noise.

A path joins a state :math:`x_0` (time 0) to white noise :math:`z \sim \mathcal{N}(0, I)` (time 1):

.. math:: x_t = \alpha_t x_0 + \sigma_t z, \qquad \frac{dx}{dt} = v .

Given :math:`x_t`, the expectations of data, noise and velocity

.. math::
    m = \mathbb{E}[x_0 \mid x_t], \qquad
    \hat z = \mathbb{E}[z \mid x_t], \qquad
    v = \dot\alpha m + \dot\sigma \hat z

determine each other, because :math:`x_t = \alpha m + \sigma \hat z`. Solving these two linear
equations divides by :math:`\alpha`, by :math:`\sigma`, or by their Wronskian
:math:`W = \alpha \dot\sigma - \dot\alpha \sigma`, which does not vanish:

=====================  =================================  ================
wanted                 from                               singular at
=====================  =================================  ================
:math:`m`              :math:`(\dot\sigma x - \sigma v)/W`   nowhere
:math:`\hat z`         :math:`(\alpha v - \dot\alpha x)/W`   nowhere
:math:`m`              :math:`(x - \sigma \hat z)/\alpha`    t = 1
:math:`v`              :math:`(\dot\alpha x + W \hat z)/\alpha`  t = 1
:math:`\hat z`         :math:`(x - \alpha m)/\sigma`         t = 0
:math:`v`              :math:`(\dot\sigma x - W m)/\sigma`   t = 0
=====================  =================================  ================

Coefficients are computed in float64 whatever the type of the state, and rounded to it once.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Time = float | Tensor


@runtime_checkable
class Path(Protocol):
    r"""Describes :math:`\alpha_t, \sigma_t`, their rates and the log signal-to-noise ratio.

    All methods take times in [0, 1], a number or a tensor of any shape, and return float64 tensors
    of the same shape. A path has no state: equal parameters make equal paths.
    """

    def alpha(self, t: Time) -> Tensor:
        r"""Returns the signal scale :math:`\alpha_t`, 1 at t = 0 and 0 at t = 1."""
        ...

    def sigma(self, t: Time) -> Tensor:
        r"""Returns the noise scale :math:`\sigma_t`, 0 at t = 0 and 1 at t = 1."""
        ...

    def alpha_rate(self, t: Time) -> Tensor:
        r"""Returns :math:`\dot\alpha_t`, per unit of path time."""
        ...

    def sigma_rate(self, t: Time) -> Tensor:
        r"""Returns :math:`\dot\sigma_t`, per unit of path time."""
        ...

    def time(self, gamma: Time) -> Tensor:
        r"""Returns the time at which the log signal-to-noise ratio is :math:`\gamma`."""
        ...

    def gamma(self, t: Time) -> Tensor:
        r"""Returns :math:`\gamma_t = \ln(\alpha_t^2 / \sigma_t^2)`, infinite at the two ends."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def wronskian(self, t: Time) -> Tensor:
        r"""Returns :math:`W = \alpha \dot\sigma - \dot\alpha \sigma > 0`."""
        return self.alpha(t) * self.sigma_rate(t) - self.alpha_rate(t) * self.sigma(t)


@dataclass(frozen=True)
class LinearPath(Path):
    r"""Straight lines of flow matching.

    .. math:: \alpha_t = 1 - t, \qquad \sigma_t = t, \qquad W = 1

    References: Lipman et al., 2023, Flow Matching for Generative Modeling.
    """

    def alpha(self, t: Time) -> Tensor:
        return 1 - _float64(t)

    def sigma(self, t: Time) -> Tensor:
        return _float64(t)

    def alpha_rate(self, t: Time) -> Tensor:
        return -torch.ones_like(_float64(t))

    def sigma_rate(self, t: Time) -> Tensor:
        return torch.ones_like(_float64(t))

    def time(self, gamma: Time) -> Tensor:
        return torch.sigmoid(-_float64(gamma) / 2)


@dataclass(frozen=True)
class VariancePreservingPath(Path):
    r"""A quarter of a circle, so that unit-variance data keep their variance.

    .. math:: \alpha_t = \cos\frac{\pi t}{2}, \qquad \sigma_t = \sin\frac{\pi t}{2},
        \qquad W = \frac{\pi}{2}

    References: Salimans and Ho, 2022, Progressive Distillation for Fast Sampling of Diffusion
    Models.
    """

    def alpha(self, t: Time) -> Tensor:
        # The sine of the complement, because cos(pi/2) is not zero in floating point.
        return torch.sin((1 - _float64(t)) * (math.pi / 2))

    def sigma(self, t: Time) -> Tensor:
        return torch.sin(_float64(t) * (math.pi / 2))

    def alpha_rate(self, t: Time) -> Tensor:
        return -math.pi / 2 * self.sigma(t)

    def sigma_rate(self, t: Time) -> Tensor:
        return math.pi / 2 * self.alpha(t)

    def wronskian(self, t: Time) -> Tensor:
        return torch.full_like(_float64(t), math.pi / 2)

    def time(self, gamma: Time) -> Tensor:
        return torch.atan(torch.exp(-_float64(gamma) / 2)) * (2 / math.pi)


@dataclass(frozen=True)
class SquaredCosinePath(Path):
    r"""The squared-cosine schedule of DDPM, as a path in continuous time.

    .. math:: \alpha_t = \frac{\cos a_t}{\cos a_0}, \quad \sigma_t = \sqrt{1 - \alpha_t^2}, \quad
        a_t = \frac{\pi}{2} \, \frac{t + o}{1 + o}

    The discrete schedule with n steps is this path at t = j/n, but for its last step, where the
    variance added is capped: see `ddpm_times`. The offset gives the first steps more noise and
    makes :math:`\dot\sigma` infinite at t = 0: use the ancestral or DDIM sampler with it,
    and for the ODE samplers one of the two smooth paths.

    Arguments:
        offset: :math:`o > 0`.

    Raises:
        ValueError: The offset is not positive.

    References: Nichol and Dhariwal, 2021, Improved Denoising Diffusion Probabilistic Models.
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not self.offset > 0:
            raise ValueError(
                f"Offset of the squared-cosine path must be positive, got {self.offset}: "
                "without an offset it is the VariancePreservingPath."
            )

    @property
    def _rate(self) -> float:
        return math.pi / 2 / (1 + self.offset)

    @property
    def _start(self) -> float:
        return self._rate * self.offset

    def alpha(self, t: Time) -> Tensor:
        return torch.sin((1 - _float64(t)) * self._rate) / math.cos(self._start)

    def sigma(self, t: Time) -> Tensor:
        # 1 - alpha^2 as a product of sines: no cancellation near t = 0.
        angle = _float64(t) * self._rate
        square = torch.sin(angle) * torch.sin(angle + 2 * self._start)
        return torch.sqrt(square) / math.cos(self._start)

    def alpha_rate(self, t: Time) -> Tensor:
        angle = (1 - _float64(t)) * self._rate
        return -self._rate * torch.cos(angle) / math.cos(self._start)

    def sigma_rate(self, t: Time) -> Tensor:
        return -self.alpha(t) * self.alpha_rate(t) / self.sigma(t)

    def time(self, gamma: Time) -> Tensor:
        alpha = torch.sigmoid(_float64(gamma)).sqrt()
        return 1 - torch.asin(alpha * math.cos(self._start)) / self._rate


def velocity_from_mean(path: Path, x: Tensor, m: Tensor, t: Time) -> Tensor:
    r"""Converts the denoised mean to a velocity: :math:`v = (\dot\sigma x - W m) / \sigma`.

    Arguments:
        path: The path.
        x: State at time t, shape (...).
        m: Denoised mean, shape (...).
        t: Time, a number, or a tensor whose shape is the first axes of x.

    Returns:
        Velocity, shape (...), in the type of x.

    Raises:
        ValueError: A time is 0, where the mean is the state and says nothing of the velocity.
    """
    a, b, divisor = path.sigma_rate(t), -path.wronskian(t), path.sigma(t)
    return _combine(a, x, b, m, divisor, "velocity does not follow from the mean", t)


def velocity_from_noise(path: Path, x: Tensor, z: Tensor, t: Time) -> Tensor:
    r"""Converts expected noise to a velocity: :math:`v = (\dot\alpha x + W \hat z) / \alpha`.

    Arguments and result as in `velocity_from_mean`, with the expected noise z.

    Raises:
        ValueError: A time is 1, where the noise is the state and says nothing of the velocity, or
            one at which the velocity of the path is infinite.
    """
    a, b, divisor = path.alpha_rate(t), path.wronskian(t), path.alpha(t)
    return _combine(a, x, b, z, divisor, "velocity does not follow from the noise", t)


def mean_from_velocity(path: Path, x: Tensor, v: Tensor, t: Time) -> Tensor:
    r"""Converts a velocity to the denoised mean: :math:`m = (\dot\sigma x - \sigma v) / W`.

    Arguments and result as in `velocity_from_mean`, with the velocity v. Both ends are regular.

    Raises:
        ValueError: The velocity of the path is infinite at a time.
    """
    a, b, divisor = path.sigma_rate(t), -path.sigma(t), path.wronskian(t)
    return _combine(a, x, b, v, divisor, "mean does not follow from the velocity", t)


def mean_from_noise(path: Path, x: Tensor, z: Tensor, t: Time) -> Tensor:
    r"""Converts expected noise to the denoised mean: :math:`m = (x - \sigma \hat z) / \alpha`.

    Arguments and result as in `velocity_from_mean`, with the expected noise z.

    Raises:
        ValueError: A time is 1, where the noise is the state and says nothing of the mean.
    """
    one, b, divisor = _float64(1.0), -path.sigma(t), path.alpha(t)
    return _combine(one, x, b, z, divisor, "mean does not follow from the noise", t)


def noise_from_velocity(path: Path, x: Tensor, v: Tensor, t: Time) -> Tensor:
    r"""Converts a velocity to the expected noise: :math:`\hat z = (\alpha v - \dot\alpha x) / W`.

    Arguments and result as in `velocity_from_mean`, with the velocity v. Both ends are regular.

    Raises:
        ValueError: The velocity of the path is infinite at a time.
    """
    a, b, divisor = -path.alpha_rate(t), path.alpha(t), path.wronskian(t)
    return _combine(a, x, b, v, divisor, "noise does not follow from the velocity", t)


def noise_from_mean(path: Path, x: Tensor, m: Tensor, t: Time) -> Tensor:
    r"""Converts the denoised mean to the expected noise: :math:`\hat z = (x - \alpha m) / \sigma`.

    Arguments and result as in `velocity_from_mean`.

    Raises:
        ValueError: A time is 0, where the mean is the state and says nothing of the noise.
    """
    one, b, divisor = _float64(1.0), -path.alpha(t), path.sigma(t)
    return _combine(one, x, b, m, divisor, "noise does not follow from the mean", t)


def align(coefficient: Tensor, x: Tensor) -> Tensor:
    """Appends axes to a per-sample coefficient until it multiplies x; keeps its type.

    Arguments:
        coefficient: One value, shape (), or one per sample, shape equal to the first axes of x.
        x: State, shape (...).
    """
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim))


def _combine(a: Tensor, x: Tensor, b: Tensor, y: Tensor, divisor: Tensor, failure: str, t: Time) -> Tensor:
    regular = (divisor != 0) & torch.isfinite(divisor) & torch.isfinite(a) & torch.isfinite(b)
    if not bool(regular.all()):
        raise ValueError(f"The {failure} at t = {_float64(t)[~regular][0]:g}: choose a time inside (0, 1).")
    return _cast(a / divisor, x) * x + _cast(b / divisor, x) * y


def _cast(coefficient: Tensor, x: Tensor) -> Tensor:
    # A single number stays on the host, where it multiplies a tensor of any device without a copy.
    if coefficient.ndim == 0:
        return coefficient.to(x.dtype)
    return align(coefficient, x).to(x)


def _float64(t: Time) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64)
