"""Samplers against the closed-form flow of a Gaussian, whose denoiser is known exactly."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from halocline.flow.denoiser import GaussianDenoiser, Posterior
from halocline.flow.path import (
    LinearPath,
    Path,
    SquaredCosinePath,
    VariancePreservingPath,
    noise_from_mean,
)
from halocline.flow.sampler import (
    AncestralSampler,
    DDIMSampler,
    EulerSampler,
    HeunSampler,
    LangevinSampler,
    MultistepSampler,
    Sampler,
)
from halocline.flow.times import (
    cosine_times,
    ddpm_times,
    karras_times,
    logistic_times,
    quadratic_times,
    uniform_times,
)

# Data N(1.3, 0.4^2) and one noise value: the flow ends at mean + deviation * noise.
MEAN, DEVIATION, NOISE = 1.3, 0.4, 0.7
SMOOTH = [LinearPath(), VariancePreservingPath()]
DETERMINISTIC = [EulerSampler, HeunSampler, DDIMSampler, MultistepSampler]

Grid = Callable[[int], Sequence[float]]


def gaussian(path: Path) -> GaussianDenoiser:
    return GaussianDenoiser(path, MEAN, DEVIATION**2)


def flow_error(kind: type[Sampler], path: Path, times: Sequence[float]) -> float:
    """Returns the distance from the exact flow, along which (x - alpha mu)/Sigma is constant."""

    def spread(t: float) -> float:
        return math.hypot(float(path.alpha(t)) * DEVIATION, float(path.sigma(t)))

    start, stop = times[0], times[-1]
    x = float(path.alpha(start)) * MEAN + spread(start) * torch.tensor(NOISE, dtype=torch.float64)
    exact = float(path.alpha(stop)) * MEAN + spread(stop) * NOISE
    return abs(kind(gaussian(path), times)(x).item() - exact)


def orders(kind: type[Sampler], path: Path, grid: Grid, coarsest: int = 32) -> list[float]:
    errors = [flow_error(kind, path, grid(coarsest * 2**k)) for k in range(5)]
    return [math.log2(a / b) for a, b in pairwise(errors)]


def inside(steps: int) -> tuple[float, ...]:
    return uniform_times(steps, 0.95, 0.1)


@pytest.mark.parametrize("path", SMOOTH)
@pytest.mark.parametrize("grid", [uniform_times, inside, logistic_times, quadratic_times, cosine_times])
@pytest.mark.parametrize(
    ("kind", "order"), [(EulerSampler, 1), (HeunSampler, 2), (DDIMSampler, 1), (MultistepSampler, 2)]
)
def test_sampler_has_the_claimed_order(kind: type[Sampler], order: int, grid: Grid, path: Path) -> None:
    # The last two halvings, 128 to 512 steps. The measured order is off by O(h): 0.01 to 0.02, but
    # 0.06 on the logistic grid of the linear path, where the error of Heun changes its sign near
    # 20 steps. Grids that end at 0 end with an Euler step, which must not cost Heun its order.
    for measured in orders(kind, path, grid)[-2:]:
        assert measured == pytest.approx(order, abs=0.08)


def test_ddim_keeps_its_order_where_the_velocity_is_infinite() -> None:
    # Near t = 0 sigma/alpha grows like sqrt(t): its j-th step is O(sqrt(h/j)) long, and the squares
    # of all steps add up to h log(1/h). Measured 0.983 and 0.984.
    for measured in orders(DDIMSampler, SquaredCosinePath(), uniform_times)[-2:]:
        assert measured == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "times", "expected", "digit"),
    [
        (EulerSampler, uniform_times(20), 2.21e-2, 1e-4),
        (HeunSampler, (*uniform_times(20)[:-1], 1e-9), 4.68e-4, 1e-6),
        (HeunSampler, uniform_times(20), 1.82e-3, 1e-5),
        (HeunSampler, logistic_times(20), 7.5e-5, 1e-6),
    ],
)
def test_published_reference_errors_are_reproduced(
    kind: type[Sampler], times: Sequence[float], expected: float, digit: float
) -> None:
    # Half a unit of the last digit quoted. Heun to 1e-9 stands for Heun to 0: the velocity is
    # taken from the mean, which does not determine it at 0.
    assert flow_error(kind, LinearPath(), times) == pytest.approx(expected, abs=0.5 * digit)


def test_multistep_sampler_begins_anew_with_each_sample() -> None:
    sampler = MultistepSampler(gaussian(LinearPath()), uniform_times(6))
    z = torch.randn(20, generator=torch.Generator().manual_seed(0))
    first, other = sampler(z), sampler(-z)
    assert torch.equal(sampler(z), first) and not torch.equal(other, first)
    corrected = LangevinSampler(sampler, 0, 0.1, lambda draw: torch.zeros(20))  # calls its steps alone
    assert torch.equal(corrected(z), first)


@pytest.mark.parametrize(("grid", "least", "most"), [(quadratic_times, 0.85, 0.95), (cosine_times, 0.92, 1.07)])
def test_few_steps_keep_the_spread_of_the_data_where_they_are_short_near_the_noise(
    grid: Grid, least: float, most: float
) -> None:
    kept = []
    for deviation in (0.4, 0.7, 1.0, 1.5, 2.5):
        denoiser = GaussianDenoiser(LinearPath(), 0.0, deviation**2)
        kept.append(MultistepSampler(denoiser, grid(8))(torch.ones(1, dtype=torch.float64)).item() / deviation)
    assert least < min(kept) and max(kept) < most


@pytest.mark.parametrize("path", SMOOTH)
@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_many_steps_arrive_at_the_data(kind: type[Sampler], path: Path) -> None:
    # First order: measured 2.2e-2 to 2.8e-2 at 20 steps, hence 6e-4 at 1000.
    assert flow_error(kind, path, uniform_times(1000)) < 1e-3


def test_sampler_in_single_precision_follows_double() -> None:
    z = torch.randn(50, generator=torch.Generator().manual_seed(0))
    for kind in DETERMINISTIC:
        sampler = kind(gaussian(LinearPath()), uniform_times(50))
        single, double = sampler(z), sampler(z.double())
        assert single.dtype == torch.float32
        # Fifty steps of a few roundings of numbers below 4, in a contracting flow.
        torch.testing.assert_close(single.double(), double, rtol=0, atol=5e-6)


class Bounded:
    """Returns means clipped to a bound that is no round number in binary."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inner = GaussianDenoiser(path, 0.0, 1.0)
        self.seen: list[tuple[float, Tensor]] = []

    def __call__(self, x: Tensor, t: float) -> Posterior:
        mean = self.inner(x, t).mean.clamp(-0.1, 0.3)
        self.seen.append((t, mean))
        return Posterior(mean)


