"""The batch scripts of jobs/slurm, submitted to a real Slurm."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from basin_jobs import MEMBER, MONTH, SEED, Case, Job, assert_same_bits, read, run, write
from private_slurm import PrivateSlurm, until

SCRIPTS = Path(__file__).parents[2] / "jobs/slurm"
GENERATE = (f"seed={SEED}", f"members={MEMBER + 1}", f"months=[{MONTH}]")
FOR_EVER = {"nn_steps": 0, "nn_years": 100000, "nn_progress_years": 1}


@pytest.fixture(scope="session")
def alone(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Restart of the ocean without Halocline, started from the restart file."""
    done = run(tmp_path_factory.mktemp("alone") / "run", case, Job("run", run={"cn_start": str(case.restart)}))
    assert done.status == 0, done.output
    return done.restart()


def coupled(slurm: PrivateSlurm, case: Case, folder: Path, mode: str, **keys: object) -> int:
    """Submits the ocean on two tasks, with an emulator on a third where it runs beside."""
    write(folder, case, Job("run", mode, (2, 1), **keys))
    words = ("--ntasks=3", SCRIPTS / "serve_and_model.sbatch", 2, "bridge.yaml") if mode == "mpmd" else (
        "--ntasks=2", SCRIPTS / "in_model.sbatch")  # fmt: skip
    return slurm.submit(*words, case.basin, "namelist", cwd=folder, HALOCLINE_START_DEADLINE="60")


@pytest.mark.parametrize("tasks", [1, 2])
def test_states_do_not_depend_on_the_number_of_tasks(slurm: PrivateSlurm, case: Case, tmp_path: Path, tasks: int):
    words = (SCRIPTS / "generate.sbatch", case.generator, *GENERATE, "output=states.nc")
    job = slurm.run(f"--ntasks={tasks}", *words, cwd=tmp_path)
    assert job.status == 0, job.output
    assert_same_bits(read(tmp_path / "states.nc"), read(case.generator.parent / "states.nc"))


def test_training_that_is_queued_again_ends_where_an_undisturbed_one_does(
    slurm: PrivateSlurm, case: Case, tmp_path: Path
):
    config = case.generator.parent / "training.yaml"
    keys = ("training.steps=400", "training.checkpoint_minutes=0.005")
    words = ("--ntasks=1", SCRIPTS / "train.sbatch", config, *keys)
    whole = slurm.run(*words, f"output={tmp_path}/whole", cwd=tmp_path)
    assert whole.status == 0, whole.output
    number = slurm.submit(*words, f"output={tmp_path}/parts", cwd=tmp_path)
    assert until(lambda: (tmp_path / "parts/checkpoint.pt").exists(), 30)
    slurm.call("scontrol", "requeue", number)
    parts = slurm.wait(number, tmp_path, 90)
    assert parts.status == 0, parts.output
    assert slurm.value(number, "Restarts") == "1"
    a, b = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["averaged"] for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("mode", ["in_process", "mpmd"])
def test_model_starts_from_the_same_bits_as_from_the_restart_file(
    slurm: PrivateSlurm, case: Case, alone: dict, tmp_path: Path, mode: str
):
    job = slurm.wait(coupled(slurm, case, tmp_path / "run", mode), tmp_path / "run", 60)
    assert job.status == 0, job.output
    assert_same_bits(read(tmp_path / "run/t_00000006_restart.nc"), alone)


@pytest.mark.parametrize(("mode", "rank"), [("in_process", 1), ("mpmd", 1), ("mpmd", 2)])
def test_killed_task_ends_the_job(slurm: PrivateSlurm, case: Case, tmp_path: Path, mode: str, rank: int):
    folder = tmp_path / "run"
    judged = {"observe": {"every": 20, "on_reject": "continue"}}
    number = coupled(slurm, case, folder, mode, run=FOR_EVER, bridge=judged)
    log = folder / "halocline/verdicts.log"
    assert until(lambda: log.exists() and "\n0001-" in log.read_text(), 40), slurm.describe(number)
    os.kill(slurm.tasks(number)[rank], signal.SIGKILL)
    killed = time.monotonic()
    job = slurm.wait(number, folder, 40)
    assert job.status != 0, job.output
    assert time.monotonic() - killed < 30  # bridge.yaml has a deadline of 30 s


@pytest.mark.parametrize("mode", ["in_process", "mpmd"])
def test_failure_of_the_emulator_is_the_exit_code_of_the_job(
    slurm: PrivateSlurm, case: Case, tmp_path: Path, mode: str
):
    job = slurm.wait(coupled(slurm, case, tmp_path / "run", mode, bridge={"run": "nowhere"}), tmp_path / "run", 60)
    assert job.status == 82, job.output
    assert "nowhere holds no checkpoint.pt" in job.output


def test_script_without_what_it_needs_says_so(slurm: PrivateSlurm, tmp_path: Path):
    job = slurm.run(SCRIPTS / "serve_and_model.sbatch", 3, "none.yaml", "basin.x", cwd=tmp_path)
    assert job.status == 2
    assert "'3' tasks of the model in a job of 3: leave at least one for the emulator." in job.output
