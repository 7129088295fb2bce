"""One view of a model file, whether it is global or NEMO wrote one part per rank.

The parts `NAME_0000.nc`, `NAME_0001.nc`, ... say by their `DOMAIN_*` attributes which rectangle of the grid
they hold. Ranks without sea may be missing from the decomposition: their rectangle is then missing data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np

from halocline.io.classic import missing_bytes

__all__ = ["ModelFile", "create_dataset", "open_dataset"]

_PART = re.compile(r"(?P<base>.*)_(?P<rank>\d{4,})\.nc")
_HORIZONTAL = ("y", "x")  # NEMO's names in every file of its own


@contextmanager
def open_dataset(path: Path) -> Iterator[netCDF4.Dataset]:
    """Opens a netCDF file for reading; failures in the block that the library reports name the file.

    Raises:
        FileNotFoundError: There is none.
        OSError: It is damaged or not netCDF.

    Collective: no.
    """
    if not path.is_file():
        raise FileNotFoundError(f"File {path} does not exist: check the path.")
    try:
        if lacking := missing_bytes(path):
            raise OSError(f"truncated, at least {lacking} bytes are missing")
        with netCDF4.Dataset(path) as dataset:
            yield dataset
    except (OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise OSError(
            f"File {path} cannot be read ({reason}): it is damaged or not netCDF; restore it or "
            "leave it out."
        ) from error


@contextmanager
def create_dataset(path: Path, container: Literal["NETCDF4", "NETCDF3_64BIT_OFFSET"]) -> Iterator[netCDF4.Dataset]:
    """Creates a netCDF file for writing.

    Raises:
        RuntimeError, OSError: A write or the closing failed; `atomic_path` makes a sentence of it.

    Collective: no.
    """
    with closing(netCDF4.Dataset(path, "w", format=container)) as dataset:
        yield dataset


@contextmanager
def closing(dataset: netCDF4.Dataset) -> Iterator[netCDF4.Dataset]:
    """Closes a netCDF file that is written to, also on a full disk.

    Raises:
        RuntimeError: The closing failed.

    Collective: no.
    """
    try:
        yield dataset
    finally:
        try:
            dataset.close()
        except RuntimeError:
            # On a full disk the library frees the file although closing failed. netCDF4 would close it once
            # more on garbage collection, and crash the process; an attribute set on the object would be written.
            netCDF4.Dataset._isopen.__set__(dataset, 0)  # type: ignore[attr-defined]
            raise


@dataclass(frozen=True)
class _Part:
    """A file and the rectangle of the grid that it holds."""

    path: Path
    inner: tuple[slice, slice]
    target: tuple[slice, slice]
    global_size: tuple[int, int]
    total: int


class ModelFile:
    """Reads variables of a model file on the global grid.

    Attributes:
        path: The file; of a set of parts, the first.
        attributes: Global attributes.
        dimensions: Variable name to the names of its dimensions.

    Raises:
        FileNotFoundError: The file, or a part of the set, does not exist.
        OSError: It cannot be read.
        ValueError: The parts contradict each other.

    Collective: no.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = _find(Path(path))
        with open_dataset(self.path) as dataset:
            self.attributes = _attributes(dataset)
            self.dimensions = {
                name: tuple(variable.dimensions) for name, variable in dataset.variables.items()
            }
            self._labels = {
                name: (str(getattr(variable, "units", "")), str(getattr(variable, "calendar", "")))
                for name, variable in dataset.variables.items()
            }
        self.parts = _find_parts(self.path, self.attributes)

    def __contains__(self, name: str) -> bool:
        return name in self.dimensions

    def unit(self, name: str) -> str:
        """Returns the unit of a variable, "" if the file names none."""
        return self._labels[name][0]

    def calendar(self, name: str) -> str:
        """Returns the calendar of a time coordinate; "standard" is the default of the CF conventions."""
        return self._labels[name][1] or "standard"

    @property
    def paths(self) -> list[Path]:
        """Files of the set; one if the file is global."""
        return [part.path for part in self.parts] or [self.path]

    def uncovered(self) -> np.ndarray | None:
        """Returns where no part holds data, shape (nj, ni); None if the file is global."""
        if not self.parts:
            return None
        result = np.ones(self.parts[0].global_size, bool)
        for part in self.parts:
            result[part.target] = False
        return result

    def read(self, name: str, records: slice | tuple[slice, ...] = slice(None)) -> np.ndarray:
        """Reads a variable; missing numbers are NaN, missing integers 0.

        Arguments:
            name: Variable.
            records: Along the first dimension, or the first ones, if it has more than (y, x).

        Raises:
            ValueError: There is no such variable.
            OSError: It cannot be read.
        """
        if name not in self.dimensions:
            raise ValueError(f"File {self.path} has no variable {name}: check that it is the right file.")
        if not self.parts or self.dimensions[name][-2:] != _HORIZONTAL:
            return self._read_file(self.path, name, records)
        whole: np.ndarray | None = None
        for part in self.parts:
            block = self._read_file(part.path, name, records)
            if whole is None:
                missing = np.nan if block.dtype.kind == "f" else 0
                whole = np.full((*block.shape[:-2], *part.global_size), missing, block.dtype)
            whole[(..., *part.target)] = block[(..., *part.inner)]
        assert whole is not None
        return whole

    def scalar(self, name: str) -> float | None:
        """Returns a scalar variable or a numeric attribute, None if there is neither."""
        if name in self.dimensions:
            value = self.read(name)
            return float(value.reshape(-1)[0]) if value.size == 1 else None
        attribute = self.attributes.get(name)
        return float(attribute) if isinstance(attribute, (int, float, np.number)) else None

    def _read_file(self, path: Path, name: str, records: slice | tuple[slice, ...]) -> np.ndarray:
        with open_dataset(path) as dataset:
            if name not in dataset.variables:
                raise ValueError(
                    f"File {path} has no variable {name}, which {self.path.name} has: the parts are "
                    "not of one set."
                )
            variable = dataset.variables[name]
            leading = variable.ndim > 2 or variable.dimensions[-2:] != _HORIZONTAL
            where = records if variable.ndim and leading else ...
            masked = np.ma.asarray(variable[where])
        filled: np.ndarray = masked.filled(np.nan if masked.dtype.kind == "f" else 0)
        return filled


