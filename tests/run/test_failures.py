"""Wrong input, a full disk, a dead rank: each ends the whole job at once, with one sentence, and spoils no file."""

import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from case import (
    CONFIG,
    TILE,
    TILES,
    Case,
    Result,
    accident,
    alone,
    change_header,
    command,
    here,
    last_step,
    seasonal_states,
    several,
    told,
    write_mesh_mask,
    write_output,
)

from halocline.io.nemo import read_member, write_restart, write_states
from halocline.io.store import save_grid
from halocline.mesh.grid import Grid, box_grid
from halocline.run.calibration import CalibrationOptions
from halocline.run.checkpoints import find_checkpoint, write_manifest
from halocline.run.config import DataConfig, LatticeConfig, RunConfig, SamplingConfig
from halocline.run.evaluate import EvaluateOptions
from halocline.run.evaluate_forecast import ForecastEvaluation
from halocline.run.forecast_options import ForecastOptions
from halocline.run.restart import RestartOptions
from halocline.run.run_folder import WEIGHTS, load_content
from halocline.run.sample import SampleOptions, allowance
from halocline.state.state import Standardisation
from halocline.state.variables import VARIABLES

TRAIN, SAMPLE = "train {config} output={out}/run ", "sample {run} output={out}/states.nc "
RESTART = "restart {run} states={states} output={out}/restart.nc "
EVALUATE = "evaluate {run} output={out}/evaluation "

