"""Restart file, in the model's processes, beside them: one start, one trajectory, one sequence of verdicts."""

import pytest
from basin_jobs import STEPS, Job, assert_same_bits, read

JOBS = [
    Job("two", "in_process", (2, 1)),
    Job("columns", "in_process", (4, 1)),
    Job("blocks", "in_process", (2, 2)),
    Job("rows", "in_process", (1, 4)),
    Job("beside_one", "mpmd", (2, 2), emulators=1),
    Job("beside_two", "mpmd", (1, 4), emulators=2),
    Job("beside_three", "mpmd", (4, 1), emulators=3),
    Job("later", "mpmd", emulators=2, bridge={"observe": {"lag": 2}}),
]


def test_start_in_memory_equals_start_from_restart_and_observing_changes_nothing(together, alone):
    assert_same_bits(together.restart(), alone.restart())
    assert together.diagnostics() == alone.diagnostics()  # its first row has the velocities of the start
    assert list(together.verdicts()) == list(range(STEPS + 1))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_start_trajectory_and_verdicts_do_not_depend_on_mode_and_ranks(job, run, alone, together):
    done = run(job)
    assert done.status == 0, done.output
    assert_same_bits(done.restart(), alone.restart())
    assert done.diagnostics() == alone.diagnostics()
    assert done.log() == together.log()
    assert_same_bits(done.trajectory(), together.trajectory())


def test_generated_start_leaves_nothing_of_a_restart_but_the_date(run, case):
    """Neither its noise nor its open account of surface input, which a file of five fields does not have."""
    rows = {"nn_diag_steps": 0}
    before = run(Job("before", run=rows)).folder / f"t_{STEPS:08d}_restart.nc"
    file = run(Job("file", run={"cn_start": str(case.restart), "nn_kt": STEPS, **rows}))
    replaced = run(Job("replaced", "in_process", run={"cn_start": str(before), **rows}))
    assert file.status == replaced.status == 0, replaced.output
    assert_same_bits(replaced.restart(2 * STEPS), file.restart(2 * STEPS))


@pytest.mark.parametrize("job", [JOBS[0], Job("beside", "mpmd", (1, 2), 2)], ids=lambda job: job.name)
def test_all_bits_of_the_start_are_those_of_the_restart_file(job, run, case):
    """Even those of the velocities, which the ocean computes anew in its first step."""
    started = run(Job(job.name, job.mode, job.ranks, job.emulators, run={"nn_steps": 0, "nn_years": 0}))
    assert started.status == 0, started.output
    file, memory = read(case.restart), started.restart(0)
    assert_same_bits({name: memory[name] for name in file}, file)