def draw(index: int) -> Tensor:
    return torch.randn(99, generator=torch.Generator().manual_seed(index))


@pytest.mark.parametrize(
    ("build", "path"),
    [
        (lambda d, times: EulerSampler(d, times), LinearPath()),
        (lambda d, times: HeunSampler(d, times), LinearPath()),
        (lambda d, times: DDIMSampler(d, times), LinearPath()),
        (lambda d, times: DDIMSampler(d, times), VariancePreservingPath()),
        (lambda d, times: DDIMSampler(d, times, 0.5, draw), SquaredCosinePath()),
        (lambda d, times: AncestralSampler(d, times, draw), VariancePreservingPath()),
        (lambda d, times: AncestralSampler(d, times, draw), LinearPath()),
    ],
)
def test_sample_is_the_last_mean_bit_for_bit(build: Callable, path: Path) -> None:
    for grid in (uniform_times(7), logistic_times(20)):
        denoiser = Bounded(path)
        x = build(denoiser, grid)(draw(0))
        assert torch.equal(x, denoiser.seen[-1][1])


def test_heun_takes_two_evaluations_but_one_at_the_end() -> None:
    denoiser = Bounded(LinearPath())
    HeunSampler(denoiser, logistic_times(20))(draw(0))
    assert len(denoiser.seen) == 39
    assert min(t for t, _ in denoiser.seen) > 0


