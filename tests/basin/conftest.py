"""How the tests of the embedded host run it: find the program, write a namelist, start it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import f90nml
import pytest
from basin_runs import SECONDS, Run, Runner, built, installed_program

# 17 x 23 cells: odd, unequal, not divisible by 2 or 4. Eight levels, shelves, island, peninsula.
SMALL: dict[str, dict[str, Any]] = {
    "run": {"cn_name": "t", "cn_output": ".", "nn_steps": 24, "nn_diag_steps": 8},
    "grid": {"nn_nx": 17, "nn_ny": 23, "nn_nz": 8, "rn_dlon": 3.5, "rn_dlat": 2.5},
    "physics": {},
    "forcing": {},
    "halocline": {},
}


@pytest.fixture(scope="session")
def program() -> Path:
    """The newest basin.x of the environment and the build folders."""
    installed = installed_program()
    found = built("basin.x") + ([installed] if installed else [])
    if not found:
        pytest.skip("basin.x is not built: install the package or build coupling/basin")
    return max(found, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment of a run; waiting ranks give way, more ranks than cores are allowed."""
    launcher = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_hwloc_base_binding_policy": "none",
    }
    return {**os.environ, **launcher}


def merged(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The small configuration with changes."""
    return {group: {**SMALL[group], **changes.get(group, {})} for group in SMALL}


@pytest.fixture
def run(program: Path, environment: dict[str, str], tmp_path: Path) -> Runner:
    """Runs the program in a new folder with the small configuration and some changes."""

    def start(folder: str, ranks: int = 1, host: Path = program, **changes: Mapping[str, Any]) -> Run:
        where = tmp_path / folder
        where.mkdir()
        f90nml.write(merged(changes), where / "namelist")
        command = [str(host), "namelist"]
        if ranks > 1:
            mpirun = shutil.which("mpirun")
            if mpirun is None:
                pytest.skip("mpirun is not on the path")
            command = [mpirun, "-n", str(ranks), *command]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=SECONDS)
        return Run(where, done.returncode, done.stdout, done.stderr)

    return start
