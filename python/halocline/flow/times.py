r"""Path times: the grids along which samplers step, and the draws at which a network is trained.

Times run from 1 (noise) to 0 (data), in float64.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from halocline.flow.path import Path


def uniform_times(steps: int, start: float = 1.0, stop: float = 0.0) -> tuple[float, ...]:
    r"""Returns steps + 1 equidistant times from start down to stop."""
    _check_steps(steps)
    return (*(start + (stop - start) * (i / steps) for i in range(steps)), stop)


def logistic_times(steps: int) -> tuple[float, ...]:
    r"""Returns times from 1 to 0 with the shortest steps near the data.

    .. math:: t_i = \frac{S(2) - S(3 u_i - 1)}{S(2) - S(-1)}, \qquad u_i = i / n,
        \qquad S(y) = \frac{1}{1 + e^{-y}}

    References: Finn et al., 2025, GenSIM (arXiv 2508.14984).
    """
    _check_steps(steps)
    first, last = _logistic(-1), _logistic(2)
    return tuple((last - _logistic(3 * (i / steps) - 1)) / (last - first) for i in range(steps + 1))


def quadratic_times(steps: int) -> tuple[float, ...]:
    r"""Returns times from 1 to 0, :math:`t_i = (1 - i/n)^2`: with n = 8 the last step begins at 0.016.

    What a sample ends on is what the denoiser says at the last time before 0. Where values lie close to a bound at
    which many end, that time decides how many do: noise that is larger than their distance to it hides on which side
    they are. The last of eight logistic times is 0.074.

    References: Song et al., 2021, Denoising Diffusion Implicit Models, appendix D.2.
    """
    _check_steps(steps)
    return tuple((1 - i / steps) ** 2 for i in range(steps + 1))


def cosine_times(steps: int) -> tuple[float, ...]:
    r"""Returns times from 1 to 0, :math:`t_i = \cos^{5/2}(\pi i / 2n)`: short steps at both ends.

    With n = 8 the first step is 0.047 long, the last begins at 0.017. Long steps near the noise take spread from a
    sample: of 8 quadratic times, whose first step is 0.23 long, `MultistepSampler` leaves Gaussian data of standard
    deviation 0.4 to 2.5 with 0.86 to 0.95 of it, of these with 0.92 to 1.06. The end is that of `quadratic_times`, for
    the reason given there.

    References: Chebyshev's points for the cosine; the exponent is what gives that end.
    """
    _check_steps(steps)
    return (*(math.cos(math.pi * i / (2 * steps)) ** 2.5 for i in range(steps)), 0.0)


def karras_times(path: Path, steps: int, rho: float = 7.0, high: float = 80.0, low: float = 0.002) -> tuple[float, ...]:
    r"""Returns times whose noise-to-signal ratios are equidistant in a root, and 0 at the end.

    .. math:: \frac{\sigma_{t_i}}{\alpha_{t_i}} = \Big( r_1^{1/\rho}
        + \frac{i}{n-1} \big( r_0^{1/\rho} - r_1^{1/\rho} \big) \Big)^\rho, \qquad i = 0 \dots n-1

    Arguments:
        path: The path.
        steps: n >= 2.
        rho: :math:`\rho`; larger values put more of the steps near the data.
        high: :math:`r_1`, ratio of the first time.
        low: :math:`r_0`, ratio of the last time before 0, in (0, high).

    Raises:
        ValueError: Fewer than two steps, or low and high not in order.

    References: Karras et al., 2022, Elucidating the Design Space of Diffusion-Based Generative
    Models, equation 5.
    """
    _check_steps(steps, 2)
    if not 0 < low < high:
        raise ValueError(f"Noise ratios must satisfy 0 < low < high, got {low} and {high}: exchange them?")
    first, last = high ** (1 / rho), low ** (1 / rho)
    ratios = ((first + (last - first) * i / (steps - 1)) ** rho for i in range(steps))
    return (*(float(path.time(-2 * math.log(ratio))) for ratio in ratios), 0.0)


def ddpm_times(path: Path, steps: int = 1000, cap: float = 0.999) -> tuple[float, ...]:
    r"""Returns the times of a discrete DDPM schedule: j/n, but for the first.

    The schedule adds at most the variance :math:`\beta_j \le` cap in one step. On a cosine path
    the cap acts once, at j = n, where :math:`\beta = 1`; the first time is the one at which
    :math:`\alpha^2/(\alpha^2 + \sigma^2)` is 1 - cap times its value at j = n - 1.

    Arguments:
        path: A variance-preserving path.
        steps: n >= 2.
        cap: Largest :math:`\beta`, in (0, 1).

    References: Nichol and Dhariwal, 2021, Improved Denoising Diffusion Probabilistic Models.
    """
    _check_steps(steps, 2)
    times = uniform_times(steps)
    square = (1 - cap) * torch.sigmoid(path.gamma(times[1]))
    return (float(path.time(torch.logit(square))), *times[1:])


def stratified_times(
    seed: int,
    step: int,
    batch: int,
    indices: Sequence[int] | None = None,
    density: Literal["uniform", "logit-normal"] = "uniform",
    location: float = 0.0,
    scale: float = 1.0,
    shift: float = 1.0,
) -> Tensor:
    r"""Draws the training times of a step, evenly spread over the batch of all ranks.

    .. math:: u_i = \frac{\pi(i) + \xi}{B}, \qquad t_i = u_i
        \quad\text{or}\quad t_i = \mathrm{sigmoid}(a + b \, \Phi^{-1}(u_i))
        \quad\text{or}\quad \frac{t_i}{1 - t_i} = k \frac{u_i}{1 - u_i}

    One offset :math:`\xi` in (0, 1) for the step puts a time into each of B equal intervals of
    probability, which removes most of the variance of the loss due to t; the permutation
    :math:`\pi` keeps the time independent of anything that is ordered as the samples are.

    Arguments:
        seed: Seed of the training.
        step: Training step.
        batch: B, samples of all ranks in this step.
        indices: The samples wanted, each in [0, B); all of them unless given.
        density: Distribution of t over (0, 1).
        location: a of the logit-normal density; positive means noisier.
        scale: b of the logit-normal density, positive.
        shift: k, positive, of a uniform density whose times are shifted towards the noise (k > 1, density k at t = 1
            and 1/k at 0) or towards the data.

    Returns:
        Times, float64, one for each index: a function of the arguments only, whatever the rank.

    Raises:
        ValueError: Unknown density, or an index outside the batch.

    Collective: no.
    References: Kingma et al., 2021, Variational Diffusion Models (one offset for a batch); Esser et
    al., 2024, Scaling Rectified Flow Transformers (logit-normal, and equation 23 for the shift).
    """
    wanted = list(range(batch)) if indices is None else list(indices)
    if not all(0 <= i < batch for i in wanted):
        raise ValueError(
            f"Sample indices must lie in [0, {batch}), got {min(wanted)} to {max(wanted)}: "
            "give positions in the batch of all ranks."
        )
    # An odd 64-bit multiplier keeps (seed, step) and (seed + 1, step') apart for all real steps.
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step) % 2**63)
    order = torch.randperm(batch, generator=generator)
    offset = torch.rand((), generator=generator, dtype=torch.float64).clamp(min=2.0**-32)
    u = (order[wanted] + offset) / batch
    if density == "uniform":
        return u if shift == 1 else shift * u / (1 + (shift - 1) * u)
    if density == "logit-normal":
        return torch.sigmoid(location + scale * torch.special.ndtri(u))
    raise ValueError(
        f"Density of training times must be 'uniform' or 'logit-normal', got '{density}': choose one of the two."
    )


def _check_steps(steps: int, least: int = 1) -> None:
    if steps < least:
        raise ValueError(f"Number of steps must be at least {least}, got {steps}: take more steps.")


def _logistic(y: float) -> float:
    return 1 / (1 + math.exp(-y))
