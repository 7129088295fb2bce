"""Denoisers, their preconditioning, the training loss and the training times."""

import math

import pytest
import torch
from torch import Tensor, nn

from halocline.flow.denoiser import (
    Denoiser,
    GaussianDenoiser,
    PreconditionedDenoiser,
    training_loss,
)
from halocline.flow.path import LinearPath, Path, SquaredCosinePath, VariancePreservingPath
from halocline.flow.times import stratified_times

PATHS = [LinearPath(), VariancePreservingPath(), SquaredCosinePath()]
BATCH, CHANNELS, WJ, WI, HALO = 5, 3, 9, 7, 2
OWNED = slice(HALO, -HALO)


class Constant(nn.Module):
    """Returns the same number everywhere."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


class Network(nn.Module):
    """Mixes neighbours, channels, time and a condition, so that nothing can go unnoticed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.mix = nn.Conv2d(CHANNELS, CHANNELS, 2 * HALO + 1, padding=HALO)

    def forward(self, x: Tensor, t: Tensor, forcing: Tensor | float = 0.0) -> Tensor:
        return torch.tanh(self.mix(x)) * (1 + t.reshape(-1, 1, 1, 1)) + forcing


class CroppingNetwork(Network):
    """The same network, returning owned cells only."""

    def forward(self, x: Tensor, t: Tensor, forcing: Tensor | float = 0.0) -> Tensor:
        return super().forward(x, t, forcing)[..., OWNED, OWNED]


@pytest.fixture(autouse=True)
def _keep_global_generator():
    with torch.random.fork_rng():
        yield