# The command, and what its sentence must say. All input named {bad}/… is made by `spoil`.
MISTAKES = {
    "variable is missing": (
        TRAIN + "data.states={bad}/no_v.nc",
        r"Variable velocity_v is in none of the files of states \(.*no_v.nc, ...\), expected it as vomecrty or vn: add",
    ),
    "unit is kelvin": (
        TRAIN + "data.states={bad}/kelvin.nc",
        r"Unit of temperature \(votemper of .*kelvin.nc\) is 'K', expected degC for temperature: convert the file",
    ),
    "values are kelvin": (
        TRAIN + "data.states={bad}/warm.nc",
        r"votemper of .*warm.nc\) is 28\d.* degC at time index 0, level 0, .* expected -5 to 50: check the unit",
    ),
    "states have another shape": (
        TRAIN + "data.states={bad}/narrow.nc",
        r"narrow.nc\) has \(level, y, x\) = \(4, 13, 18\), expected \(4, 13, 19\) of the grid: name the grid file",
    ),
    "wet cell is NaN": (
        TRAIN + "data.states={bad}/hole.nc",
        r"vosaline of .*hole.nc\) is missing or NaN at 1 wet cells of tmask, first at time index 5, level 1, j=9, i=2",
    ),
    "grid has another coast": (
        TRAIN + "data.grid={bad}/coast.nc",
        r"holds data on 3 land cells of tmask, first at time index 0, level 1, j=6, i=2: name the grid file",
    ),
    "states are cut off": (
        TRAIN + "data.states={bad}/cut.nc",
        r"File .*cut.nc cannot be read \(.*\): it is damaged or not netCDF; restore it",
    ),
    "no file matches": (TRAIN + "data.states={bad}/nothing*.nc", r"No file matches .*nothing\*.nc: check the path"),
    "key of the file is unknown": (
        "train {bad}/unknown_key.yaml output={out}/run",
        r"Unknown key 'network.widht', expected one of width, .* Did you mean 'width'\?",
    ),
    "key of an argument is unknown": (
        TRAIN + "training.step=5",
        r"Unknown key 'training.step', expected one of .* Did you mean 'steps'\?",
    ),
    "halo is wider than a tile": (
        TRAIN + "lattice.halo=4",
        r"Halo width 4 exceeds the 3 owned columns of tile .*: choose",
    ),
    "window does not fit the network": (
        TRAIN + "lattice.tile=[7,8]",
        r"window of 11 x 12 cells .* is not a multiple of 2 in both directions, .*: change",
    ),
    "output is a file": (
        "train {config} output={bad}/cut.nc",
        r"Folder .*cut.nc cannot be made \(File exists\): choose another output",
    ),
    "output of the evaluation is a file": (
        "evaluate {run} states={states} output={bad}/cut.nc",
        r"Folder .*cut.nc cannot be made \(File exists\): choose another output",
    ),
    "settings differ from the run's": (
        "train {config} output={run} training.learning_rate=0.01",
        r"was trained with training.learning_rate = 0.02, but now it is 0.01: restore the setting to go on, or choose",
    ),
    "setting of the run is gone": (
        "train {config} output={bad}/coefficients",
        r"was trained with data.coefficients.rn_a0 = 0.2, but now it is None: restore the setting",
    ),
    "checkpoint to go on from is damaged": (
        "train {config} output={bad}/damaged",
        r"has no checkpoint that is whole. Checkpoint .*step-0000100: .* does not match its checksum. Restore one, or",
    ),
    "run folder is none": (
        "sample {bad} output={out}/states.nc",
        r"holds no generator.safetensors, expected a run folder: make one with `halocline train`",
    ),
    "checkpoint is cut off": (
        "sample {bad}/short output={out}/states.nc",
        r"Weights .*short/generator.safetensors cannot be read \(\w+\): the file is damaged",
    ),
    "checkpoint has another format": (
        "sample {bad}/newer output={out}/states.nc",
        r"Weights .* have format 99, expected 2: they were written by Halocline 9.9, this is .*; train again or use",
    ),
    "checkpoint lacks entries": (
        "sample {bad}/lacking output={out}/states.nc",
        r"Weights .*lacking/generator.safetensors lack parameters.scale: the file is of another version",
    ),
    "a bit of the weights has changed": (
        "sample {bad}/damaged output={out}/states.nc",
        r"Weights .*damaged/generator.safetensors do not match their checksum: the file is damaged",
    ),
    "weights are of another network": (
        "sample {bad}/wider output={out}/states.nc",
        r"Weights .* have .* of shape .*, expected .*: they are of another network; restore config.yaml of their run",
    ),
    "checkpoint is of another grid": (
        "sample {bad}/mixed output={out}/states.nc",
        r"were trained on grid \w{16}, but .*grid.nc is grid \w{16}: the folder was mixed from two runs",
    ),
    "option is unknown": (SAMPLE + "member=3", r"Unknown key 'member', expected one of .* Did you mean 'members'\?"),
    "setting of the sampler is unknown": (
        SAMPLE + "sampling.step=3",
        r"Unknown key 'sampling.step', expected one of .* Did you mean 'steps'\?",
    ),
    "month is none": (SAMPLE + "months=[1,13]", r"months is \[1, 13\], expected numbers from 1 to 12"),
    "seed is too large": (SAMPLE + "seed=4294967296", r"seed is 4294967296, expected an integer in \[0, 2\^32\)"),
    "parameter is not the run's": (
        SAMPLE + "parameters.viscosity=1",
        r"parameters are \['viscosity'\], expected .* none \(the run was trained without\)",
    ),
    "team has more ranks than the job": (
        SAMPLE + "members=7 ranks_per_member=3",
        rf"ranks_per_member is 3 with \d ranks, {TILES} tiles and 7 members: expected a divisor of the ranks",
    ),
    "folder of the output does not exist": (
        "sample {run} output={out}/none/states.nc",
        r"Folder .*none of the output does not exist or may not be written to: create it or choose another",
    ),
    "output of samples is a folder": (
        "sample {run} output={out}",
        r"Output .* is a folder, expected a file: add its name, such as .*output.nc",
    ),
    "output of samples is the current folder": ("sample {run} output=.", r"Output \. is a folder, expected a file"),
    "output of a restart is a folder": (
        "restart {run} states={states} output={out}",
        r"Output .* is a folder, expected a file: add its name",
    ),
    "calendar is not known": (
        RESTART + "calendar=julian",
        r"calendar is 'julian', expected one of 360_day, noleap, standard",
    ),
    "member is out of range": (RESTART + "member=5", r"member is 5, expected 0 to 4: .*states.nc holds 5 members"),
    "member is negative": (RESTART + "member=-1", r"member is -1, expected 0 to 4"),
    "mask does not fit the example": (
        RESTART + "like={bad}/coast_restart.nc",
        r"coast_restart.nc differs from the grid's tmask in 3 cells, first at level 1, j=6, i=2: name a restart of",
    ),
    "part of the example is missing": (
        RESTART + "like={bad}/parts_0000.nc",
        r"File .*parts_0001.nc does not exist, but parts_0000.nc is one of 2 parts: restore it",
    ),
    "more parts than cells": (RESTART + "per_rank=[20,1]", r"per_rank is 20 x 1, expected 1 to 19 ranks along i"),
    "velocity is not known": (
        RESTART + "velocity=none",
        r"velocity is 'none', expected one of generated, balanced, geostrophic, rest",
    ),
    "sea level is not known": (
        RESTART + "sea_level=flat",
        r"sea_level is 'flat', expected one of generated, mean-free, rest",
    ),
    "states do not exist": (EVALUATE + "states={bad}/nothing.nc", r"File .*nothing.nc does not exist"),
    "reference lacks the months": (
        EVALUATE + "states={bad}/january.nc",
        r"generated states stand at months \[1\], the reference at \[2, 4, 6, 8, 10, 12\]: sample with months=",
    ),
}


