"""For pytest under mpirun: never hangs, and reports once.

After each phase of each test all ranks exchange their outcomes; a failure on any rank is a failure on all. A rank that
does not arrive means a deadlock: its peers print what they know and abort the job with 98. A watchdog thread aborts
with 97 when a test as a whole takes too long, which is the case when all ranks wait in MPI.

Rank tests take the fixture `comm` and state what holds for any number of ranks.
"""

import faulthandler
import os
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest
from mpi4py import MPI

if TYPE_CHECKING:
    from halocline.mesh.communicator import AnyCommunicator

COMM = MPI.COMM_WORLD.Dup()  # our messages never meet those of the tests
LIMIT = float(os.environ.get("MPI_TEST_LIMIT", "90"))  # seconds for one test; a third of it for a rank to arrive
TAG = 4242
stderr = 2  # replaced in pytest_configure: during a test, pytest redirects descriptor 2 to its capture file


@pytest.fixture(scope="session")
def comm() -> "AnyCommunicator":
    """All ranks."""
    from halocline.mesh.communicator import world

    return world()


def abort(code: int, text: str) -> None:
    """Ends all ranks."""
    os.write(stderr, f"\n[rank {COMM.rank}] {text}\n".encode())
    faulthandler.dump_traceback(stderr)
    MPI.COMM_WORLD.Abort(code)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keeps the real stderr (capturing is suspended here) and silences the report of all ranks but 0."""
    global stderr
    stderr = os.dup(2)
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if COMM.rank != 0 and reporter is not None:
        reporter._tw._file = open(os.devnull, "w")  # noqa: SIM115 (as long as the process)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Lets a silenced rank say what kept it from importing its tests."""
    if COMM.rank != 0 and report.failed:
        os.write(stderr, f"\n[rank {COMM.rank}] {report.longreprtext}\n".encode())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Watches over one test."""
    dog = threading.Timer(LIMIT, abort, (97, f"{item.nodeid}: stuck for {LIMIT:.0f} s"))
    dog.daemon = True
    dog.start()
    yield
    dog.cancel()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    """Makes the outcome of each phase the same on all ranks."""
    report = (yield).get_result()
    everyone = exchange((report.outcome, report.longreprtext if report.failed else ""), item)
    failed = [rank for rank, (outcome, _) in enumerate(everyone) if outcome == "failed"]
    if failed and not report.failed:
        report.outcome = "failed"
        report.longrepr = f"failed on rank(s) {failed}:\n{everyone[failed[0]][1]}"
    elif not failed and len({outcome for outcome, _ in everyone}) > 1:
        report.outcome = "failed"  # e.g. skipped on some ranks only: the ranks would run out of step
        report.longrepr = f"outcomes differ between ranks: {[outcome for outcome, _ in everyone]}"


def exchange(mine: tuple[str, str], item: pytest.Item) -> list[tuple[str, str]]:
    """Gathers outcomes everywhere with a deadline: non-blocking sends, polled receives."""
    result = [mine] * COMM.size
    others = [rank for rank in range(COMM.size) if rank != COMM.rank]
    sends = [COMM.isend((item.nodeid, mine), rank, TAG) for rank in others]
    deadline = time.monotonic() + LIMIT / 3
    for rank in others:
        while not COMM.iprobe(rank, TAG):
            if time.monotonic() > deadline:
                abort(98, f"{item.nodeid}: rank {rank} never arrived; here: {mine[0]}\n{mine[1]}")
            time.sleep(0.0005)
        name, result[rank] = COMM.recv(source=rank, tag=TAG)
        if name != item.nodeid:
            abort(98, f"{item.nodeid}: rank {rank} is at {name}: the ranks collected different tests")
    MPI.Request.waitall(sends)
    return result
