"""Configurations: what is written is read back, and what is wrong is named."""

from pathlib import Path

import pytest

from halocline.run.config import RunConfig, build, parse_overrides, read_config, write_config
from halocline.run.restart import RestartOptions
from halocline.run.sample import SampleOptions

MINIMAL = "data: {grid: mesh_mask.nc, states: out/*.nc}\nlattice: {tile: [8, 8]}\noutput: run\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "case.yaml"
    file.write_text(MINIMAL)
    return file


def test_paths_are_relative_to_the_file_and_overrides_to_the_current_folder(path, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = read_config(path, ["output=mine"])
    assert config.data.states == (str(tmp_path / "out/*.nc"),)
    assert config.output == str(tmp_path / "here" / "mine")


def test_resolved_form_reads_back_unchanged(path, tmp_path):
    config = read_config(path, ["training.learning_rate=1e-4", "network.multipliers=[1,2]"])
    again = tmp_path / "again.yaml"
    again.write_text(write_config(config))
    assert read_config(again) == config
    assert config.training.learning_rate == 1e-4  # YAML alone reads 1e-4 as a string


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("training.step=5", r"Unknown key 'training.step'.*Did you mean 'steps'"),
        ("colour=red", "Unknown key 'colour'"),
        ("training.steps=many", "training.steps is 'many', expected a value of type int"),
        ("training.steps=true", "expected a value of type int"),
        ("training.steps=0", "training.steps is 0, expected more than 0"),
        ("training.time_shift=0", "training.time_shift is 0.0, expected more than 0"),
        ("data.variables=[temprature]", "names 'temprature'"),
        ("sampling.sampler=magic", "expected one of euler, heun, multistep, ddim, ancestral"),
        ("lattice.tile=[8]", "expected two positive"),
        ("training.seed=-1", r"expected an integer in \[0, 2\^32\)"),
        ("sampling.long_waves=-1", "sampling.long_waves is -1.0, expected at least 0"),
        ("sampling.long_waves={damage:1}", "long_waves has the key 'damage:1' without a value: put a space behind"),
        ("sampling.long_waves={damage: wide}", "sampling.long_waves.damage is 'wide', expected a value of type float"),
        ("sampling.long_waves.damage=-1", r"sampling.long_waves.damage is -1.0, expected at least 0"),
        ("sampling.short_waves.damge=0.7", r"sampling.short_waves names 'damge', expected some of"),
        ("sampling.short_waves=wide", "sampling.short_waves is 'wide', expected a value of type float"),
        ("sampling.wind_power.damage=-1", r"sampling.wind_power.damage is -1.0, expected at least 0"),
        ("sampling.wind_power.damge=0.2", r"sampling.wind_power names 'damge', expected some of"),
        ("sampling.wind_power=0.2", r"wind_power is set, but data.forcing is nothing, without wind_u: name it there"),
        ("lattice=5", "lattice is 5, expected keys and values"),
    ],
)
def test_wrong_key_or_value_is_named(path, argument, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_config(path, [argument])


def test_noise_cannot_grow_with_the_wind_nearby_where_nothing_nearby_is_known(path):
    with pytest.raises(ValueError, match=r"sampling.wind_power is set, but lattice.halo is 0, expected at least 1"):
        read_config(path, ["sampling.wind_power.ice_u=0.2", "data.variables=[ice_u]", "data.forcing=[wind_u,wind_v]",
                           "lattice.halo=0"])  # fmt: skip


def test_missing_key_and_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"Key 'data' is missing"):
        build(RunConfig, {}, "")
    with pytest.raises(FileNotFoundError, match=r"none.yaml does not exist"):
        read_config(tmp_path / "none.yaml")


def test_argument_without_equals_sign_is_refused():
    with pytest.raises(ValueError, match="'steps' is not of the form key=value"):
        parse_overrides(["steps"])


def test_value_may_have_one_of_two_types(tmp_path):
    assert build(SampleOptions, {"sampling": {"sampler": "euler", "steps": 3}}, "").sampling["sampler"] == "euler"
    with pytest.raises(ValueError, match="per_rank is 'two', expected a value of type int"):
        build(RestartOptions, {"states": "a", "output": "b", "per_rank": "two"}, "")
    assert build(RestartOptions, {"states": "a", "output": "b", "per_rank": None}, "").per_rank is None