@pytest.mark.parametrize("path", [VariancePreservingPath(), SquaredCosinePath()])
def test_ancestral_step_is_the_step_of_ddpm(path: Path) -> None:
    x, xi, t, s = torch.tensor([0.3, -1.2]).double(), torch.tensor([0.5, -2.0]).double(), 0.62, 0.57
    bar_t, bar_s = float(path.alpha(t)) ** 2, float(path.alpha(s)) ** 2
    beta = 1 - bar_t / bar_s
    denoiser = gaussian(path)
    z = noise_from_mean(path, x, denoiser(x, t).mean, t)
    mean = (x - beta / math.sqrt(1 - bar_t) * z) / math.sqrt(1 - beta)
    expected = mean + math.sqrt((1 - bar_s) / (1 - bar_t) * beta) * xi
    sampler = AncestralSampler(denoiser, [1.0, 0.0], lambda _: xi)
    torch.testing.assert_close(sampler.step(x, t, s, 0), expected, rtol=1e-12, atol=1e-12)


def affine_moments(path: Path, times: Sequence[float]) -> tuple[float, float]:
    """Returns mean and variance of an ancestral sample of the Gaussian by the scalar recursion.

    With data mean mu and variance V the mean is linear, m = mu + g (x - alpha mu), so that a step
    x' = a x + b m + c xi maps the two moments exactly.
    """
    mean, variance = 0.0, 1.0
    for t, s in pairwise(times):
        alpha_t, alpha_s, sigma_t, sigma_s = (float(f(r)) for f in (path.alpha, path.sigma) for r in (t, s))
        gain = alpha_t * DEVIATION**2 / (alpha_t**2 * DEVIATION**2 + sigma_t**2)
        step_variance = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
        a = alpha_t / alpha_s * sigma_s**2 / sigma_t**2
        b = alpha_s * step_variance / sigma_t**2
        mean = (a + b * gain) * mean + b * (1 - gain * alpha_t) * MEAN
        variance = (a + b * gain) ** 2 * variance + sigma_s**2 * step_variance / sigma_t**2
    return mean, variance


@pytest.mark.parametrize("path", [*SMOOTH, SquaredCosinePath()])
def test_ancestral_moments_follow_the_scalar_recursion(path: Path) -> None:
    times = uniform_times(12)
    # A sample is linear in its draws: column k of the batch receives a unit impulse in draw k and
    # nothing else, the last column nothing at all. No sampling error, rounding only.
    draws = len(times)
    impulses = torch.eye(draws, draws + 1, dtype=torch.float64)
    x = AncestralSampler(gaussian(path), times, lambda index: impulses[index])(impulses[0])
    mean, variance = affine_moments(path, times)
    assert float(x[-1]) == pytest.approx(mean, rel=1e-12)
    assert float((x[:-1] - x[-1]).square().sum()) == pytest.approx(variance, rel=1e-12)


def test_ancestral_samples_have_the_moments_of_the_recursion() -> None:
    count, times = 40_000, uniform_times(12)
    generator = torch.Generator().manual_seed(8)

    def noise(_: int) -> Tensor:
        return torch.randn(count, generator=generator)

    sampler = AncestralSampler(gaussian(VariancePreservingPath()), times, noise)
    x = sampler(sampler.init(noise(0)))
    mean, variance = affine_moments(VariancePreservingPath(), times)
    # Four standard errors of mean and variance of a Gaussian sample.
    assert float(x.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / count))
    assert float(x.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / count))


def ancestral_variance_error(steps: int) -> float:
    return affine_moments(VariancePreservingPath(), uniform_times(steps))[1] - DEVIATION**2


def test_ancestral_variance_approaches_the_data_at_first_order() -> None:
    errors = [abs(ancestral_variance_error(n)) for n in (512, 1024, 2048)]
    # Off by O(h): measured 0.967 and 0.981.
    for a, b in pairwise(errors):
        assert math.log2(a / b) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("path", SMOOTH)
