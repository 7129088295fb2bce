"""A cascade through its commands: coarse stores, coarse generators, fine ones that follow them, and refusals."""

import json
import re
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
import yaml
from case import CONFIG, OCEAN, STATES, Case, here, mask_of, seasonal_states, write_output

from halocline.io.models import read_grid, read_states
from halocline.io.nemo import write_states
from halocline.io.training_store import TrainingStore
from halocline.mesh.coarsen import coarsen_grid
from halocline.run.cascade import alike
from halocline.run.config import RunConfig, build, read_config
from halocline.run.data import read_model
from halocline.run.run_folder import load_generator
from halocline.state.coarsening import Coarsening
from halocline.state.state import Channels

FACTOR = 2
MONTHS = "months=[2,4,6,8,10,12]"


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """The tiny case, whose temperature is now and then warmer or colder by a degree in the whole basin."""
    case = Case.write(tmp_path_factory.mktemp("cascade"))
    states = seasonal_states(case.grid)
    weather = np.random.default_rng(8).standard_normal(STATES)[:, None, None, None]
    write_output(case.folder / "data/states.nc", {**states, "temperature": states["temperature"] + weather})
    fine = {**CONFIG, "coarse": {"factor": FACTOR}, "training": {**CONFIG["training"], "steps": 150}}
    coarse = {**CONFIG, "data": {**CONFIG["data"], "coarsen": FACTOR}, "lattice": {"tile": [8, 12], "halo": 0}}
    for name, config in (("fine", fine), ("coarse", coarse)):
        (case.folder / f"{name}.yaml").write_text(yaml.safe_dump({**config, "output": name}))
    return case


@pytest.fixture(scope="module")
def coarse(case: Case) -> Path:
    """A generator of coarse states."""
    result = here("train", case.folder / "coarse.yaml", "training.steps=20")
    assert result.status == 0, result.err
    return case.folder / "coarse"


@pytest.fixture(scope="module")
def fine(case: Case) -> Path:
    """A generator that is told coarse states."""
    result = here("train", case.folder / "fine.yaml", "training.validate_steps=75")
    assert result.status == 0, result.err
    return case.folder / "fine"


