"""Constraints of the sample command: targets that are learned, what is written beside the states, and refusals."""

import csv

import netCDF4
import numpy as np
import pytest
import torch
from case import Case, here

from halocline.flow.conditions import season_features
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
    assert Targets.from_dict(targets.to_dict()).of("ts", season, parameter)[0].equal(found) or found.isnan().any()


def test_generator_carries_its_targets(trained: Case):
    generator = load_generator(trained.run)
    target, spread = generator.targets.of("ts", torch.tensor([0.5]), torch.zeros(1, 0))
    assert target.shape == (1, 2 * trained.grid.nk) and bool((spread > 0).all())
    assert 5 < float(target[0, 0]) < 25 and 30 < float(target[0, -1]) < 40


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
        (("sampling.constraints=t",), "sampling.constraints is 't', expected one of ts, c1, c2, stability, strict."),
        (("sampling.constraints=ts+c1",), "sampling.constraints is 'ts+c1', expected at most one of ts, c1, c2."),
        (("sampling.constraints=stability",), "expected 'estimate' or 'multipliers'"),
        (("sampling.constraint_form=noisy",), "expected one of state, estimate, multipliers."),
    ],
)
def test_constraints_that_make_no_sense_are_refused(trained: Case, tmp_path, options, sentence: str):
    result = here("sample", trained.run, *options, f"output={tmp_path}/states.nc")
    assert result.status == 1 and sentence in result.err
