"""jobs/train.sbatch: a training that the queue interrupts goes back into it, one that has ended or failed does not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
from basin_jobs import Case
from private_slurm import PrivateSlurm, until

SCRIPT = Path(__file__).parents[2] / "jobs/train.sbatch"
STEPS = 250
TOLD, KILLED_BY_USR1 = 75, 128 + signal.SIGUSR1
INTERRUPTED = """
[ ${SLURM_RESTART_COUNT:-0} = 0 ] || exit 0
trap 'exit 75' USR1
while :; do sleep 0.1; done  # the signal ends sleep, too
"""

Submit = Callable[..., int]


@pytest.fixture(scope="module")
def stand_in(slurm: PrivateSlurm, tmp_path_factory: pytest.TempPathFactory) -> Submit:
    """Submits jobs in which `halocline train TEXT` is what the shell makes of the text."""
    program = tmp_path_factory.mktemp("environment") / "bin/halocline"
    program.parent.mkdir()
    program.write_text('#!/bin/bash\neval "$2"\n')
    program.chmod(0o755)
    environment = {"HALOCLINE_ENVIRONMENT": str(program.parent.parent)}
    return lambda text, *options, cwd, **keys: slurm.submit(*options, SCRIPT, text, cwd=cwd, **environment, **keys)


@pytest.fixture(scope="module", autouse=True)
def limited(stand_in: Submit, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """A job told after half a minute that its time is over, and its folder; submitted first, since that takes long.

    Slurm looks at its clock twice a minute and sends the signal of the script up to 30 seconds early, to the steps that
    there are: that of a job with one minute may come before there is a step to be told.
    """
    folder = tmp_path_factory.mktemp("limited")
    return stand_in(INTERRUPTED, "--time=3", cwd=folder), folder


def training(case: Case, run: Path, steps: int) -> tuple[object, ...]:
    """Words behind sbatch: two nodes train on the store that the case has."""
    keys = (f"data.store={case.generator}/data.zarr", f"training.steps={steps}", f"output={run}")
    return "--nodes=2", "--ntasks-per-node=1", SCRIPT, case.generator.parent / "training.yaml", *keys


def last_step(run: Path) -> int:
    """Step of a training that is under way, 0 before the first; its table is at most a second behind."""
    return max(steps_in_table(run), default=0)


def steps_in_table(run: Path) -> list[int]:
    """First column of training.csv; empty before it is there."""
    table = run / "training.csv"
    lines = table.read_text().splitlines()[1:] if table.exists() else []
    return [int(line.partition(",")[0]) for line in lines if "," in line]


def checkpoints(run: Path) -> list[str]:
    """Names of the checkpoints, the first first."""
    return sorted(folder.name for folder in run.glob("checkpoints/step-*"))


def assert_same_weights(run: Path, other: Path) -> None:
    """The generators are equal to the last bit."""
    a, b = (safetensors.torch.load_file(folder / "generator.safetensors") for folder in (run, other))
    assert a.keys() == b.keys() and all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


def test_interrupted_training_on_two_nodes_goes_on_by_itself_to_the_same_bits(
    slurm: PrivateSlurm, case: Case, tmp_path: Path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    numbers = [slurm.submit(*training(case, run, STEPS), cwd=tmp_path) for run in (parts, whole)]
    assert until(lambda: last_step(parts), 60), slurm.describe(numbers[0])
    slurm.call("scancel", "--signal=USR1", numbers[0])  # as Slurm does before the time is over
    jobs = [slurm.wait(number, tmp_path, 90) for number in numbers]
    assert [job.status for job in jobs] == [0, 0], jobs
    assert [slurm.value(number, "Restarts") for number in numbers] == ["1", "0"]
    assert jobs[0].output.count(f"of {STEPS}: the same command goes on from there") == 1, jobs[0].output
    assert steps_in_table(parts) == steps_in_table(whole) == list(range(1, STEPS + 1))
    assert_same_weights(parts, whole)


def test_job_with_a_dead_task_ends_and_is_not_queued_again(slurm: PrivateSlurm, case: Case, tmp_path: Path):
    run = tmp_path / "run"
    number = slurm.submit(*training(case, run, 100000), cwd=tmp_path)
    assert until(lambda: last_step(run), 60), slurm.describe(number)
    os.kill(slurm.tasks(number)[1], signal.SIGKILL)
    killed = time.monotonic()
    job = slurm.wait(number, tmp_path, 90)
    assert job.status not in (0, TOLD), job.output
    assert slurm.value(number, "Restarts") == "0"
    assert time.monotonic() - killed < 60  # srun waits 30 s for a rank that hears nothing of the dead one


def test_interrupted_training_is_queued_only_so_often(stand_in: Submit, slurm: PrivateSlurm, tmp_path: Path):
    """Tasks that listen end one after the other and none is killed; one that does not yet, dies of the signal."""
    statuses = {"sleep $SLURM_PROCID; exit 75": TOLD, "kill -s USR1 $$": KILLED_BY_USR1}
    numbers = {stand_in(text, cwd=tmp_path, HALOCLINE_RESTARTS="1"): status for text, status in statuses.items()}
    for number, status in numbers.items():
        job = slurm.wait(number, tmp_path, 60)
        assert (job.status, slurm.value(number, "Restarts")) == (status, "1"), job.output
        assert "train: queued again 1 times, which is all that HALOCLINE_RESTARTS allows" in job.output


@pytest.mark.parametrize("text", ["exit 0", "exit 1", "exit 82", "kill -s KILL $$"])
def test_training_that_has_ended_or_failed_is_not_queued_again(
    stand_in: Submit, slurm: PrivateSlurm, tmp_path: Path, text: str
):
    number = stand_in(f"[ $SLURM_PROCID = 0 ] || exit 0; {text}", cwd=tmp_path)
    job = slurm.wait(number, tmp_path, 30)
    expected = int(text.split()[-1]) if text.startswith("exit") else 128 + signal.SIGKILL
    assert (job.status, slurm.value(number, "Restarts")) == (expected, "0"), job.output


def test_cancelled_training_is_not_queued_again(stand_in: Submit, slurm: PrivateSlurm, tmp_path: Path):
    """It is told by SIGTERM and ends as an interrupted one does."""
    number = stand_in(f"echo begun; trap 'exit 75' TERM; {INTERRUPTED}", cwd=tmp_path)
    output = tmp_path / f"job-{number}.out"
    assert until(lambda: output.exists() and output.read_text().count("begun") == 2, 20)
    slurm.call("scancel", number)
    slurm.wait(number, tmp_path, 30)
    assert (slurm.state(number), slurm.value(number, "Restarts")) == ("CANCELLED", "0")


def test_settings_of_nccl_are_made_on_gpus_only(stand_in: Submit, slurm: PrivateSlurm, tmp_path: Path):
    text = "echo ${NCCL_DEBUG:-no NCCL}, $OMP_NUM_THREADS threads"
    on_gpus = stand_in(text, "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=2", cwd=tmp_path)
    on_cores = stand_in(text, cwd=tmp_path)
    assert slurm.wait(on_gpus, tmp_path, 30).output.count("WARN, 2 threads\n") == 2
    assert slurm.wait(on_cores, tmp_path, 30).output.count("no NCCL, 1 threads\n") == 2


def test_training_whose_time_is_over_is_told_before_and_queued_again(slurm: PrivateSlurm, limited: tuple[int, Path]):
    number, folder = limited
    job = slurm.wait(number, folder, 90)
    assert (job.status, slurm.value(number, "Restarts")) == (0, "1"), job.output
    assert "train: queued again" in job.output
