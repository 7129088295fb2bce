"""The grid of a run folder, exact to the last bit."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import netCDF4
import numpy as np

from halocline.io.atomic import atomic_path
from halocline.io.modelfile import create_dataset, open_dataset
from halocline.mesh.grid import Grid

__all__ = ["load_grid", "save_grid"]

_DIMENSIONS = {1: ("nav_lev",), 2: ("y", "x"), 3: ("nav_lev", "y", "x")}


def save_grid(grid: Grid, path: Path | str) -> None:
    """Writes a grid, whole or not at all. Equal grids give equal bytes.

    Raises:
        OSError: The file cannot be written; see `atomic_path`.

    Collective: no, one rank writes.
    """
    with (
        atomic_path(path) as temporary,
        create_dataset(temporary, "NETCDF4") as dataset,
    ):
        for name, size in zip(("nav_lev", "y", "x"), grid.shape, strict=True):
            dataset.createDimension(name, size)
        dataset.setncattr("fingerprint", grid.fingerprint())
        for field in fields(grid):
            value = getattr(grid, field.name)
            if isinstance(value, np.ndarray):
                _write(dataset, field.name, value)
            else:
                dataset.setncattr(field.name, value if isinstance(value, str) else np.int32(value))


def _write(dataset: netCDF4.Dataset, name: str, value: np.ndarray) -> None:
    kind = "i1" if value.dtype == np.bool_ else "f8"
    variable = dataset.createVariable(
        name, kind, _DIMENSIONS[value.ndim], compression="zlib", complevel=1, fill_value=False
    )
    variable[:] = value.astype(kind)


def load_grid(path: Path | str) -> Grid:
    """Reads a grid that `save_grid` wrote.

    Raises:
        FileNotFoundError, OSError: The file does not exist or cannot be read.
        ValueError: It was not written by `save_grid`, or was changed since.

    Collective: no.
    """
    path = Path(path)
    with open_dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        attributes = {name: dataset.getncattr(name) for name in dataset.ncattrs()}
        values = {name: variable[...] for name, variable in dataset.variables.items()}
    names = [field.name for field in fields(Grid)]
    edges = ("periodic_i", "periodic_j", "fold")
    if missing := [name for name in names if name not in values and name not in attributes]:
        raise ValueError(
            f"File {path} lacks {', '.join(missing[:3])}, expected the grid of a run folder: use the one "
            "that `halocline train` wrote."
        )
    grid = Grid(
        **{name: values[name] for name in names if name not in edges},
        periodic_i=bool(attributes["periodic_i"]),
        periodic_j=bool(attributes["periodic_j"]),
        fold=str(attributes["fold"]),
    )
    if grid.fingerprint() != attributes.get("fingerprint"):
        raise ValueError(
            f"Grid {path} has fingerprint {grid.fingerprint()}, but says "
            f"{attributes.get('fingerprint', 'nothing')}: it was changed; restore it."
        )
    return grid
