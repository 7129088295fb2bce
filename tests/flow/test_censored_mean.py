"""Samples of data on a bound have the data's share there: the mean that moves them is that of what is observed."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from halocline.flow.censored import BoundedDenoiser, censored_mean
from halocline.flow.denoiser import Posterior
from halocline.flow.path import LinearPath
from halocline.flow.sampler import HeunSampler
from halocline.flow.times import cosine_times

BOUND = 0.5
NOWHERE = torch.tensor(-torch.inf, dtype=torch.float64)


@pytest.mark.parametrize("low", [-math.inf, 0.0])
@pytest.mark.parametrize("mean", [-2.0, -0.1, 0.4, 0.85, 1.0, 1.3, 7.0])
@pytest.mark.parametrize("s", [1e-3, 0.3, 2.0])
def test_censored_mean_is_the_integral_of_a_clipped_normal_variable(mean: float, s: float, low: float) -> None:
    law, high = stats.norm(mean, s), 1.0
    first = max(low, mean - 40 * s)
    inside = 0.0
    if first < high:
        places = [p for p in (mean - 3 * s, mean, mean + 3 * s) if first < p < high]
        inside = integrate.quad(lambda x: x * law.pdf(x), first, high, points=places or None, epsabs=1e-12)[0]
    expected = high * law.sf(high) + inside + (low * law.cdf(low) if math.isfinite(low) else 0.0)
    found = censored_mean(*(torch.tensor(v, dtype=torch.float64) for v in (mean, s, low, high)))
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_censored_mean_far_from_bounds_is_the_mean_and_beyond_them_the_bound() -> None:
    one = torch.ones(4)
    mean = torch.tensor([0.5, -1e6, 1e6, 3e4])
    found = censored_mean(mean, 1e-4 * one, 0 * one, torch.tensor([1.0, 1.0, 1.0, torch.inf]))
    assert found.tolist() == [0.5, 0.0, 1.0, 3e4]


def test_censored_mean_of_a_part_has_the_bits_of_the_whole() -> None:
    # Tiles lie anywhere in memory: what vector loops do with their remainder must not show.
    mean = torch.linspace(-3, 3, 997)
    low, high, s = torch.tensor(-1.0), torch.tensor(1.0), torch.tensor(0.4)
    whole = censored_mean(mean, s, low, high)
    for first in range(17):
        for count in (1, 2, 3, 7, 16, 31, 33, 500):
            part = mean[first : first + count].clone()
            assert torch.equal(censored_mean(part, s, low, high), whole[first : first + count])


class Learned:
    """What training to the end makes of the censored loss: m(x, t) and s(t) for min(z, b), z normal."""

    path = LinearPath()

    def __init__(self, variance: bool) -> None:
        self.variance = variance
        self.known: dict[float, tuple[np.ndarray, np.ndarray, float]] = {}

    def __call__(self, x: Tensor, t: float) -> Posterior:
        if t not in self.known:
            self.known[t] = minimum(t)
        places, m, s = self.known[t]
        mean = torch.from_numpy(np.interp(x.numpy(), places, m))
        return Posterior(mean, torch.tensor(s**2, dtype=torch.float64) if self.variance else None)


def minimum(t: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Minimises the expected loss over m at places and one s, with the exact law of data given noisy data."""
    step = torch.linspace(-5, 5, 41, dtype=torch.float64)
    x = torch.cat([step, (1 - t) * BOUND + t * step]).unique()
    data = torch.cat([torch.linspace(-5, -0.5, 101)[:-1], torch.linspace(-0.5, BOUND, 201)]).double()
    weight = torch.from_numpy(np.log(np.gradient(data.numpy()))) - 0.5 * data**2
    lump = torch.tensor([math.log(stats.norm.sf(BOUND) * math.sqrt(2 * math.pi))], dtype=torch.float64)
    values = torch.cat([data, torch.tensor([BOUND], dtype=torch.float64)])
    joint = torch.cat([weight, lump]) - 0.5 * ((x[:, None] - (1 - t) * values) / t) ** 2
    given = torch.softmax(joint, 1)
    seen = torch.softmax(torch.logsumexp(joint, 1) + torch.log(torch.from_numpy(np.gradient(x.numpy()))), 0)
    m = (given * values).sum(1).requires_grad_()
    log_s = torch.tensor(math.log(t), dtype=torch.float64).requires_grad_()
    optimiser = torch.optim.LBFGS([m, log_s], max_iter=100, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        inside = 0.5 * ((data - m[:, None]) / log_s.exp()) ** 2 + log_s
        beyond = -torch.special.log_ndtr((m - BOUND) / log_s.exp())
        loss = (seen * ((given[:, :-1] * inside).sum(1) + given[:, -1] * beyond)).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return x.numpy(), m.detach().numpy(), float(log_s.detach().exp())


def test_samples_moved_by_the_censored_mean_have_the_share_of_the_data_on_the_bound() -> None:
    # Moved by the clipped mean, more than half end there instead of 0.31, and the mean is too high by 0.14.
    normal = torch.from_numpy(stats.norm.ppf((np.arange(5000) + 0.5) / 5000))
    share, mean = stats.norm.sf(BOUND), BOUND * stats.norm.sf(BOUND) - stats.norm.pdf(BOUND)
    denoiser, found = Learned(variance=True), {}
    for variance in (True, False):
        denoiser.variance = variance
        sampler = HeunSampler(BoundedDenoiser(denoiser, NOWHERE, torch.tensor(BOUND).double()), cosine_times(8))
        x = sampler(normal)
        found[variance] = float((x == BOUND).double().mean()), float(x.mean())
    assert found[True] == (pytest.approx(share, abs=0.05), pytest.approx(mean, abs=0.02))
    assert found[False][0] > share + 0.15 and found[False][1] > mean + 0.1
