"""The jump: components, models of their series, and both together against closed forms."""

import math

import numpy as np
import pytest
import torch
from case import NI, NJ, NK, basin, mask_of

from halocline.run.extrapolation import Components, Extrapolation, volume_weights
from halocline.run.series_models import GaussianProcess, fit_gaussian_process, fit_relaxation
from halocline.state.state import Channels

YEARS = np.arange(20.0, 40.0)
NAMES = ("temperature", "salinity", "velocity_u", "sea_level")
JUMP = 25.0


def patterns(count: int) -> list[dict[str, np.ndarray]]:
    """Random fields on the basin, NaN on land."""
    grid, rng, found = basin(), np.random.default_rng(0), []
    for _ in range(count):
        sea = {name: mask_of(name, grid) for name in NAMES}
        found.append({name: np.where(mask, rng.standard_normal(mask.shape), np.nan) for name, mask in sea.items()})
    return found


def series(*amplitudes: np.ndarray) -> dict[str, np.ndarray]:
    """A mean state, and random fields with these amplitudes per year."""
    mean, *fields = patterns(len(amplitudes) + 1)
    pairs = list(zip(amplitudes, fields, strict=True))
    return {name: 10 * mean[name] + sum(np.multiply.outer(a, field[name]) for a, field in pairs) for name in NAMES}


def assert_fields(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 1e-6) -> None:
    for name in NAMES:
        assert found[name].dtype == np.float32
        assert found[name].shape == ((1 if name == "sea_level" else NK), NJ, NI)
        assert np.array_equal(np.isnan(found[name]), ~mask_of(name, basin()))
        np.testing.assert_allclose(found[name], expected[name], rtol=tolerance, atol=10 * tolerance)


def state(x: dict[str, np.ndarray], year: int) -> dict[str, np.ndarray]:
    return {name: values[year] for name, values in x.items()}


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("model", ["gaussian_process", "relaxation"])
def test_constant_stays(model: str, anchored: bool):
    x = series(np.zeros(len(YEARS)))
    jump = Extrapolation.fit(x, YEARS, basin(), model=model, anchored=anchored)
    assert_fields(jump.at(YEARS[-1] + JUMP), state(x, 0))
    assert jump.explained_variance == pytest.approx(1)


@pytest.mark.parametrize("anchored", [False, True])
def test_linear_trend_is_carried_on_exactly(anchored: bool):
    times = np.append(YEARS, YEARS[-1] + JUMP)
    x = series(0.1 * times)
    jump = Extrapolation.fit({name: values[:-1] for name, values in x.items()}, YEARS, basin(), anchored=anchored)
    assert_fields(jump.at(times[-1]), state(x, -1))


@pytest.mark.parametrize("model", ["gaussian_process", "relaxation"])
def test_anchored_jump_of_no_years_is_the_last_state(model: str):
    """However little of the series its components and models hold."""
    x = series(*np.random.default_rng(5).standard_normal((4, 8)))
    for anchored in (True, False):
        jump = Extrapolation.fit(x, YEARS[:8], basin(), model=model, explained=0.3, anchored=anchored)
        error = jump.at(YEARS[7])["temperature"] - x["temperature"][7]
        assert (np.nanmax(np.abs(error)) < 1e-5) == anchored


@pytest.mark.parametrize("anchored", [False, True])
def test_relaxation_is_recovered_with_its_end(anchored: bool):
    times = np.concatenate([YEARS, [YEARS[-1] + JUMP, 1e6]])
    x = series(3 * np.exp(-times / 17.0))
    fitted = {name: values[:-2] for name, values in x.items()}
    jump = Extrapolation.fit(fitted, YEARS, basin(), model="relaxation", anchored=anchored)
    assert_fields(jump.at(times[-2]), state(x, -2))
    assert_fields(jump.at(times[-1]), state(x, -1))


def test_all_components_together_are_the_series():
    rng = np.random.default_rng(1)
    x = series(*rng.standard_normal((6, 9)))
    components = Components.fit(x, basin(), explained=1.0)
    assert components.amplitudes.shape == (9, 9)
    for year in range(9):
        assert_fields(components.fields(components.amplitudes[year]), state(x, year))


def test_components_hold_the_share_that_was_asked_for_and_no_component_more():
    x = series(*(size * np.cos(k * math.pi * (np.arange(20) + 0.5) / 20) for k, size in ((1, 4.0), (2, 2.0), (3, 1.0))))
    everything = Components.fit(x, basin(), explained=1.0)
    for share in (0.5, 0.9, 0.99, 0.999999):
        kept = Components.fit(x, basin(), share).explained
        assert kept.sum() >= share > kept[:-1].sum()
        np.testing.assert_allclose(kept, everything.explained[: len(kept)])
    assert len(kept) == 3


