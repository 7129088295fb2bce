"""The study that kills trainings: it comes to its verdict, and finds what it looks for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

import kill_training

STUDY = Path(kill_training.__file__).with_suffix("")
STEPS = 3


def test_killed_trainings_end_where_an_undisturbed_one_does(tmp_path: Path):
    command = [STUDY, "--ranks=2", "--kills=1", "--one-rank", "--steps=60", f"--folder={tmp_path}/study"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 0: equal to the undisturbed training, bit for bit" in done.stdout


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two run folders that are equal but for the time that steps took."""
    for name, time in (("run", 1), ("reference", 2)):
        checkpoint = tmp_path / name / f"checkpoints/step-{STEPS:07d}"
        checkpoint.mkdir(parents=True)
        for path in (checkpoint / "weights.safetensors", tmp_path / name / "generator.safetensors"):
            safetensors.torch.save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(())}, path)
        rows = [f"{step},{1 / step:.6g},{time}" for step in range(1, STEPS + 1)]
        write_rows(tmp_path / name / "training.csv", ["step,loss,waited", *rows])
    return tmp_path / "run", tmp_path / "reference"


def write_rows(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join(rows) + "\n")


def test_equal_runs_differ_in_nothing(runs: tuple[Path, Path]):
    assert list(kill_training.differences(*runs, STEPS)) == []


@pytest.mark.parametrize("file", ["generator.safetensors", "checkpoints/step-0000003/weights.safetensors"])
def test_sign_of_a_zero_is_a_difference(runs: tuple[Path, Path], file: str):
    tensors = safetensors.torch.load_file(runs[0] / file)
    safetensors.torch.save_file({**tensors, "b": -torch.zeros(())}, runs[0] / file)
    place = file.removesuffix("/weights.safetensors")
    assert list(kill_training.differences(*runs, STEPS)) == [f"{place}: other tensors"]


@pytest.mark.parametrize("change", ["row twice", "row lost", "row lost in both", "other loss"])
def test_step_that_is_lost_repeated_or_other_is_a_difference(runs: tuple[Path, Path], change: str):
    table = runs[0] / "training.csv"
    rows = table.read_text().splitlines()
    changed = {"row twice": [*rows, rows[-1]], "other loss": [*rows[:-1], rows[-1].replace("0.333333", "0.333334")]}
    write_rows(table, changed.get(change, [*rows[:2], rows[3]]))
    if change == "row lost in both":
        shutil.copy(table, runs[1])
    assert list(kill_training.differences(*runs, STEPS))


def test_moments_are_those_of_the_seed_and_within_the_training():
    kills = kill_training.draw(5, 50, 200, 3)
    assert kills == kill_training.draw(5, 50, 200, 3) != kill_training.draw(6, 50, 200, 3)
    assert {kill.moment for kill in kills} == set(kill_training.MOMENTS) and {kill.rank for kill in kills} == {0, 1, 2}
    assert all(0 < kill.step < 200 and 0 <= kill.wait < 1 for kill in kills)
