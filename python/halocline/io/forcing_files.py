"""Files that tell a forecast its forcing: when their records are, and how one is read.

Three kinds are told apart by their content:

- forcing of neXtSIM_DG: group `data`, `u`, `v`, `tair`, time in seconds since 1970. They name no units; the model's
  definition applies: m/s along the axes of the grid, degC;
- trajectories: `uas`, `vas`, `tas`, `huss` along (trajectory, time, y, x);
- CF files on the grid: one time dimension, then (y, x), under the names of CMIP, ERA5 or neXtSIM. Winds must have been
  rotated to the axes of the grid: those that call themselves eastward and northward are refused.

Any of them may hold degree-days, which `halocline degree-days` adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

from halocline.constants import KELVIN
from halocline.io.checks import check_shape, check_unit
from halocline.io.modelfile import ModelFile, open_dataset
from halocline.io.nextsim_files import FILL
from halocline.io.nextsim_grid import check_sea
from halocline.mesh.grid import Grid
from halocline.state.variables import Variable, variable

__all__ = [
    "DEGREE_DAYS", "DG_NAMES", "FLAT_NAMES", "FORCING", "ForcingFile", "convert", "instants_of", "open_file", "remedy",
    "time_axis",
]  # fmt: skip

DEGREE_DAYS = ("positive_month", "freezing_month", "positive_year", "freezing_year")
"""Those of `physics.degree_days`, in its order; they bear the same name in every file."""

FORCING = ("wind_u", "wind_v", "air_temperature", "specific_humidity", *DEGREE_DAYS)
"""Variables that a forecast can be told."""

OWN_NAMES = {name: variable(name).nextsim for name in DEGREE_DAYS}

DG_NAMES: Mapping[str, str] = {"wind_u": "u", "wind_v": "v", "air_temperature": "tair", **OWN_NAMES}

FLAT_NAMES: Mapping[str, tuple[str, ...]] = {
    "wind_u": ("uas", "u10", "10u", "10m_u_component_of_wind", "wndx"),
    "wind_v": ("vas", "v10", "10v", "10m_v_component_of_wind", "wndy"),
    "air_temperature": ("tas", "t2m", "2t", "2m_temperature", "tus"),
    "specific_humidity": ("huss", "sh2", "2sh"),
    **{name: (own,) for name, own in OWN_NAMES.items()},
}
"""Names in CMIP, ERA5 (short, GRIB, long) and neXtSIM, in the order in which they are looked for."""

CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
"""Those whose days have a place on the axis of `numpy.datetime64`."""

DG_EPOCH = "seconds since 1970-01-01"

SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True)
class ForcingFile:
    """A file of forcing.

    Attributes:
        path: Of the file.
        names: Variable to its name in the file, for those that it has.
        times: Of the records, ascending, datetime64[s].
        read: From a variable and the number of a record to (nj, ni), in the unit of the table, NaN where it is missing.
    """

    path: Path
    names: Mapping[str, str]
    times: np.ndarray
    read: Callable[[Variable, int], np.ndarray]


def open_file(path: Path, grid: Grid, trajectory: int | None) -> ForcingFile:
    """Finds the records of a file; see `forcing.open_forcing`.

    Collective: no.
    """
    with open_dataset(path) as dataset:
        in_group = "data" in dataset.groups
    opened = _open_dg(path, grid) if in_group else _open_flat(path, grid, trajectory)
    if not len(opened.times) or not (np.diff(opened.times) >= SECOND).all():
        raise ValueError(
            f"File {path} has {len(opened.times)} records whose times do not ascend, expected one after the other: "
            "sort or mend the file."
        )
    return opened


def convert(row: Variable, x: np.ndarray, unit: str, where: str) -> np.ndarray:
    """Brings a field from a file that names its unit to that of the table; kelvins become degrees.

    Raises:
        ValueError: The unit is missing or another one.

    Collective: no.
    """
    if not unit.strip():
        raise ValueError(f"Unit of {where} is missing, expected {row.unit} for {row.name}: add the attribute `units`.")
    if row.unit == "degC" and unit.strip().lower() in ("k", "kelvin"):
        return np.asarray(x - KELVIN)
    check_unit(row, unit.replace("**", "^"), where)  # ERA5 writes m s**-1
    return x


def remedy(row: Variable, usual: str) -> str:
    """Says how to come by a variable that files lack: degree-days are made, any other as usual.

    Collective: no.
    """
    if row.name not in DEGREE_DAYS:
        return usual
    return f"make a file with {row.name} by `halocline degree-days FORCING output=FILE`, and name that"


def _open_dg(path: Path, grid: Grid) -> ForcingFile:
    """Forcing of neXtSIM_DG."""
    with open_dataset(path) as dataset:
        data = dataset["data"]
        shapes = {name: x.shape for name, x in data.variables.items()}
        if "time" not in shapes:
            raise ValueError(f"File {path} has no time in group data: name a forcing file of neXtSIM_DG.")
        seconds = np.ma.filled(np.ma.asarray(data["time"][:], np.float64), np.nan)
        if "mask" in shapes:
            check_sea(np.ma.getdata(data["mask"][:]) == 1, grid, path, "name forcing on the grid of the states")
    names = {name: model for name, model in DG_NAMES.items() if model in shapes}

    def read(row: Variable, record: int) -> np.ndarray:
        name = names[row.name]
        check_shape(row, (1, *shapes[name][1:]), grid, f"{row.name} ({name} of {path})")
        with open_dataset(path) as dataset:
            dataset["data"].set_auto_maskandscale(False)
            x = np.asarray(dataset["data"][name][record])
        return np.where(np.abs(x) < FILL, x, np.nan)

    times = instants_of(seconds, DG_EPOCH, "standard", path)
    return ForcingFile(path, names, times, read)


def _open_flat(path: Path, grid: Grid, trajectory: int | None) -> ForcingFile:
    """Trajectories, or a CF file."""
    file = ModelFile(path)
    names = {row: name for row, known in FLAT_NAMES.items() for name in reversed(known) if name in file}
    if not names:
        return ForcingFile(path, {}, np.zeros(1, "datetime64[s]"), lambda row, record: np.zeros(0))
    if "mask" in file:
        check_sea(file.read("mask") == 1, grid, path, "name forcing on the grid of the states")
    _check_axes(path, names)
    axis = time_axis(file, next(iter(names.values())))
    place = _place(path, next(iter(names.values())), trajectory)

    def read(row: Variable, record: int) -> np.ndarray:
        name = names[row.name]
        where = f"{row.name} ({name} of {path})"
        x = file.read(name, (*place, slice(record, record + 1)))
        check_shape(row, (1, *x.shape[-2:]), grid, where)
        return convert(row, x.reshape(x.shape[-2:]), file.unit(name), where)

    for row, name in names.items():
        if file.dimensions[name] != file.dimensions[names[next(iter(names))]]:
            raise ValueError(
                f"{name} of {path} has dimensions {file.dimensions[name]}, expected the same for all of "
                f"{', '.join(names.values())}, from which {row} is read: give files of their own."
            )
    times = instants_of(file.read(axis), file.unit(axis), file.calendar(axis), path)
    return ForcingFile(path, names, times, read)


def _check_axes(path: Path, names: Mapping[str, str]) -> None:
    """Refuses winds along other axes than those of the grid, where the file says so.

    Raises:
        ValueError: They are eastward and northward.
    """
    with open_dataset(path) as dataset:
        for row, name in names.items():
            standard = str(getattr(dataset[name], "standard_name", ""))
            if standard in ("eastward_wind", "northward_wind"):
                raise ValueError(
                    f"{name} of {path} has the standard_name {standard}, expected {row} along the axes of the grid: "
                    "rotate it and call it x_wind or y_wind; where the axes point east and north, the name is enough."
                )


def time_axis(file: ModelFile, name: str) -> str:
    """Name of the time coordinate of a variable.

    Raises:
        ValueError: The dimensions are not ([trajectory,] time, y, x).

    Collective: no.
    """
    dimensions = file.dimensions[name]
    axis = dimensions[-3] if len(dimensions) >= 3 else ""
    if len(dimensions) not in (3, 4) or axis not in file or " since " not in file.unit(axis):
        raise ValueError(
            f"{name} of {file.path} has dimensions {dimensions}, expected (time, y, x), or trajectory before them, and "
            "a coordinate of the time with units such as 'hours since 2010-01-01': rewrite the file."
        )
    return axis


def _place(path: Path, name: str, trajectory: int | None) -> tuple[slice, ...]:
    """Where the records of a trajectory lie.

    Raises:
        ValueError: There is no such trajectory, or none was chosen among several.
    """
    with open_dataset(path) as dataset:
        shape = dataset[name].shape
    if len(shape) == 3:
        if trajectory is not None:
            raise ValueError(f"trajectory is {trajectory}, but {path} has none to choose from: leave it out.")
        return ()
    number = 0 if trajectory is None and shape[0] == 1 else trajectory
    if number is None or not 0 <= number < shape[0]:
        raise ValueError(f"trajectory is {trajectory}, expected 0 to {shape[0] - 1} of {path}: name one.")
    return (slice(number, number + 1),)


def instants_of(values: np.ndarray, units: str, calendar: str, path: Path) -> np.ndarray:
    """Times of a file as datetime64[s].

    Raises:
        ValueError: Units or calendar are not understood, or a time is missing.

    Collective: no.
    """
    if calendar not in CALENDARS:
        raise ValueError(
            f"File {path} has the calendar '{calendar}', expected one of {', '.join(CALENDARS)}: forcing and states "
            "must share a calendar with real months."
        )
    if not np.isfinite(np.asarray(values, np.float64)).all():
        raise ValueError(f"File {path} has times that are missing: mend it.")
    dates = np.asarray(
        netCDF4.num2date(np.atleast_1d(values), units, calendar, only_use_cftime_datetimes=True)
    )
    texts = [f"{d.year:04d}-{d.month:02d}-{d.day:02d}T{d.hour:02d}:{d.minute:02d}:{d.second:02d}" for d in dates]
    halves = np.array([d.microsecond >= 500000 for d in dates])  # float32 times miss whole seconds by a little
    return np.array(texts, "datetime64[s]") + halves * SECOND
