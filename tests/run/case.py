"""A tiny case in NEMO's files: a basin on an odd grid broken by land, and twelve states with seasons."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from unittest import mock

import netCDF4
import numpy as np
import safetensors.torch
import torch
import yaml

from halocline.__main__ import app
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.run.checkpoints import find_checkpoint
from halocline.run.run_folder import NETWORK, WEIGHTS, load_content
from halocline.state.variables import VARIABLES, Variable

NK, NJ, NI = 4, 13, 19
TILE = (8, 8)  # 2 x 3 tiles, of which one is land
TILES = 5
STATES, STEPS = 12, 100
OCEAN = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
PROGRAMS = Path(__file__).parent / "programs"
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # see `patience`, which programs cannot import

CONFIG = {
    "data": {"grid": "data/mesh_mask.nc", "states": "data/states.nc"},
    "lattice": {"tile": list(TILE), "halo": 2},
    "network": {"width": 8, "multipliers": [1, 2], "blocks": 1, "embedding": 16, "cell_features": 2},
    "training": {"steps": STEPS, "batch": 8, "learning_rate": 2e-2, "warm_up": 2, "precision": "fp32"},
    "sampling": {"steps": 3, "tile_batch": 4},
    "output": "run",
}


def basin() -> Grid:
    """Sea of 1 to 4 levels with an island, and a corner of land as large as a tile."""
    levels = np.full((NJ, NI), NK)
    levels[:, 0] = levels[-1, :] = 0
    levels[: TILE[0], TILE[1] : 2 * TILE[1]] = 0
    levels[10, 4:6] = 0
    levels[2:5, 3] = 2
    levels[6, 5] = 1
    return box_grid(NK, NJ, NI, levels=levels)


def write_mesh_mask(path: Path, grid: Grid) -> None:
    """Writes a grid as NEMO's ln_meshmask does."""
    with netCDF4.Dataset(path, "w") as file:
        file.setncatts({"Iperio": np.int32(0), "Jperio": np.int32(0), "NFold": np.int32(0)})
        axes = {"time_counter": 1, "nav_lev": grid.nk, "y": grid.nj, "x": grid.ni}
        for axis, size in axes.items():
            file.createDimension(axis, size)
        three_d = ("e3t", "e3u", "e3v", "e3w", "gdept", "gdepw")
        for field in fields(grid):
            value = getattr(grid, field.name)
            if isinstance(value, np.ndarray) and value.ndim > 1:
                kind = "i1" if value.dtype == np.bool_ else "f8"
                name = f"{field.name}_0" if field.name in three_d else field.name
                dimensions = ("time_counter", "nav_lev", "y", "x") if value.ndim == 3 else ("time_counter", "y", "x")
                file.createVariable(name, kind, dimensions)[0] = value


def seasonal_states(grid: Grid) -> dict[str, np.ndarray]:
    """Draws two years of every second month, shape (state, k, j, i): a mixed layer with seasons, over a thermocline."""
    rng = np.random.default_rng(3)
    depth = np.maximum(grid.gdept_1d[:, None, None] - 20, 0)  # two levels are mixed, to within the noise
    j, i = np.linspace(0, 1, grid.nj)[:, None], np.linspace(0, 1, grid.ni)
    summer = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2, 2 * STATES + 1, 2) / 12)[:, None, None, None]
    weather = rng.standard_normal((STATES, 1, 1, 1))
    values = {
        "temperature": 14 - 4 * j - 0.05 * depth + 6 * summer * np.exp(-depth / 20) + 0.1 * weather,
        "salinity": 35 + 0.5 * i + 0.001 * depth - 0.2 * summer * np.exp(-depth / 20),
        "velocity_u": 0.1 * np.sin(np.pi * j) * np.exp(-depth / 30) * (1 + 0.2 * weather),
        "velocity_v": 0.1 * np.cos(np.pi * i) * np.exp(-depth / 30) * (1 - 0.2 * weather),
        "sea_level": 0.2 * np.sin(np.pi * i) * np.sin(np.pi * j) * (1 + 0.2 * weather),
    }
    result = {}
    for name, x in values.items():
        mask = mask_of(name, grid)
        x = np.broadcast_to(x, (STATES, *mask.shape))
        result[name] = np.where(mask, x + 0.01 * rng.standard_normal(x.shape), np.nan)
    return result


def mask_of(name: str, grid: Grid) -> np.ndarray:
    """Sea of a variable, shape (nk or 1, nj, ni)."""
    row = VARIABLES[name]
    return grid.mask(row.point) if row.is_3d else grid.mask(row.point)[:1]


def write_output(path: Path, states: dict[str, np.ndarray], first: int = 1, **units: str) -> None:
    """Writes states as NEMO's output: every second month of a 360-day calendar, land as fill values."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time_counter", None)
        sizes = next(x.shape[1:] for x in states.values() if x.shape[1] > 1)
        for axis, size in zip(("deptht", "y", "x"), sizes, strict=True):
            file.createDimension(axis, size)
        time = file.createVariable("time_counter", "f8", ("time_counter",))
        time.setncatts({"units": "seconds since 0001-01-01 00:00:00", "calendar": "360_day"})
        for name, x in states.items():
            write_variable(file, VARIABLES[name], x, units.get(name, VARIABLES[name].unit))
        time[:] = 86400.0 * 60 * np.arange(first, first + len(next(iter(states.values()))))


def write_variable(file: netCDF4.Dataset, row: Variable, x: np.ndarray, unit: str) -> None:
    """Writes one variable under its output name."""
    axes = ("time_counter", "deptht", "y", "x") if row.is_3d else ("time_counter", "y", "x")
    variable = file.createVariable(row.nemo_output, "f4", axes, fill_value=1e20)
    variable.units = unit
    variable[:] = np.ma.masked_invalid(x if row.is_3d else x[:, 0])


@dataclass(frozen=True)
class Case:
    """A folder with data/, config.yaml and, once trained, run/."""

    folder: Path
    grid: Grid

    @classmethod
    def write(cls, folder: Path) -> "Case":
        grid = basin()
        (folder / "data").mkdir(parents=True)
        write_mesh_mask(folder / "data" / "mesh_mask.nc", grid)
        write_output(folder / "data" / "states.nc", seasonal_states(grid))
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        return cls(folder, grid)

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "run"


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The only line of stderr, without the name of the program."""
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("halocline: error"), self.err
        return lines[0]


def here(*arguments: object) -> Result:
    """Runs a command in this process: all but the interpreter's start, which takes seconds."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), mock.patch("halocline.__main__.world", Serial):
        try:
            app([str(a) for a in arguments], prog_name="halocline")
        except SystemExit as end:
            status = int(end.code or 0)
    return Result(status, out.getvalue(), err.getvalue())


def alone(*arguments: object, limit: float = 60, before: Callable[[], None] | None = None) -> Result:
    """Runs Python on its own, ``alone("-m", "halocline", …)``, in an environment without launcher."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=limit * WORKERS, check=False,
        preexec_fn=before,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def command(*arguments: object) -> list[str]:
    """``python -m halocline …`` without the Python."""
    return ["-m", "halocline", *map(str, arguments)]


def accident(kind: str, rank: int, call: int, *arguments: object) -> list[str]:
    """A command during which something happens; see `programs/accident.py`."""
    return [str(PROGRAMS / "accident.py"), kind, str(rank), str(call), *map(str, arguments)]


def several(commands: Sequence[Sequence[object]]) -> list[str]:
    """Several commands in one launch; see `programs/several.py`."""
    return [str(PROGRAMS / "several.py"), json.dumps([[str(a) for a in c] for c in commands])]


def told(output: str) -> list[list[Result]]:
    """Reads what `several` printed: for each command one result per rank."""
    line = next(line for line in output.splitlines() if line.startswith("results: "))
    return [[Result(*result) for result in ranks] for ranks in json.loads(line.removeprefix("results: "))]


def averaged(run: Path) -> dict[str, torch.Tensor]:
    """The weights that sample."""
    tensors = load_content(run)["tensors"]
    return {name.removeprefix(NETWORK): x for name, x in tensors.items() if name.startswith(NETWORK)}


def last_step(run: Path) -> int:
    """Step of the last checkpoint."""
    return find_checkpoint(run, "last").step


def change_header(run: Path, **entries: str) -> None:
    """Replaces entries beside the weights of a run folder."""
    with safetensors.safe_open(run / WEIGHTS, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(tensors, run / WEIGHTS, {**header, **entries})


def copy_with_header(run: Path, folder: Path, **entries: str) -> None:
    """Copies what samples, with other entries beside the weights."""
    folder.mkdir(exist_ok=True)
    for name in (WEIGHTS, "grid.nc", "config.yaml"):
        shutil.copy(run / name, folder)
    change_header(folder, **entries)


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(run: Path) -> np.ndarray:
    """Table of training.csv, shape (step, 2): step and loss."""
    return np.loadtxt(run / "training.csv", delimiter=",", skiprows=1, ndmin=2, usecols=(0, 1))


KILLED = -signal.SIGKILL
