"""What the record of a running model is about, and how its file is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import netCDF4
import numpy as np

from halocline.io.calendar import ordinal

__all__ = ["EDGES", "LONGEST_REASON", "UNCHECKED", "Series", "Setting", "clock_text", "define", "differences"]

LONGEST_REASON = 512
UNCHECKED = -1
FIRST_YEAR = 1583  # first whole year of the Gregorian calendar; before, CF's "standard" is the Julian one
PROLEPTIC = "proleptic_gregorian"
EDGES = ("low", "high", "reject_low", "reject_high")
EDGE_MEANINGS = ("lowest ok value", "highest ok value", "lowest value not rejected", "highest value not rejected")


@dataclass(frozen=True)
class Series:
    """Unit and meaning of a diagnostic; `dims` is empty, ("k",) or ("w",) for what is recorded."""

    unit: str
    meaning: str
    dims: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Setting:
    """What a record is about.

    Attributes:
        run, training_step: The emulator that judges.
        grid: Fingerprint.
        sizes: (nk, nj, ni).
        depth: Of the levels, m, shape (nk).
        depth_w: Of the interfaces between them, m, shape (nk - 1).
        calendar: "360_day", "noleap" or "standard".
        time_step: Of the model, s.
        step, date: Those of the start; date is yyyymmdd.
        limits: Check to its limits: low, high, reject_low, reject_high.
        levels, actions: Names, in the order of their numbers.
    """

    run: str
    training_step: int
    grid: str
    sizes: tuple[int, int, int]
    depth: np.ndarray
    depth_w: np.ndarray
    calendar: str
    time_step: float
    step: int
    date: int
    limits: Mapping[str, tuple[float, float, float, float]]
    levels: tuple[str, ...]
    actions: tuple[str, ...]

    def since(self, origin: int, time: float) -> float:
        """Seconds from the beginning of a day, yyyymmdd, to a model time, s since step 0."""
        days = _day(self.date, self.calendar) - _day(origin, self.calendar)
        return 86400.0 * days + time - self.step * self.time_step

    def clock(self, time: float) -> str:
        """Date and time of the day of a model time, s since step 0."""
        units, calendar = _axis(self.date, self.calendar)
        return clock_text(self.since(self.date, time), units, calendar)


def define(dataset: netCDF4.Dataset, setting: Setting, rows: Mapping[str, Series]) -> None:
    """Writes everything but the records."""
    names = np.array(list(setting.limits))
    longest = max(len(name) for name in setting.limits)
    sizes = {"k": len(setting.depth), "w": len(setting.depth_w), "check": len(names), "name_length": longest}
    for name, size in {"time": None, **sizes, "reason_length": LONGEST_REASON}.items():
        if size != 0:  # a grid of one level has no interfaces; 0 would mean unlimited
            dataset.createDimension(name, size)
    dataset.setncatts({
        "Conventions": "CF-1.8", "title": "Verdicts and diagnostics of a running model", "run": setting.run,
        "training_step": np.int32(setting.training_step), "grid": setting.grid,
        "sizes": np.array(setting.sizes, np.int32), "model_calendar": setting.calendar,
        "origin": np.int32(setting.date),
    })  # fmt: skip
    units, calendar = _axis(setting.date, setting.calendar)
    _variable(dataset, "time", "f8", ("time",), standard_name="time", units=units, calendar=calendar, axis="T")
    _variable(dataset, "step", "f8", ("time",), long_name="time step of the model", units="1")
    for name, meaning, words in (("level", "level of the verdict", setting.levels),
                                 ("action", "what the model was asked to do", setting.actions)):  # fmt: skip
        _variable(dataset, name, "i1", ("time",), long_name=meaning, **_flags(words))
    _variable(dataset, "reason", "S1", ("time", "reason_length"), long_name="reason of the verdict", _Encoding="utf-8")
    _define_checks(dataset, setting, names)
    for name, values in (("k", setting.depth), ("w", setting.depth_w)):
        if len(values):
            what = "levels" if name == "k" else "interfaces between levels"
            _variable(dataset, f"depth_{name}", "f8", (name,), standard_name="depth", long_name=f"depth of {what}",
                      units="m", positive="down")[:] = values  # fmt: skip
    for name, row in rows.items():
        where = {"coordinates": f"depth_{row.dims[0]}"} if row.dims else {}
        _variable(dataset, name, "f8", ("time", *row.dims), long_name=row.meaning, units=row.unit, **where)


def _define_checks(dataset: netCDF4.Dataset, setting: Setting, names: np.ndarray) -> None:
    label = {"long_name": "name of the check", "_Encoding": "utf-8"}
    _variable(dataset, "check", "S1", ("check", "name_length"), **label)[:] = names
    for column, (edge, meaning) in enumerate(zip(EDGES, EDGE_MEANINGS, strict=True)):
        values = [limits[column] for limits in setting.limits.values()]
        _variable(dataset, f"check_{edge}", "f8", ("check",), long_name=meaning)[:] = values
    _variable(dataset, "check_value", "f8", ("time", "check"), long_name="value, in the unit of the diagnostic")
    flags = _flags(("unchecked", *setting.levels), UNCHECKED)
    _variable(dataset, "check_status", "i1", ("time", "check"), long_name="status of each check", **flags)


def _variable(
    dataset: netCDF4.Dataset, name: str, kind: str, dims: tuple[str, ...], **attributes: object
) -> netCDF4.Variable:
    fill = np.nan if kind == "f8" and name not in ("time", "step") else False
    variable = dataset.createVariable(name, kind, dims, fill_value=fill)
    variable.setncatts(attributes)
    return variable


def _flags(words: tuple[str, ...], first: int = 0) -> dict[str, object]:
    return {"flag_values": np.arange(first, first + len(words), dtype=np.int8), "flag_meanings": " ".join(words)}


def differences(dataset: netCDF4.Dataset, setting: Setting) -> list[str]:
    """Says why a file is not the record of a setting."""
    if "check_value" not in dataset.variables or "origin" not in dataset.ncattrs():
        return ["it is not a record of verdicts"]
    attributes = {"grid": setting.grid, "model_calendar": setting.calendar, "training_step": setting.training_step}
    result = [
        f"it has {name.replace('_', ' ')} {dataset.getncattr(name)}, expected {value}"
        for name, value in attributes.items()
        if dataset.getncattr(name) != value
    ]
    names = [str(name) for name in dataset["check"][:]]
    if names != list(setting.limits):
        return [*result, f"it has the checks {', '.join(names)}, expected {', '.join(setting.limits)}"]
    edges = np.stack([np.ma.getdata(dataset[f"check_{edge}"][:]) for edge in EDGES], axis=1)
    for row, (name, limits) in zip(edges.tolist(), setting.limits.items(), strict=True):
        if tuple(row) != tuple(limits):
            return [*result, f"its check {name} has the limits {tuple(row)}, expected {limits}"]
    return result


def clock_text(seconds: float, units: str, calendar: str) -> str:
    """Date and time of the day, such as "0001-02-01 00:00"."""
    seconds_only = np.array([round(seconds)])
    (date,) = np.asarray(netCDF4.num2date(seconds_only, units, calendar, only_use_cftime_datetimes=True))
    return f"{date.year:04d}-{date.month:02d}-{date.day:02d} {date.hour:02d}:{date.minute:02d}"


def _axis(date: int, calendar: str) -> tuple[str, str]:
    """Units and CF calendar of a time axis that begins with a day, yyyymmdd."""
    year, month, day = date // 10000, date // 100 % 100, date % 100
    name = PROLEPTIC if calendar == "standard" and year < FIRST_YEAR else calendar
    return f"seconds since {year:04d}-{month:02d}-{day:02d} 00:00:00", name


def _day(date: int, calendar: str) -> int:
    """Counts days; 400 years are added because the year 0, with which idealised runs may start, has no ordinal."""
    return ordinal(date // 10000 + 400, date // 100 % 100, date % 100, calendar)