def test_ddim_with_full_noise_is_ancestral(path: Path) -> None:
    z = draw(0).double()
    times = uniform_times(9)
    ancestral = AncestralSampler(gaussian(path), times, lambda i: draw(i).double())(z)
    ddim = DDIMSampler(gaussian(path), times, 1.0, lambda i: draw(i).double())(z)
    torch.testing.assert_close(ddim, ancestral, rtol=1e-12, atol=1e-12)


def test_ddim_noise_keeps_the_marginal_whatever_eta() -> None:
    # One step, exact for the marginal where the data are a single point: x_s = alpha_s mu +
    # sigma_s * (unit Gaussian) for every eta.
    path, t, s = VariancePreservingPath(), 0.7, 0.4
    point = GaussianDenoiser(path, MEAN, 1e-14)
    alpha_t, sigma_t = float(path.alpha(t)), float(path.sigma(t))
    for eta in (0.0, 0.3, 1.0):
        draws = torch.tensor([0.0, 1.0], dtype=torch.float64)
        sampler = DDIMSampler(point, [t, s], eta, lambda _, draws=draws: draws)
        start = alpha_t * MEAN + sigma_t * torch.tensor([1.0, 0.0], dtype=torch.float64)
        x = sampler(start) - float(path.alpha(s)) * MEAN
        # Variance 1e-14 of the point moves the mean by a part in 1e-14.
        assert float(x.square().sum()) == pytest.approx(float(path.sigma(s)) ** 2, rel=1e-10)


def test_steps_take_numbered_draws() -> None:
    asked: list[int] = []

    def noise(index: int) -> Tensor:
        asked.append(index)
        return torch.zeros(1)

    AncestralSampler(gaussian(LinearPath()), uniform_times(4), noise)(torch.zeros(1))
    assert asked == [1, 2, 3]  # the step to 0 draws nothing
    asked.clear()
    predictor = AncestralSampler(gaussian(LinearPath()), uniform_times(3), noise)
    LangevinSampler(predictor, 2, 0.1, noise)(torch.zeros(1))
    assert asked == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("path", SMOOTH)
def test_langevin_correction_is_stationary_at_the_known_variance(path: Path) -> None:
    s, delta = 0.5, 0.3
    spread = float(path.alpha(s)) ** 2 * DEVIATION**2 + float(path.sigma(s)) ** 2
    scaled = delta * float(path.sigma(s)) ** 2
    stationary = spread / (1 - scaled / (2 * spread))
    # x' = r x + c xi: read r and c off unit impulses, then ask for the fixed point.
    impulse = torch.tensor([0.0, 1.0], dtype=torch.float64)
    predictor = EulerSampler(gaussian(path), [s + 1e-12, s])
    sampler = LangevinSampler(predictor, 1, delta, lambda _: impulse)
    centre = float(path.alpha(s)) * MEAN
    x = sampler(centre + torch.tensor([1.0, 0.0], dtype=torch.float64)) - centre
    # The predictor's step of 1e-12 is not quite nothing.
    assert float(x[0] ** 2 * stationary + x[1] ** 2) == pytest.approx(stationary, rel=1e-10)


def test_langevin_without_corrections_is_its_predictor() -> None:
    predictor = HeunSampler(gaussian(LinearPath()), uniform_times(6))
    assert torch.equal(LangevinSampler(predictor, 0, 0.1, draw)(draw(0)), predictor(draw(0)))


def test_initial_state_has_the_moments_of_the_path() -> None:
    z = draw(0)
    at_noise = EulerSampler(gaussian(LinearPath()), uniform_times(3))
    assert torch.equal(at_noise.init(z), z)
    path = VariancePreservingPath()
    early = EulerSampler(gaussian(path), uniform_times(3, 0.8))
    alpha, sigma = float(path.alpha(0.8)), float(path.sigma(0.8))
    expected = alpha * MEAN + math.hypot(alpha * DEVIATION, sigma) * z
    torch.testing.assert_close(early.init(z, MEAN, DEVIATION**2), expected)