@pytest.fixture(scope="module")
def places(trained: Case, states: Path, tmp_path_factory) -> dict[str, Path]:
    """What the commands name: good input, bad input, and an empty folder for output."""
    bad, out = tmp_path_factory.mktemp("bad"), tmp_path_factory.mktemp("out")
    spoil(bad, trained)
    return {"config": trained.config, "run": trained.run, "states": states, "bad": bad, "out": out}


def spoil(bad: Path, case: Case) -> None:
    """Makes one file or folder for each way to be wrong."""
    good = seasonal_states(case.grid)
    write_output(bad / "no_v.nc", {name: x for name, x in good.items() if name != "velocity_v"})
    write_output(bad / "kelvin.nc", good, temperature="K")
    write_output(bad / "warm.nc", {**good, "temperature": good["temperature"] + 273.15})
    write_output(bad / "narrow.nc", {name: x[..., :-1] for name, x in good.items()})
    hole = good["salinity"].copy()
    hole[5, 1, 9, 2] = np.nan
    write_output(bad / "hole.nc", {**good, "salinity": hole})
    shutil.copy(case.folder / "data" / "states.nc", bad / "cut.nc")
    truncate(bad / "cut.nc")
    other = shallower(case.grid)
    write_mesh_mask(bad / "coast.nc", other)
    state = {name: x[0] for name, x in good.items()}
    write_restart(bad / "coast_restart.nc", state, other)
    _, part = write_restart(bad / "parts.nc", state, case.grid, per_rank=(2, 1))
    part.unlink()
    write_states(bad / "january.nc", {name: x[:1] for name, x in good.items()}, case.grid, months=[1])
    misspelt = {**CONFIG, "network": {"widht": 8}}
    (bad / "unknown_key.yaml").write_text(yaml.safe_dump(misspelt))
    spoil_runs(bad, case, other)


def spoil_runs(bad: Path, case: Case, other: Grid) -> None:
    """Makes run folders that are none."""
    for name in ("short", "damaged", "newer", "mixed", "coefficients", "lacking", "wider"):
        shutil.copytree(case.run, bad / name)
    truncate(bad / "short" / WEIGHTS)
    for path in (bad / "damaged" / WEIGHTS, *(bad / "damaged").rglob("averages-*")):
        raw = bytearray(path.read_bytes())
        raw[-len(raw) // 4] ^= 1  # one bit of a weight
        path.write_bytes(raw)
    change_header(bad / "newer", format="99", version="9.9")
    config = yaml.safe_load((case.run / "config.yaml").read_text())
    config["data"]["coefficients"] = {"rn_a0": 0.2}
    tensors = safetensors.torch.load_file(bad / "lacking" / WEIGHTS)
    del tensors["parameters.scale"]
    header = {k: v for k, v in load_content(case.run).items() if k != "tensors"} | {"step": "1"}
    safetensors.torch.save_file(tensors, bad / "lacking" / WEIGHTS, header)
    change_manifest(bad / "coefficients", config=yaml.safe_dump(config))
    wider = yaml.safe_load((case.run / "config.yaml").read_text())
    wider["network"]["width"] = 16
    change_header(bad / "wider", config=yaml.safe_dump(wider))
    save_grid(other, bad / "mixed" / "grid.nc")


def shallower(grid: Grid) -> Grid:
    """The same basin with one column of one level: as if of another configuration."""
    levels = grid.tmask.sum(axis=0)
    levels[6, 2] = 1
    return box_grid(*grid.shape, levels=levels)


def truncate(path: Path) -> None:
    """Leaves two thirds of a file, as a copy that was broken off does."""
    raw = path.read_bytes()
    path.write_bytes(raw[: 2 * len(raw) // 3])


def change_manifest(run: Path, **values: object) -> None:
    """Replaces entries of what the last checkpoint says of itself."""
    checkpoint = find_checkpoint(run, "last")
    write_manifest(checkpoint.folder, checkpoint.manifest | values)


def arguments(mistake: str, places: dict[str, Path]) -> list[str]:
    return MISTAKES[mistake][0].format(**places).split()


def contents(places: dict[str, Path]) -> dict[Path, bytes]:
    """Every file that a command could spoil."""
    folders = (places["bad"], places["out"], places["run"])
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def on_two_ranks(places, mpirun) -> dict[str, list[Result]]:
    """How each mistake ends on each of two ranks, and that none left or changed a file."""
    before = contents(places)
    status, output = mpirun(2, *several([arguments(m, places) for m in MISTAKES]), cwd=places["bad"], limit=90)
    assert status == 0, output[-5000:]
    assert contents(places) == before
    return dict(zip(MISTAKES, told(output), strict=True))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_ends_with_a_sentence_and_no_file(mistake: str, places):
    before = contents(places)
    result = here(*arguments(mistake, places))
    assert result.status == 1
    assert re.search(MISTAKES[mistake][1], result.sentence), result.sentence
    assert not re.search(r"(training|sampling): \d", result.out), "found only after the work was done"
    assert contents(places) == before


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_ends_all_ranks_and_one_of_them_speaks(mistake: str, on_two_ranks):
    root, other = on_two_ranks[mistake]
    assert (root.status, other.status) == (1, 1)
    assert re.search(MISTAKES[mistake][1], root.sentence), root.sentence
    assert other.err == ""


def test_launch_with_a_mistake_ends_within_seconds_and_not_with_zero(places, mpirun):
    """The whole way once, with the launcher's eyes."""
    words = arguments("member is out of range", places)
    status, output = mpirun(2, *command(*words), cwd=places["bad"], limit=30)
    assert status == 1
    assert output.count("halocline: error: member is 5, expected 0 to 4") == 1
    assert "Traceback" not in output


def test_more_ranks_than_windows_are_refused(fresh: Case, mpirun, tmp_path):
    run = tmp_path / "run"
    assert here("train", fresh.config, f"output={run}", "lattice.tile=[16,20]", "training.steps=1").status == 0
    commands = [
        ["sample", run, "members=1", f"output={tmp_path / 'states.nc'}"],
        ["train", fresh.config, f"output={tmp_path / 'other'}", "training.batch=1"],
    ]
    status, output = mpirun(2, *several(commands), cwd=tmp_path, limit=30)
    assert status == 0, output
    (sampling, silent), (training, _) = told(output)
    assert "2 ranks for 1 tiles and 1 members: no division leaves work for every rank; start at" in sampling.sentence
    assert "training.batch is 1 on 2 ranks in 1 parts each, expected at least 2, one window" in training.sentence
    assert silent.err == "" and [path.name for path in tmp_path.iterdir()] == ["run"]


def limit(size: int) -> Callable[[], None]:
    """What a process must do before to be unable to write more bytes to a file."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def cramped(tmp_path) -> Iterator[Callable[[int], Callable[[], None] | None]]:
    """Fills the disk of tmp_path but for some bytes; a limit on files where it cannot be a disk of its own."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield limit
        return

    def fill(left: int) -> None:
        (tmp_path / "filling").write_bytes(bytes(shutil.disk_usage(tmp_path).free - left))

    yield fill
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("job", "name", "left"),
    [
        ("train {config} output={folder} training.steps=102", "weights-0001-of-0001.safetensors", 2**16),
        ("sample {run} members=60 output={folder}/states.nc", "states.nc", 2**16),
    ],
)
def test_full_disk_ends_with_a_sentence_and_the_old_file(job, name, left, places, cramped, tmp_path):
    shutil.copytree(places["run"], tmp_path, dirs_exist_ok=True)  # for the training, to go on from
    old = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / name).write_bytes(old)
    before = cramped(left)
    result = alone(*command(*job.format(folder=tmp_path, **places).split()), before=before)
    assert result.status == 1, result.err
    expected = rf"Cannot write .*{name} \(.*\): \d+ bytes.* were written, \d+ are free in .*; .*or choose another"
    assert re.search(expected, result.sentence), result.sentence
    assert (tmp_path / name).read_bytes() == old
    assert not list(tmp_path.glob(".*"))


def test_restart_beyond_the_limit_of_file_sizes_ends_with_a_sentence_and_no_file(places, tmp_path):
    words = ("restart", places["run"], f"states={places['states']}", f"output={tmp_path / 'restart.nc'}")
    result = alone(*command(*words), before=limit(2**14))
    assert result.status == 1, result.err
    assert re.search(r"Cannot write .*restart.nc \(File too large\): 16384 bytes .*or choose another", result.sentence)
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_ends_all_ranks_and_leaves_the_last_checkpoint(places, mpirun, tmp_path):
    run = tmp_path / "run"
    words = ("train", places["config"], f"output={run}", "training.checkpoint_minutes=2.5")
    # A step takes a minute, so that a checkpoint falls behind step 3; that of step 6 finds no space.
    status, output = mpirun(2, *accident("train-full", 0, 5, *words), cwd=tmp_path, limit=30)
    assert status == 1, output
    assert output.count("halocline: error: Cannot write") == output.count("halocline: error") == 1, output
    assert last_step(run) == 3
    assert not list(run.glob(".*"))


def test_job_ends_within_seconds_when_a_rank_is_killed_while_sampling(places, mpirun, tmp_path):
    path = tmp_path / "states.nc"
    words = ("sample", places["run"], f"output={path}")
    status, output = mpirun(2, *accident("sample-kill", 1, 3, *words), cwd=tmp_path, limit=30)
    assert status != 0, output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", ["sample", "train"])
def test_error_of_one_rank_ends_the_job_with_one_sentence(job: str, places, mpirun, tmp_path):
    words = {
        "sample": ("sample", places["run"], f"output={tmp_path / 'states.nc'}"),
        "train": ("train", places["config"], f"output={tmp_path / 'run'}"),
    }[job]
    status, output = mpirun(2, *accident(f"{job}-raise", 1, 3, *words), cwd=tmp_path, limit=30)
    assert status == 1, output
    assert output.count("halocline: error") == 1, output
    assert "halocline: error (rank 1): The disk of this node is gone." in output
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.part"))


def test_mistake_of_ours_is_told_once_from_where_it_happened(places, mpirun, tmp_path):
    words = ("train", places["config"], f"output={tmp_path / 'run'}")
    status, output = mpirun(3, *accident("train-mistake", 1, 2, *words), cwd=tmp_path, limit=30)
    assert status == 1, output
    assert output.count("Traceback") == 1, output
    assert "KeyError: 'a name nobody knows'" in output


DIVERGED = [(float("nan"), "nan"), (412.0, "412"), (50.1, "50.1"), (-5.1, "-5.1")]


@pytest.mark.parametrize(("value", "told"), DIVERGED)
def test_member_that_diverged_is_refused_before_anything_is_written(value, told, places, tmp_path, monkeypatch):
    monkeypatch.setattr(Standardisation, "inverse", spoiling(value))
    result = here("sample", places["run"], "members=3", f"output={tmp_path / 'states.nc'}")
    assert result.status == 1
    expected = f"Member 2 diverged: temperature level 1 is {told} degC at j=9, i=10, expected -5 to 50: take more"
    assert expected in result.sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("team", [1, 2])
def test_member_that_diverged_ends_all_ranks_of_all_teams(team: int, places, mpirun, tmp_path):
    words = ("sample", places["run"], "members=4", f"ranks_per_member={team}", f"output={tmp_path / 'states.nc'}")
    status, output = mpirun(2, *accident("sample-nan", 1, 2, *words), cwd=tmp_path, limit=30)
    assert status == 1, output
    member = 1 if team == 1 else 0  # the first of rank 1, or of both
    assert output.count(f"halocline: error: Member {member} diverged: ") == output.count("halocline: error") == 1
    assert " is nan " in output and "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


def test_excursion_by_less_than_a_thousandth_of_the_bounds_is_cut_off(places, tmp_path, monkeypatch):
    monkeypatch.setattr(Standardisation, "inverse", spoiling(50.05))
    path = tmp_path / "states.nc"
    result = here("sample", places["run"], "members=3", f"output={path}", "convection=false")
    assert result.status == 0, result.err
    assert read_member(path, 2)["temperature"][1, 9, 10] == 50


def spoiling(value: float) -> Callable[..., torch.Tensor]:
    """`Standardisation.inverse` that leaves a value in one cell of the last member, in the tile of row 1, column 1."""
    inverse = Standardisation.inverse

    def spoilt(standardisation: Standardisation, x: torch.Tensor) -> torch.Tensor:
        x = inverse(standardisation, x)
        x[-1, 3, 1, 9 - TILE[0], 10 - TILE[1]] = value
        return x

    return spoilt


def test_ice_may_pass_the_bound_at_which_it_lies_by_a_standard_deviation():
    assert allowance(VARIABLES["thickness"], 0.3) == allowance(VARIABLES["concentration"], 0.3) == 0.3
    assert allowance(VARIABLES["temperature"], 5.0) == pytest.approx(0.055)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("train", ("CONFIG", "data.states=FILES", "any key of the file")),
        ("sample", ("RUN", "months=", "euler, heun, multistep, ddim or ancestral")),
        ("evaluate", ("RUN", "reference=FILES", "report.png", "table.json")),
        ("restart", ("RUN", "per_rank=[I,J]", "like=RESTART", "noleap")),
    ],
)
def test_help_names_options(job: str, words: tuple[str, ...]):
    result = here(job, "--help")
    assert (result.status, result.err) == (0, "")
    for word in words:
        assert word in result.out, word


