"""Samplers and preconditioning held against azula, which shares no code with ours.

Both libraries take the same times, the same draws and the closed-form denoiser of the same Gaussian
(each its own). azula's schedules with `alpha_min = sigma_min = 0` are our paths; it divides by
alpha at departure, so that grids start just below 1. Three differences of definition remain:

- azula integrates x/alpha as a function of sigma/alpha, ours x as a function of t. Euler and Heun
  are the same where both alpha and sigma, resp. alpha = 1 and sigma, are linear in t, and agree to
  their order elsewhere. For Euler on any other path azula's counterpart is our DDIM.
- azula's eta is a share of the variance, ours of the standard deviation, as in the DDIM paper.
- azula's Heun sampler evaluates the noise at arrival, which divides by sigma = 0 at s = 0.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from halocline.flow.denoiser import GaussianDenoiser, PreconditionedDenoiser
from halocline.flow.path import LinearPath, Path, Time, VariancePreservingPath
from halocline.flow.sampler import (
    AncestralSampler,
    DDIMSampler,
    EulerSampler,
    HeunSampler,
    Sampler,
)
from halocline.flow.times import uniform_times

pytest.importorskip("azula")
import azula.denoise
import azula.noise
import azula.sample
from azula.linalg.covariance import DiagonalCovariance

MEAN = torch.tensor([1.3, -0.2, 0.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.16, 2.5, 1.0], dtype=torch.float64)
START, STEPS = 0.96, 15


class ExplodingPath(Path):
    """alpha = 1, sigma = 3 t: the path on which both libraries have the same Heun step."""

    def alpha(self, t: Time) -> Tensor:
        return torch.ones_like(self.sigma(t))

    def sigma(self, t: Time) -> Tensor:
        return 3 * torch.as_tensor(t, dtype=torch.float64)

    def alpha_rate(self, t: Time) -> Tensor:
        return torch.zeros_like(self.sigma(t))

    def sigma_rate(self, t: Time) -> Tensor:
        return torch.full_like(self.sigma(t), 3)

    def time(self, gamma: Time) -> Tensor:
        return torch.exp(-torch.as_tensor(gamma, dtype=torch.float64) / 2) / 3


class ExplodingSchedule(azula.noise.Schedule):
    """The same for azula."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), 3 * t


LINEAR = (LinearPath(), azula.noise.RectifiedSchedule(0.0, 0.0))
PRESERVING = (VariancePreservingPath(), azula.noise.CosineSchedule(0.0, 0.0))
EXPLODING = (ExplodingPath(), ExplodingSchedule())
PAIRS = [LINEAR, PRESERVING, EXPLODING]

Pair = tuple[Path, azula.noise.Schedule]
Build = Callable[..., Sampler]


