"""Constraints of the sample command: targets that are learned, what is written beside the states, and refusals."""

import csv

import netCDF4
import numpy as np
import pytest
import torch
from case import Case, here

from halocline.flow.conditions import season_features
from halocline.run.generator import Parameters
from halocline.run.run_folder import load_generator
from halocline.run.targets import Targets


def test_targets_recover_a_profile_that_follows_season_and_parameter():
    rng = np.random.default_rng(1)
    season, parameter = torch.as_tensor(rng.uniform(size=40)), torch.as_tensor(rng.normal(size=(40, 1)))
    features = np.concatenate([season_features(season).numpy(), parameter.numpy()], axis=1)
    truth, slopes = 4.0 - np.arange(3.0), rng.normal(size=(5, 3))
    profile = truth + features @ slopes
    profile[:, 2] = np.nan  # a level without water
    noisy = profile + 0.1 * rng.normal(size=profile.shape)
    told = {"temperature_mean": profile, "salinity_mean": noisy, "kinetic_energy": np.zeros(40)}
    targets = Targets.fit(told, season, parameter)
    found, spread = targets.of("ts", season, parameter)
    np.testing.assert_allclose(found[:, :3], profile, rtol=0, atol=1e-6)  # features are float32
    assert spread[3:5].tolist() == pytest.approx([0.1, 0.1], rel=0.35)  # 40 draws
    again, _ = Targets.from_dict(targets.to_dict()).of("ts", season, parameter)
    np.testing.assert_array_equal(again, found)  # NaN where there is no water


def test_generator_carries_its_targets(trained: Case):
    generator = load_generator(trained.run)
    target, spread = generator.targets.of("ts", torch.tensor([0.5]), torch.zeros(1, 0))
    assert target.shape == (1, 2 * trained.grid.nk) and bool((spread > 0).all())
    assert 5 < float(target[0, 0]) < 25 and 30 < float(target[0, -1]) < 40


def test_parameter_outside_the_training_range_is_told_with_its_distance():
    parameters = Parameters.fit(("wind", "mixing"), torch.tensor([[1.0, 4.0], [3.0, 4.0]]).double())
    assert parameters.beyond(torch.tensor([2.0, 4.0])) == []
    assert parameters.beyond(torch.tensor([4.0, 3.5])) == [
        "parameters.wind is 4, but the training states have 1 to 3: 1 beyond, 0.5 times the width of that range.",
        "parameters.mixing is 3.5, but the training states have 4 to 4: 0.5 beyond.",
    ]


@pytest.mark.parametrize("form", ["state", "estimate", "multipliers"])
def test_constrained_sample_tells_what_was_missed_at_each_evaluation(trained: Case, tmp_path, form: str):
    path = tmp_path / "states.nc"
    options = ("sampling.constraints=ts", f"sampling.constraint_form={form}", f"output={path}")
    result = here("sample", trained.run, "members=2", *options)
    assert result.status == 0, result.err
    with netCDF4.Dataset(path) as file:
        assert file.constraints == f"ts ({form})"
    with path.with_suffix(".constraints.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["member"] for row in rows} == {"0", "1"} and len(rows) >= 2 * 5  # Heun of three steps
    assert all(float(row["residual"]) > 0 for row in rows)
    known = [row["multiplier"] != "nan" for row in rows]
    assert any(known) == (form == "multipliers")
    assert path.with_suffix(".constraints.png").stat().st_size > 5000


def test_penalty_brings_level_means_nearer_to_their_targets(trained: Case, tmp_path):
    def missed(*options: str) -> float:
        path = tmp_path / "states.nc"
        fixed = ("members=4", "sampling.constraints=ts", "sampling.constraint_form=estimate", "sampling.steps=12",
                 f"output={path}")  # fmt: skip
        assert here("sample", trained.run, *fixed, *options).status == 0
        with path.with_suffix(".constraints.csv").open() as file:
            rows = [row for row in csv.DictReader(file)]
        last = min(float(row["t"]) for row in rows)
        return float(np.mean([float(row["residual"]) for row in rows if float(row["t"]) == last]))

    assert missed("sampling.constraint_strength=100") < 0.6 * missed("sampling.constraint_strength=1e-6")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("sampling.constraints=t",), "sampling.constraints is 't', expected one of none, ts, c1, c2, stability, "),
        (("sampling.constraints=ts+c1",), "sampling.constraints is 'ts+c1', expected at most one of ts, c1, c2."),
        (("sampling.constraints=stability",), "expected 'estimate' or 'multipliers'"),
        (("sampling.constraint_form=noisy",), "expected one of state, estimate, multipliers."),
    ],
)
def test_constraints_that_make_no_sense_are_refused(trained: Case, tmp_path, options, sentence: str):
    result = here("sample", trained.run, *options, f"output={tmp_path}/states.nc")
    assert result.status == 1 and sentence in result.err


def test_given_surface_is_met_and_the_interior_is_generated(trained: Case, states, tmp_path):
    def made(name: str, *options: str) -> np.ndarray:
        path = tmp_path / name
        result = here("sample", trained.run, "members=2", "months=[6]", "seed=9", f"output={path}", *options)
        assert result.status == 0, result.err
        with netCDF4.Dataset(path) as file:
            return np.ma.filled(file["votemper"][:].astype(float), np.nan)

    with netCDF4.Dataset(states) as file:
        wanted = np.ma.filled(file["votemper"][:2].astype(float), np.nan)
    keys = (f"sampling.given={states}", "sampling.constraint_form=estimate", "sampling.steps=8", "convection=false")
    free, given = made("free.nc", "sampling.steps=8", "convection=false"), made("given.nc", *keys)
    departures = [float(np.nanmean((x[:, 0] - wanted[:, 0]) ** 2) ** 0.5) for x in (free, given)]
    assert departures[1] < 0.5 * departures[0]
    assert (tmp_path / "given.constraints.csv").exists()


def test_given_field_that_is_not_a_variable_is_refused(trained: Case, states, tmp_path):
    keys = (f"sampling.given={states}", "sampling.constraint_form=estimate", "sampling.given_variables=ice")
    result = here("sample", trained.run, *keys, f"output={tmp_path}/states.nc")
    assert result.status == 1 and "sampling.given_variables is 'ice', expected some of temperature" in result.err