def _attributes(dataset: netCDF4.Dataset) -> dict[str, Any]:
    return {name: dataset.getncattr(name) for name in dataset.ncattrs()}


def _find(path: Path) -> Path:
    """Finds a file from its name, its name without .nc, or the name common to its parts."""
    if path.is_file():
        return path
    base = path.with_suffix("") if path.suffix == ".nc" else path
    whole = base.with_name(base.name + ".nc")
    if whole.is_file():
        return whole
    parts = sorted(base.parent.glob(base.name + "_" + "[0-9]" * 4 + "*.nc"))
    if not parts:
        others = [whole.name] * (whole != path) + [f"{base.name}_0000.nc"]
        raise FileNotFoundError(f"File {path} does not exist, nor {' or '.join(others)}: check the path.")
    return parts[0]


def _find_parts(path: Path, attributes: dict[str, Any]) -> list[_Part]:
    """Lists all parts of a set; none if the file is global."""
    total = int(attributes.get("DOMAIN_number_total", 1))
    match = _PART.fullmatch(path.name)
    if total == 1 or match is None:
        return []
    width = len(match["rank"])
    parts = []
    for rank in range(total):
        part = path.with_name(f"{match['base']}_{rank:0{width}d}.nc")
        if not part.is_file():
            raise FileNotFoundError(
                f"File {part} does not exist, but {path.name} is one of {total} parts: restore it."
            )
        with open_dataset(part) as dataset:
            parts.append(_place(part, _attributes(dataset)))
    first = parts[0]
    for other in parts:
        if (other.global_size, other.total) != (first.global_size, total):
            raise ValueError(
                f"File {other.path} is one of {other.total} parts of a grid of "
                f"{_size(other.global_size)}, expected {total} of {_size(first.global_size)} as in "
                f"{first.path.name}: the parts are not of one set."
            )
    return parts


def _place(path: Path, attributes: dict[str, Any]) -> _Part:
    """Reads where a part lies; attributes count from 1 and run (x, y)."""

    def pair(name: str) -> tuple[int, int]:
        value = np.atleast_1d(attributes.get(f"DOMAIN_{name}", ()))
        if value.shape != (2,):
            raise ValueError(
                f"File {path} has no attribute DOMAIN_{name} of two numbers, which places it in the "
                "global grid: join the parts with NEMO's rebuild tool first."
            )
        return int(value[1]), int(value[0])

    size, first, last = pair("size_global"), pair("position_first"), pair("position_last")
    start, end = pair("halo_size_start"), pair("halo_size_end")
    local = pair("size_local")
    target = [slice(first[n] - 1 + start[n], last[n] - end[n]) for n in (0, 1)]
    inner = [slice(start[n], local[n] - end[n]) for n in (0, 1)]
    for whole, outer, own in zip(size, target, inner, strict=True):
        inside = 0 <= outer.start < outer.stop <= whole
        if not inside or outer.stop - outer.start != own.stop - own.start:
            raise ValueError(
                f"File {path} says that it holds rows {first[0]} to {last[0]} and columns {first[1]} to "
                f"{last[1]} in {_size(local)} cells of a grid of {_size(size)}, which contradicts "
                "itself: restore its DOMAIN_ attributes."
            )
    return _Part(
        path,
        (inner[0], inner[1]),
        (target[0], target[1]),
        size,
        int(attributes["DOMAIN_number_total"]),
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
