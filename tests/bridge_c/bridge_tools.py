"""Tools of these tests: commands under a time limit, builds outside the tree."""

import os
import subprocess
import sys
from pathlib import Path

from patience import WORKERS

BRIDGE = Path(__file__).parents[2] / "fortran_bridge"
LAUNCHER = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # containers run as root
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # more ranks than cores: a waiting rank must not spin
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMP_NUM_THREADS": "1",
    "HALOCLINE_PYTHON_MODULE": "standin_bridge",  # no generator needed: fortran_bridge/tests/standin_bridge.py
    "PYTHONPATH": str(BRIDGE / "tests"),
}


def run(*command: object, limit: float, cwd: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of a command that is ended, children included, after `limit` seconds (code 124)."""
    words = ["timeout", "-k", "10", str(limit * WORKERS), *map(str, command)]
    job = subprocess.run(
        words, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert job.returncode != 124, f"{' '.join(words)} was not finished after {limit * WORKERS} s:\n{job.stdout[-3000:]}"
    return job.returncode, job.stdout


def build(source: Path, folder: Path, *options: str, targets: tuple[str, ...] = ("all",)) -> Path:
    """Builds a CMake project, without a warning, against the environment of these tests."""
    settings = [f"-DCMAKE_PREFIX_PATH={sys.prefix}", f"-DPython_EXECUTABLE={sys.executable}", *options]
    status, output = run("cmake", "-S", source, "-B", folder, "-G", "Ninja", *settings, limit=60, cwd=source)
    assert status == 0, output
    status, output = run("cmake", "--build", folder, "--target", *targets, limit=120, cwd=source)
    assert status == 0, output
    assert "warning" not in output.lower(), output
    return folder
