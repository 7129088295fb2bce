"""Paths and the conversions between mean, noise and velocity."""

import math

import pytest
import torch

from halocline.flow.path import (
    LinearPath,
    Path,
    SquaredCosinePath,
    VariancePreservingPath,
    mean_from_noise,
    mean_from_velocity,
    noise_from_mean,
    noise_from_velocity,
    velocity_from_mean,
    velocity_from_noise,
)

SMOOTH = [LinearPath(), VariancePreservingPath()]
PATHS = [*SMOOTH, SquaredCosinePath()]
INSIDE = torch.tensor([0.013, 0.21, 0.5, 0.77, 0.996], dtype=torch.float64)


def triple(path: Path, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Draws data and noise, and returns state, data, noise and velocity at the times t."""
    generator = torch.Generator().manual_seed(3)
    x0, z = torch.randn(2, len(t), 3, 2, dtype=torch.float64, generator=generator)
    column = t.reshape(-1, 1, 1)
    x = path.alpha(column) * x0 + path.sigma(column) * z
    v = path.alpha_rate(column) * x0 + path.sigma_rate(column) * z
    return x, x0, z, v


@pytest.mark.parametrize("path", PATHS)
def test_path_runs_from_data_to_noise_exactly(path: Path) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    # cos(pi/2) is 6e-17: a path that used it would leave signal at t = 1. The cosine with offset
    # is a quotient of two rounded numbers at t = 0, hence one unit in the last place there.
    assert path.alpha(ends)[1] == 0 and path.sigma(ends)[0] == 0
    assert path.alpha(ends)[0].item() == pytest.approx(1, abs=3e-16)
    assert path.sigma(ends)[1].item() == pytest.approx(1, abs=3e-16)
    assert path.gamma(ends).tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize("path", [VariancePreservingPath(), SquaredCosinePath(0.02)])
def test_cosine_paths_preserve_variance(path: Path) -> None:
    t = torch.linspace(0, 1, 57, dtype=torch.float64)
    # Rounding of two squares and a sum.
    torch.testing.assert_close(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones_like(t), rtol=0, atol=1e-15)


def test_squared_cosine_path_is_the_published_schedule() -> None:
    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (0.001, 0.3, 0.999):
        # The cosine near pi/2 loses digits that the path, a sine of the complement, keeps.
        assert float(SquaredCosinePath().alpha(t)) ** 2 == pytest.approx(f(t) / f(0), rel=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_rates_are_derivatives(path: Path) -> None:
    h = 1e-5
    for value, rate in ((path.alpha, path.alpha_rate), (path.sigma, path.sigma_rate)):
        slope = (value(INSIDE + h) - value(INSIDE - h)) / (2 * h)
        # A centred difference is off by h^2/6 times the third derivative, which for the root of
        # the offset cosine at t = 0.013 is below 1e5.
        torch.testing.assert_close(rate(INSIDE), slope, rtol=0, atol=2e-6)


@pytest.mark.parametrize("path", PATHS)
def test_wronskian_is_what_its_definition_says(path: Path) -> None:
    expected = path.alpha(INSIDE) * path.sigma_rate(INSIDE)
    expected = expected - path.alpha_rate(INSIDE) * path.sigma(INSIDE)
    torch.testing.assert_close(path.wronskian(INSIDE), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("path", PATHS)
def test_time_inverts_gamma(path: Path) -> None:
    # Rounding of gamma, of order 10, times the slope dt/dgamma < 1.
    torch.testing.assert_close(path.time(path.gamma(INSIDE)), INSIDE, rtol=0, atol=1e-14)


@pytest.mark.parametrize("path", PATHS)
def test_conversions_agree_and_round_trip(path: Path) -> None:
    x, m, z, v = triple(path, INSIDE)
    results = {
        "v": [velocity_from_mean(path, x, m, INSIDE), velocity_from_noise(path, x, z, INSIDE)],
        "m": [mean_from_velocity(path, x, v, INSIDE), mean_from_noise(path, x, z, INSIDE)],
        "z": [noise_from_velocity(path, x, v, INSIDE), noise_from_mean(path, x, m, INSIDE)],
    }
    for name, expected in (("v", v), ("m", m), ("z", z)):
        for result in results[name]:
            # Rounding, enlarged by the division by alpha or sigma (at least 0.004 here).
            torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", SMOOTH)
def test_velocity_gives_mean_and_noise_at_both_ends(path: Path) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x, m, z, v = triple(path, ends)
    # Three roundings of numbers of order one.
    torch.testing.assert_close(mean_from_velocity(path, x, v, ends), m, rtol=0, atol=1e-14)
    torch.testing.assert_close(noise_from_velocity(path, x, v, ends), z, rtol=0, atol=1e-14)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("convert", "end"),
    [
        (velocity_from_mean, 0.0),
        (noise_from_mean, 0.0),
        (velocity_from_noise, 1.0),
        (mean_from_noise, 1.0),
    ],
)
def test_undetermined_conversion_is_an_error(path: Path, convert, end: float) -> None:
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=rf"does not follow .* at t = {end:g}: choose a time"):
        convert(path, x, x, end)
    with pytest.raises(ValueError, match=rf"at t = {end:g}"):
        convert(path, x, x, torch.tensor([0.5, end]))


def test_infinite_velocity_is_an_error() -> None:
    x = torch.ones(2)
    for convert in (velocity_from_noise, mean_from_velocity, noise_from_velocity):
        with pytest.raises(ValueError, match="at t = 0"):
            convert(SquaredCosinePath(), x, x, 0.0)


def test_times_of_samples_stand_on_the_first_axes() -> None:
    t = torch.tensor([0.2, 0.7])
    x, m = torch.randn(2, 2, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    both = velocity_from_mean(LinearPath(), x, m, t)
    for i in range(2):
        alone = velocity_from_mean(LinearPath(), x[i], m[i], float(t[i]))
        assert torch.equal(both[i], alone)


def test_conversion_keeps_single_precision() -> None:
    x = torch.ones(2, 3)
    for t in (0.25, torch.tensor([0.25, 0.5], dtype=torch.float64)):
        assert velocity_from_mean(LinearPath(), x, x, t).dtype == torch.float32


def test_squared_cosine_path_needs_an_offset() -> None:
    with pytest.raises(ValueError, match="must be positive, got 0"):
        SquaredCosinePath(0)
