"""Runs the rank tests under mpirun, and shows that their frame neither hangs nor hides a failure."""

import shutil
from pathlib import Path

import pytest

RANKS = Path(__file__).parent / "ranks"

CASES = {
    "passes": (
        """
        def test_sum():
            assert MPI.COMM_WORLD.allreduce(1) == MPI.COMM_WORLD.size
        """,
        0,
        "1 passed",
    ),
    "fails on one rank": (
        """
        def test_rank_1_is_wrong():
            assert MPI.COMM_WORLD.rank == 0

        def test_the_next_one_still_runs():
            assert MPI.COMM_WORLD.allreduce(1) == MPI.COMM_WORLD.size
        """,
        1,
        "failed on rank(s) [1]",
    ),
    "is skipped on one rank": (
        """
        import pytest

        def test_rank_1_skips():
            if MPI.COMM_WORLD.rank == 1:
                pytest.skip("alone")
        """,
        1,
        "outcomes differ between ranks",
    ),
    "fails before a collective": (
        """
        def test_rank_1_never_reaches_the_barrier():
            if MPI.COMM_WORLD.rank == 1:
                raise RuntimeError("rank 1 dies")
            MPI.COMM_WORLD.barrier()
        """,
        98,
        "rank 1 dies",
    ),
    "waits for ever": (
        """
        def test_everyone_waits_for_a_message_nobody_sends():
            MPI.COMM_WORLD.recv(source=(MPI.COMM_WORLD.rank + 1) % MPI.COMM_WORLD.size)
        """,
        97,
        "stuck",
    ),
}


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_claims_hold_on_any_number_of_ranks(ranks, rank_tests):
    status, output = rank_tests(ranks, RANKS)
    assert status == 0, output[-6000:]
    assert " passed" in output, output[-6000:]


@pytest.mark.parametrize("case", CASES)
def test_frame_ends_with_one_report_when_a_test(case, rank_tests, tmp_path):
    body, expected, text = CASES[case]
    lines = ["from mpi4py import MPI", *(line[8:] for line in body.splitlines())]
    (tmp_path / "test_case.py").write_text("\n".join(lines) + "\n")
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(RANKS / name, tmp_path)
    # 9 s for the test, 3 s for a rank to arrive: enough on a loaded machine, since no case computes anything
    status, output = rank_tests(2, tmp_path, stuck_after=9, limit=60)
    assert status == expected, output[-3000:]
    assert text in output, output[-3000:]
