"""Censored flow matching: the likelihood is that of clipped values, and bounded samples end on the bounds."""

import math

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

from halocline.flow.censored import BoundedDenoiser, ScaledNetwork, censored_loss
from halocline.flow.denoiser import GaussianDenoiser, PreconditionedDenoiser
from halocline.flow.path import LinearPath
from halocline.flow.sampler import EulerSampler, HeunSampler, MultistepSampler
from halocline.flow.times import logistic_times, uniform_times

T, SIGMA, GIVEN = 0.3, 1.0, 0.6


class Told(nn.Module):
    """Returns a constant F and a constant ln s."""

    def __init__(self, f: float, log_s: float) -> None:
        super().__init__()
        self.f, self.log_s = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (f, log_s))

    def forward(self, x: Tensor, t: Tensor, scaled: bool = False, **_: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        f = self.f.expand_as(x)
        return (f, self.log_s.expand(x.shape[:2])) if scaled else f


def loss_of(network: Told, x0: Tensor, z: Tensor, side: Tensor) -> Tensor:
    denoiser = PreconditionedDenoiser(network, LinearPath(), SIGMA, GIVEN)
    wet = torch.ones_like(x0, dtype=torch.bool)
    return censored_loss(denoiser, x0, z, T, wet, x0.numel(), side, {}).total


def latent(network: Told, xt: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latent state given the noisy one."""
    denoiser = PreconditionedDenoiser(network, LinearPath(), SIGMA, GIVEN)
    c = denoiser.precondition(xt, T)
    return c.c_skip * xt + c.c_out * network.f, c.c_out * network.log_s.exp()


@pytest.mark.parametrize("side", [-1, 0, 1])
def test_loss_is_minus_the_log_likelihood_of_a_clipped_normal_variable(side: int) -> None:
    # Tobit: at the lower bound P(latent <= bound), at the upper P(latent >= bound), between the density.
    network = Told(0.4, -0.3)
    x0, z = torch.full((1, 1, 1, 1), 0.25).double(), torch.full((1, 1, 1, 1), -0.8).double()
    mean, deviation = (float(v.detach()) for v in latent(network, (1 - T) * x0 + T * z))
    law = stats.norm(mean, deviation)
    scale = deviation / math.exp(-0.3)  # c_out, whose logarithm is left out
    expected = {-1: -law.logcdf(0.25), 0: -law.logpdf(0.25) - math.log(scale), 1: -law.logsf(0.25)}[side]
    got = loss_of(network, x0, z, torch.full_like(x0, side)).detach()
    assert float(got) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_value_on_its_bound_pulls_the_mean_only_towards_and_beyond_the_bound(side: int) -> None:
    for f in (-30.0, -1.0, 0.0, 1.0, 30.0):  # far in the tails too, where ln Phi must not lose its digits
        network = Told(f, 0.0)
        x0 = torch.zeros(1, 1, 1, 1).double()
        loss_of(network, x0, x0, torch.full_like(x0, side)).backward()
        assert math.isfinite(float(network.f.grad))
        assert -side * float(network.f.grad) >= 0  # descent moves the mean to the side of the bound


def test_likelihood_of_all_that_can_be_observed_adds_up_to_one() -> None:
    # Observed values are the density between bounds and a lump on each: the three cases belong together.
    network, low, high = Told(0.1, -0.2), -0.5, 0.8
    z = torch.zeros(1, 1, 1, 1).double()
    xt = torch.full_like(z, 0.35)  # held fixed: z makes up for x0

    def likelihood(x: float, side: int) -> float:
        x0 = torch.full_like(z, x)
        loss = loss_of(network, x0, (xt - (1 - T) * x0) / T, torch.full_like(z, side))
        return math.exp(-float(loss.detach()))

    c_out = float((latent(network, xt)[1] / network.log_s.exp()).detach())
    inside = integrate.quad(lambda x: likelihood(x, 0), low, high)[0] / c_out
    assert likelihood(low, -1) + inside + likelihood(high, 1) == pytest.approx(1, abs=1e-9)


def test_learned_scale_becomes_the_error_of_the_mean() -> None:
    torch.manual_seed(0)
    network, z = Told(0.0, 0.0), torch.randn(400, 1, 8, 8).double()
    x0 = 0.5 * torch.randn(400, 1, 8, 8).double()
    optimiser = torch.optim.LBFGS(network.parameters(), max_iter=100, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of(network, x0, z, torch.zeros_like(x0))
        loss.backward()
        return loss

    optimiser.step(closure)
    denoiser = PreconditionedDenoiser(network, LinearPath(), SIGMA, GIVEN)
    error = denoiser.target(x0, z, T) - network.f.detach()
    assert float(network.log_s.detach()) == pytest.approx(math.log(float(error.square().mean().sqrt())), abs=1e-6)


def test_untrained_scaled_network_is_its_network_and_has_scale_one() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor, t: Tensor, **_: Tensor) -> Tensor:
            return 2 * x

    network, x = ScaledNetwork(Inner(), 3, 2), torch.randn(5, 3, 4, 4)
    told = {"static": x, "conditions": torch.randn(5, 2), "cells": x}
    f, log_s = network(x, torch.rand(5), **told, scaled=True)
    assert torch.equal(f, 2 * x)
    assert torch.equal(network(x, torch.rand(5), **told), f)
    assert torch.equal(log_s, torch.zeros(5, 3))


@pytest.mark.parametrize("kind", [EulerSampler, HeunSampler, MultistepSampler])
def test_bounded_samples_end_on_their_bounds_to_the_bit(kind) -> None:
    low, high = torch.tensor([-0.3, -torch.inf, -0.1]), torch.tensor([torch.inf, 0.2, 0.1])
    denoiser = BoundedDenoiser(GaussianDenoiser(LinearPath(), 0.0, 1.0), low, high)
    noise = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1))
    for times in (uniform_times(3), logistic_times(8)):
        x = kind(denoiser, times)(noise)
        assert bool(((x >= low) & (x <= high)).all())
        for column, bound in ((0, low[0]), (1, high[1]), (2, low[2]), (2, high[2])):
            assert int((x[:, column] == bound).sum()) > 100
    inside = (x[:, 2] > low[2]) & (x[:, 2] < high[2])
    assert 0 < int(inside.sum()) < 2000


def test_learned_deviation_of_a_sample_is_the_same_among_any_number_of_others() -> None:
    torch.manual_seed(2)
    network = ScaledNetwork(nn.Identity(), 3, 2)
    for parameter in network.scale.parameters():
        nn.init.normal_(parameter, std=0.3)
    denoiser, conditions = PreconditionedDenoiser(network, LinearPath(), SIGMA, GIVEN), torch.randn(7, 2)
    with torch.no_grad():
        whole = denoiser.deviation(T, conditions)
        log_s = network.log_scale(torch.full((7,), T), conditions)
        for count in range(1, 8):
            assert torch.equal(denoiser.deviation(T, conditions[:count]), whole[:count])
    c_out = denoiser.precondition(log_s[:, :, None, None], T).c_out
    torch.testing.assert_close(whole, c_out * log_s.exp()[:, :, None, None], rtol=1e-5, atol=0)
    assert float(whole.std()) > 0.01
    assert PreconditionedDenoiser(nn.Identity(), LinearPath()).deviation(T, conditions) is None
