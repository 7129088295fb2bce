"""`halocline forecast`: what is written, with which bits, after which accidents, and what is refused."""

import json
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
import xarray
from case import alone, here, several, told
from ice_case import HOURS, NI, NJ, TIMES, sea, trajectories, write_case, write_trajectories

from halocline.io.forecast_store import VERDICTS, ForecastStore
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.physics.diagnostics import of_member
from halocline.physics.verdict import Thresholds, judge
from halocline.run.judging import diagnose_fields
from halocline.run.run_folder import load_generator
from halocline.state.variables import VARIABLES

NAMES = ("concentration", "thickness", "damage", "snow", "ice_u", "ice_v")
MASK = sea()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder, trained for a few steps."""
    config = write_case(tmp_path_factory.mktemp("forecast"))
    result = here("train", config)
    assert result.status == 0, result.err
    return config.parent / "run"


def asked(run: Path, output: Path, *arguments: str) -> tuple[str, ...]:
    """A forecast of four steps of 6 h, three members, from the held-out run."""
    files = run.parent / "trajectories.nc"
    usual = (f"start={files}", f"state={2 * TIMES}", f"forcing={files}", "forcing_trajectory=2", "lead=6", "steps=4")
    return "forecast", str(run), *usual, "members=3", "seed=3", f"output={output}", *arguments


def read(path: Path) -> dict[str, np.ndarray]:
    with xarray.open_zarr(path) as data:
        return {name: data[name].values for name in NAMES}


@pytest.fixture(scope="module")
def made(run: Path) -> Path:
    path = run.parent / "forecast.zarr"
    result = here(*asked(run, path))
    assert result.status == 0, result.err
    return path


def test_forecast_starts_from_its_start_and_stays_within_bounds(made: Path) -> None:
    fields = read(made)
    start = dict(zip(NAMES, ("sic", "sit", "sid", "snt", "siu", "siv"), strict=True))
    for name, x in fields.items():
        assert x.shape == (3, 5, NJ, NI)
        assert np.isnan(x[..., ~MASK]).all() and np.isfinite(x[..., MASK]).all()
        assert (x[:, 0][:, MASK] == trajectories()[start[name]][2, 0][MASK]).all()
        low, high = VARIABLES[name].bounds
        assert low <= x[..., MASK].min() and x[..., MASK].max() <= high
        assert np.ptp(x[:, 1:, MASK], axis=0).max() > 0  # members differ
    assert (fields["concentration"][:, 1:] == 1).mean() > 0.01  # on the bound itself


def test_file_says_when_its_states_are_and_that_they_are_complete(made: Path) -> None:
    with xarray.open_zarr(made) as data:
        first = np.datetime64("2010-01-10T00:00:00")
        assert (data.time.values == first + np.arange(5) * np.timedelta64(int(HOURS), "h")).all()
        assert data.complete.values.tolist() == [4, 4, 4]
        assert data.thickness.attrs["units"] == "m"


def verdicts(path: Path) -> np.ndarray:
    with xarray.open_zarr(path) as data:
        assert data.verdict.attrs["flag_meanings"] == "not_judged ok suspect reject"
        return data.verdict.values


def test_states_are_judged_as_those_of_a_file_are(run: Path, made: Path) -> None:
    generator, fields, found = load_generator(run), read(made), verdicts(made)
    thresholds = Thresholds.from_json(generator.thresholds)
    for member in range(3):
        of_time = {name: np.nan_to_num(x[member])[:, None] for name, x in fields.items()}
        diagnosed = diagnose_fields(of_time, generator.grid, generator.lattice, generator.config.data)
        expected = [VERDICTS[judge(of_member(diagnosed, time), thresholds).status] for time in range(5)]
        assert found[member].tolist() == expected
    assert (found[:, 0] == 0).all()  # the start is near the training states


def test_forecast_that_leaves_the_range_of_the_training_states_says_so(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "thick.nc"
    write_trajectories(path, sit=4 * trajectories()["sit"])
    result = here(*asked(run, tmp_path / "thick.zarr", f"start={path}"))
    assert result.status == 0, result.err
    assert "verdict at 24 h: 0 ok, 0 suspect, 3 reject; member 0 is reject from 0 h: ice_" in result.out
    assert " is above " in result.out
    assert (verdicts(tmp_path / "thick.zarr") == VERDICTS["reject"]).all()


def test_members_made_one_at_a_time_have_the_same_bits(run: Path, made: Path, tmp_path: Path) -> None:
    result = here(*asked(run, tmp_path / "one.zarr", "at_once=1"))
    assert result.status == 0, result.err
    for name, x in read(tmp_path / "one.zarr").items():
        assert x.tobytes() == read(made)[name].tobytes(), name


def test_seed_and_member_make_the_difference(run: Path, made: Path, tmp_path: Path) -> None:
    result = here(*asked(run, tmp_path / "other.zarr", "seed=4", "members=1"))
    assert result.status == 0, result.err
    assert not np.array_equal(read(tmp_path / "other.zarr")["thickness"][0], read(made)["thickness"][0], equal_nan=True)


def test_waves_of_the_noise_are_scaled_by_variable(run: Path, made: Path, tmp_path: Path) -> None:
    for factor, same in ((1, True), (0.5, False)):
        path = tmp_path / f"{factor}.zarr"
        result = here(*asked(run, path, f"sampling.short_waves.damage={factor}", "members=1", "steps=2"))
        assert result.status == 0, result.err
        first, other = (read(p)["damage"][0, 1] for p in (path, made))
        assert np.array_equal(first, other, equal_nan=True) == same


def test_forecast_that_was_killed_goes_on_with_the_same_bits(run: Path, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "killed.zarr"
    program = (
        "import os, sys\n"
        "from halocline.io.forecast_store import ForecastStore\n"
        "count = ForecastStore.count\n"
        "def die(self, time, members):\n"
        "    if time == 3 and 1 in members: os._exit(9)\n"  # its tiles are written, but not counted
        "    count(self, time, members)\n"
        "ForecastStore.count = die\n"
        "from halocline.__main__ import app\n"
        "app(sys.argv[1:])\n"
    )
    killed = alone("-c", program, *asked(run, path, "at_once=2"))
    assert killed.status == 9
    assert ForecastStore(path).complete().tolist() == [2, 2, -1]
    whole = read(made)
    for name, x in read(path).items():  # readable up to the last complete step
        assert x[:2, :3].tobytes() == whole[name][:2, :3].tobytes()
    result = here(*asked(run, path))
    assert result.status == 0, result.err
    for name, x in read(path).items():
        assert x.tobytes() == whole[name].tobytes(), name
    assert (verdicts(path) == verdicts(made)).all()


def test_members_that_are_further_stay_so_when_the_others_follow(run: Path, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "uneven.zarr"
    assert here(*asked(run, path)).status == 0
    store = ForecastStore(path)
    store.count(1, [2])  # as if member 2 had been left behind
    program = (
        "import os, sys\n"
        "from halocline.io.forecast_store import ForecastStore\n"
        "write, count = ForecastStore.write, ForecastStore.count\n"
        "def only(self, name, time, members, x, layout):\n"
        "    assert list(members) in ([], [2]), members\n"
        "    write(self, name, time, members, x, layout)\n"
        "def die(self, time, members):\n"
        "    count(self, time, members)\n"
        "    if time == 3: os._exit(9)\n"
        "ForecastStore.write, ForecastStore.count = only, die\n"
        "from halocline.__main__ import app\n"
        "app(sys.argv[1:])\n"
    )
    assert alone("-c", program, *asked(run, path)).status == 9
    assert ForecastStore(path).complete().tolist() == [4, 4, 3]
    assert here(*asked(run, path)).status == 0
    for name, x in read(path).items():
        assert x.tobytes() == read(made)[name].tobytes(), name


def test_error_of_one_team_is_told_and_ends_all_of_them(run: Path, mpirun, tmp_path: Path) -> None:
    path = tmp_path / "teams.zarr"
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from halocline.io.forecast_store import ForecastStore\n"
        "write = ForecastStore.write\n"
        "def fail(self, name, time, members, x, layout):\n"
        "    if 1 in members and time == 2: raise OSError('the disk of member 1 is gone')\n"
        "    write(self, name, time, members, x, layout)\n"
        "ForecastStore.write = fail\n"
        "from halocline.__main__ import app\n"
        "app(sys.argv[1:])\n"
    )
    words = asked(run, path, "members=2", "ranks_per_member=1")
    status, output = mpirun(2, str(program), *words, cwd=tmp_path, limit=60)
    assert status != 0
    assert "halocline: error (rank 1): the disk of member 1 is gone" in output
    assert "written to" not in output
    assert ForecastStore(path).complete()[1] == 1


def test_finished_forecast_is_left_alone_and_another_one_refused(run: Path, made: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*") if p.is_file()}
    assert here(*asked(run, made)).status == 0
    assert before == {p: p.stat().st_mtime_ns for p in made.rglob("*") if p.is_file()}
    for argument, sentence in (
        ("seed=9", "with seed = 3, but now it is 9"), ("steps=3", "of 4 steps, but now steps is 3"),
    ):  # fmt: skip
        result = here(*asked(run, made, argument))
        assert result.status == 1 and sentence in result.sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("steps=9",), "Forcing ends at 2010-01-12T00:00:00"),
        (("lead=3",), "lead is 3 h, expected one between 6 and 12 h"),
        (("state=99",), "state is 99, but"),
        (("members=0",), "members is 0, expected at least 1"),
        (("forcing=[]",), "forcing is missing, expected files with wind_u, wind_v, air_temperature"),
        (("parameters.wind=3",), "expected a value for each of none"),
        (("start=nowhere.nc",), "nowhere.nc does not exist"),
        (("sampling.short_waves.damge=0.7",), "sampling.short_waves names 'damge', expected some of"),
    ],
)
def test_what_cannot_be_forecast_is_a_sentence(run: Path, tmp_path: Path, arguments, sentence: str) -> None:
    result = here(*asked(run, tmp_path / "x.zarr", *arguments))
    assert result.status == 1
    assert sentence in result.sentence
    assert not (tmp_path / "x.zarr").exists()


def test_forcing_may_begin_again(run: Path, tmp_path: Path) -> None:
    result = here(*asked(run, tmp_path / "long.zarr", "steps=12", "cycle=true", "members=1"))
    assert result.status == 0, result.err
    assert np.isfinite(read(tmp_path / "long.zarr")["thickness"][:, :, MASK]).all()


def test_start_with_another_mask_is_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.nc"
    write_trajectories(other)
    with netCDF4.Dataset(other, "a") as file:
        file["mask"][5, 5] = 0
    result = here(*asked(run, tmp_path / "x.zarr", f"start={other}"))
    assert result.status == 1 and "cells of sea" in result.sentence


def test_wind_in_another_unit_is_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "knots.nc"
    write_trajectories(other)
    with netCDF4.Dataset(other, "a") as file:
        file["uas"].units = "knots"
    result = here(*asked(run, tmp_path / "x.zarr", f"forcing={other}"))
    assert result.status == 1 and "knots" in result.sentence


def test_generators_of_states_and_of_forecasts_are_told_apart(run: Path, tmp_path: Path) -> None:
    result = here("sample", run, f"output={tmp_path / 'states.nc'}")
    assert result.status == 1 and "use `halocline forecast`" in result.sentence
    generator = load_generator(run)
    layout = Layout.build(generator.lattice, Serial())
    with pytest.raises(ValueError, match="The run folder makes forecasts"):
        generator.tiled(layout, torch.zeros(1), torch.zeros(1, 0))


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        ("bias.data[0] = float('nan')", "Member 0 diverged: the network returned numbers that are not finite"),
        ("bias.data[1] = 1e4", "Member 0 diverged: thickness changes by "),
    ],
)
def test_network_that_runs_away_ends_the_forecast_with_what_is_complete(
    run: Path, tmp_path: Path, spoilt: str, sentence: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    program = (
        "import sys, torch\n"
        "from halocline.run import forecast_step\n"
        "step = forecast_step.Stepper.__call__\n"
        "def spoil(self, x, forcing, hours, number, seed, members):\n"
        f"    if number == 2: self.generator.denoiser.network.network.leave.{spoilt}\n"
        "    return step(self, x, forcing, hours, number, seed, members)\n"
        "forecast_step.Stepper.__call__ = spoil\n"
        "from halocline.__main__ import app\n"
        "app(sys.argv[1:])\n"
    )
    path = tmp_path / "nan.zarr"
    result = alone("-c", program, *asked(run, path))
    assert result.status == 1
    assert sentence in result.sentence
    assert ForecastStore(path).complete().tolist() == [2, 2, 2]


def test_deterministic_network_makes_one_member(tmp_path: Path) -> None:
    config = write_case(tmp_path, forecast={"deterministic": True, "loss": "squared"}, training={"steps": 5})
    assert here("train", config).status == 0
    result = here(*asked(tmp_path / "run", tmp_path / "x.zarr"))
    assert result.status == 1 and "the network is deterministic: ask for members=1" in result.sentence
    assert here(*asked(tmp_path / "run", tmp_path / "x.zarr", "members=1")).status == 0


def test_training_of_forecasts_learns_validates_and_goes_on(tmp_path: Path) -> None:
    config = write_case(tmp_path, training={"steps": 120, "validate_steps": 60, "validation_members": 3})
    assert here("train", config, "training.steps=60").status == 0
    result = here("train", config)
    assert result.status == 0, result.err
    rows = (tmp_path / "run" / "validation.csv").read_text().splitlines()
    assert "crps_thickness" in rows[0] and len(rows) == 3
    losses = [float(row.split(",")[1]) for row in (tmp_path / "run" / "training.csv").read_text().splitlines()[1:]]
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.1  # nats per value


def test_evaluation_scores_forecasts_beside_baselines(run: Path, made: Path, tmp_path: Path) -> None:
    output = tmp_path / "evaluation"
    result = here("evaluate", run, f"forecasts=[{made}]", "trajectories=[2]", f"output={output}")
    assert result.status == 0, result.err
    table = json.loads((output / "table.json").read_text())
    assert table["leads"] == [6, 12, 18, 24]
    assert set(table["variables"]) == {"forecast", "persistence", "free drift", "damped anomaly"}
    x = trajectories()["sit"][2][:, MASK].astype(float)
    error = np.sqrt(((x[4] - x[0]) ** 2).mean())
    assert table["variables"]["persistence"]["thickness"]["rmse"][-1] == pytest.approx(error, rel=1e-6)
    assert (output / "report.png").stat().st_size > 10_000
    refused = here("evaluate", run, f"forecasts=[{made}]", f"output={output}")
    assert refused.status == 1 and "name the run with trajectories=[N]" in refused.sentence


@pytest.fixture(scope="module")
def uneven(run: Path, made: Path) -> str:
    """The option that names three forecasts of the held-out run, of 4, 6 and 2 steps."""
    paths = [made]
    for state, steps in ((2 * TIMES + 1, 6), (2 * TIMES + 3, 2)):
        paths.append(run.parent / f"from_{state}.zarr")
        result = here(*asked(run, paths[-1], f"state={state}", f"steps={steps}"))
        assert result.status == 0, result.err
    return ",".join(map(str, paths))


def test_evaluation_of_forecasts_does_not_depend_on_the_number_of_ranks(run: Path, uneven: str, mpirun, tmp_path: Path):
    several_starts = ["evaluate", run, f"forecasts=[{uneven}]", "trajectories=[2,2,2]"]
    result = here(*several_starts, f"output={tmp_path / 'alone'}")
    assert result.status == 0, result.err
    table = json.loads((tmp_path / "alone" / "table.json").read_text())
    assert table["leads"] == [6, 12, 18, 24, 30, 36] and table["starts"] == 3
    assert {tuple(reached) for reached in table["reached"].values()} == {(3, 3, 2, 2, 1, 1)}
    absent = ["evaluate", run, f"forecasts=[{uneven},{tmp_path}/none.zarr]", f"output={tmp_path / 'none'}"]
    commands = [[*several_starts, f"output={tmp_path / 'two'}"], [*absent, "trajectories=[2,2,2,2]"]]
    status, output = mpirun(2, *several(commands), cwd=tmp_path, limit=60)
    assert status == 0, output
    scored, refused = told(output)
    assert [one.status for one in scored] == [0, 0] and scored[1].out == "", output
    for name in ("table.json", "report.png"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    assert [one.status for one in refused] == [1, 1] and refused[1].err == ""
    assert "No forecast at" in refused[0].sentence and "scored" not in refused[0].out
    assert not (tmp_path / "none").exists()


def test_truth_that_lacks_times_between_those_of_a_forecast_is_refused(run: Path, made: Path, tmp_path: Path) -> None:
    with xarray.open_dataset(run.parent / "trajectories.nc", decode_times=False) as whole:
        whole.isel(time=slice(None, None, 2)).to_netcdf(tmp_path / "thinned.nc")
    words = (f"reference=[{tmp_path / 'thinned.nc'}]", "trajectories=[2]", f"output={tmp_path / 'evaluation'}")
    result = here("evaluate", run, f"forecasts=[{made}]", *words)
    assert result.status == 1 and "which 0 of 1 runs of the reference have with the time after it" in result.sentence
