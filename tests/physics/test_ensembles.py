"""Scores of ensembles: closed forms, brute force, the library `scores`, land, NaN, one member."""

import math

import numpy as np
import pytest
import torch
from setting import broken_grid, cut, split

from halocline.mesh.grid import box_grid
from halocline.physics.bounds import on_bounds
from halocline.physics.ensembles import (
    EnsembleScores,
    areas,
    fair_crps,
    rank_histogram,
    score_ensemble,
    spread_skill,
)


@pytest.fixture
def plane():
    """200 x 100 cells, a tenth of it land."""
    wet = np.ones((200, 100), bool)
    wet[:, :10] = False
    grid = box_grid(1, 200, 100, wet=wet, e1=1.0e4, e2=1.0e4)
    geometry, layout = split(grid, (50, 50))
    return grid, areas(geometry), layout


def drawn(grid, layout, members: int, spread: float = 1.0, shift: float = 0.0, seed: int = 0):
    """Truth and members of one distribution (spread 1, shift 0): calibrated."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(5.0, 3.0, (1, 1, grid.nj, grid.ni))
    truth = centre + rng.normal(size=centre.shape)
    forecast = centre + shift + spread * rng.normal(size=(members, *centre.shape[1:]))
    return cut(forecast, layout), cut(truth, layout)


def brute_crps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Over all pairs, as in the definition."""
    pairs = np.abs(x[:, None] - x[None, :]).sum((0, 1))
    return np.abs(x - y).mean(0) - pairs / (2 * len(x) * (len(x) - 1))


@pytest.mark.parametrize("members", [2, 3, 10])
def test_crps_is_that_of_all_pairs(members):
    rng = np.random.default_rng(members)
    x, y = rng.normal(size=(members, 40)), rng.normal(size=40)
    x[:, :10] = np.round(x[:, :10])  # equal members
    np.testing.assert_allclose(fair_crps(torch.tensor(x), torch.tensor(y)), brute_crps(x, y), rtol=0, atol=1e-14)


def test_crps_is_that_of_the_library_scores():
    library = pytest.importorskip("scores.probability")
    xarray = pytest.importorskip("xarray")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 50)), rng.normal(size=50)
    expected = library.crps_for_ensemble(
        xarray.DataArray(x, dims=("m", "x")), xarray.DataArray(y, dims="x"), "m", method="fair", preserve_dims="x"
    )
    np.testing.assert_allclose(fair_crps(torch.tensor(x), torch.tensor(y)), expected.values, atol=1e-14)


@pytest.mark.parametrize("members", [2, 5, 20])
def test_expected_crps_of_a_gaussian_does_not_depend_on_the_number_of_members(members):
    # N(0.2, 1.3^2) against 1.1: science.md section 9.
    z, s = (1.1 - 0.2) / 1.3, 1.3
    cdf, density = 0.5 * (1 + math.erf(z / math.sqrt(2))), math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    expected = s * (z * (2 * cdf - 1) + 2 * density - 1 / math.sqrt(math.pi))
    assert expected == pytest.approx(0.542903, abs=1e-6)
    draws = 0.2 + s * torch.randn(members, 200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    crps = fair_crps(draws, torch.full((200_000,), 1.1))
    assert float(crps.mean()) == pytest.approx(expected, abs=4 * float(crps.std()) / 200_000**0.5)


def test_crps_does_not_lose_digits_far_from_zero():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(10, 30)), rng.normal(size=30)
    x, y = np.round(x * 2**20) / 2**20, np.round(y * 2**20) / 2**20  # exact after the shift, too
    far = fair_crps(torch.tensor(x + 2.0**30), torch.tensor(y + 2.0**30))
    assert torch.equal(far, fair_crps(torch.tensor(x), torch.tensor(y)))


def test_a_single_member_has_no_fair_crps_but_an_absolute_error(plane):
    grid, weight, layout = plane
    forecast, truth = drawn(grid, layout, 1)
    with pytest.raises(ValueError, match="Fair CRPS of 1 members is not defined, expected at least 2"):
        fair_crps(forecast, truth[0])
    scores = score_ensemble(forecast, truth, weight, layout)
    sea = (weight > 0).expand_as(truth[0])
    assert scores.crps == pytest.approx(float((forecast - truth)[0][sea].abs().mean()), rel=1e-12)
    assert scores.mse == pytest.approx(scores.mse_members, rel=1e-14)
    assert math.isnan(scores.variance) and math.isnan(spread_skill(scores))


@pytest.mark.parametrize("members", [2, 4, 16])
def test_calibrated_ensembles_have_as_much_spread_as_skill(plane, members):
    grid, weight, layout = plane
    scores = score_ensemble(*drawn(grid, layout, members), weight, layout)
    # 18 000 cells: the ratio of variances is known to about 1.5 %.
    assert spread_skill(scores) == pytest.approx(1.0, abs=0.03)
    assert scores.mse == pytest.approx(1 + 1 / members, rel=0.04)
    assert scores.mse_members == pytest.approx(2.0, rel=0.04)