def test_progress_is_told_after_each_step() -> None:
    heard: list[tuple[int, float, float]] = []
    sampler = EulerSampler(gaussian(LinearPath()), [1.0, 0.4, 0.0], progress=lambda *step: heard.append(step))
    sampler(torch.zeros(1))
    assert heard == [(0, 1.0, 0.4), (1, 0.4, 0.0)]


@pytest.mark.parametrize("times", [[1.0], [0.5, 0.5], [0.2, 0.8], [1.1, 0.0], [1.0, -0.1], [1.0, math.nan, 0.0]])
def test_times_that_do_not_decrease_within_the_path_are_an_error(times: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two, decreasing, within"):
        EulerSampler(gaussian(LinearPath()), times)


def test_wrong_sampler_arguments_are_errors() -> None:
    denoiser, times = gaussian(LinearPath()), uniform_times(3)
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], got 1.5"):
        DDIMSampler(denoiser, times, 1.5, draw)
    with pytest.raises(ValueError, match=r"eta = 0\.5 draws noise"):
        DDIMSampler(denoiser, times, 0.5)
    with pytest.raises(ValueError, match=r"got -1 and 0\.1"):
        LangevinSampler(EulerSampler(denoiser, times), -1, 0.1, draw)


def test_grids_begin_and_end_where_they_say() -> None:
    path = VariancePreservingPath()
    for grid in (uniform_times(7), logistic_times(7), quadratic_times(7), cosine_times(7)):
        assert len(grid) == 8 and grid[0] == 1 and grid[-1] == 0
    assert quadratic_times(4) == (1, 0.5625, 0.25, 0.0625, 0)
    karras = karras_times(path, 7)
    ratios = [float(path.sigma(t) / path.alpha(t)) for t in karras]
    # 1 - t has rounding 1e-16 and is 0.008 at the ratio 80.
    assert ratios[0] == pytest.approx(80, rel=1e-13) and ratios[-2] == pytest.approx(0.002)
    assert karras[-1] == 0 and len(karras) == 8
    roots = [r ** (1 / 7) for r in ratios[:-1]]
    for a, b in pairwise(roots):
        assert a - b == pytest.approx((80 ** (1 / 7) - 0.002 ** (1 / 7)) / 6)


def test_ddpm_times_have_the_published_betas() -> None:
    path, steps = SquaredCosinePath(), 1000

    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    times = ddpm_times(path, steps)[::-1]
    for j in (1, 2, 500, 998, 999, 1000):
        beta = 1 - float(path.alpha(times[j])) ** 2 / float(path.alpha(times[j - 1])) ** 2
        expected = min(1 - f(j / steps) / f((j - 1) / steps), 0.999)
        # 1 - quotient near 1: rounding 1e-16 against a beta of 4e-5 at j = 1.
        assert beta == pytest.approx(expected, rel=1e-10)


def test_grids_refuse_too_few_steps() -> None:
    for grid in (uniform_times, logistic_times, quadratic_times, cosine_times):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            grid(0)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        karras_times(LinearPath(), 1)
    with pytest.raises(ValueError, match="0 < low < high, got 80 and 2"):
        karras_times(LinearPath(), 5, high=2, low=80)


class Split:
    """A denoiser whose median is not its mean."""

    path = LinearPath()

    def __call__(self, x: Tensor, t: float) -> Posterior:
        return Posterior(torch.zeros_like(x), median=torch.full_like(x, 0.5))


@pytest.mark.parametrize("kind", [*DETERMINISTIC, AncestralSampler])
def test_samples_move_by_the_mean_and_end_on_the_median(kind: type[Sampler]) -> None:
    drawn = {"noise": lambda number: torch.zeros(3)} if kind is AncestralSampler else {}
    x = torch.tensor([-1.0, 0.3, 2.0])
    assert kind(Split(), uniform_times(4), **drawn)(x).tolist() == [0.5, 0.5, 0.5]
    half = kind(Split(), [1.0, 0.5], **drawn)(x)  # no multiple of the median is in it
    assert torch.allclose(half, half[2] / 2 * x, rtol=0, atol=1e-6)
