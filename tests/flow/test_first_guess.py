"""A first guess is mean and spread, learned without one moving the other; targets are what it leaves open."""

import math

import pytest
import torch
from torch import Tensor, nn

from halocline.flow.denoiser import PreconditionedDenoiser
from halocline.flow.first_guess import FirstGuess, first_guess_loss, relative_target
from halocline.flow.path import LinearPath, VariancePreservingPath

STATIC = {"static": torch.zeros(40, 3, 1, 5)}


class Table(nn.Module):
    """Returns two numbers for each of two channels in each of five cells."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(4, 1, 5, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, **_: Tensor) -> Tensor:
        assert not x.any() and bool((t == 1).all())
        return self.values.expand_as(x)


def data() -> tuple[Tensor, Tensor]:
    """Values whose mean and spread differ between cells and channels, 40 samples of 2 x 1 x 5; and the sea."""
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.randn(2, 1, 5, generator=generator), torch.rand(2, 1, 5, generator=generator) + 0.2
    wet = torch.ones(40, 2, 1, 5, dtype=torch.bool)
    wet[..., 3] = False
    return mean.double() + spread * torch.randn(40, 2, 1, 5, generator=generator).double(), wet


@pytest.mark.parametrize("path", [LinearPath(), VariancePreservingPath()])
def test_least_loss_is_that_of_mean_and_mean_absolute_deviation(path) -> None:
    x0, wet = data()
    table = Table()
    denoiser = PreconditionedDenoiser(table, path)
    optimiser = torch.optim.LBFGS(table.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = first_guess_loss(denoiser, x0, wet, float(wet.sum()), STATIC).total
        loss.backward()
        return loss

    for _ in range(20):
        optimiser.step(closure)
    guess = FirstGuess.of(denoiser, x0, STATIC)
    sea = wet[0]
    assert torch.allclose(guess.mean[0][sea], x0.mean(dim=0)[sea], atol=1e-5)
    deviation = (x0 - x0.mean(dim=0)).abs().mean(dim=0) * math.sqrt(math.pi / 2)
    assert torch.allclose(guess.log_spread[0].exp()[sea], deviation[sea], rtol=1e-4)
    assert not table.values.grad[..., 3].any()


def test_spread_does_not_move_the_mean() -> None:
    x0, wet = data()
    gradients = []
    for log_spread in (-2.0, 0.0, 1.0):
        table = Table()
        with torch.no_grad():
            table.values[2:] = log_spread
        denoiser = PreconditionedDenoiser(table, LinearPath())
        first_guess_loss(denoiser, x0, wet, float(wet.sum()), STATIC).total.backward()
        gradients.append(table.values.grad[:2])
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])
    expected = -torch.where(wet, x0, 0).sum(dim=0) / wet.sum()
    assert torch.allclose(gradients[0], expected, rtol=1e-12)


def test_only_owned_wet_values_count() -> None:
    x0, wet = data()
    denoiser = PreconditionedDenoiser(Table(), LinearPath())
    x0, wet = x0.expand(40, 2, 5, 5).clone(), wet.expand(40, 2, 5, 5)
    cells = x0[..., 1:-1, 1:-1].abs()[wet[..., 1:-1, 1:-1]]
    spread = 1 / math.sqrt(1 + 1 / 9)  # of a network that says 0
    values = 0.5 * cells.square() + 0.1 * (math.log(spread) + math.sqrt(math.pi / 2) * cells / spread)
    expected = float(values.sum() / 7)
    conditions = {"static": torch.zeros(40, 3, 5, 5)}
    for beyond in (0.0, 1e9):
        x0[..., 0], x0[..., 3] = beyond, beyond
        loss = first_guess_loss(denoiser, x0, wet, 7.0, conditions, slice(1, -1))
        assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="Wet count of the batch must be positive"):
        first_guess_loss(denoiser, x0, wet, 0.0, conditions)


def test_relative_target_is_what_the_guess_leaves_in_units_of_its_spread() -> None:
    x0, wet = data()
    table = Table()
    with torch.no_grad():
        table.values.copy_(torch.randn(4, 1, 5, generator=torch.Generator().manual_seed(1)))
    given = {"static": torch.randn(40, 3, 1, 5), "conditions": torch.ones(40, 1)}
    y, told = relative_target(PreconditionedDenoiser(table, LinearPath()), x0, wet, given)
    mean, log_spread = FirstGuess.split(table.values.detach())
    assert torch.allclose((mean + log_spread.exp() * y)[wet], x0[wet], rtol=1e-12)
    assert not y[~wet].any()
    assert torch.equal(told["static"][:, :3], given["static"]) and told["conditions"] is given["conditions"]
    behind = torch.where(wet[0], torch.stack([mean, log_spread]), 0).flatten(0, 1).float()
    assert torch.equal(told["static"][:, 3:], behind.expand(40, 4, 1, 5))


def test_spread_stays_within_what_files_can_tell() -> None:
    f = torch.tensor([1e3, 0.7, 0.0, -3.0, -1e3], dtype=torch.float64)
    guess = FirstGuess.split(f.repeat(2)[:, None, None])
    assert torch.equal(guess.mean.flatten(), f)
    expected = [3.0, *(math.exp(x) / math.sqrt(1 + math.exp(2 * x) / 9) for x in (0.7, 0.0, -3.0)), math.exp(-5)]
    assert guess.log_spread.exp().flatten().tolist() == pytest.approx(expected, rel=1e-12)
