"""A training on departures from the mean at season and parameters, from files to samples at values never seen."""

import dataclasses
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
import yaml
from case import OCEAN, Case, command, here, seasonal_states, write_output

from halocline.io.nemo import read_states
from halocline.io.training_store import CLIMATOLOGY, TrainingStore
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.run.config import RunConfig, read_config
from halocline.run.data import ensure_store
from halocline.run.loader import WindowLoader
from halocline.run.run_folder import load_generator
from halocline.run.targets import Targets
from halocline.run.train import prepare, standardise
from halocline.state.climatology import Climatology

VALUES = (1.0, 2.0, 4.0)
SHIFT = 0.5  # degC of each unit of the parameter


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """Two years at each of three values: temperature follows the parameter linearly, besides weather."""
    case = Case.write(tmp_path_factory.mktemp("conditions"))
    states = seasonal_states(case.grid)
    for n, value in enumerate(VALUES):
        path = case.folder / f"data/at{n}.nc"
        write_output(path, {**states, "temperature": states["temperature"] + SHIFT * value})
        with netCDF4.Dataset(path, "a") as file:
            file.createVariable("viscosity", "f8")[...] = value
    config = yaml.safe_load((case.folder / "config.yaml").read_text())
    config["data"] |= {"states": "data/at*.nc", "parameters": ["viscosity"]}
    config["training"] |= {"centre": "conditions", "steps": 6}
    (case.folder / "config.yaml").write_text(yaml.safe_dump(config))
    return case


@pytest.fixture(scope="module")
def run(case: Case) -> Path:
    result = here("train", case.folder / "config.yaml")
    assert result.status == 0, result.err
    return case.folder / "run"


