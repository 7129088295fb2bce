"""Constraints hold each algorithm to theory: Gaussians, of which the constrained distribution is known."""

import math

import pytest
import torch
from torch import Tensor

from halocline.flow.denoiser import GaussianDenoiser, Posterior
from halocline.flow.path import LinearPath, VariancePreservingPath
from halocline.flow.sampler import EulerSampler, HeunSampler
from halocline.flow.times import uniform_times
from halocline.inference.constraint import colours
from halocline.inference.guidance import GuidedDenoiser, Multipliers, PenalisedState
from halocline.inference.primal_dual import PrimalDualSampler

CELLS, MEAN, STD, WANTED = 16, 0.4, 1.5, 1.0
SAMPLES = 4000


class MeanOfCells:
    """The residual (mean of all cells - c) / s of states (member, cell); s makes its variance 1."""

    kind = "ts"

    def __init__(self, wanted: float = WANTED) -> None:
        self.wanted, self.spread = wanted, STD / math.sqrt(CELLS)

    def residual(self, x: Tensor) -> Tensor:
        return (x.double().mean(1, keepdim=True) - self.wanted) / self.spread

    @property
    def steepness(self) -> Tensor:
        return torch.full((1, 1), CELLS * (1 / (CELLS * self.spread)) ** 2, dtype=torch.float64)


@pytest.fixture(params=[LinearPath, VariancePreservingPath])
def denoiser(request) -> GaussianDenoiser:
    return GaussianDenoiser(request.param(), MEAN, STD**2)


def draw(sampler) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return sampler(sampler.init(torch.randn(SAMPLES, CELLS, generator=generator, dtype=torch.float64)))


def moments_of_mean(x: Tensor) -> tuple[float, float]:
    """Mean and variance of the residual over samples."""
    r = MeanOfCells().residual(x)
    return float(r.mean()), float(r.var())


OFFSET = (MEAN - WANTED) / (STD / math.sqrt(CELLS))  # prior mean of the residual, whose prior variance is 1
NOISE = 4 / math.sqrt(SAMPLES)  # four standard errors of a mean of unit variance


@pytest.mark.parametrize("strength", [0.5, 4.0, 100.0])
def test_penalty_gives_the_tilted_gaussian(denoiser, strength):
    r"""p(x) exp(-λ r²): variance 1 / (1 + 2 λ) and mean offset / (1 + 2 λ); no finite λ meets the constraint."""
    x = draw(HeunSampler(GuidedDenoiser(denoiser, MeanOfCells(), strength=strength), uniform_times(60)))
    mean, variance = moments_of_mean(x)
    shrunk = 1 / (1 + 2 * strength)
    error = NOISE * math.sqrt(shrunk) + 0.02 * abs(OFFSET)  # of the draws, and of 60 steps of order 2
    assert mean == pytest.approx(OFFSET * shrunk, abs=error)
    assert variance == pytest.approx(shrunk, rel=0.1)
    anomaly = x - x.mean(1, keepdim=True)
    assert float(anomaly.var()) == pytest.approx(STD**2 * (1 - 1 / CELLS), rel=0.05)  # what is not asked stays


def test_exact_multiplier_moves_the_mean_and_keeps_the_spread(denoiser):
    r"""p(x) exp(-ν r) with ν = offset: the mean of r is 0 and its variance that of the prior."""
    multipliers = Multipliers(moments=torch.full((SAMPLES, 1), OFFSET, dtype=torch.float64))
    x = draw(HeunSampler(GuidedDenoiser(denoiser, MeanOfCells(), multipliers=multipliers), uniform_times(60)))
    mean, variance = moments_of_mean(x)
    assert mean == pytest.approx(0, abs=NOISE + 0.02 * abs(OFFSET))
    assert variance == pytest.approx(1, rel=0.1)


def test_dual_ascent_finds_the_multiplier(denoiser):
    """Multipliers that a population of chains shares meet the constraint in the mean."""
    multipliers = Multipliers(step=0.5, shared=True)
    guided = GuidedDenoiser(denoiser, MeanOfCells(), multipliers=multipliers)
    generator = torch.Generator().manual_seed(9)

    def noise(draw: int) -> Tensor:
        return torch.randn(SAMPLES, CELLS, generator=generator, dtype=torch.float64)

    x = draw(PrimalDualSampler(EulerSampler(guided, uniform_times(100)), multipliers, 2, 0.05, noise))
    mean, variance = moments_of_mean(x)
    assert float(multipliers.moments[0, 0]) == pytest.approx(OFFSET, abs=0.1 * abs(OFFSET))
    assert mean == pytest.approx(0, abs=0.1 * abs(OFFSET))
    assert variance > 0.8  # a squared residual would have driven it to 0


def test_multipliers_of_inequalities_stay_zero_where_nothing_is_missed():
    multipliers = Multipliers(step=1.0)
    multipliers.see(None, torch.tensor([[-2.0, 3.0]]))
    multipliers.see(None, torch.tensor([[-2.0, 1.0]]))
    multipliers.rise()
    assert multipliers.stability.tolist() == [[0.0, 2.0]]
    multipliers.see(None, torch.tensor([[-2.0, -5.0]]))
    multipliers.rise()
    assert multipliers.stability.tolist() == [[0.0, 0.0]] and multipliers.moments is None


@pytest.mark.parametrize("steps", [20, 200])
def test_published_rate_leaves_a_passive_departure_of_five_per_cent(steps):
    """The denoiser leaves the state alone, so that of a departure at t = 1 remain exp(-3) = 5.0 % (published 4.8 %)."""

    class Passive:
        path = LinearPath()

        def __call__(self, x, t):
            return Posterior(x)  # velocity 0

    x = torch.full((1, CELLS), WANTED + 3.0, dtype=torch.float64)
    found = EulerSampler(PenalisedState(Passive(), MeanOfCells()), uniform_times(steps))(x)
    left = float((found.mean() - WANTED) / 3.0)
    assert left == pytest.approx(math.exp(-3 + 2 * math.exp(-20)), abs=0.5 / steps + 1e-3)


def test_rows_that_share_a_column_are_in_different_groups():
    support = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]], dtype=torch.bool)
    groups = [sorted(group.tolist()) for group in colours(support)]
    assert sorted(n for group in groups for n in group) == [0, 1, 2, 3] and len(groups) == 2
    assert all(int(support[group].sum(0).max()) == 1 for group in map(torch.tensor, groups))


def test_nothing_to_guide_is_refused(denoiser):
    with pytest.raises(ValueError, match="neither means nor stability"):
        GuidedDenoiser(denoiser)