def windows(seed: int = 0, batch: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
    """Draws clean windows, noise, and a mask in which every sample has another amount of water."""
    generator = torch.Generator().manual_seed(seed)
    x0, z = torch.randn(2, batch, CHANNELS, WJ, WI, generator=generator)
    threshold = torch.linspace(0.1, 0.8, batch).reshape(-1, 1, 1, 1)
    wet = torch.rand(batch, CHANNELS, WJ, WI, generator=generator) > threshold
    return x0, z, wet


def wet_values(wet: Tensor) -> int:
    return int(wet[..., OWNED, OWNED].sum())


@pytest.mark.parametrize("path", PATHS)
def test_gaussian_denoiser_is_linear_regression(path: Path) -> None:
    mu, variance = 1.3, torch.tensor([0.16, 2.5], dtype=torch.float64)
    denoiser = GaussianDenoiser(path, mu, variance)
    for t in (0.1, 0.6, 0.95):
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        # Independent derivation: posterior precision is the sum of the precisions of prior
        # and likelihood, the mean their weighted average.
        x = torch.tensor([0.4, -2.0], dtype=torch.float64)
        precision = 1 / variance + alpha**2 / sigma**2
        posterior = denoiser(x, t)
        expected = (mu / variance + alpha * x / sigma**2) / precision
        torch.testing.assert_close(posterior.mean, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(posterior.variance, 1 / precision, rtol=1e-12, atol=0)


def test_gaussian_denoiser_is_regular_at_both_ends() -> None:
    denoiser = GaussianDenoiser(VariancePreservingPath(), 1.5, 0.25)
    x = torch.tensor([0.5, -2.25])
    assert torch.equal(denoiser(x, 0.0).mean, x)
    assert torch.equal(denoiser(x, 1.0).mean, torch.full_like(x, 1.5))
    posterior = denoiser(x, torch.tensor([0.0, 1.0]))
    assert posterior.mean.tolist() == [0.5, 1.5] and posterior.variance.tolist() == [0.0, 0.25]


def test_gaussian_denoiser_refuses_a_constant() -> None:
    with pytest.raises(ValueError, match="positive, got 0"):
        GaussianDenoiser(LinearPath(), 0.0, torch.tensor([1.0, 0.0]))


def test_denoisers_obey_the_protocol() -> None:
    assert isinstance(GaussianDenoiser(LinearPath(), 0, 1), Denoiser)
    assert isinstance(PreconditionedDenoiser(Network(), LinearPath()), Denoiser)


@pytest.mark.parametrize("given", [None, 0.02, [0.3, 0.1, 0.01]])
@pytest.mark.parametrize("path", PATHS)
def test_network_input_and_target_have_unit_variance(path: Path, given: float | list[float] | None) -> None:
    s = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    denoiser = PreconditionedDenoiser(Constant(), path, s, given)
    # The coefficients of x0 and z say the variance exactly: feed unit impulses.
    one, zero = torch.ones(1, 3, 1, 1, dtype=torch.float64), torch.zeros(1, 3, 1, 1).double()
    for t in (0.0, 1e-6, 0.3, 0.8, 1.0):
        alpha, sigma = path.alpha(t), path.sigma(t)
        c_in, _, _ = denoiser.precondition(one, t)
        entered = (c_in * alpha * s.reshape(-1, 1, 1)) ** 2 + (c_in * sigma) ** 2
        data, noise = denoiser.target(one, zero, t), denoiser.target(zero, one, t)
        wanted = (data * s.reshape(-1, 1, 1)) ** 2 + noise**2
        torch.testing.assert_close(entered, one, rtol=1e-14, atol=0)
        torch.testing.assert_close(wanted, one, rtol=1e-14, atol=0)


@pytest.mark.parametrize("given", [None, 0.02])
@pytest.mark.parametrize("path", PATHS)
def test_target_makes_the_mean_exact(path: Path, given: float | None) -> None:
    denoiser = PreconditionedDenoiser(Constant(), path, [0.3, 1.0, 2.0], given)
    x0, z, _ = windows()
    x0, z, t = x0.double(), z.double(), torch.linspace(0.05, 1, BATCH, dtype=torch.float64)
    column = t.reshape(-1, 1, 1, 1)
    x = path.alpha(column) * x0 + path.sigma(column) * z
    _, c_skip, c_out = denoiser.precondition(x, t)
    # Rounding only: the target has no cancellation.
    torch.testing.assert_close(c_skip * x + c_out * denoiser.target(x0, z, t), x0)


@pytest.mark.parametrize("given", [None, 0.1])
@pytest.mark.parametrize("path", PATHS)
def test_silent_network_is_the_gaussian_denoiser(path: Path, given: float | None) -> None:
    s = torch.tensor([0.3, 1.0, 2.0])
    x = windows()[0].double()
    silent = PreconditionedDenoiser(Constant(), path, s, given)
    spread = s.double() if given is None else torch.full((3,), given, dtype=torch.float64)
    exact = GaussianDenoiser(path, 0.0, (spread**2).reshape(-1, 1, 1))
    for t in (0.0, 0.4, 1.0):
        torch.testing.assert_close(silent(x, t).mean, exact(x, t).mean, rtol=1e-13, atol=1e-13)


def test_denoiser_returns_owned_cells_whoever_crops() -> None:
    x, _, _ = windows()
    t = torch.linspace(0.1, 0.9, BATCH)
    forcing = {"forcing": torch.tensor(0.25)}
    whole = PreconditionedDenoiser(Network(), LinearPath())(x, t, forcing, OWNED).mean
    cropped = PreconditionedDenoiser(CroppingNetwork(), LinearPath())(x, t, forcing, OWNED).mean
    assert whole.shape == (BATCH, CHANNELS, WJ - 2 * HALO, WI - 2 * HALO)
    assert torch.equal(whole, cropped)


def test_a_sample_does_not_see_its_neighbours_in_the_batch() -> None:
    x, _, wet = windows()
    t = torch.linspace(0.1, 0.9, BATCH)
    denoiser = PreconditionedDenoiser(Network(), LinearPath(), [0.3, 1.0, 2.0])
    both = denoiser(x, t, owned=OWNED, wet=wet).mean
    alone = denoiser(x[2:3], float(t[2]), owned=OWNED, wet=wet[2:3]).mean
    # Convolutions of another batch size may sum in another order.
    torch.testing.assert_close(both[2:3], alone, rtol=1e-5, atol=1e-6)


def test_land_is_zero_and_unseen() -> None:
    x, _, wet = windows()
    denoiser = PreconditionedDenoiser(Network(), LinearPath())
    mean = denoiser(x, 0.5, owned=OWNED, wet=wet).mean
    other = denoiser(torch.where(wet, x, torch.nan), 0.5, owned=OWNED, wet=wet).mean
    assert torch.equal(mean, other)
    assert not mean[~wet[..., OWNED, OWNED]].any()


def test_wrong_network_output_names_the_shapes() -> None:
    denoiser = PreconditionedDenoiser(nn.Identity(), LinearPath())
    denoiser.network.forward = lambda x, t: x[..., 1:, 1:]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"\(5, 3, 5, 3\) of its owned cells, got \(5, 3, 8, 6\)"):
        denoiser(windows()[0], 0.5, owned=OWNED)


def test_denoiser_refuses_constant_channels() -> None:
    with pytest.raises(ValueError, match="positive, got 0"):
        PreconditionedDenoiser(Network(), LinearPath(), [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="at most that of the data"):
        PreconditionedDenoiser(Network(), LinearPath(), 1.0, 1.5)


@pytest.mark.parametrize("path", PATHS)
def test_loss_is_the_weighted_error_of_the_mean(path: Path) -> None:
    x0, z, wet = windows()
    t = torch.linspace(0.2, 0.9, BATCH)
    weights = torch.tensor([0.5, 1.0, 2.0])
    denoiser = PreconditionedDenoiser(Network(), path, [0.3, 1.0, 2.0])
    n = wet_values(wet)
    loss = training_loss(denoiser, x0, z, t, wet, n, weights, owned=OWNED)
    column = t.reshape(-1, 1, 1, 1)
    x = path.alpha(column).float() * x0 + path.sigma(column).float() * z
    mean = denoiser(x, t, owned=OWNED, wet=wet).mean
    c_out = denoiser.precondition(x, t).c_out
    error = weights.reshape(-1, 1, 1) * ((mean - x0[..., OWNED, OWNED]) / c_out) ** 2
    error = error * wet[..., OWNED, OWNED]
    # Single precision, divided by c_out of order 0.05.
    torch.testing.assert_close(loss.total, error.sum() / n, rtol=1e-4, atol=0)
    rows = error.sum((1, 2, 3)) / wet[..., OWNED, OWNED].sum((1, 2, 3))
    torch.testing.assert_close(loss.per_sample, rows, rtol=1e-4, atol=0)


def test_loss_of_a_silent_network_is_one_at_every_time() -> None:
    s = torch.tensor([0.3, 1.0, 2.0]).reshape(-1, 1, 1)
    generator = torch.Generator().manual_seed(5)
    x0, z = torch.randn(2, 7, 3, 60, 70, generator=generator)
    wet = torch.ones(60, 70, dtype=torch.bool)
    denoiser = PreconditionedDenoiser(Constant(), LinearPath(), s)
    t = torch.tensor([0.0, 1e-7, 1e-3, 0.2, 0.5, 0.9, 1.0])
    loss = training_loss(denoiser, x0 * s, z, t, wet, x0.numel())
    # 12600 squares of unit Gaussians per sample: standard error sqrt(2/12600) = 0.013; 4 of them.
    torch.testing.assert_close(loss.per_sample, torch.ones(7), rtol=0, atol=0.05)


def test_land_changes_neither_loss_nor_gradient() -> None:
    x0, z, wet = windows()
    results = []
    for land in (0.0, 1e6, math.nan):
        denoiser = PreconditionedDenoiser(Network(), LinearPath())
        dry = torch.where(wet, x0, land), torch.where(wet, z, -land)
        loss = training_loss(denoiser, *dry, 0.4, wet, wet_values(wet), owned=OWNED)
        loss.total.backward()
        results.append((loss.total.detach(), *(p.grad for p in denoiser.parameters())))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_losses_of_unequal_ranks_add_up() -> None:
    x0, z, wet = windows()
    t = torch.linspace(0.1, 0.9, BATCH)
    n = wet_values(wet)

    def gradient(part: slice) -> tuple[Tensor, Tensor]:
        denoiser = PreconditionedDenoiser(Network(), LinearPath())
        loss = training_loss(denoiser, x0[part], z[part], t[part], wet[part], n, owned=OWNED)
        loss.total.backward()
        return loss.total.detach(), denoiser.network.mix.weight.grad

    whole = gradient(slice(None))
    parts = [gradient(slice(0, 2)), gradient(slice(2, BATCH))]
    assert wet_values(wet[:2]) * 2 > n  # two samples of five hold more than half of the water
    for k in range(2):
        # Sums of a few hundred float32 numbers in another order.
        torch.testing.assert_close(whole[k], parts[0][k] + parts[1][k], rtol=1e-5, atol=1e-6)


def test_dry_sample_costs_nothing() -> None:
    x0, z, wet = windows()
    wet[1] = False
    denoiser = PreconditionedDenoiser(Network(), LinearPath())
    loss = training_loss(denoiser, x0, z, 0.5, wet, wet_values(wet), owned=OWNED)
    assert loss.per_sample[1] == 0 and torch.isfinite(loss.total)


def test_loss_of_a_dry_batch_is_an_error() -> None:
    x0, z, wet = windows()
    denoiser = PreconditionedDenoiser(Network(), LinearPath())
    with pytest.raises(ValueError, match=r"Wet count .* got 0"):
        training_loss(denoiser, x0, z, 0.5, torch.zeros_like(wet), 0)


def test_training_times_hit_every_interval_once() -> None:
    batch = 37
    for step in range(20):
        t = stratified_times(4, step, batch)
        assert sorted((t * batch).floor().int().tolist()) == list(range(batch))
        assert bool(((t > 0) & (t < 1)).all())


def test_training_times_are_a_function_of_seed_step_and_index() -> None:
    whole = stratified_times(4, 11, 37)
    torch.rand(5)  # a global generator that has moved on must not matter
    parts = [stratified_times(4, 11, 37, range(r, 37, 3)) for r in range(3)]
    for r, part in enumerate(parts):
        assert torch.equal(part, whole[r::3])
    assert not torch.equal(whole, stratified_times(4, 12, 37))
    assert not torch.equal(whole, stratified_times(5, 11, 37))
    # A sum of seed and step would take the second step of one seed for the first of the next.
    assert not torch.equal(stratified_times(4, 12, 37), stratified_times(5, 11, 37))


def test_training_times_do_not_follow_the_order_of_samples() -> None:
    t = torch.stack([stratified_times(0, step, 16) for step in range(400)])
    # Means over 400 steps of a time of variance 1/12: standard error 0.0144; 4.5 of them, because
    # sixteen are looked at.
    torch.testing.assert_close(t.mean(0), torch.full((16,), 0.5).double(), rtol=0, atol=0.065)


def test_logit_normal_times_are_quantiles() -> None:
    t = stratified_times(0, 0, 999, density="logit-normal", location=0.4, scale=1.5).sort().values
    # The middle of 999 strata is the median up to half a stratum: 0.4 * 1.5 * 2.5 / 999 < 2e-3.
    assert float(t[499]) == pytest.approx(1 / (1 + math.exp(-0.4)), abs=2e-3)
    # Quantile at one standard deviation: Phi(1) = 0.8413 is stratum 840 or 841.
    assert float(t[840]) == pytest.approx(1 / (1 + math.exp(-1.9)), abs=2e-3)


@pytest.mark.parametrize("shift", [3.0, 1.0, 0.4])
def test_shifted_times_have_their_odds_multiplied(shift: float) -> None:
    drawn, uniform = (stratified_times(0, 5, 999, shift=k) for k in (shift, 1.0))
    torch.testing.assert_close(drawn / (1 - drawn), shift * uniform / (1 - uniform), rtol=1e-9, atol=0)
    # Density k at t = 1: so many of the 999 strata of u lie above the time that 1 % below it.
    assert int((drawn > 0.99).sum()) == pytest.approx(999 * (1 - 0.99 / (shift - (shift - 1) * 0.99)), abs=1)


def test_wrong_requests_for_times_are_errors() -> None:
    with pytest.raises(ValueError, match="'logit-normal', got 'normal'"):
        stratified_times(0, 0, 4, density="normal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[0, 4\), got 1 to 4"):
        stratified_times(0, 0, 4, [1, 4])
