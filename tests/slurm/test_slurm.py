"""The batch scripts of jobs/slurm, submitted to a real Slurm."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
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


def test_task_that_leaves_with_a_code_ends_the_others(slurm: PrivateSlurm, tmp_path: Path):
    """Also where MPI does not notice: these tasks never call it."""
    words = ("--ntasks=2", SCRIPTS / "in_model.sbatch", "/bin/bash", "-c")
    job = slurm.run(*words, "[ $SLURM_PROCID = 1 ] && exit 7; exec sleep 600", cwd=tmp_path, limit=30)
    assert job.status != 0, job.output


@pytest.mark.parametrize("mode", ["in_process", "mpmd"])
def test_exception_in_python_is_the_exit_code_of_the_job(slurm: PrivateSlurm, case: Case, tmp_path: Path, mode: str):
    """The folder for the log cannot be made: its name is taken by a file."""
    number = coupled(slurm, case, tmp_path / "run", mode, bridge={"output": "namelist"})
    job = slurm.wait(number, tmp_path / "run", 60)
    assert job.status == 83, job.output
    assert "namelist" in job.output


def test_tasks_have_cores_of_their_own_and_a_thread_for_each(binding_slurm: PrivateSlurm, tmp_path: Path):
    """Even where the job is submitted without an environment, and from another folder."""
    rank = "echo $SLURM_PROCID: $(grep Cpus_allowed_list /proc/self/status) $OMP_NUM_THREADS threads"
    words = ("--export=NONE", SCRIPTS / "in_model.sbatch", "/bin/bash", "-c", rank)
    two = binding_slurm.run("--ntasks=2", "--cpus-per-task=1", *words, cwd=tmp_path)
    assert two.status == 0, two.output
    cores = re.findall(r"^[01]: Cpus_allowed_list:\s(\d+) 1 threads$", two.output, re.MULTILINE)
    assert len(set(cores)) == 2, two.output
    one = binding_slurm.run("--ntasks=1", "--cpus-per-task=2", *words, cwd=tmp_path)
    assert re.search(r"^0: Cpus_allowed_list:\s(\d+)[-,](\d+) 2 threads$", one.output, re.MULTILINE), one.output


def test_arguments_of_both_programs_may_hold_blanks_and_quotes(slurm: PrivateSlurm, tmp_path: Path):
    """A stand-in for the environment, in which `halocline` tells its arguments, as the model does."""
    for program in (tmp_path / "my model", tmp_path / "bin/halocline"):
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\nprintf '[%s]' \"$SLURM_PROCID\" \"$@\" && echo\n")
        program.chmod(0o755)
    (tmp_path / "my bridge.yaml").touch()
    words = (SCRIPTS / "serve_and_model.sbatch", 1, "my bridge.yaml", "./my model", "it's $HOME", 'a"b', "a\\b")
    job = slurm.run("--ntasks=2", *words, cwd=tmp_path, HALOCLINE_ENVIRONMENT=str(tmp_path))
    assert job.status == 0, job.output
    assert "[0][it's $HOME][a\"b][a\\b]" in job.output
    assert "[1][serve][my bridge.yaml]" in job.output
    assert not list(tmp_path.glob("programs.*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("serve_and_model", 3, "none.yaml", "basin.x"), "'3' tasks of the model in a job of 3: leave at least one"),
        (("serve_and_model", 2, "none.yaml", "basin.x"), "the configuration none.yaml cannot be read"),
        (("in_model", "./none.x"), "the model './none.x' is not a program: give its path."),
        (("generate",), "expected a run folder and options"),
        (("train",), "expected a configuration and options"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_script_without_what_it_needs_says_so(slurm: PrivateSlurm, tmp_path: Path, words: tuple, sentence: str):
    name, *arguments = words
    job = slurm.run(next(SCRIPTS.parent.rglob(f"{name}.sbatch")), *arguments, cwd=tmp_path)
    assert (job.status, sentence in job.output) == (2, True), job.output


@pytest.mark.parametrize("name", ["slurm/in_model.sbatch", "train.sbatch"])
def test_script_far_from_its_folder_says_what_is_missing(slurm: PrivateSlurm, tmp_path: Path, name: str):
    script = shutil.copy(SCRIPTS.parent / name, tmp_path)
    job = slurm.run(script, "true", cwd=tmp_path)
    assert (job.status, "common.sh is missing" in job.output) == (2, True), job.output