def test_network_sees_departures_from_the_cycle_of_each_states_own_value(case: Case, run: Path):
    config = read_config(case.folder / "config.yaml")
    store = ensure_store(config, Serial())
    generator = prepare(config, store)
    loader = WindowLoader(store, generator, 0, 1)
    layout = Layout.build(generator.lattice, Serial())
    records = store.records
    parameters = torch.as_tensor(records.parameters["viscosity"])[:, None].double()
    standardisation = generator.standardise(layout, torch.as_tensor(records.season).double(), parameters)
    states = read_states(config.data.states, OCEAN, case.grid)
    whole = generator.channels.join({k: np.nan_to_num(states.fields[k]).astype(np.float32) for k in OCEAN})
    owned = torch.as_tensor(layout.cut(whole.numpy())).transpose(0, 1)
    expected = standardisation.forward(owned.double())
    for n in range(20):
        drawn = loader.sample(n)
        (batch,) = loader.draw(n // 8)[0:1]
        position = n % 8
        x0 = batch.x0[position][:, 2:-2, 2:-2].double()
        torch.testing.assert_close(x0, expected[drawn.record, drawn.window], rtol=0, atol=1e-5)
    loader.close()
    groups = expected.reshape(len(VALUES), 2, 6, *expected.shape[1:])  # value, year, season
    assert float(groups.mean(dim=1).abs().max()) < 1e-3  # six functions, six seasons; float32: 2e-6 of 0.01 degC


def test_sample_between_the_values_has_their_interpolated_mean(run: Path, tmp_path):
    def mean(value: float) -> float:
        path = tmp_path / "states.nc"
        options = ("members=6", "convection=false", f"parameters.viscosity={value}", f"output={path}")
        result = here("sample", run, *options)
        assert result.status == 0, result.err
        return float(np.nanmean(read_states((str(path),), OCEAN, load_generator(run).grid).fields["temperature"]))

    low, between, high = (mean(value) for value in (1.0, 3.0, 4.0))
    assert high - low == pytest.approx(3 * SHIFT, abs=1e-5)  # the same noise and network; weather is scaled alike
    assert between - low == pytest.approx(2 * SHIFT, abs=0.05)  # the network is told the value and has hardly learned


def test_run_folder_carries_the_climatology_and_the_store_keeps_it(case: Case, run: Path):
    store = TrainingStore.open(run / "data.zarr")
    found, generator = store.climatology(), load_generator(run)
    assert found is not None and generator.climatology is not None
    np.testing.assert_array_equal(generator.climatology.coefficients.numpy(), found["coefficients"])
    assert found["values"].tolist() == [[value] for value in VALUES]
    before = (run / "data.zarr" / CLIMATOLOGY).stat().st_mtime_ns
    ensure_store(read_config(case.folder / "config.yaml"), Serial())
    assert (run / "data.zarr" / CLIMATOLOGY).stat().st_mtime_ns == before


def test_scales_are_those_of_the_departures(run: Path):
    store, generator = TrainingStore.open(run / "data.zarr"), load_generator(run)
    found, learned = store.climatology(), store.statistics()
    assert found is not None
    sea = generator.channels.mask(generator.grid)
    top = next(c.index for c in generator.channels.channels if c.variable.name == "temperature" and c.level == 0)
    ratio = np.sqrt(found["variance"][top][sea[top]].mean() / learned.variance[top][sea[top]].mean())
    assert 0.01 < ratio < 0.2  # weather of 0.1 degC, seasons and values of some degrees
    assert float(generator.standardisation.scale[top]) < 0.3


def test_more_values_than_can_be_held_are_refused(case: Case, tmp_path, monkeypatch):
    monkeypatch.setattr("halocline.run.store_climatology.MOST_VALUES", 2)
    result = here("train", case.folder / "config.yaml", f"output={tmp_path / 'run'}")
    assert result.status == 1
    assert "3 different values of viscosity" in result.err and "training.centre=cell" in result.err


def test_climatology_has_the_same_bits_on_any_number_of_ranks(case: Case, run: Path, mpirun, tmp_path):
    store = tmp_path / "store.zarr"
    arguments = command("data", case.folder / "config.yaml", f"data.store={store}")
    status, output = mpirun(3, *arguments, cwd=tmp_path, limit=60)
    assert status == 0, output
    alone, shared = TrainingStore.open(run / "data.zarr").climatology(), TrainingStore.open(store).climatology()
    assert alone is not None and shared is not None
    for name, x in alone.items():
        np.testing.assert_array_equal(shared[name], x)


def test_targets_of_constraints_follow_the_climatology_to_values_never_seen(run: Path):
    generator = load_generator(run)
    told = generator.parameters.standardise(torch.tensor([[1.0], [3.0]]).double())
    season = torch.full((2,), 0.5, dtype=torch.float64)
    target, spread = generator.targets.of("ts", season, told, generator.climatology)
    nk = generator.grid.nk
    moved = target[1, :nk] - target[0, :nk]
    torch.testing.assert_close(moved, torch.full((nk,), 2 * SHIFT).double(), rtol=0, atol=1e-5)
    assert float(spread[:nk].max()) < 0.2  # weather of 0.1 degC, not seasons or values


def test_spread_of_states_that_leave_nothing_is_that_of_all():
    season, profile = torch.arange(4).double() / 4, np.array([[1.0], [2.0], [4.0], [1.0]])
    climatology = Climatology(torch.zeros(1, 0).double(), torch.zeros(1, 4, 1, 1, 1))
    targets = Targets.fit({"temperature_mean": profile}, season, torch.zeros(4, 0), climatology)
    assert targets.spread["temperature_mean"].tolist() == pytest.approx([profile.std()])
    found = climatology.weights(season, torch.zeros(4, 0)) @ targets.coefficients["temperature_mean"]
    assert found[:, 0].tolist() == pytest.approx(profile[:, 0].tolist())


def test_states_without_weather_are_scaled_by_a_hundredth_of_what_they_vary(run: Path):
    generator, store = load_generator(run), TrainingStore.open(run / "data.zarr")
    whole, _ = standardise(replace_centre(generator.config, "cell"), store, generator.parameters)
    found = store.climatology()
    assert found is not None
    store.climatology = lambda: {**found, "variance": np.zeros_like(found["variance"])}
    calm, _ = standardise(generator.config, store, generator.parameters)
    torch.testing.assert_close(calm.scale, 0.01 * whole.scale)


def replace_centre(config: RunConfig, centre: str) -> RunConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, centre=centre))
