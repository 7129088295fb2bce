"""What goes wrong ends the job in time, with a code that is not 0 and a sentence, or as the user has chosen."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from basin_jobs import STEPS, Job, assert_same_bits, finish

LONG = {"nn_steps": 0, "nn_years": 10_000, "nn_diag_steps": 0, "nn_progress_years": 0}
SWAPPED = {"nn_nx": 23, "nn_ny": 17}
IN_PROCESS = Job("inside", "in_process", (2, 1))
BESIDE = Job("beside", "mpmd", (2, 1), emulators=1)
BOTH = pytest.mark.parametrize("job", [IN_PROCESS, BESIDE], ids=["in_process", "mpmd"])


@BOTH
def test_another_grid_is_refused_with_all_differences(job, run):
    done = run(Job(job.name, job.mode, job.ranks, job.emulators, grid=SWAPPED))
    assert done.status == 84, done.output
    assert "Grid along i: the model has 23 cells, the generator 17: i and j are swapped." in done.output
    assert "Grid along j: the model has 17 cells, the generator 23: i and j are swapped." in done.output
    assert not list(done.folder.glob("*_restart.nc"))


def test_other_land_is_refused(run):
    done = run(Job("land", "in_process", grid={"nn_topography": 0}))
    assert done.status == 84, done.output
    assert re.search(r"Mask of rank 0: \d+ cells differ from tmask of the generator's grid, first at", done.output)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (Job("inside", "mpmd"), "says mode: mpmd, but no rank of this job runs `halocline serve`"),
        (Job("beside", "in_process", emulators=1), "but ranks of this job run `halocline serve`: write mode: mpmd"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_configuration_of_the_other_mode_is_refused(job, sentence, run):
    done = run(job)
    assert done.status == 82, done.output
    assert sentence in done.output


@BOTH
def test_exception_in_python_ends_the_job(job, run):
    """The folder for the log cannot be made: its name is taken by a file."""
    done = run(Job(job.name, job.mode, job.ranks, job.emulators, bridge={"output": "namelist"}))
    assert done.status == 83, done.output
    assert re.search(r"basin: .*namelist", done.output), done.output
    assert "Traceback" not in done.output


@BOTH
def test_ocean_goes_on_alone_if_the_user_prefers_that(job, run):
    bridge = {"output": "namelist", "on_fault": "continue"}
    done = run(Job(job.name, job.mode, job.ranks, job.emulators, bridge=bridge))
    assert done.status == 0, done.output
    assert "The model goes on alone (on_fault: continue)" in done.output
    assert_same_bits(done.restart(), run(Job("rest")).restart())  # it fell back on cn_start


@BOTH
def test_killed_ocean_rank_ends_the_job(job, begin, tmp_path):
    run = begin(Job(job.name, job.mode, job.ranks, job.emulators, run=LONG))
    os.kill(ranks_of(run.pid, "basin.x", tmp_path / job.name)[-1], signal.SIGKILL)
    done = finish(tmp_path / job.name, run, 20)
    assert done.status not in (0, 3), done.output
    assert not list(done.folder.glob("*_restart.nc"))


@pytest.mark.parametrize("lag", [0, 2])
def test_sleeping_emulator_ends_the_job_within_the_deadline(lag, begin, tmp_path):
    bridge = {"deadline": 3, "observe": {"lag": lag}}
    run = begin(Job("asleep", "mpmd", emulators=1, run=LONG, bridge=bridge))
    asleep = ranks_of(run.pid, "python", tmp_path / "asleep")[-1]
    os.kill(asleep, signal.SIGSTOP)
    try:
        done = finish(tmp_path / "asleep", run, 3 + 15)
    finally:
        wake(asleep)
    assert done.status == 86, done.output
    assert re.search(r"basin: .*observe.* within 3 s", done.output), done.output


def test_ocean_that_blows_up_ends_the_emulator_with_it(run):
    done = run(Job("blown", "mpmd", (2, 1), emulators=1, forcing={"rn_wind": 1e6}, bridge={"observe": {"every": 50}}))
    assert done.status == 1, done.output
    assert done.output.count("The ocean blew up at step") == 1, done.output


def ranks_of(launcher: int, name: str, folder: Path, limit: float = 40) -> list[int]:
    """Waits until a run has been judged for some steps; returns the processes of one program, in the order of ranks."""
    log, over = folder / "halocline/verdicts.log", time.monotonic() + limit
    while not log.exists() or sum(line[:1].isdigit() for line in log.read_text().splitlines()) <= STEPS:
        assert time.monotonic() < over, f"{log} has no verdicts after {limit} s"
        time.sleep(0.1)
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    found = [int(child) for child in children if name in Path(f"/proc/{child}/cmdline").read_text().split("\0")[0]]
    assert found
    return found


def wake(process: int) -> None:
    """Lets a process that sleeps die, if it is still there."""
    try:
        os.kill(process, signal.SIGCONT)
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass
