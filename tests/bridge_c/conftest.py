"""Hosts in C and Fortran, built as a model would do it: outside the tree, against the installed package."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bridge_tools import BRIDGE, LAUNCHER, build, run

RunHost = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def bridge() -> Path:
    """Source folder of the bridge; skips where it is not installed."""
    if shutil.which("cmake") is None or shutil.which("mpirun") is None:
        pytest.skip("cmake or mpirun is not installed")
    if not (Path(sys.prefix) / "lib" / "libhalocline.so").exists():
        pytest.skip("this installation was made without the bridge (HALOCLINE_BRIDGE=OFF)")
    return BRIDGE


@pytest.fixture(scope="session")
def hosts(bridge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of fortran_bridge/tests."""
    return build(bridge / "tests", tmp_path_factory.mktemp("hosts"))


@pytest.fixture
def run_host(hosts: Path, tmp_path: Path) -> RunHost:
    """Starts a host: ``run_host("host", settings, *words, ranks=, limit=, **environment) -> (exit code, output)``.

    `settings` are those of standin_bridge.py; one rank is started without mpirun.
    """

    def start(program: str, settings: dict, *words: object, ranks: int = 1, limit: float = 60, **environment: str):
        config = tmp_path / "halocline.json"
        config.write_text(json.dumps(settings))
        launcher = ["mpirun", "--bind-to", "none", "-n", ranks] if ranks > 1 else []
        command = [*launcher, hosts / program, config, *words]
        return run(*command, limit=limit, cwd=tmp_path, **(LAUNCHER | environment))

    return start
