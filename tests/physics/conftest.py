"""Real NEMO grids and states for the physics tests; absent data skip a test and say why."""

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from halocline.mesh.grid import Grid

DATA = Path(__file__).parents[3] / "shared" / "data"
HORIZONTAL = [f"{name}{point}" for name in ("glam", "gphi", "e1", "e2") for point in "tuvf"]


def require(name: str) -> Path:
    """Returns a file of the shared data or skips the test."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} in shared/data beside the repository")
    return path


def nemo_grid(name: str, three_dimensional: bool, periodic_i: bool) -> Grid:
    """Builds the grid from a NEMO mesh mask."""
    with netCDF4.Dataset(require(f"{name}/mesh_mask.nc")) as file:
        mesh = {key: np.asarray(file[key][0].data, dtype=np.float64) for key in file.variables}
    masks = {key: mesh[key] == 1 for key in ("tmask", "umask", "vmask", "fmask")}
    shape = masks["tmask"].shape

    def vertical(key: str) -> np.ndarray:
        if three_dimensional:
            return mesh[f"{key}_0"]
        one = mesh[{"e3u": "e3t_1d", "e3v": "e3t_1d"}.get(key, f"{key}_1d")]
        return np.broadcast_to(one[:, None, None], shape)

    depth = {key: vertical(key) for key in ("e3t", "e3u", "e3v", "e3w", "gdept", "gdepw")}
    return Grid(
        **{key: mesh[key] for key in (*HORIZONTAL, "ff_t", "ff_f")},
        **masks,
        **depth,
        gdept_1d=depth["gdept"].mean((1, 2)),
        periodic_i=periodic_i,
    )


@pytest.fixture(scope="session")
def gyre_grid() -> Grid:
    return nemo_grid("nemo_gyre", three_dimensional=False, periodic_i=False)


@pytest.fixture(scope="session")
def dino_grid() -> Grid:
    return nemo_grid("nemo_dino", three_dimensional=True, periodic_i=True)


STATE = {
    "temperature": "votemper",
    "salinity": "vosaline",
    "velocity_u": "vozocrtx",
    "velocity_v": "vomecrty",
    "sea_level": "sossheig",
}


@pytest.fixture(scope="session")
def states() -> Callable[[str, slice], dict[str, np.ndarray]]:
    """Reads states of a run as (time, k, j, i), sea level (time, j, i), land NaN."""

    def load(name: str, times: slice) -> dict[str, np.ndarray]:
        with netCDF4.Dataset(require(f"{name}/states.nc")) as file:
            return {key: np.ma.filled(file[nemo][times].astype(np.float64), np.nan) for key, nemo in STATE.items()}

    return load
