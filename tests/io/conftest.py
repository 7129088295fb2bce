"""A small odd-sized grid broken by land, states on it, and files in NEMO's form; the real data where present."""

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from halocline.mesh.grid import Grid, box_grid
from halocline.state.variables import VARIABLES

DATA = Path(__file__).parents[3] / "shared" / "data"
OCEAN = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
NK, NJ, NI = 4, 7, 5

Fields = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def require() -> Callable[[str], Path]:
    """Returns a file of the shared data or skips the test: `require("nemo_gyre/states.nc")`."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"needs {name} in shared/data beside the repository")
        return DATA / name

    return find


@pytest.fixture
def grid() -> Grid:
    """7 rows, 5 columns, 4 levels; an island, a sill, a dry last level and a dry first column."""
    levels = np.full((NJ, NI), 3)
    levels[:, 0] = 0
    levels[3, 2] = 0
    levels[5, 3] = 1
    return box_grid(NK, NJ, NI, levels=levels)


@pytest.fixture
def make_fields() -> Callable[..., Fields]:
    """Draws states: `make_fields(grid, states=3)` gives arrays (state, k, j, i), NaN on land."""

    def make(grid: Grid, states: int = 3, seed: int = 0) -> Fields:
        rng = np.random.default_rng(seed)
        fields = {}
        for name, mean in zip(OCEAN, (12.0, 35.0, 0.0, 0.0, 0.0), strict=True):
            row = VARIABLES[name]
            mask = grid.mask(row.point) if row.is_3d else grid.mask(row.point)[:1]
            x = mean + 0.1 * rng.standard_normal((states, *mask.shape))
            fields[name] = np.where(mask, x, np.nan)
        return fields

    return make


@pytest.fixture
def fields(grid: Grid, make_fields: Callable[..., Fields]) -> Fields:
    return make_fields(grid)


@pytest.fixture
def state(fields: Fields) -> Fields:
    """One state, (k, j, i)."""
    return {name: x[0] for name, x in fields.items()}


@pytest.fixture
def write_output(tmp_path: Path) -> Callable[..., Path]:
    """Writes fields as NEMO's output does: (time_counter, deptht, y, x), seconds of a 360-day calendar."""

    def write(
        name: str, fields: Fields, kind: str = "f8", fill: float | None = 1e20, **units: str
    ) -> Path:
        path = tmp_path / name
        with netCDF4.Dataset(path, "w") as file:
            count, nk, nj, ni = max((x.shape for x in fields.values()), key=lambda shape: shape[1])
            file.createDimension("time_counter", None)
            for axis, size in (("deptht", nk), ("y", nj), ("x", ni)):
                file.createDimension(axis, size)
            time = file.createVariable("time_counter", "f8", ("time_counter",))
            time.setncatts({"units": "seconds since 0001-01-01 00:00:00", "calendar": "360_day"})
            time[:] = 86400.0 * (30 * np.arange(1, count + 1) + 330)
            for variable, x in fields.items():
                row = VARIABLES[variable]
                axes = ("time_counter", "deptht", "y", "x") if row.is_3d else ("time_counter", "y", "x")
                target = file.createVariable(row.nemo_output, kind, axes, fill_value=fill)
                target.units = units.get(variable, row.unit)
                x = np.nan_to_num(x, nan=0.0 if fill is None else fill)
                target[:] = x if row.is_3d else x[:, 0]
        return path

    return write
