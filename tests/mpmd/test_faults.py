"""Faults of either side, provoked for real: each ends in one message and a non-zero exit of the whole job, in time."""

from typing import Any

import pytest
from conftest import Job

STEPS = 4


def refused(job: Job, do: dict[str, Any], emulators: int = 1, limit: float = 40, lag: int = 0, **keys: Any) -> Any:
    """Runs a model of two ranks with an emulator that does something; returns the job that has ended."""
    job.write({"do": do}, **{"deadline": 20, "observe": {"lag": lag}, **keys})
    return job.run(job.model(2, px=2, generate=1, steps=STEPS), job.emulator(emulators), limit=limit)


@pytest.mark.parametrize(("emulators", "rank", "lag"), [(1, None, 0), (2, 1, 0), (2, None, 2)])
def test_exception_in_the_emulator_becomes_the_status_of_the_model(
    job: Job, emulators: int, rank: int | None, lag: int
) -> None:
    done = refused(job, {"at": 2, "what": "raise", "rank": rank}, emulators, lag=lag)
    assert done.status == 83
    assert "halocline: rank 0: KeyError: 'the emulator has raised' (emulator rank" in done.output
    assert "observe, step 2; traceback in" in done.output
    assert "Traceback (most recent call last)" in (job.folder / f"out/traceback_rank_000{rank or 0}.txt").read_text()


def test_emulator_that_fails_while_it_sends_a_state_does_not_keep_the_model_waiting(job: Job) -> None:
    done = refused(job, {"at": "send"}, emulators=2, deadline=200, limit=40)
    assert done.status == 83
    assert "halocline: rank 0: could not broadcast" in done.output


def test_exit_inside_the_emulator_is_no_success(job: Job) -> None:
    done = refused(job, {"at": 2, "what": "exit"})
    assert done.status == 83
    assert "halocline: rank 0: SystemExit: 0" in done.output


def test_exception_while_the_emulator_starts_reaches_the_model(job: Job) -> None:
    done = refused(job, {"at": "build", "what": "raise", "rank": 0})
    assert done.status == 82
    assert "halocline: rank 0: KeyError: 'the emulator has raised' (emulator rank 0, start; traceback in" in done.output


@pytest.mark.parametrize(("emulators", "at", "lag"), [(1, 2, 0), (2, "generate", 1)])
def test_model_goes_on_alone_after_an_exception_if_the_user_wants(job: Job, emulators: int, at: Any, lag: int) -> None:
    done = refused(job, {"at": at, "what": "raise"}, emulators, lag=lag, on_fault="continue")
    assert done.status == 0, done.output
    assert done.output.count("done") == 2
    assert done.output.count("the emulator has raised") >= 2
    assert "observe 4: level 3 action 0 step -1:" in done.output


def test_model_goes_on_alone_when_the_emulator_is_late(job: Job) -> None:
    done = refused(job, {"at": 2, "what": "sleep", "seconds": 4}, deadline=3, on_fault="continue")
    assert done.status == 0, done.output
    assert "No answer from the emulator" in done.output
    assert "The model has failed: No answer from the emulator" in done.output


def test_stuck_emulator_ends_a_job_whose_model_went_on_alone(job: Job) -> None:
    done = refused(job, {"at": 2, "what": "sleep"}, deadline=2, on_fault="continue", limit=30)
    assert done.status == 86
    assert "observe 4: level 3 action 0 step -1:" in done.output
    assert "The model has ended, but emulator ranks do not" in done.output


def test_emulator_that_sleeps_past_the_deadline_is_named(job: Job) -> None:
    done = refused(job, {"at": 2, "what": "sleep"}, 2, deadline=3, limit=20)
    assert done.status == 86
    assert "(rank 2 of all programs) to halocline_observe, step 2, within 3 s" in done.output


@pytest.mark.parametrize(("rank", "emulators"), [(0, 1), (1, 2)])
def test_killed_emulator_rank_ends_the_job(job: Job, rank: int, emulators: int) -> None:
    done = refused(job, {"at": 2, "what": "SIGKILL", "rank": rank}, emulators, limit=20)
    assert done.status == 137


def test_killed_model_rank_ends_the_job(job: Job) -> None:
    job.write()
    done = job.run(job.model(2, px=2, steps=STEPS, kill=2, who=1), job.emulator(1), limit=20)
    assert done.status == 137


def test_terminated_emulator_says_so_and_ends_the_job(job: Job) -> None:
    done = refused(job, {"at": 2, "what": "SIGTERM"}, limit=20)
    assert done.status == 143
    assert "halocline serve: ended by SIGTERM during observe, step 2." in done.output


@pytest.mark.parametrize("what", ["leave", "finish"])
def test_early_clean_exit_of_the_emulator_is_detected(job: Job, what: str) -> None:
    """It ends its process, or also finalises MPI before; both with 0."""
    done = refused(job, {"at": 2, "what": what}, deadline=4, limit=30)
    assert done.status not in (0, 9)


def test_model_that_leaves_without_finalize_ends_the_job(job: Job) -> None:
    job.write()
    done = job.run(job.model(2, px=2, steps=STEPS, leave=2), job.emulator(1), limit=20)
    assert done.status == 81
    assert "without halocline_finalize" in done.output


def test_model_that_never_calls_init_is_noticed(job: Job) -> None:
    job.write()
    model = ["-n", "1", str(job.programs.model), "-"]
    done = job.run(model, job.emulator(1), limit=90, HALOCLINE_START_DEADLINE="25")
    assert done.status == 86
    assert "No program called halocline_init within 25 s" in done.output


def test_silent_model_is_noticed_after_the_idle_deadline(job: Job) -> None:
    job.write(deadline=2, idle_deadline=3)
    done = job.run(job.model(1, steps=STEPS, sleep=3), job.emulator(2), limit=30)
    assert done.status == 86
    assert "The model has called nothing within 3 s (idle_deadline) after observe, step 2" in done.output


def test_model_rank_that_hangs_is_named(job: Job) -> None:
    job.write(deadline=6)
    done = job.run(job.model(2, px=2, steps=STEPS, sleep=2, who=1), job.emulator(1), limit=30)
    assert done.status == 86
    assert "halocline: rank 0: The model sent no cells of step 2 within 4.8 s" in done.output
    assert "waiting for rank 1 of all programs" in done.output


def test_emulator_ranks_without_a_model_are_refused(job: Job) -> None:
    job.write()
    done = job.run(job.emulator(1), limit=30)
    assert done.status not in (0, 9)
    assert "No rank of this job runs a model" in done.output
