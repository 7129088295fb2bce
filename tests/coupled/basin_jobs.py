"""The embedded host with Halocline: a small case with a trained generator, and jobs of both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import f90nml
import netCDF4
import numpy as np
import pytest
import yaml
from patience import WORKERS

LAUNCHER = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # containers run as root
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # more ranks than cores: a waiting rank must not spin
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMP_NUM_THREADS": "1",
    "HALOCLINE_START_DEADLINE": "60",
}

# 17 x 23 cells: odd, unequal, not divisible by 2 or 4. Tiles of 6 x 8: nine, of which no border is one of the ranks'.
GRID = {"nn_nx": 17, "nn_ny": 23, "nn_nz": 8, "rn_dlon": 3.5, "rn_dlat": 2.5}
STEPS = 6
SEED, MEMBER, MONTH = 5, 1, 12

TRAINING: dict[str, Any] = {
    "data": {
        "grid": "spin/mesh_mask.nc", "states": "spin/states.nc",
        "equation_of_state": "dino", "free_surface": "top_layer",
    },
    "lattice": {"tile": [8, 6], "halo": 2},
    "network": {"width": 8, "multipliers": [1, 2], "blocks": 1, "embedding": 16, "cell_features": 2},
    "training": {"steps": 40, "batch": 8, "learning_rate": 2e-2, "warm_up": 2, "precision": "fp32"},
    "sampling": {"steps": 3, "tile_batch": 4},
    "output": "generator",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A trained generator of the small ocean, and its state as a restart file.

    Attributes:
        basin: The program.
        generator: Run folder.
        restart: Written by `halocline sample` and `halocline restart`.
    """

    basin: Path
    generator: Path
    restart: Path


@dataclass(frozen=True)
class Job:
    """How the ocean is run.

    Attributes:
        name: Of its folder.
        mode: That of the bridge; "": the ocean alone.
        ranks: Of the ocean, along i and j.
        emulators: Ranks of `halocline serve`.
        generate: Whether the start is generated.
        run: Values of the namelist group &run.
        forcing: Of &forcing.
        grid: Of &grid, instead of those of the generator.
        bridge: Keys of the bridge's configuration.
        host: Program instead of basin.x, and further words after the namelist.
    """

    name: str
    mode: str = ""
    ranks: tuple[int, int] = (1, 1)
    emulators: int = 0
    generate: bool = True
    run: Mapping[str, Any] = field(default_factory=dict)
    forcing: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Any] = field(default_factory=dict)
    bridge: Mapping[str, Any] = field(default_factory=dict)
    host: tuple[object, ...] = ()

    @property
    def command(self) -> list[str]:
        """Starts it; one rank alone needs no launcher."""
        program, *words = self.host or ("basin.x",)
        host = [str(program), "namelist", *map(str, words)]
        beside = [sys.executable, "-m", "halocline", "serve", "bridge.yaml"]
        size = self.ranks[0] * self.ranks[1]
        if size + self.emulators == 1:
            return host
        command = ["mpirun", "--bind-to", "none", "-n", str(size), *host]
        return command + ([":", "-n", str(self.emulators), *beside] if self.emulators else [])


@dataclass(frozen=True)
class Done:
    """A job that has ended.

    Attributes:
        folder: Its own.
        status: Exit code.
        output: What all of its ranks printed.
    """

    folder: Path
    status: int
    output: str

    def restart(self, step: int = STEPS) -> dict[str, np.ndarray]:
        """Variables of the restart of a step."""
        return read(self.folder / f"t_{step:08d}_restart.nc")

    def diagnostics(self) -> str:
        """The ocean's own series, numbers with all digits; the first row belongs to the start."""
        return (self.folder / "t_diagnostics.csv").read_text()

    def log(self) -> str:
        """The log of verdicts."""
        return (self.folder / "halocline/verdicts.log").read_text()

    def verdicts(self) -> dict[int, str]:
        """Level by step, from the log: its lines hold date, time, step, level, action and a check."""
        rows = [line.split() for line in self.log().splitlines() if line[:1].isdigit()]
        return {int(row[2]): row[3].lower() for row in rows}

    def trajectory(self) -> dict[str, np.ndarray]:
        """The record of verdicts and diagnostics."""
        return read(self.folder / "halocline/trajectory.nc")


def write(folder: Path, case: Case, job: Job) -> None:
    """Writes namelist and bridge.yaml of a job into a new folder."""
    folder.mkdir()
    groups = {
        "run": {
            "cn_name": "t", "cn_output": ".", "nn_steps": STEPS, "nn_states_months": 0, "nn_diag_steps": 1,
            "nn_ranks_i": job.ranks[0], "nn_ranks_j": job.ranks[1], **job.run,
        },
        "grid": {**GRID, **job.grid},
        "forcing": dict(job.forcing),
    }  # fmt: skip
    if job.mode:
        groups["halocline"] = {"cn_config": "bridge.yaml", "ln_generate": job.generate}
        keys = {"run": str(case.generator), "mode": job.mode, "deadline": 30, "generate_deadline": 60}
        keys |= {"generate": {"seed": SEED, "member": MEMBER, "month": MONTH}, **job.bridge}
        (folder / "bridge.yaml").write_text(yaml.safe_dump(keys))
    f90nml.write({name: values for name, values in groups.items() if values}, folder / "namelist")


def start(folder: Path, command: list[str], basin: Path) -> subprocess.Popen[str]:
    """Starts a command in a session of its own; basin.x is found first where the case has it."""
    path = os.pathsep.join([str(basin.parent), os.environ.get("PATH", "")])
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **LAUNCHER, "PATH": path},
        start_new_session=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(folder: Path, job: subprocess.Popen[str], limit: float) -> Done:
    """Waits for the end of a job; one that outlives its limit, in s, is ended and fails the test."""
    try:
        output, _ = job.communicate(timeout=limit * WORKERS)
    except subprocess.TimeoutExpired:
        job.terminate()  # mpirun ends its ranks
        try:
            output, _ = job.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            output, _ = job.communicate()
        pytest.fail(f"{job.args} not finished after {limit * WORKERS} s:\n{output[-4000:]}")
    return Done(folder, job.returncode, output)


def run(folder: Path, case: Case, job: Job, limit: float = 60) -> Done:
    """Runs a job to its end in a new folder."""
    write(folder, case, job)
    return finish(folder, start(folder, job.command, case.basin), limit)


def command(folder: Path, basin: Path, *words: object, limit: float = 60) -> Done:
    """Runs a command to its end."""
    return finish(folder, start(folder, [str(word) for word in words], basin), limit)


def halocline(folder: Path, basin: Path, *words: object) -> Done:
    """Types a halocline command."""
    return command(folder, basin, sys.executable, "-m", "halocline", *words)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all variables of a netCDF file."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_mask(False)
        return {name: variable[...] for name, variable in file.variables.items()}


def assert_same_bits(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Names and bits of all variables agree."""
    assert set(found) == set(expected)
    different = [name for name, x in expected.items() if np.asarray(found[name]).tobytes() != np.asarray(x).tobytes()]
    assert not different
