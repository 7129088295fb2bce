"""A training begins with the weights of another run, where its network is the same."""

import shutil
from pathlib import Path

import pytest
import torch
from case import here
from ice_case import write_case

from halocline.run.config import read_config
from halocline.run.run_folder import load_generator

STILL = ("training.learning_rate=1e-12", "training.weight_decay=0", "training.steps=1")


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Configuration beside a trained run."""
    config = write_case(tmp_path_factory.mktemp("begin"))
    assert here("train", config).status == 0
    return config


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_generator(run).denoiser.network.state_dict()


def test_training_begins_with_the_weights_of_another_run(config: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(config.parent / "run", first)
    others = ("lattice.halo=3", "forecast.leads=[6]", "training.symmetries=turns")  # what the network is not told
    arguments = (*others, f"training.begin={first}", f"output={tmp_path / 'second'}")
    result = here("train", config, *arguments, *STILL)
    assert result.status == 0, result.err
    fresh = here("train", config, f"output={tmp_path / 'fresh'}", *STILL)
    assert fresh.status == 0, fresh.err
    learned, begun, random = (weights(run) for run in (first, tmp_path / "second", tmp_path / "fresh"))
    assert all(torch.allclose(begun[name], w, atol=1e-9) for name, w in learned.items())
    assert not all(torch.allclose(random[name], w, atol=1e-3) for name, w in learned.items())
    shutil.rmtree(first)  # needed at the beginning only
    again = here("train", config, *arguments, *STILL[:2], "training.steps=2")
    assert again.status == 0, again.err


def test_run_is_named_relative_to_the_configuration(tmp_path: Path) -> None:
    path = write_case(tmp_path, training={"begin": "run"})
    assert read_config(path).training.begin == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("training.begin=nowhere", "nowhere holds no generator.safetensors"),
        ("forecast.loss=squared", "was trained with forecast.loss = censored, expected squared as here"),
        ("network.width=4", "was trained with network = "),
        ("data.variables=[concentration,thickness]", "was trained with data.variables = "),
    ],
)
def test_weights_of_another_network_are_refused(config: Path, tmp_path: Path, argument: str, sentence: str) -> None:
    output = tmp_path / "none"
    usual = (f"training.begin={config.parent / 'run'}", f"data.store={tmp_path / 'store'}", f"output={output}")
    result = here("train", config, *usual, argument)
    assert result.status == 1 and sentence in result.sentence
    assert not (output / "generator.safetensors").exists()
