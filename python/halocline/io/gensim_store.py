"""States under GenSIM's names along one time axis: its stores (zarr), Moorings of classic neXtSIM, netCDF like them.

Three layouts are told apart by what is in the file or store:

- variables (time, y, x): Moorings, and what is cut from them;
- variables (time, grid): the cells of sea only, row after row, as GenSIM's yearly archives have them;
- one array `datacube` (time, var_names, grid) with the names in `var_names`: GenSIM's training stores. They carry no
  units; those of the model apply (concentration and damage as fractions, metres, m/s), and K for the air temperature.

`sit`, `snt` are volumes per cell area and `sic`, `sit`, `snt` totals, young ice included. `sid` is 0 where the ice is
intact; so is `damage` of Moorings, which say what they are. Any other `damage` is refused: its sign is not known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import zarr

from halocline.constants import KELVIN
from halocline.io.calendar import Stamps, from_dates
from halocline.io.checks import check_land, check_shape
from halocline.io.forcing_files import convert, remedy
from halocline.io.modelfile import ModelFile, open_dataset
from halocline.io.nextsim_grid import check_sea
from halocline.mesh.grid import Grid
from halocline.state.variables import Variable

__all__ = ["holds_flat", "open_flat", "store_files"]

CUBE, MOORINGS = "datacube", "neXtSIM model fields"
NAMES: Mapping[str, tuple[str, ...]] = {
    "damage": ("sid", "damage"),
    "air_temperature": ("tas", "tus"),
    "wind_u": ("uas", "wndx"),
    "wind_v": ("vas", "wndy"),
}
"""Where a variable has more than the name of the table; the first that is there is taken."""

MISSING = 1.0e13
"""Numbers as large as this are fill values: -1e14 in Moorings."""

PLACE = 1.0e-3
"""Largest difference between positions of one grid, degrees: what float32 and a projection may do to them."""

MOST_FILES = 64
"""Of a store that are looked at to see whether it has changed."""

Reader = Callable[[Variable, np.ndarray], np.ndarray]


class _Fields(ABC):
    """What a file or store holds, however it is laid out.

    Attributes:
        path: Of it.
        names: Of its variables.
        source: What it says of where it comes from.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: tuple[str, ...] = ()
        self.source = ""

    @abstractmethod
    def attributes(self, name: str) -> dict[str, str]: ...

    @abstractmethod
    def dimensions(self, name: str) -> tuple[str, ...]: ...

    @abstractmethod
    def read(self, name: str, records: np.ndarray | None = None) -> np.ndarray:
        """Values, all or those of some numbers along the first dimension."""


class _Netcdf(_Fields):
    """A netCDF file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = ModelFile(path)
        self.names = tuple(self._file.dimensions)
        with open_dataset(path) as dataset:
            self.source = str(getattr(dataset, "source", ""))
            self._attributes = {
                name: {key: str(x.getncattr(key)) for key in x.ncattrs()} for name, x in dataset.variables.items()
            }

    def attributes(self, name: str) -> dict[str, str]:
        return self._attributes[name]

    def dimensions(self, name: str) -> tuple[str, ...]:
        return self._file.dimensions[name]

    def read(self, name: str, records: np.ndarray | None = None) -> np.ndarray:
        if records is None:
            return self._file.read(name)
        low, high = int(records.min()), int(records.max()) + 1
        return self._file.read(name, slice(low, high))[records - low]


class _Zarr(_Fields):
    """A zarr store as xarray writes it; the variables of a data cube appear under their own names."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._group = zarr.open_group(path, mode="r")
        self.source = str(self._group.attrs.get("source", ""))
        arrays = dict(self._group.arrays())
        self._cube: dict[str, int] = {}
        if CUBE in arrays:
            self._cube = {str(name): k for k, name in enumerate(np.asarray(arrays["var_names"][:]))}
        self._arrays = arrays
        self.names = (*(name for name in arrays if name != CUBE), *self._cube)

    def attributes(self, name: str) -> dict[str, str]:
        return {} if name in self._cube else {key: str(x) for key, x in self._arrays[name].attrs.items()}

    def dimensions(self, name: str) -> tuple[str, ...]:
        array = self._arrays[CUBE if name in self._cube else name]
        found = array.attrs.asdict().get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None)
        return tuple(str(axis) for axis in found if axis != "var_names") if isinstance(found, (list, tuple)) else ()

    def read(self, name: str, records: np.ndarray | None = None) -> np.ndarray:
        if name in self._cube:
            return np.asarray(self._arrays[CUBE].oindex[_all(records), self._cube[name]])
        array = self._arrays[name]
        x = np.asarray(array[...] if records is None else array.oindex[_all(records)])
        return _decoded(x, array.attrs.asdict())

    def is_cube(self, name: str) -> bool:
        """Whether a variable is one of the data cube."""
        return name in self._cube


