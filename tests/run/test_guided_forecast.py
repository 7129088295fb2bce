"""Forecasts that depart from a first guess: the guess becomes part of the generator, and must fit it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from case import here
from ice_case import TIMES, trajectories, write_case, write_trajectories

from halocline.io.forecast_store import ForecastStore
from halocline.run.run_folder import load_generator

NAMES = ("concentration", "thickness", "damage", "snow", "ice_u", "ice_v")
GUESS = ("forecast.deterministic=true", "forecast.loss=gaussian")


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    """Folder with a trained guess, and a generator that departs from it."""
    config = write_case(tmp_path_factory.mktemp("guided"))
    guess = config.parent / "guess"
    assert here("train", config, *GUESS, f"output={guess}").status == 0
    result = here("train", config, f"forecast.first_guess={guess}")
    assert result.status == 0, result.err
    return config.parent


def forecast(run: Path, folder: Path, output: Path, *arguments: str):
    files = folder / "trajectories.nc"
    usual = (f"start={files}", f"state={2 * TIMES}", f"forcing={files}", "forcing_trajectory=2", "lead=6", "steps=3")
    return here("forecast", run, *usual, "seed=3", f"output={output}", *arguments)


def fields(path: Path) -> dict[str, np.ndarray]:
    return {name: ForecastStore(path).array(name)[...] for name in NAMES}


def test_generator_needs_the_folder_of_its_guess_no_more(case: Path, tmp_path: Path) -> None:
    first = forecast(case / "run", case, tmp_path / "a.zarr", "members=2")
    assert first.status == 0, first.err
    shutil.copytree(case / "run", tmp_path / "alone")
    again = forecast(tmp_path / "alone", case, tmp_path / "b.zarr", "members=2")
    assert again.status == 0, again.err
    for name, x in fields(tmp_path / "a.zarr").items():
        assert x.tobytes() == fields(tmp_path / "b.zarr")[name].tobytes(), name
    guess, held = load_generator(case / "guess"), load_generator(tmp_path / "alone").guess
    for name, weights in guess.denoiser.network.state_dict().items():
        assert torch.equal(held.denoiser.network.state_dict()[name], weights)


def test_forecast_without_spread_is_the_first_guess(case: Path, tmp_path: Path) -> None:
    assert forecast(case / "guess", case, tmp_path / "guess.zarr", "members=1").status == 0
    result = forecast(case / "run", case, tmp_path / "run.zarr", "members=2", "sampling.spread=1e-7")
    assert result.status == 0, result.err
    wide = forecast(case / "run", case, tmp_path / "wide.zarr", "members=2")
    assert wide.status == 0, wide.err
    guess, narrow, wide = (fields(tmp_path / f"{name}.zarr") for name in ("guess", "run", "wide"))
    for name in NAMES:
        assert np.allclose(narrow[name], guess[name], atol=1e-5, equal_nan=True), name
        assert np.nanmax(np.abs(wide[name] - guess[name])) > 1e-3, name


def test_guess_is_a_forecast_of_its_own_without_noise(case: Path, tmp_path: Path) -> None:
    assert forecast(case / "guess", case, tmp_path / "one.zarr", "members=1").status == 0
    assert forecast(case / "guess", case, tmp_path / "other.zarr", "members=1", "seed=4").status == 0
    for name, x in fields(tmp_path / "one.zarr").items():
        assert x.tobytes() == fields(tmp_path / "other.zarr")[name].tobytes(), name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("forecast.first_guess=run",), "was trained with forecast.loss 'censored', expected 'gaussian'"),
        (("forecast.first_guess=nowhere",), "nowhere holds no generator.safetensors"),
        (("forecast.first_guess=guess", "forecast.leads=[6]"), "forecast.leads = (6.0, 12.0), expected (6.0,) as here"),
        (("forecast.first_guess=guess", "lattice.halo=1"), "was trained with lattice.halo = 2, expected 1 as here"),
        (("forecast.first_guess=guess", "forecast.deterministic=true"), "expected none: what a first guess leaves"),
        (("forecast.loss=gaussian",), "expected forecast.deterministic=true with it"),
    ],
)
def test_first_guess_that_does_not_fit_is_a_sentence(case: Path, arguments: tuple[str, ...], sentence: str) -> None:
    there = [word.replace("first_guess=", f"first_guess={case}/") for word in arguments]
    result = here("train", case / "ice.yaml", *there, f"output={case / 'other'}")
    assert result.status == 1 and sentence in result.sentence


def test_first_guess_of_other_states_is_refused(case: Path, tmp_path: Path) -> None:
    config = write_case(tmp_path)
    changed = trajectories()["sit"] * np.float32(1.1)
    write_trajectories(tmp_path / "trajectories.nc", sit=changed)
    result = here("train", config, f"forecast.first_guess={case / 'guess'}")
    assert result.status == 1 and "was trained on other states (standardisation.reference" in result.sentence


def test_training_does_not_go_on_with_another_guess(case: Path, tmp_path: Path) -> None:
    folder = tmp_path / "case"
    shutil.copytree(case, folder)
    guess = folder / "guess"
    assert here("train", folder / "ice.yaml", *GUESS, f"output={guess}", "training.steps=31").status == 0
    result = here("train", folder / "ice.yaml", f"forecast.first_guess={guess}", "training.steps=32")
    assert result.status == 1 and "forecast.first_guess has changed since step 30" in result.sentence


def test_spread_of_a_forecast_without_a_guess_is_refused(case: Path, tmp_path: Path) -> None:
    result = forecast(case / "guess", case, tmp_path / "no.zarr", "members=1", "sampling.spread=1.2")
    assert result.status == 1 and "expected 1 for a generator without forecast.first_guess" in result.sentence
