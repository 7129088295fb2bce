"""The mean by season and parameters is exact where it should be, and nowhere depends on order or rounding."""

import numpy as np
import pytest
import torch

from halocline.state.climatology import Climatology, interpolation, seasonal_basis, seasons_told_apart, values_of

SCATTERED = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.2, 0.1], [0.4, -0.7]])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 11, 12])
def test_seasonal_basis_can_follow_any_cycle_of_as_many_seasons(count: int):
    season = (np.arange(count) + 0.0) / count
    assert np.linalg.matrix_rank(seasonal_basis(season, count)) == count


def test_seasons_are_those_that_every_value_has():
    season = np.array([0.0, 0.25, 0.5, 0.75, 0.0, 0.5, 0.5])
    assert seasons_told_apart(season, np.array([0, 0, 0, 0, 1, 1, 1])) == 2
    assert seasons_told_apart(np.arange(400) / 400, np.zeros(400)) == 12


@pytest.mark.parametrize("points", [np.array([[0.0], [1.0], [3.0], [7.0]]), SCATTERED], ids=["one", "two parameters"])
def test_splines_return_planes_within_and_beyond_and_values_exactly(points: np.ndarray):
    rng = np.random.default_rng(2)
    slope, wanted = rng.normal(size=points.shape[1]), rng.uniform(-9, 9, (20, points.shape[1]))
    found = interpolation(points, wanted) @ (1.5 + points @ slope)
    np.testing.assert_allclose(found, 1.5 + wanted @ slope, rtol=0, atol=1e-6)  # weights have nine decimals
    np.testing.assert_array_equal(interpolation(points, points), np.eye(len(points)))


def test_spline_through_one_parameter_is_the_one_that_bends_least():
    points, values = np.array([[0.0], [1.0], [2.0], [4.0]]), np.array([0.0, 1.0, 0.5, 2.0])
    radius = np.abs(points - points.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = np.where(radius > 0, radius**2 * np.log(radius), 0.0)
    plane = np.column_stack([np.ones(4), points])
    system = np.block([[kernel, plane], [plane.T, np.zeros((2, 2))]])
    solved = np.linalg.solve(system, np.append(values, [0.0, 0.0]))
    at = np.array([0.3, 2.9, 5.0])
    r = np.abs(at[:, None] - points.T)
    expected = r**2 * np.log(r) @ solved[:4] + solved[4] + solved[5] * at
    np.testing.assert_allclose(interpolation(points, at[:, None]) @ values, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "points", [np.array([[0.0], [2.0]]), np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]])], ids=["two", "on a line"]
)
def test_values_too_few_for_a_plane_are_interpolated_all_the_same(points: np.ndarray):
    halfway = points[:2].mean(axis=0, keepdims=True)
    np.testing.assert_allclose(interpolation(points, halfway)[0, :2], 0.5, rtol=0, atol=1e-8)


def test_one_value_is_the_mean_of_every_state():
    np.testing.assert_array_equal(interpolation(np.zeros((1, 0)), np.zeros((3, 0))), np.ones((3, 1)))
    np.testing.assert_array_equal(interpolation(np.ones((1, 1)), np.array([[5.0]])), [[1.0]])


def test_values_of_states_are_found_whatever_their_order():
    values, number = values_of([np.array([2.0, 1.0, 2.0, 1.0]), np.array([0.0, 0.0, 3.0, 0.0])], 4)
    assert values.tolist() == [[1.0, 0.0], [2.0, 0.0], [2.0, 3.0]] and number.tolist() == [1, 0, 2, 0]
    assert values_of([], 3)[1].tolist() == [0, 0, 0]


def test_reference_is_the_weighted_sum_of_cycles():
    rng = np.random.default_rng(4)
    coefficients = torch.as_tensor(rng.normal(size=(2, 3, 5, 4, 6)), dtype=torch.float32)
    climatology = Climatology(torch.tensor([[0.0], [2.0]]).double(), coefficients)
    season, parameters = torch.tensor([0.1, 0.6]).double(), torch.tensor([[2.0], [0.5]]).double()
    phase = 2 * np.pi * season
    basis = torch.stack([torch.ones(2), phase.sin(), phase.cos()], dim=1).double()
    of_value = torch.einsum("sf,vfcji->svcji", basis, coefficients.double())
    expected = torch.stack([of_value[0, 1], 0.75 * of_value[1, 0] + 0.25 * of_value[1, 1]])
    torch.testing.assert_close(climatology.reference(season, parameters), expected, rtol=0, atol=1e-6)
    again = Climatology.from_dict(climatology.to_dict())
    assert again is not None and torch.equal(again.weights(season, parameters), climatology.weights(season, parameters))
    assert Climatology.from_dict({}) is None
