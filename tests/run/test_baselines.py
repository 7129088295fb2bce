"""Starts without a generator: which training states they take, and with which weights."""

import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from case import NI, NJ, NK, Case, here, mask_of, seasonal_states, write_output

from halocline.io.training_store import TrainingStore
from halocline.run.baselines import interpolated, nearest_state, training_mean, value_weights

VALUES = (1.0, 2.0, 4.0)
NAMES = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
AT = {"diffusivity": 2.0, "wind": 7.0}


def states_at(case: Case, value: float) -> dict[str, np.ndarray]:
    """States of a run whose temperature is proportional to the diffusivity."""
    states = seasonal_states(case.grid)
    return {name: (x * value / 4 if name == "temperature" else x).astype(np.float32) for name, x in states.items()}


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return Case.write(tmp_path_factory.mktemp("baselines"))


@pytest.fixture(scope="module")
def store(case: Case) -> TrainingStore:
    """Three values of one parameter, another that does not vary; year 2 is held out, but not of the last value."""
    for n, value in enumerate(VALUES):
        path = case.folder / "data" / f"value{n}.nc"
        write_output(path, states_at(case, value), first=1 if value < 4 else 13)
        with netCDF4.Dataset(path, "a") as file:
            file.setncatts({"diffusivity": value, "wind": 7.0})
    path = case.folder / "data.zarr"
    words = (f"data.states={case.folder}/data/value*.nc", "data.parameters=[diffusivity,wind]")
    result = here("data", case.config, f"data.store={path}", *words, "data.held_out_years=[2,2]")
    assert result.status == 0, result.err
    return TrainingStore.open(path)


def expected(case: Case, value: float, month: int) -> dict[str, np.ndarray]:
    """Mean of the training states of a value and a month."""
    chosen = [n for n in range(12 if value == 4 else 6) if 2 * (n % 6) + 2 == month]
    return {name: x[chosen].mean(axis=0, dtype=float) for name, x in states_at(case, value).items()}


def assert_fields(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], case: Case) -> None:
    assert tuple(found) == NAMES
    for name, x in found.items():
        assert x.dtype == np.float32
        assert x.shape == ((1 if name == "sea_level" else NK), NJ, NI)
        assert np.array_equal(np.isnan(x), ~mask_of(name, case.grid))
        np.testing.assert_allclose(x, wanted[name], rtol=1e-6, atol=1e-7)


def mixed(case: Case, weights: dict[float, float], month: int) -> dict[str, np.ndarray]:
    parts = [(weight, expected(case, value, month)) for value, weight in weights.items()]
    return {name: sum(weight * fields[name] for weight, fields in parts) for name in NAMES}


def test_mean_is_of_all_training_states_of_the_month_and_of_no_other(case: Case, store: TrainingStore):
    assert_fields(training_mean(store, 6), mixed(case, {1.0: 0.25, 2.0: 0.25, 4.0: 0.5}, 6), case)


def test_nearest_value_gives_one_of_its_states_as_it_is(case: Case, store: TrainingStore):
    found = nearest_state(store, AT | {"diffusivity": 1.4}, 8, member=3, seed=5)
    for name, x in states_at(case, 1.0).items():
        assert np.array_equal(found[name], x[3], equal_nan=True)


def test_members_take_different_states_and_the_seed_sets_their_order(store: TrainingStore):
    def taken(seed: int) -> list[bytes]:
        at = AT | {"diffusivity": 100.0}
        return [nearest_state(store, at, 4, member, seed)["salinity"].tobytes() for member in range(4)]

    orders = {tuple(taken(seed)) for seed in range(8)}
    assert len(orders) == 2
    for order in orders:
        assert order[0] != order[1] and order[:2] == order[2:]
    assert taken(3) == taken(3)


