"""Files of forcing with degree-days: the air temperature of a file, record by record, and a copy of it with them.

Forcing is of one of the kinds of `forcing_files`. The copy is the file itself with four variables more, so it takes the
place of the file it was made from, as forcing and, of trajectories, as states.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from halocline.io.atomic import atomic_path
from halocline.io.forcing_files import (
    DEGREE_DAYS,
    DG_EPOCH,
    DG_NAMES,
    FLAT_NAMES,
    convert,
    instants_of,
    time_axis,
)
from halocline.io.modelfile import ModelFile, closing, open_dataset
from halocline.io.nextsim_files import FILL
from halocline.state.variables import variable

__all__ = ["AirTemperature", "open_air_temperature", "write_degree_days"]

AIR = variable("air_temperature")
COMPRESSION = ("zlib", "shuffle", "complevel", "fletcher32")
"""Of the filters of a variable, those that every netCDF library has."""

Writer = Callable[[int, int, Mapping[str, np.ndarray]], None]


class AirTemperature:
    """The air temperature of an open file, at the cells where it is known.

    Attributes:
        path: Of the file.
        name: In the file.
        times: Of the records, datetime64[s].
        runs: Number of trajectories; 1 where there is no such dimension.
        sea: Where mask is 1, or, in a file without one, where the first record has a value; (nj, ni).

    Raises:
        ValueError: There is no air temperature, or a dimension, time, mask or unit is not as expected.

    Collective: no.
    """

    def __init__(self, dataset: netCDF4.Dataset, path: Path) -> None:
        self.path, self._dg, group = path, "data" in dataset.groups, _main(dataset)
        self.name, self.times = _find(group, path, self._dg)
        if not len(self.times):
            raise ValueError(f"File {path} has no record of {self.name}, expected some: name forcing that has them.")
        self._data = group[self.name]
        shape = self._data.shape
        self.runs = shape[0] if len(shape) == 4 else 1
        _hold_chunks(self._data)
        self.sea = self._sea(group)

    def read(self, run: int, record: int) -> np.ndarray:
        """Reads one record of one trajectory: degC, float64, at the cells of `sea`, row after row.

        Raises:
            ValueError: A value is missing, or is no temperature.
        """
        x = self._field(run, record)[self.sea]
        low, high = AIR.bounds
        if not ((x >= low) & (x <= high)).all():
            k = int(np.flatnonzero(~((x >= low) & (x <= high)))[0])
            j, i = (int(n) for n in np.argwhere(self.sea)[k])
            raise ValueError(
                f"{AIR.name} ({self.name} of {self.path}) is {x[k]:g} degC at {self.times[record]}, trajectory {run}, "
                f"j={j}, i={i}, expected {low:g} to {high:g} wherever there is sea: mend the file, or correct the unit."
            )
        return x

    def place(self, run: int, record: int) -> tuple[int, ...]:
        """Where a record lies along the first dimensions."""
        return (run, record) if len(self._data.shape) == 4 else (record,)

    def _field(self, run: int, record: int) -> np.ndarray:
        x = _read(self._data, self.place(run, record), self.path)
        x = np.ma.filled(np.ma.asarray(x, np.float64), np.nan)
        x = np.where(np.abs(x) < FILL, x, np.nan)
        unit = "degC" if self._dg else str(getattr(self._data, "units", ""))  # files of neXtSIM_DG name none
        return convert(AIR, x, unit, f"{AIR.name} ({self.name} of {self.path})")

    def _sea(self, group: netCDF4.Dataset) -> np.ndarray:
        sea = np.isfinite(self._field(0, 0))
        if "mask" in group.variables:
            mask = np.ma.getdata(_read(group["mask"], ..., self.path))
            if mask.shape != sea.shape:
                raise ValueError(
                    f"mask of {self.path} has the shape {mask.shape}, expected {sea.shape} (y, x) of {self.name}: "
                    "correct the file."
                )
            sea = mask == 1
        if not sea.any():
            raise ValueError(
                f"{self.name} of {self.path} has no cell of sea, expected values in its first record: correct the file."
            )
        return sea


@contextmanager
def open_air_temperature(path: Path) -> Iterator[AirTemperature]:
    """Opens the forcing of which degree-days are wanted.

    Raises:
        FileNotFoundError, OSError: There is no such file, or it is not netCDF.
        ValueError: See `AirTemperature`; the file has degree-days already.

    Collective: no.
    """
    if path.is_dir():
        raise ValueError(f"Forcing {path} is a folder, expected a netCDF file: name the file.")
    with open_dataset(path):
        pass  # it says what is wrong with a file that is none; in the block, others write
    with netCDF4.Dataset(path) as dataset:
        yield AirTemperature(dataset, path)


@contextmanager
def write_degree_days(path: Path, air: AirTemperature) -> Iterator[Writer]:
    """Copies a file and gives what adds degree-days to the copy; whole or not at all.

    The writer takes the numbers of trajectory and record, and the degree-days, K, by name, at the cells of `air.sea`.
    They are kept as float32, and are missing elsewhere.

    Raises:
        OSError: The file cannot be written.

    Collective: no, one rank writes.
    """
    with atomic_path(path) as temporary:
        shutil.copyfile(air.path, temporary)
        with closing(netCDF4.Dataset(temporary, "a")) as dataset:
            made = {name: _define(_main(dataset), air.name, name) for name in DEGREE_DAYS}

            def write(run: int, record: int, fields: Mapping[str, np.ndarray]) -> None:
                for name, target in made.items():
                    x = np.full(air.sea.shape, np.nan, np.float32)
                    x[air.sea] = fields[name]
                    target[air.place(run, record)] = x

            yield write


def _main(dataset: netCDF4.Dataset) -> netCDF4.Dataset:
    """Where the variables are: in the group `data` of neXtSIM_DG's files."""
    return dataset.groups.get("data", dataset)