def test_weights_are_volumes_and_each_variable_counts_once():
    grid = basin()
    channels = Channels.build(NAMES, grid)
    weight = volume_weights(channels, grid)
    levels = [c.index for c in channels.channels if c.variable.name == "temperature"]
    volume = grid.e1t * grid.e2t * grid.e3t * grid.tmask
    np.testing.assert_allclose(weight[levels], volume / volume.sum())
    for row in channels.variables:
        mine = [c.index for c in channels.channels if c.variable is row]
        assert weight[mine].sum() == pytest.approx(1, rel=1e-14)
    assert not weight[~channels.mask(grid)].any()


def test_likelihood_is_that_of_the_normal_distribution():
    t, y = torch.linspace(-1.5, 1.5, 7).double(), torch.randn(7, generator=torch.Generator().manual_seed(0)).double()
    model = GaussianProcess(*torch.tensor([0.7, 0.4, 1.1, 0.9, 0.3], dtype=torch.float64))
    phase = np.sin(np.pi * np.subtract.outer(t.numpy(), t.numpy()) / 0.9)
    covariance = 0.49 * np.outer(t, t) + 0.16 * np.exp(-2 * phase**2 / 1.21) + 0.09 * np.eye(7)
    normal = torch.distributions.MultivariateNormal(torch.zeros(7).double(), torch.as_tensor(covariance))
    assert float(model.log_likelihood(t, y)) == pytest.approx(float(normal.log_prob(y)), rel=1e-12)


def test_linear_covariance_alone_is_ridge_regression_through_the_mean():
    rng = np.random.default_rng(2)
    t = np.linspace(-1.7, 1.7, 30)
    y = 0.5 * t + 0.3 * rng.standard_normal(30)
    model = GaussianProcess(*torch.tensor([0.8, 0.0, 1.0, 1.0, 0.3], dtype=torch.float64))
    slope = t @ y / (t @ t + 0.3**2 / 0.8**2)
    found = model.predict(torch.as_tensor(t), torch.as_tensor(y), torch.tensor([4.0], dtype=torch.float64))
    assert float(found[0]) == pytest.approx(4 * slope, rel=1e-12)


def test_hyper_parameters_are_those_of_the_process_that_made_the_series():
    rng = np.random.default_rng(3)
    years = np.arange(60.0)
    signal = 0.05 * years + np.sin(2 * np.pi * years / 7.3)
    forecast = fit_gaussian_process(years, signal + 0.05 * rng.standard_normal(60))
    ahead = np.arange(60.0, 75.0)
    expected = 0.05 * ahead + np.sin(2 * np.pi * ahead / 7.3)
    assert np.abs([forecast(t) for t in ahead] - expected).max() < 0.25


def test_noise_without_trend_is_not_carried_away():
    """Least squares would leave by its chance slope, 25 years on by as much as the noise itself."""
    rng = np.random.default_rng(4)
    least_squares, process = [], []
    for _ in range(8):
        y = rng.standard_normal(20)
        least_squares.append(np.polyval(np.polyfit(YEARS, y, 1), YEARS[-1] + JUMP))
        process.append(fit_gaussian_process(YEARS, y)(YEARS[-1] + JUMP))
    assert np.square(process).mean() < np.square(least_squares).mean()


@pytest.mark.parametrize("scale", [0.7, 5.0, 40.0, 150.0])
def test_time_scale_of_a_relaxation_is_found_whatever_it_is(scale: float):
    y = 4.0 - 1.3 * np.exp(-(YEARS - 20) / scale)
    forecast = fit_relaxation(YEARS, y)
    for year in (*YEARS, YEARS[-1] + JUMP, 1e5):
        assert forecast(year) == pytest.approx(4.0 - 1.3 * math.exp(-(year - 20) / scale), rel=1e-6)


def test_relaxation_takes_a_trend_no_further_than_its_slowest_time_scale():
    forecast = fit_relaxation(YEARS, YEARS)
    assert forecast(60.0) == pytest.approx(60, rel=0.05)
    assert forecast(1e6) < 20 + 20 * 19  # first year, and ten times the length with the slope of the middle


MISTAKES = {
    "expected 4 or more in ascending order": {"years": YEARS[:3]},
    "expected 4 or more in ascending": {"years": YEARS[::-1]},
    "expected 20 of each variable, one per year": {"drop": True},
    "explained is 1.5, expected a share": {"explained": 1.5},
    "model is 'spline', expected": {"model": "spline"},
    "temperature level 1 is nan at j=3, i=5, time index 7": {"hole": (7, 1, 3, 5)},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistake_is_told(sentence: str):
    options = dict(MISTAKES[sentence])
    x = series(0.1 * YEARS)
    if options.pop("drop", False):
        x = {name: values[1:] for name, values in x.items()}
    if "hole" in options:
        x["temperature"][options.pop("hole")] = np.nan
    with pytest.raises(ValueError, match=sentence):
        Extrapolation.fit(x, options.pop("years", YEARS), basin(), **options)


def test_year_before_the_series_is_refused():
    jump = Extrapolation.fit(series(0.1 * YEARS), YEARS, basin(), model="relaxation")
    with pytest.raises(ValueError, match=r"year is 19\.0, expected 20 or later"):
        jump.at(19.0)