@pytest.mark.parametrize(
    ("value", "weights"),
    [(2.5, {2.0: 0.75, 4.0: 0.25}), (2.0, {2.0: 1.0}), (0.1, {1.0: 1.0}), (9.0, {4.0: 1.0})],
)
def test_one_parameter_is_interpolated_between_its_neighbours(value, weights, case: Case, store: TrainingStore):
    """Where another does not vary, whatever is asked of it."""
    at = {"wind": 9.0, "diffusivity": value}
    assert_fields(interpolated(store, at, 10), mixed(case, weights, 10), case)


def test_several_parameters_are_interpolated_in_the_triangle_around_them():
    rng = np.random.default_rng(0)
    values = np.unique(np.concatenate([rng.uniform(-1, 1, (9, 2)), [[-2, -2], [2, -2], [0, 3]]]), axis=0)
    plane = 3 + values @ (2.0, -1.0)
    for at in rng.uniform(-0.5, 0.5, (5, 2)):
        weights = value_weights(values, at)
        assert weights.sum() == pytest.approx(1, rel=1e-12) and (weights > -1e-12).all()
        assert weights @ plane == pytest.approx(3 + at @ (2.0, -1.0), rel=1e-12)
        assert (weights > 1e-9).sum() == 3  # the corners of a triangle, none of the other values in it
        corners = values[weights > 1e-9]
        system = np.column_stack([np.ones(3), corners])
        barycentric = np.linalg.solve(system.T, [1, *at])
        assert weights[weights > 1e-9] == pytest.approx(barycentric, rel=1e-9)
    far = value_weights(values, np.array([50.0, -2.0]))
    assert values[far == 1.0].tolist() == [[2, -2]] and far.sum() == 1  # beyond the hull the nearest one


def test_values_on_a_line_have_no_triangles_and_give_the_nearest():
    values = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    assert value_weights(values, np.array([1.2, 0.9])).tolist() == [0, 1, 0]


def test_value_that_is_alone_is_its_own_interpolation():
    assert value_weights(np.zeros((1, 2)), np.ones(2)).tolist() == [1.0]
    assert value_weights(np.zeros((1, 0)), np.ones(0)).tolist() == [1.0]


def test_store_without_parameters_has_one_value(case: Case):
    path = case.folder / "plain.zarr"
    assert here("data", case.config, f"data.store={path}").status == 0
    plain = TrainingStore.open(path)
    mean = training_mean(plain, 12)
    found = interpolated(plain, {}, 12)
    assert all(np.array_equal(found[name], x, equal_nan=True) for name, x in mean.items())
    states = {nearest_state(plain, {}, 12, member, 1)["salinity"].tobytes() for member in range(5)}
    assert len(states) == 2


MISTAKES = {
    "no training states of month 5, expected one of its months, 2, 4, 6, 8, 10, 12": {"month": 5},
    "Parameters are diffusivity, expected diffusivity, wind: give a value": {"parameters": {"diffusivity": 1.0}},
    "Parameters are diffusivity, wind, ice, expected": {"parameters": AT | {"ice": 1.0}},
    "Parameter wind is nan, expected a finite number": {"parameters": AT | {"wind": float("nan")}},
    "member is -1 and seed is 0, expected integers from 0 on": {"member": -1},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistake_is_told(sentence: str, store: TrainingStore):
    options = {"parameters": AT, "month": 6, "member": 0, "seed": 0, **MISTAKES[sentence]}
    with pytest.raises(ValueError, match=sentence):
        nearest_state(store, **options)


def test_missing_chunk_is_named(store: TrainingStore, tmp_path: Path):
    copy = tmp_path / "data.zarr"
    shutil.copytree(store.path, copy)
    record = int(np.flatnonzero(store.records.month == 6)[0])
    (copy / f"states/scale_1/c/{record}/0/1/2").unlink()
    with pytest.raises(ValueError, match=rf"Chunk .*c/{record}/0/1/2 of the training store is missing: restore"):
        training_mean(TrainingStore.open(copy), 6)