def whole(store: TrainingStore, record: int, scale: int = 1) -> np.ndarray:
    """A state, put together from its chunks."""
    grid = store.grid_at(scale)
    rows, columns = (-(-n // c) for n, c in zip((grid.nj, grid.ni), store.chunk, strict=True))
    return np.block([[store.block(scale, record, J, I) for I in range(columns)] for J in range(rows)])


def test_store_of_a_coarse_generator_holds_the_coarsened_states_on_the_coarse_grid(case: Case, coarse: Path):
    store = TrainingStore.open(coarse / "data.zarr")
    model = read_grid(case.folder / "data/mesh_mask.nc")
    assert store.grid.fingerprint() == coarsen_grid(model, FACTOR).fingerprint()
    states = read_states((str(case.folder / "data/states.nc"),), OCEAN, case.grid)
    channels = Channels.build(OCEAN, case.grid)
    made = Coarsening.build(case.grid, FACTOR, channels).apply(channels.join(states.fields).double())
    expected = store.channels.join(channels.split(made)).float().numpy()
    assert np.array_equal(np.stack([whole(store, n) for n in range(STATES)]), expected)
    assert store.records.month.tolist() == states.month.tolist()


def test_coarse_states_beside_fine_ones_are_those_of_the_coarse_generator(coarse: Path, fine: Path):
    one, other = TrainingStore.open(fine / "data.zarr"), TrainingStore.open(coarse / "data.zarr")
    assert one.scales == (1, FACTOR)
    index = [n for n, c in enumerate(one.channels.channels) if c.variable.point == "T"]
    same = [n for n, c in enumerate(other.channels.channels) if c.variable.point == "T"]
    for record in (0, 7):
        assert np.array_equal(whole(one, record, FACTOR)[index], whole(other, record)[same])


def test_coarse_store_is_told_from_a_plain_one(case: Case, coarse: Path, fine: Path):
    store = f"data.store={coarse / 'data.zarr'}"
    plain = here("data", case.folder / "coarse.yaml", store, "data.coarsen=1")
    assert "was made with data.coarsen = 2, but now it is 1: name another data.store" in plain.sentence
    other = here("data", case.folder / "fine.yaml", f"data.store={fine / 'data.zarr'}", "coarse.factor=4")
    assert re.search(r"was made with scales .* = \[1, 2\], but now it is \[1, 4\]", other.sentence)


def test_store_older_than_coarsening_is_a_plain_one(case: Case, tmp_path):
    words = ("data", case.config, f"data.store={tmp_path / 'data.zarr'}")
    assert here(*words).status == 0
    manifest = json.loads((tmp_path / "data.zarr/manifest.json").read_text())
    del manifest["settings"]["data.coarsen"]
    (tmp_path / "data.zarr/manifest.json").write_text(json.dumps(manifest))
    assert here(*words).status == 0
    assert "data.coarsen = 1, but now it is 2" in here(*words, "data.coarsen=2").sentence


def test_states_that_come_later_are_added_at_every_scale_of_the_store(tmp_path):
    case, path = Case.write(tmp_path), tmp_path / "data.zarr"
    states = seasonal_states(case.grid)
    for year, scales in ((0, "coarse.factor=2"), (1, "coarse.factor=1")):  # the second run asks for no coarse states
        part = tmp_path / "data" / f"year{year}.nc"
        write_output(part, {name: x[6 * year : 6 * year + 6] for name, x in states.items()}, first=6 * year + 1)
        words = ("data", case.config, f"data.store={path}", f"data.states={tmp_path}/data/year*.nc", scales)
        assert here(*words).status == 0
    store = TrainingStore.open(path)
    coarsening = Coarsening.build(store.grid, 2, store.channels)
    for record in (2, 9):
        expected = coarsening.apply(torch.as_tensor(whole(store, record)).double()).float().numpy()
        assert np.array_equal(whole(store, record, 2), expected)


def test_cascade_of_three_levels_knows_its_grids(case: Case):
    twice, once = coarsen_grid(coarsen_grid(case.grid, 2), 2), coarsen_grid(case.grid, 4)
    assert alike(twice, once) and twice.fingerprint() != once.fingerprint()
    assert not alike(once, replace(once, gphit=once.gphit + 1e-3))
    assert not alike(once, coarsen_grid(case.grid, 2))


def test_dry_run_looks_at_the_coarse_grid(case: Case, tmp_path):
    result = here("train", case.folder / "coarse.yaml", "--dry-run", f"output={tmp_path / 'run'}")
    assert result.status == 0, result.err
    assert "grid 10 x 7 x 4, 1 tiles of 12 x 8" in result.out


def sampled(run: Path, path: Path, *words: str) -> dict[str, np.ndarray]:
    """States that a run generates."""
    result = here("sample", run, "members=6", "seed=5", MONTHS, f"output={path}", *words)
    assert result.status == 0, result.err
    return dict(read_states((str(path),), OCEAN, load_generator(run).grid).fields)


def test_folder_of_a_coarse_generator_does_what_the_file_of_its_samples_does(coarse: Path, fine: Path, tmp_path):
    sampled(coarse, tmp_path / "coarse.nc")
    by_folder = sampled(fine, tmp_path / "one.nc", f"sampling.coarse={coarse}")
    by_file = sampled(fine, tmp_path / "two.nc", f"sampling.coarse={tmp_path / 'coarse.nc'}")
    for name in OCEAN:
        assert np.array_equal(by_folder[name], by_file[name], equal_nan=True), name
    with netCDF4.Dataset(tmp_path / "one.nc") as file:
        assert file.coarse == str(coarse)


def test_sample_follows_the_coarse_state_that_it_is_given(case: Case, fine: Path, tmp_path):
    grid = coarsen_grid(case.grid, FACTOR)
    config = read_config(case.folder / "coarse.yaml")
    states = read_model(config.data, grid)
    sea, means = mask_of("temperature", grid), []
    for shift in (-1.0, 1.0):
        path, output = tmp_path / f"{shift}.nc", tmp_path / f"states{shift}.nc"
        fields = {name: np.nan_to_num(states.fields[name][:6]).astype(np.float32) for name in OCEAN}
        fields["temperature"] += np.float32(shift) * sea
        write_states(path, fields, grid, months=states.month[:6].tolist(), attributes={})
        sampled(fine, output, f"sampling.coarse={path}", "convection=false")
        made = read_model(config.data, grid, (str(output),)).fields["temperature"]
        missed = (made - fields["temperature"])[:, sea]
        # weather of a degree, 0.1 of it in noise, some seconds of training; one that did not listen misses a degree
        assert np.sqrt(np.mean(missed**2)) < 0.4
        means.append(made[:, sea].mean())
    assert means[1] - means[0] == pytest.approx(2, abs=0.3)


def test_states_of_the_model_are_read_onto_the_coarse_grid(case: Case, coarse: Path):
    generator = load_generator(coarse)
    states = read_model(generator.config.data, generator.grid, first_year=2)
    store = TrainingStore.open(coarse / "data.zarr")
    assert states.year.tolist() == [2] * 6
    x = generator.channels.join({name: np.nan_to_num(field) for name, field in states.fields.items()})
    assert np.array_equal(x.float().numpy(), np.stack([whole(store, n) for n in range(6, 12)]))
    assert all(np.isnan(states.fields[name][:, ~mask_of(name, generator.grid)]).all() for name in OCEAN)
    with pytest.raises(ValueError, match=r"No state of .*, of years 1 to 2, lies in years 7 to None"):
        read_model(generator.config.data, generator.grid, first_year=7)


def test_network_that_is_told_coarse_states_does_not_sample_without(case: Case, fine: Path, coarse: Path, tmp_path):
    def refusal(run: Path, *words: str) -> str:
        result = here("sample", run, f"output={tmp_path / 'states.nc'}", *words)
        assert result.status == 1
        return result.sentence

    told = refusal(fine)
    assert "trained with coarse.factor=2 and needs coarse states" in told
    assert "the run folder of a generator" in told and "data.coarsen=2" in told and "a file of states" in told
    assert "no coarse state (coarse.factor is 1): leave it out" in refusal(coarse, f"sampling.coarse={coarse}")
    assert "names gone, which does not exist: name the run folder" in refusal(fine, "sampling.coarse=gone")
    words = ("data.coarsen=4", "lattice.tile=[4,8]", "training.steps=1", f"output={tmp_path / 'coarser'}")
    assert here("train", case.folder / "coarse.yaml", *words).status == 0
    other = refusal(fine, f"sampling.coarse={tmp_path / 'coarser'}")
    assert "of states on 4 x 5 cells, expected one on the grid of this run coarsened by 2, 7 x 10 cells" in other
    sampled(coarse, tmp_path / "coarse.nc")
    months = refusal(fine, f"sampling.coarse={tmp_path / 'coarse.nc'}")
    assert "State 0 of sampling.coarse" in months and "stands at month 2, but member 0" in months
    assert "months=[2,4,6,8,10,12]" in months


MISTAKES = {
    "factor": ({"factor": 3}, {}, "coarse.factor is 3, expected one of 1, 2, 4, 8"),
    "velocity": ({"factor": 2, "variables": ["velocity_u"]}, {}, "of those at T points .*: temperature, salinity, "),
    "noise": ({"factor": 2, "noise": -1}, {}, "coarse.noise is -1.0, expected at least 0"),
    "flips": ({"factor": 2}, {"symmetries": "flips"}, r"'flips', expected \[1\] and 'none': coarse states are told"),
    "scales": ({"factor": 2}, {"scales": [1, 2]}, r"training.scales \[1, 2\] .*, expected \[1\] and 'none'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_coarse_states_that_cannot_be_told_are_refused(mistake: str):
    coarse, training, sentence = MISTAKES[mistake]
    with pytest.raises(ValueError, match=sentence):
        build(RunConfig, {**CONFIG, "coarse": coarse, "training": training}, "")


def test_coarse_cells_of_another_size_and_paths_in_the_file(tmp_path, case: Case):
    with pytest.raises(ValueError, match=r"data\.coarsen is 3, expected one of 1, 2, 4, 8"):
        build(RunConfig, {**CONFIG, "data": {**CONFIG["data"], "coarsen": 3}}, "")
    text = {**CONFIG, "coarse": {"factor": 2}, "sampling": {"coarse": "../coarse"}}
    (tmp_path / "in").mkdir()
    (tmp_path / "in/config.yaml").write_text(yaml.safe_dump(text))
    assert read_config(tmp_path / "in/config.yaml").sampling.coarse == str(tmp_path / "coarse")


def test_generator_of_coarse_states_is_evaluated_on_its_own_grid_and_starts_no_model(coarse: Path, tmp_path: Path):
    states = tmp_path / "states.nc"
    assert here("sample", coarse, "members=6", MONTHS, f"output={states}").status == 0
    result = here("evaluate", coarse, f"states={states}", f"output={tmp_path / 'report'}")
    assert result.status == 0, result.err
    scores = json.loads((tmp_path / "report/table.json").read_text())
    assert scores["reference_states"] == STATES
    refused = here("restart", coarse, f"states={states}", f"output={tmp_path / 'restart.nc'}")
    assert refused.status == 1 and f"data.coarsen={FACTOR}" in refused.err and "fine level" in refused.err