def holds_flat(path: Path) -> bool:
    """Whether a file or store is one that `open_flat` reads.

    Collective: no.
    """
    try:
        fields = _open(path)
        return any(name in fields.names and _is_flat(fields.dimensions(name)) for name in ("sic", "sit"))
    except (OSError, ValueError, KeyError):
        return False  # whoever reads it next says what is wrong with it


def store_files(path: Path) -> tuple[Path, ...]:
    """Files by which a store is known again: those that describe it, and some of its chunks. Collective: no."""
    found = sorted(file for file in path.rglob("*") if file.is_file())
    describing = [file for file in found if file.name in ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")]
    chunks = [file for file in found if file not in set(describing)]
    every = max(1, -(-len(chunks) // MOST_FILES))
    return (*describing, *chunks[::every])


def open_flat(path: Path, grid: Grid) -> tuple[Stamps, Reader]:
    """Finds the states of a file or store.

    Arguments:
        path: Of it.
        grid: Of the same cells.

    Returns:
        Times of its states, and what reads a variable of some of them: (state, 1, j, i), NaN where a value is missing.

    Raises:
        ValueError: The grid, a dimension or the time is not as expected. Names, units and values are looked at when a
            variable is read.

    Collective: no.
    """
    fields = _open(path)
    if "time" not in fields.names or " since " not in fields.attributes("time").get("units", ""):
        raise ValueError(
            f"{path} has no coordinate time with units such as 'hours since 1995-01-01': correct the paths of the "
            "states."
        )
    _check_place(fields, grid)
    about = fields.attributes("time")
    stamps = from_dates(fields.read("time"), about["units"], about.get("calendar", "standard"))

    def read(row: Variable, records: np.ndarray) -> np.ndarray:
        name = _name(row, fields)
        where = f"{row.name} ({name} of {path})"
        if row.sign < 0:
            _check_axes(fields, name, where)
        x = _spread(fields, name, records, grid, where)
        x = np.where(np.abs(x) < MISSING, x, np.nan)[:, None]
        check_shape(row, x.shape[1:], grid, where)
        check_land(row, x, grid, where)
        if isinstance(fields, _Zarr) and fields.is_cube(name):
            return x - KELVIN if row.name == "air_temperature" else x
        return convert(row, x, fields.attributes(name).get("units", ""), where)

    return stamps, read


def _open(path: Path) -> _Fields:
    return _Zarr(path) if path.is_dir() else _Netcdf(path)


def _is_flat(dimensions: tuple[str, ...]) -> bool:
    return dimensions[:1] == ("time",) and len(dimensions) in (2, 3)


def _name(row: Variable, fields: _Fields) -> str:
    """Name of a variable.

    Raises:
        ValueError: It is not there, or is damage of which the sign is not known.
    """
    known = NAMES.get(row.name, (row.nextsim,) if row.nextsim else ())
    name = next((name for name in known if name in fields.names), "")
    if not name:
        usual = f"leave {row.name} out of the variables, or name files that have it"
        raise ValueError(f"{fields.path} lacks {' or '.join(known) or row.name}: {remedy(row, usual)}.")
    if name == "damage" and fields.attributes(name).get("standard_name") != "sea_ice_damage":
        raise ValueError(
            f"damage of {fields.path} may be 0 or 1 where the ice is intact, expected sid, or the standard_name "
            "sea_ice_damage of classic neXtSIM's Moorings (0 intact): rename it if it is that, else turn it round "
            "first."
        )
    return name


def _check_axes(fields: _Fields, name: str, where: str) -> None:
    """Refuses vectors that point east and north, where a file tells; Moorings tell by their false easting, of 0 or 1.

    Raises:
        ValueError: They do.
    """
    known = {fields.attributes(n).get("false_easting", "") for n in fields.names if fields.source == MOORINGS}
    told = "a false_easting of 0" if known & {"0", "0.0"} else fields.attributes(name).get("standard_name", "")
    if told.startswith(("a false_", "eastward_", "northward_")):
        raise ValueError(
            f"{where} has {told}: it points east and north, expected components along the axes of the grid: write "
            "Moorings with moorings.false_easting=true, or turn the vectors first."
        )


def _spread(fields: _Fields, name: str, records: np.ndarray, grid: Grid, where: str) -> np.ndarray:
    """Values of some states on the grid, (state, j, i); land is NaN where the store has cells of sea only.

    Raises:
        ValueError: The dimensions are others, or the cells are not as many as those of the sea.
    """
    dimensions = fields.dimensions(name)
    if not _is_flat(dimensions):
        raise ValueError(f"{where} has dimensions {dimensions}, expected (time, y, x) or (time, grid): rewrite it.")
    x = fields.read(name, records)
    if x.ndim == 3:
        return x
    sea = grid.tmask[0]
    if x.shape[1] != sea.sum():
        raise ValueError(
            f"{where} has {x.shape[1]} cells in a row, expected the {int(sea.sum())} of the sea of the grid: name "
            "the grid whose mask the store was made with."
        )
    spread = np.full((len(x), *sea.shape), np.nan, x.dtype)
    spread[:, sea] = x
    return spread


def _check_place(fields: _Fields, grid: Grid) -> None:
    """Refuses states of another grid, as far as it shows.

    Raises:
        ValueError: Positions or mask differ.
    """
    if "mask" in fields.names and len(fields.dimensions("mask")) == 2:
        check_sea(fields.read("mask") == 1, grid, fields.path, "name the grid file of the same configuration")
    for name, expected in (("latitude", grid.gphit), ("longitude", grid.glamt)):
        if name not in fields.names or len(fields.dimensions(name)) != 2:
            continue
        x = fields.read(name)
        same = x.shape == expected.shape
        # a degree of longitude is short near the pole
        scale = np.cos(np.deg2rad(grid.gphit)) if name == "longitude" else 1.0
        if not same or (np.abs((x - expected + 180.0) % 360.0 - 180.0) * scale > PLACE).any():
            raise ValueError(
                f"{name} of {fields.path}, of shape {x.shape}, is not that of the grid of shape {expected.shape}: name "
                "the grid file of the same cells."
            )


def _all(records: np.ndarray | None) -> np.ndarray | slice:
    return slice(None) if records is None else records


def _decoded(x: np.ndarray, attributes: Mapping[str, object]) -> np.ndarray:
    """Undoes what xarray does to numbers that it packs."""
    scale, offset = (float(str(attributes.get(key, usual))) for key, usual in (("scale_factor", 1), ("add_offset", 0)))
    fill = attributes.get("_FillValue")
    missing = x == fill if isinstance(fill, (int, float)) else None
    if (scale, offset) != (1.0, 0.0):
        x = x * scale + offset
    return x if missing is None or x.dtype.kind != "f" else np.where(missing, np.nan, x)
