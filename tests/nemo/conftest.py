"""The hooks in coupling/nemo, linked to a stand-in for NEMO (always) and to NEMO (where one is built)."""

import shutil
import sys
from pathlib import Path

import pytest
from nemo_tools import HOOKS, Configuration, Experiment, make_standin, run


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    """A configuration of the stand-in as makenemo leaves one; skips where the bridge or a compiler is missing."""
    if any(shutil.which(tool) is None for tool in ("mpifort", "mpirun", "nm")):
        pytest.skip("mpifort, mpirun or nm is not installed")
    if not (Path(sys.prefix) / "lib" / "libhalocline.so").exists():
        pytest.skip("this installation was made without the bridge (HALOCLINE_BRIDGE=OFF)")
    return make_standin(tmp_path_factory.mktemp("configuration"))


@pytest.fixture(scope="session")
def wrapped(standin: Configuration) -> Path:
    """The stand-in linked with the hooks by link_nemo."""
    status, output = run(HOOKS / "link_nemo", standin.folder, cwd=standin.folder, limit=60)
    assert status == 0, output
    return standin.build / "bin" / "nemo_halocline.exe"


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """A run folder of the stand-in."""
    return Experiment(tmp_path)
