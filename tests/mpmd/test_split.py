"""The world divided by program, without Python."""

from collections import Counter

from conftest import Job

BY_PARITY = 'exec "$0" - name=$([ $((OMPI_COMM_WORLD_RANK % 2)) = 0 ] && echo even || echo odd)'
"""One program for the launcher, so MPI_APPNUM is the same everywhere."""


def part(job: Job, ranks: int, name: str) -> list[str]:
    return ["-n", str(ranks), str(job.programs.model), "-", f"name={name}"]


def sizes(output: str) -> Counter[str]:
    """How many ranks of each program have seen which size."""
    return Counter(line.split(":")[0] + line[-2:] for line in output.splitlines() if ": rank " in line)


def test_interleaved_executables_and_three_programs_are_divided_by_name(job: Job) -> None:
    parts = [part(job, 1, "ocean"), part(job, 1, "ice"), part(job, 2, "ocean"), part(job, 1, "server")]
    done = job.run(*parts, limit=30)
    assert done.status == 0, done.output
    assert sizes(done.output) == {"ocean 3": 3, "ice 1": 1, "server 1": 1}


def test_split_does_not_need_appnum(job: Job) -> None:
    done = job.run(["-n", "5", "sh", "-c", BY_PARITY, str(job.programs.model)], limit=30)
    assert done.status == 0, done.output
    assert sizes(done.output) == {"even 3": 3, "odd 2": 2}


def test_program_that_never_calls_split_is_named_within_the_deadline(job: Job) -> None:
    ignorant = ["-n", "2", str(job.programs.model), "-", "ignore=1"]
    done = job.run(part(job, 2, "ocean"), ignorant, limit=20, HALOCLINE_START_DEADLINE="2")
    assert done.status == 86
    assert "rank 2-3 of 4 did not call it within 2 s; 'ocean' did" in done.output


def test_first_rank_that_never_calls_split_is_named(job: Job) -> None:
    ignorant = ["-n", "1", str(job.programs.model), "-", "ignore=1"]
    done = job.run(ignorant, part(job, 2, "ocean"), limit=20, HALOCLINE_START_DEADLINE="1")
    assert done.status == 86
    assert "rank 0 did not answer 'ocean'" in done.output


def test_another_version_is_refused_on_all_ranks(job: Job) -> None:
    other = ["-n", "1", str(job.programs.other_model), "-", "name=ice"]
    done = job.run(part(job, 1, "ocean"), other, limit=20)
    assert done.status == 82
    assert "rank 1 ('ice') has interface 1 and protocol 99, rank 0 ('ocean') has 1 and 1" in done.output


def test_deadline_that_is_no_number_is_refused(job: Job) -> None:
    done = job.run(part(job, 2, "ocean"), limit=20, HALOCLINE_START_DEADLINE="soon")
    assert done.status == 82
    assert "HALOCLINE_START_DEADLINE is 'soon'" in done.output
