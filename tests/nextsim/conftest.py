"""The output module of coupling/nextsim, compiled against stand-ins for the model and for libhalocline."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds model.cpp with the output module; without a warning."""
    compiler = shutil.which("mpicxx")
    if compiler is None:
        pytest.skip("needs mpicxx, the C++ compiler of MPI")
    path = tmp_path_factory.mktemp("nextsim") / "model"
    sources = [STANDIN / "model.cpp", STANDIN / "halocline.cpp", ROOT / "coupling/nextsim/HaloclineOutput.cpp"]
    folders = [ROOT / "coupling/nextsim", STANDIN, ROOT / "fortran_bridge/include"]
    flags = ["-std=c++17", "-O0", "-g", "-Wall", "-Wextra", "-Werror", "-DOMPI_SKIP_MPICXX", "-DMPICH_SKIP_MPICXX"]
    command = [compiler, *flags, *(f"-I{folder}" for folder in folders), *map(str, sources), "-o", str(path)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    return path


@pytest.fixture
def run(program: Path) -> Run:
    """Runs the model with settings, `run(HALOCLINE_GENERATE="true")`; "model.start" is MODEL_START."""

    def start(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        usual = {"HALOCLINE_CONFIG": "halocline.yaml", "MODEL_TIME_STEP": "1800", "MODEL_INIT_FILE": "init.nc"}
        environment = {**os.environ, **usual, **settings}
        return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    return start