def _find(group: netCDF4.Dataset, path: Path, dg: bool) -> tuple[str, np.ndarray]:
    """Name of the air temperature, and the times of its records.

    Raises:
        ValueError: There is none, the dimensions are others, or there are degree-days already.
    """
    known = (DG_NAMES[AIR.name],) if dg else FLAT_NAMES[AIR.name]
    name = next((name for name in known if name in group.variables), "")
    if not name:
        raise ValueError(
            f"File {path} has {', '.join(group.variables) or 'nothing'}, expected an air temperature, "
            f"{' or '.join(known)}: name forcing that has it."
        )
    if held := [own for key in DEGREE_DAYS if (own := variable(key).nextsim) in group.variables]:
        raise ValueError(f"File {path} has {', '.join(held)} already, expected forcing without: use it as it is.")
    if not dg:
        file = ModelFile(path)
        axis = time_axis(file, name)
        return name, instants_of(file.read(axis), file.unit(axis), file.calendar(axis), path)
    if "time" not in group.variables or group[name].ndim != 3:
        raise ValueError(
            f"File {path} has no time in group data, or {name} is not (time, y, x): name a forcing file of neXtSIM_DG."
        )
    seconds = np.ma.filled(np.ma.asarray(_read(group["time"], ..., path), np.float64), np.nan)
    return name, instants_of(seconds, DG_EPOCH, "standard", path)


def _read(x: netCDF4.Variable, part: object, path: Path) -> np.ndarray:
    """Values of a variable.

    Raises:
        ValueError: The library cannot read them. (An error of its own kind would pass for one of writing.)
    """
    try:
        values: np.ndarray = x[part]
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{x.name} of {path} cannot be read ({error}): the file is damaged; restore it.") from error
    return values


def _define(group: netCDF4.Dataset, like: str, name: str) -> netCDF4.Variable:
    """Creates a field of degree-days beside the air temperature, compressed if that is, a record to a chunk."""
    row, air = variable(name), group[like]
    filters = dict(air.filters() or {})  # a classic file has none, and no chunks
    storage: dict[str, Any] = {key: filters[key] for key in COMPRESSION if filters.get(key)}
    if isinstance(air.chunking(), (list, tuple)):
        storage["chunksizes"] = (*(1,) * (air.ndim - 2), *air.shape[-2:])
    made = group.createVariable(row.nextsim, "f4", air.dimensions, fill_value=np.float32(np.nan), **storage)
    made.setncatts({"long_name": row.long_name, "units": row.unit})
    _hold_chunks(made)
    return made


def _hold_chunks(x: netCDF4.Variable) -> None:
    """Keeps in memory the chunks that a record touches: 64 MiB, the library's choice, may be too little or too much."""
    chunks = x.chunking()
    if isinstance(chunks, (list, tuple)):
        count = math.prod(-(-size // chunk) for size, chunk in zip(x.shape[-2:], chunks[-2:], strict=True))
        x.set_var_chunk_cache(count * math.prod(chunks) * x.dtype.itemsize, max(1009, 11 * count), 0.75)
