"""Wrong input ends the embedded host with one sentence, a code and no half-written file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import pytest
from basin_runs import SECONDS, Run, Runner


def assert_refused(done: Run, *words: str) -> None:
    """Asserts a non-zero code, one sentence of the program with these words, and no output."""
    assert done.code != 0
    sentences = [line for line in done.err.splitlines() if line.startswith("basin: ")]
    assert len(sentences) == 1, done.err
    for word in words:
        assert word in sentences[0]
    assert not (done.folder / "states.nc").exists()
    assert not list(done.folder.glob("*_restart.nc*"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"run": {"rn_dt": 100000.0}}, ["rn_dt must divide a month", "129600"]),
        ({"run": {"nn_yeers": 3}}, ["nn_yeers", "&run"]),
        ({"physics": {"rn_friction": "strong"}}, ["&physics"]),
        ({"grid": {"nn_ny": 80}}, ["nn_ny", "86 N"]),
        ({"run": {"cn_output": "missing"}}, ["missing/mesh_mask.nc"]),
        ({"run": {"cn_start": "missing.nc"}}, ["missing.nc", "opening the restart"]),
        ({"run": {"nn_ranks_i": 3}}, ["nn_ranks_i", "3 x 0", "1 ranks"]),
        ({"halocline": {"ln_generate": True}}, ["ln_generate", "empty cn_config"]),
    ],
)
def test_wrong_setting_is_named(run: Runner, settings: dict[str, dict[str, Any]], words: list[str]) -> None:
    assert_refused(run("wrong", **settings), *words)


@pytest.mark.parametrize(("arguments", "word"), [([], "One namelist file"), (["absent"], "absent was expected")])
def test_missing_namelist_is_named(
    program: Path,
    environment: dict[str, str],
    tmp_path: Path,
    arguments: list[str],
    word: str,
) -> None:
    done = subprocess.run(
        [str(program), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert_refused(Run(tmp_path, done.returncode, done.stdout, done.stderr), word)


def test_help_prints_a_namelist_that_runs(program: Path, run: Runner, tmp_path: Path) -> None:
    text = subprocess.run([str(program), "--help"], capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    assert "rn_avt0" in text and "[m2/s]" in text
    text = text.replace("nn_steps            = 0", "nn_steps            = 1")
    (tmp_path / "help.nml").write_text(text)
    subprocess.run([str(program), "help.nml"], cwd=tmp_path, check=True, timeout=SECONDS)
    assert (tmp_path / "basin_00000001_restart.nc").exists()


def damaged(run: Runner, damage: Callable[[netCDF4.Dataset], None]) -> Path:
    """A restart of the small configuration after some damage."""
    path = run("source", run={"nn_steps": 2}).restart(2)
    with netCDF4.Dataset(path, "a") as file:
        damage(file)
    return path


def put(name: str, value: float) -> Callable[[netCDF4.Dataset], None]:
    """Damage: one value in the middle of the first level."""

    def change(file: netCDF4.Dataset) -> None:
        file[name][(0, 0, 6, 8) if file[name].ndim == 4 else (0, 6, 8)] = value

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (put("tn", float("nan")), ["tn must be finite on wet cells, 1 are not"]),
        (put("sshn", float("inf")), ["sshn must be finite"]),
        (lambda file: file.renameVariable("un", "u"), ["must hold the variable un"]),
    ],
)
def test_damaged_restart_is_refused(run: Runner, damage: Callable[[netCDF4.Dataset], None], words: list[str]) -> None:
    start = {"cn_start": str(damaged(run, damage))}
    assert_refused(run("damaged", run=start, ranks=2), *words)


def test_restart_of_another_grid_is_refused(run: Runner) -> None:
    path = damaged(run, lambda file: None)
    other = run("other", run={"cn_start": str(path)}, grid={"nn_nx": 19})
    assert_refused(other, "tn must have the shape", "19 23 8", "17 23 8")


def test_text_file_as_restart_is_refused(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "notes.nc").write_text("not a netCDF file")
    done = run("text", run={"cn_start": str(tmp_path / "notes.nc")})
    assert_refused(done, "notes.nc")


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (put("tn", 1.0e7), "sea level within 20 m"),
        (put("tn", 90.0), "temperature within -5 and 45 degC"),
    ],
)
def test_blow_up_stops_all_ranks(run: Runner, damage: Callable[[netCDF4.Dataset], None], word: str) -> None:
    start = {"cn_start": str(damaged(run, damage)), "nn_steps": 4}
    assert_refused(run("unstable", run=start, ranks=2), word, "rn_dt")
