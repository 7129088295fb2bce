"""The launcher of the rank tests. They live in `ranks/` and are run under mpirun by `test_ranks.py`."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import WORKERS

# collected only where a launcher has started several pytests, each of which is one rank
collect_ignore = [] if "OMPI_COMM_WORLD_SIZE" in os.environ else ["ranks"]

# a shell without job control has what runs in its background ignore interrupts, and so would all that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)

Launch = Callable[..., tuple[int, str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest goes first, so that no worker of pytest-xdist is left with it alone at the end."""
    items.sort(key=lambda item: item.path.name != "test_ranks.py")


@pytest.fixture(scope="session")
def mpirun() -> Launch:
    """Starts Python on several ranks: ``mpirun(ranks, *arguments, cwd=, limit=, **environment) -> (status, output)``.

    A job that outlives its limit (in seconds) is ended and fails the test; nothing is left behind.
    """
    if shutil.which("mpirun") is None:
        pytest.skip("mpirun is not installed")
    return _mpirun


@pytest.fixture(scope="session")
def rank_tests(mpirun: Launch) -> Launch:
    """Runs a folder of rank tests: ``rank_tests(ranks, folder, stuck_after=, limit=) -> (status, output)``."""

    def run(ranks: int, folder: Path, stuck_after: float = 90, limit: float = 400) -> tuple[int, str]:
        arguments = ["-m", "pytest", "-q", "-c", str(folder / "pytest.ini"), f"--confcutdir={folder}", str(folder)]
        return mpirun(ranks, *arguments, cwd=folder, limit=limit, MPI_TEST_LIMIT=str(stuck_after))

    return run


def _mpirun(ranks: int, *arguments: str, cwd: Path, limit: float, **environment: str) -> tuple[int, str]:
    launcher = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",  # containers run as root
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",  # more ranks than cores: a waiting rank must not spin
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    job = subprocess.Popen(
        ["mpirun", "--bind-to", "none", "-n", str(ranks), sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **launcher, **environment},
        start_new_session=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = job.communicate(timeout=limit * WORKERS)
    except subprocess.TimeoutExpired:
        output = _end(job)
        pytest.fail(f"{ranks} ranks of {' '.join(arguments)} not finished after {limit * WORKERS} s:\n{output[-3000:]}")
    return job.returncode, output


def _end(job: subprocess.Popen[str]) -> str:
    """Ends mpirun, which ends its ranks; by force if it does not."""
    job.terminate()
    try:
        return job.communicate(timeout=20)[0]
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        return job.communicate()[0]
