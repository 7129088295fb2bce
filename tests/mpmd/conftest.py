"""Jobs of several programs: a model in C and, beside it, `halocline serve` with a stand-in for the emulator."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import WORKERS

HERE = Path(__file__).parent
BRIDGE = HERE.parents[1] / "fortran_bridge"
PROGRAMS = HERE / "programs"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", f"-I{BRIDGE / 'include'}"]

LAUNCHER = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # containers run as root
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # more ranks than cores: a waiting rank must not spin
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMP_NUM_THREADS": "1",
    "HALOCLINE_START_DEADLINE": "60",
}


@dataclass(frozen=True)
class Done:
    """A job that has ended: its exit code, and what all of its ranks printed."""

    status: int
    output: str


@dataclass(frozen=True)
class Programs:
    """What the conftest has compiled: the library, a model, and both of another protocol version."""

    library: Path
    model: Path
    other_library: Path
    other_model: Path


def compile_library(folder: Path, *flags: str) -> Path:
    """Compiles libhalocline from its sources, without the part that holds Python."""
    folder.mkdir()
    sources = [path for path in sorted((BRIDGE / "src").glob("*.c")) if not path.name.startswith("python_")]
    library = folder / "libhalocline.so"
    shared = ["-shared", "-fPIC", "-fvisibility=hidden", '-DHALOCLINE_VERSION="test"', "-ldl", "-lm", "-pthread"]
    command = ["mpicc", *FLAGS, *flags, *map(str, sources), *shared, "-o", str(library)]
    subprocess.run(command, check=True, timeout=120)
    return library


def compile_model(library: Path) -> Path:
    """Compiles the model against a library."""
    model = library.with_name("model")
    link = [f"-L{library.parent}", "-lhalocline", f"-Wl,-rpath,{library.parent}"]
    command = ["mpicc", *FLAGS, "-Wpedantic", "-Werror", str(PROGRAMS / "model.c"), "-o", str(model), *link]
    subprocess.run(command, check=True, timeout=120)
    return model


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Library and model, compiled from the sources of this tree."""
    if shutil.which("mpirun") is None or shutil.which("mpicc") is None:
        pytest.skip("mpirun or mpicc is not installed")
    folder = tmp_path_factory.mktemp("mpmd")
    library, other = compile_library(folder / "own"), compile_library(folder / "other", "-DHALOCLINE_PROTOCOL=99")
    return Programs(library, compile_model(library), other, compile_model(other))


class Job:
    """Starts jobs in a folder of their own.

    Arguments:
        folder: For configuration and output.
        programs: Compiled.
    """

    def __init__(self, folder: Path, programs: Programs) -> None:
        self.folder, self.programs = folder, programs
        self.config = folder / "bridge.yaml"
        self.case = folder / "case.json"

    def write(self, case: dict[str, Any] | None = None, **keys: Any) -> None:
        """Writes the configuration, with `case` for the stand-in."""
        whole = {"ni": 19, "nj": 13, "nk": 3, "tile": [5, 8], **(case or {})}
        self.case.write_text(json.dumps(whole))
        values = {"run": str(self.case), "output": "out", "mode": "mpmd", "deadline": 20, **keys}
        self.config.write_text(yaml.safe_dump(values))

    def model(self, ranks: int, **keys: object) -> list[str]:
        """Part of a command line that starts the model."""
        words = [f"{key}={value}" for key, value in keys.items()]
        return ["-n", str(ranks), str(self.programs.model), str(self.config), *words]

    def emulator(self, ranks: int) -> list[str]:
        """Part of a command line that starts `halocline serve` with the stand-in."""
        return ["-n", str(ranks), sys.executable, str(PROGRAMS / "standin.py"), str(self.config), str(self.case)]

    def start(self, *parts: list[str], **environment: str) -> "subprocess.Popen[str]":
        """Starts several programs as one MPI job."""
        command = ["mpirun", "--bind-to", "none"]
        for part in parts:
            command += [":"] * (command[-1] != "none") + part
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        library = {"HALOCLINE_LIBRARY": str(self.programs.library)}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **LAUNCHER, **paths, **library, **environment},
            start_new_session=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *parts: list[str], limit: float = 60, **environment: str) -> Done:
        """Runs a job to its end, which must come within a limit, in seconds."""
        return finish(self.start(*parts, **environment), limit)


def finish(job: "subprocess.Popen[str]", limit: float) -> Done:
    """Waits for the end of a job; one that outlives the limit is ended and fails the test."""
    try:
        output, _ = job.communicate(timeout=limit * WORKERS)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGTERM)
        try:
            output = job.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            output = job.communicate()[0]
        pytest.fail(f"{job.args} not finished after {limit * WORKERS} s:\n{output[-4000:]}")
    return Done(job.returncode, output)


@pytest.fixture
def job(tmp_path: Path, programs: Programs) -> Job:
    """Jobs in the folder of this test."""
    return Job(tmp_path, programs)


Finish = Callable[["subprocess.Popen[str]", float], Done]


@pytest.fixture(scope="session", name="finish")
def finish_fixture() -> Finish:
    """Waits for a started job."""
    return finish