def test_spread_skill_tells_too_little_spread(plane):
    grid, weight, layout = plane
    scores = score_ensemble(*drawn(grid, layout, 10, spread=0.5), weight, layout)
    expected = (1.1 * 0.25 / (1 + 0.25 / 10)) ** 0.5
    assert spread_skill(scores) == pytest.approx(expected, rel=0.03)


def test_means_are_weighted_by_area_and_ignore_land():
    wet = np.array([[True, True, False]])
    grid = box_grid(1, 1, 3, wet=wet)
    _, layout = split(grid, (1, 3))
    weight = torch.tensor([1.0, 3.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 3)
    truth = cut(np.array([0.0, 0.0, np.nan]).reshape(1, 1, 1, 3), layout)
    forecast = cut(np.array([[1.0, 2.0, np.inf], [3.0, 2.0, np.nan]]).reshape(2, 1, 1, 3), layout)
    scores = score_ensemble(forecast, truth, weight, layout)
    assert (scores.bias, scores.mse, scores.mse_members) == (2.0, 4.0, (5.0 + 3 * 4.0) / 4)
    assert (scores.variance, scores.crps) == (0.25 * 2.0, (1.0 + 3 * 2.0) / 4)


def test_a_broken_wet_cell_is_not_hidden(plane):
    grid, weight, layout = plane
    forecast, truth = drawn(grid, layout, 3)
    forecast[1, 0, 0, 3, 30] = torch.nan
    scores = score_ensemble(forecast, truth, weight, layout)
    assert all(math.isnan(x) for x in (scores.bias, scores.mse, scores.mse_members, scores.variance, scores.crps))
    assert any(math.isnan(f) for f in rank_histogram(forecast, truth, weight, layout).frequency)


def test_ranks_of_a_calibrated_ensemble_are_flat(plane):
    grid, weight, layout = plane
    histogram = rank_histogram(*drawn(grid, layout, 9), weight, layout)
    assert sum(histogram.frequency) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(histogram.frequency, 0.1, atol=5 * (0.09 / 18_000) ** 0.5)
    assert histogram.departure < 0.03


def test_ranks_show_bias_and_lack_of_spread(plane):
    grid, weight, layout = plane
    narrow = rank_histogram(*drawn(grid, layout, 9, spread=0.4), weight, layout)
    high = rank_histogram(*drawn(grid, layout, 9, shift=1.0), weight, layout)
    assert narrow.outliers > 2.0 and narrow.departure > 0.5
    assert high.frequency[0] > 2.5 * 0.1 > 10 * high.frequency[-1]


def test_ties_are_split_evenly():
    grid = box_grid(1, 1, 2)
    geometry, layout = split(grid, (1, 2))
    # cell 0: the truth equals two of three members, one is above; cell 1: no tie, two below
    forecast = cut(np.array([[0.0, 1.0], [0.0, 2.0], [5.0, 9.0]]).reshape(3, 1, 1, 2), layout)
    truth = cut(np.array([0.0, 3.0]).reshape(1, 1, 1, 2), layout)
    histogram = rank_histogram(forecast, truth, areas(geometry), layout)
    np.testing.assert_allclose(histogram.frequency, [1 / 6, 1 / 6, 1 / 6 + 1 / 2, 0.0], atol=1e-15)


def test_a_perfect_deterministic_forecast_on_bounds_is_flat(plane):
    grid, weight, layout = plane
    truth = drawn(grid, layout, 1)[1]
    histogram = rank_histogram(truth.expand(4, *truth.shape[1:]), truth, weight, layout)
    assert histogram.departure < 1e-12


def test_spread_without_error_is_infinite():
    assert spread_skill(EnsembleScores(2, 0.0, 0.0, 1.0, 1.0, 0.0)) == math.inf
    assert math.isnan(spread_skill(EnsembleScores(2, 0.0, 0.0, 0.0, 0.0, 0.0)))


def test_other_shapes_are_refused():
    grid = broken_grid()
    geometry, layout = split(grid)
    weight = areas(geometry)
    x = torch.zeros(2, *weight.shape)
    for forecast, truth in ((x, x), (x[..., 1:], x[:1]), (x[:0], x[:1]), (x[0], x[:1])):
        with pytest.raises(ValueError, match="expected \\(member, tile, 1, j, i\\)"):
            score_ensemble(forecast, truth, weight, layout)


def test_shares_on_bounds_are_those_of_the_area():
    grid = box_grid(1, 1, 4, wet=np.array([[True, True, True, False]]))
    geometry, layout = split(grid, (1, 4))
    members = np.array([[0.0, 1.0, 0.5, 7.0], [1e-7, 1.5, -0.5, np.nan], [0.1, 0.2, 1.0, -9.0]]).reshape(3, 1, 1, 4)
    shares = on_bounds(cut(members, layout), (0.0, 1.0), areas(geometry), layout)
    assert (shares.lower, shares.upper, shares.beyond) == pytest.approx((3 / 9, 3 / 9, 2 / 9))
    thick = on_bounds(cut(members, layout), (0.0, math.inf), areas(geometry), layout)
    assert (thick.upper, thick.beyond) == (0.0, pytest.approx(1 / 9))
