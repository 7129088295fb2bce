"""Constraints on tiles: what is enforced is what is measured, and what is strict holds to round-off."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from halocline.flow.denoiser import GaussianDenoiser, Posterior
from halocline.flow.path import LinearPath
from halocline.flow.sampler import HeunSampler
from halocline.flow.times import uniform_times
from halocline.inference.constraint import PROFILES, Moments, Stability, Water
from halocline.inference.guidance import GuidedDenoiser
from halocline.inference.observation import Given
from halocline.inference.strict import CLOSE, StrictDenoiser, WithinMeans, stable
from halocline.mesh.grid import box_grid
from halocline.physics.diagnostics import DiagnosticOptions, diagnose
from halocline.physics.seawater import equation_of_state
from halocline.state.state import Channels, Standardisation

sys.path.append(str(Path(__file__).parents[1] / "physics"))

from setting import broken_grid, content, split

EOS = equation_of_state("eos80")
NAMES = ("temperature", "salinity", "sea_level")


@pytest.fixture(params=["linear", "nonlinear"])
def water(request) -> Water:
    grid = broken_grid()
    geometry, layout = split(grid)
    channels = Channels.build(NAMES, grid)
    return Water(channels, standardisation(grid, channels).cut(layout), geometry, layout, EOS, request.param)


def standardisation(grid, channels) -> Standardisation:
    rng = np.random.default_rng(3)
    centre = {"temperature": 12.0, "salinity": 35.0, "sea_level": 0.0}
    size = {"temperature": 1.0, "salinity": 0.2, "sea_level": 0.3}
    names = [c.variable.name for c in channels.channels]
    x = rng.normal(size=(6, channels.count, grid.nj, grid.ni))
    x = np.array([centre[n] for n in names])[:, None, None] + np.array([size[n] for n in names])[:, None, None] * x
    x -= np.array([c.level * (c.variable.name == "temperature") for c in channels.channels])[:, None, None]
    return Standardisation.fit(channels, x, grid, centre="level")


def state(water: Water, members: int = 2, size: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    mask = water.standardisation.mask
    return torch.where(mask, size * torch.randn(members, *mask.shape, generator=generator), 0.0)


def moments(water: Water, kind: str, target: float = 0.0) -> Moments:
    count = len(torch.cat([water.profile(name, water.fields(state(water)))[0] for name in PROFILES[kind]]))
    return Moments(kind, water, torch.full((2, count), target).double(), torch.ones(count).double())


@pytest.mark.parametrize("kind", PROFILES)
def test_what_is_enforced_is_what_is_measured(water, kind):
    x = state(water)
    options = DiagnosticOptions(free_surface=water.free_surface)
    told = diagnose(water.fields(x), water.geometry, water.layout, EOS, options)
    measured = torch.cat([told[name] for name in PROFILES[kind]], dim=1).nan_to_num()
    torch.testing.assert_close(moments(water, kind).residual(x), measured, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", PROFILES)
def test_steepness_is_the_norm_of_each_gradient(water, kind):
    x = torch.zeros_like(state(water)).double().requires_grad_()
    asked = moments(water, kind)
    residual = asked.residual(x)
    each = [torch.autograd.grad(residual[0, n], x, retain_graph=True)[0] for n in range(residual.shape[1])]
    expected = torch.stack([slope.square().sum() for slope in each])
    torch.testing.assert_close(asked.steepness[0], expected, rtol=1e-10, atol=1e-14)


def test_gradient_of_stability_has_about_unit_length(water):
    x = 0.01 * state(water).double()
    x.requires_grad_()
    step = Stability(water).residual(x)
    tile, k, j, i = (int(n) for n in (step[0].detach() != 0).nonzero()[5])
    (slope,) = torch.autograd.grad(step[0, tile, k, j, i], x)
    assert float(slope.norm()) == pytest.approx(1, rel=0.01)


def test_stable_states_have_no_unstable_volume_and_their_columns_keep_heat(water):
    x = state(water)
    found = stable(water, x)
    before, after = (diagnose(water.fields(y), water.geometry, water.layout, EOS) for y in (x, found))
    assert (before["unstable_fraction_strict"] > 0.1).all() and (after["unstable_fraction_strict"] == 0).all()
    for name in ("temperature", "salinity"):
        heat = [content(water.fields(y)[name], water.geometry.e3t, water.geometry.tmask) for y in (x, found)]
        torch.testing.assert_close(*heat, rtol=1e-6, atol=1e-4)  # x is float32


class Fixed:
    """A denoiser whose estimate never changes."""

    path = LinearPath()

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def __call__(self, x: Tensor, t: float) -> Posterior:
        return Posterior(self.mean)


def test_strict_sample_is_stable_with_means_within_bounds(water):
    x = state(water, size=0.5)
    target = moments(water, "ts").residual(x)  # its own means, moved by three spreads of which two are allowed
    spread = torch.full((target.shape[1],), 0.1).double()
    asked = Moments("ts", water, torch.where(target != 0, target + 0.3, torch.nan), spread)
    within = WithinMeans(asked, bound=2.0)
    denoiser = StrictDenoiser(Fixed(x), water, within)
    found = denoiser.finish(denoiser(x, 0.5).mean)
    told = diagnose(water.fields(found), water.geometry, water.layout, EOS)
    assert (told["unstable_fraction_strict"] == 0).all()
    assert float(asked.residual(found).abs().max()) <= 2.0 * (1 + CLOSE)
    assert float(asked.residual(x).abs().max()) > 2.9


def test_means_that_no_stable_column_has_are_refused_with_the_level():
    grid = box_grid(3, 6, 7)  # of one depth: shallow columns could be as cold as they like
    geometry, layout = split(grid)
    channels = Channels.build(NAMES, grid)
    water = Water(channels, standardisation(grid, channels).cut(layout), geometry, layout, EOS)
    x = state(water, size=0.5)
    own = moments(water, "ts").residual(x)
    target = torch.where(own != 0, own, torch.nan)
    target[:, 0] = target[:, 1] - 8  # eight degrees colder above than below
    asked = Moments("ts", water, target, torch.full((target.shape[1],), 0.1).double())
    with pytest.raises(ValueError, match=r"cannot be met: with stable columns the mean \w+ of level"):
        StrictDenoiser(Fixed(x), water, WithinMeans(asked, bound=1.0)).finish(x)


def test_turns_of_a_fixed_estimate_converge_to_one_state(water):
    x = state(water, size=0.5)
    asked = moments(water, "ts")
    asked = Moments("ts", water, asked.residual(x) + 0.3, torch.full_like(asked.spread, 0.1))
    denoiser = StrictDenoiser(Fixed(x), water, WithinMeans(asked, bound=1.0))
    states = [denoiser(x, 0.5).mean for _ in range(60)]
    change = [float((b - a).abs().max()) for a, b in pairwise(states)]
    assert change[-1] < 0.02 * change[0]


def test_state_that_is_allowed_keeps_its_bits(water):
    x = stable(water, state(water))
    asked = moments(water, "ts")
    own = Moments("ts", water, asked.residual(x), asked.spread)
    denoiser = StrictDenoiser(Fixed(x), water, WithinMeans(own))
    assert torch.equal(denoiser(x, 0.3).mean, x) and torch.equal(denoiser.finish(x), x)




@pytest.mark.parametrize("error", [0.2, 1.0])
def test_known_cells_follow_the_posterior_and_others_the_prior(water, error):
    """Independent cells of unit variance: the posterior of a known one is N(y / (1 + R), R / (1 + R))."""
    shape = water.standardisation.mask.shape
    known = water.standardisation.mask & (torch.arange(shape[1]) == 0)[:, None, None]
    given = Given(torch.full((1, *shape), 1.5).double(), known, torch.tensor(error).double(), water.layout)
    guided = GuidedDenoiser(GaussianDenoiser(LinearPath(), 0.0, 1.0), given=given)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(200, *shape, generator=generator, dtype=torch.float64)
    found = HeunSampler(guided, uniform_times(40))(x)
    R = error**2
    here, there = found[:, known], found[:, ~known]
    assert float(here.mean()) == pytest.approx(1.5 / (1 + R), abs=0.02)
    assert float(here.var()) == pytest.approx(R / (1 + R), rel=0.05)
    assert float(there.mean()) == pytest.approx(0, abs=0.01) and float(there.var()) == pytest.approx(1, rel=0.02)
    assert float(given.missed(found).mean()) < 2.5