OPTIONS = {
    "train": (RunConfig,), "sample": (SampleOptions,), "forecast": (ForecastOptions,), "restart": (RestartOptions,),
    "evaluate": (EvaluateOptions, ForecastEvaluation),  # of states, and of forecasts
    "calibrate": (CalibrationOptions,),
}  # fmt: skip
LISTS = {"months=[1,…,12]": "months=[1,2,3,4,5,6,7,8,9,10,11,12]"}


@pytest.mark.parametrize("job", OPTIONS)
def test_help_tells_the_default_of_each_option_and_which_are_required(job: str):
    listed = options_of(here(job, "--help").out)
    assert len(listed) > 2
    for name, (value, required) in listed.items():
        default = default_of(next(kind for kind in OPTIONS[job] if knows(kind, name)), name)
        assert required == (default is MISSING), name
        if not value.isupper():  # FILE, [I,J]: whatever the user has
            assert yaml.safe_load(value) == (list(default) if isinstance(default, tuple) else default), name
    for kind in OPTIONS[job]:
        top = [f.name for f in fields(kind)]
        assert {name for name in top if default_of(kind, name) is MISSING and name not in SECTIONS} <= set(listed)


def knows(kind: type, name: str) -> bool:
    """Whether an option is one of these."""
    return name.partition(".")[0] in {f.name for f in fields(kind)}


def options_of(text: str) -> dict[str, tuple[str, bool]]:
    """Reads a help text: option to its value and whether it is marked as required."""
    for short, long in LISTS.items():
        text = text.replace(short, long)
    entries = re.findall(r"^ +([a-z_.]+)=(\S+)(.*(?:\n {20,}.*)*)", text, re.MULTILINE)
    return {name: (value, "(required)" in rest) for name, value, rest in entries}


SECTIONS = {"sampling": SamplingConfig, "data": DataConfig, "lattice": LatticeConfig}


def default_of(kind: type, name: str) -> object:
    """Default of an option; MISSING where it has none."""
    section, dot, rest = name.partition(".")
    field = next(f for f in fields(kind) if f.name == section)
    if dot:
        inner = SECTIONS.get(section) or field.default_factory
        return default_of(inner, rest)
    return field.default if field.default_factory is MISSING else field.default_factory()