def draws() -> Tensor:
    return torch.randn(STEPS + 1, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def ours(kind: Build, pair: Pair, stop: float, steps: int = STEPS, **options: object) -> Tensor:
    times = uniform_times(steps, START, stop)
    return kind(GaussianDenoiser(pair[0], MEAN, VARIANCE), times, **options)(draws()[0])


def theirs(kind: type, pair: Pair, stop: float, steps: int = STEPS, **options: object) -> Tensor:
    denoiser = azula.denoise.GaussianDenoiser(MEAN, DiagonalCovariance(VARIANCE), pair[1])
    grid = {"start": START, "stop": stop, "steps": steps, "silent": True, "dtype": torch.float64}
    return kind(denoiser, **grid, **options)(draws()[0])


@pytest.fixture
def _same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives azula the numbered draws that our samplers ask for, in turn."""
    supply: Iterator[Tensor] = iter(draws()[1:])
    monkeypatch.setattr(torch, "randn_like", lambda _: next(supply))


def assert_same(a: Tensor, b: Tensor) -> None:
    # Fifteen steps in double precision, each dividing by sigma >= 0.03 or alpha >= 0.04; measured
    # 3e-15.
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_gaussian_denoiser_agrees(pair: Pair) -> None:
    x = draws()[0]
    denoiser = azula.denoise.GaussianDenoiser(MEAN, DiagonalCovariance(VARIANCE), pair[1])
    for t in (0.1, 0.5, START):
        mean = denoiser(x, torch.tensor(t, dtype=torch.float64)).mean
        assert_same(GaussianDenoiser(pair[0], MEAN, VARIANCE)(x, t).mean, mean)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("stop", [0.0, 0.03])
def test_ddim_agrees(pair: Pair, stop: float) -> None:
    assert_same(ours(DDIMSampler, pair, stop), theirs(azula.sample.DDIMSampler, pair, stop))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("stop", [0.0, 0.03])
def test_euler_of_azula_is_ddim(pair: Pair, stop: float) -> None:
    assert_same(ours(DDIMSampler, pair, stop), theirs(azula.sample.EulerSampler, pair, stop))


@pytest.mark.parametrize("pair", [LINEAR, EXPLODING])
@pytest.mark.parametrize("stop", [0.0, 0.03])
def test_euler_agrees_on_straight_paths(pair: Pair, stop: float) -> None:
    assert_same(ours(EulerSampler, pair, stop), theirs(azula.sample.EulerSampler, pair, stop))


def test_heun_agrees_where_alpha_is_one() -> None:
    a, b = ours(HeunSampler, EXPLODING, 0.03), theirs(azula.sample.HeunSampler, EXPLODING, 0.03)
    assert_same(a, b)


@pytest.mark.parametrize(
    ("pair", "kind", "other", "order"),
    [
        (LINEAR, HeunSampler, azula.sample.HeunSampler, 2),
        (PRESERVING, HeunSampler, azula.sample.HeunSampler, 2),
        (PRESERVING, EulerSampler, azula.sample.EulerSampler, 1),
    ],
)
def test_other_variable_of_integration_differs_by_the_order(pair: Pair, kind: Build, other: type, order: int) -> None:
    apart = [float((ours(kind, pair, 0.1, n) - theirs(other, pair, 0.1, n)).abs().max()) for n in (128, 256, 512)]
    assert apart[0] > 1e-5  # they do differ
    for a, b in pairwise(apart):
        # Off by O(h), measured 0.024 at most.
        assert math.log2(a / b) == pytest.approx(order, abs=0.1)


@pytest.mark.usefixtures("_same_draws")
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("stop", [0.0, 0.03])
def test_ancestral_agrees(pair: Pair, stop: float) -> None:
    a = ours(AncestralSampler, pair, stop, noise=lambda index: draws()[index])
    assert_same(a, theirs(azula.sample.DDPMSampler, pair, stop))


@pytest.mark.usefixtures("_same_draws")
@pytest.mark.parametrize("pair", PAIRS)
def test_ddim_eta_is_the_root_of_azulas(pair: Pair) -> None:
    a = ours(DDIMSampler, pair, 0.03, eta=0.6, noise=lambda index: draws()[index])
    assert_same(a, theirs(azula.sample.DDIMSampler, pair, 0.03, eta=0.6**2))


@pytest.mark.parametrize("pair", [LINEAR, PRESERVING])
def test_preconditioning_agrees_for_unit_variance(pair: Pair) -> None:
    class Backbone(torch.nn.Module):
        # Without t: azula tells its network log(sigma/alpha), ours is told t.
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.tanh(1.7 * x.flip(-1))

    x = torch.randn(4, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.1, 0.4, 0.8, 0.96], dtype=torch.float64)
    backbone = Backbone()
    backbone.register_buffer("dtype", torch.zeros(1, dtype=torch.float64))
    mean = azula.denoise.KarrasDenoiser(backbone, pair[1])(x, t).mean
    assert_same(PreconditionedDenoiser(backbone, pair[0])(x, t).mean, mean)
