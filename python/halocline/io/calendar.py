"""Dates of model files as a place in the year.

The season is a fraction of the year in [0, 1), every month a twelfth: 0 is 1 January 0:00, 0.25 the end of
March. An instant at the very end of a month belongs to the month that it closes.
"""

from __future__ import annotations

import calendar
import datetime
import math
from dataclasses import dataclass

import netCDF4
import numpy as np

__all__ = ["CALENDARS", "Stamps", "from_dates", "from_ndastp", "last_day", "month_length", "ordinal"]

CALENDARS = ("360_day", "noleap", "standard")
"""NEMO's nn_leapy = 30, 0 and 1."""


@dataclass(frozen=True, eq=False)
class Stamps:
    """Times of the states of a file, each of shape (state).

    Attributes:
        year: 0 if unknown.
        month: Month that the state closes or lies in, 1 to 12.
        season: Fraction of the year, in [0, 1).
        time: Days, from the origin that the file has; NaN if unknown.
    """

    year: np.ndarray
    month: np.ndarray
    season: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.month)

    def take(self, index: np.ndarray) -> Stamps:
        """Selects states."""
        return Stamps(self.year[index], self.month[index], self.season[index], self.time[index])

    def same(self, other: Stamps) -> bool:
        """Whether both name the same states in the same order."""
        return len(self) == len(other) and bool(
            (self.year == other.year).all()
            and (self.month == other.month).all()
            and np.allclose(self.season, other.season, atol=1e-6)  # seconds, of a float coordinate
        )

    @classmethod
    def concatenate(cls, parts: list[Stamps]) -> Stamps:
        """Appends the states of several files."""
        names = ("year", "month", "season", "time")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def month_length(year: int, month: int, kind: str) -> int:
    """Returns the days of a month.

    Raises:
        ValueError: Unknown calendar.
    """
    if kind in ("360_day", "360"):
        return 30
    if kind in ("noleap", "365_day"):
        return calendar.monthrange(2001, month)[1]
    if kind in ("standard", "gregorian", "proleptic_gregorian"):
        return calendar.monthrange(year, month)[1]
    raise ValueError(f"Calendar '{kind}' is unknown, expected one of {', '.join(CALENDARS)}.")


def from_dates(values: np.ndarray, units: str, kind: str) -> Stamps:
    """Reads a time coordinate.

    Arguments:
        values: Numbers of the coordinate.
        units: Such as "days since 0001-01-01".
        kind: Calendar, by its CF name.

    Raises:
        ValueError: Units or calendar are not understood.
    """
    values = np.atleast_1d(values)
    dates: np.ndarray = np.asarray(
        netCDF4.num2date(values, units, kind, only_use_cftime_datetimes=True)
    )
    years, months, seasons = [], [], []
    for date in dates:
        length = month_length(date.year, date.month, kind)
        seconds = date.hour * 3600 + date.minute * 60 + date.second
        place = date.month - 1 + (date.day - 1 + seconds / 86400) / length
        closes_previous = date.day == 1 and seconds == 0
        years.append(date.year - (closes_previous and date.month == 1))
        months.append((date.month - 2) % 12 + 1 if closes_previous else date.month)
        seasons.append(place / 12 % 1.0)
    origin = "days" + units[units.index(" since ") :]
    days = np.asarray(netCDF4.date2num(dates, origin, kind), np.float64)
    return Stamps(np.array(years), np.array(months), np.array(seasons), days)


def from_ndastp(ndastp: float, elapsed: float | None) -> Stamps:
    """Reads the date of a restart.

    Arguments:
        ndastp: Last day run, yyyymmdd.
        elapsed: Days since the start of the run (`adatrj`), whose fraction is the time of the day.

    The restart does not name its calendar: each month is taken to have 30 days, which puts the end of
    February two days early where the model has real months, and is exact where it has not.

    Raises:
        ValueError: It is not a date.
    """
    year, month, day = int(ndastp) // 10000, int(ndastp) // 100 % 100, int(ndastp) % 100
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f"ndastp is {int(ndastp)}, expected a date yyyymmdd: restore it.")
    fraction = 0.0 if elapsed is None else elapsed - math.floor(elapsed + 1e-6)
    through_day = fraction if fraction > 1e-6 else 1.0
    place = month - 1 + min(day - 1 + through_day, 30.0) / 30.0
    time = math.nan if elapsed is None else elapsed
    return Stamps(*(np.array([value]) for value in (year, month, place / 12 % 1.0, time)))


def last_day(month: float, year: int, kind: str) -> tuple[int, int, int]:
    """Finds the last day that was run up to a time of the year.

    Arguments:
        month: Months since 1 January 0:00, in [0, 12]; 3 is the end of March, 2.5 its middle.
        year: Of the state, if it lies in it or closes it.
        kind: Calendar.

    Returns:
        Year, month, day.

    Raises:
        ValueError: The time is outside the year, or the calendar unknown.
    """
    if not 0.0 <= month <= 12.0:
        raise ValueError(f"month is {month}, expected months since 1 January in [0, 12].")
    whole = int(month)
    if whole < 12:
        day = round((month - whole) * month_length(year, whole + 1, kind))
        if day > 0:
            return year, whole + 1, day
    closed = whole if whole > 0 else 12
    return year, closed, month_length(year, closed, kind)


def ordinal(year: int, month: int, day: int, kind: str) -> int:
    """Counts days from a fixed origin.

    Raises:
        ValueError: The calendar has no such day.
    """
    if not (1 <= month <= 12 and 1 <= day <= month_length(year, month, kind)):
        raise ValueError(
            f"{year:04d}-{month:02d}-{day:02d} is no date of calendar {kind}, expected one of "
            f"{', '.join(CALENDARS)} that has it: name the model's calendar."
        )
    if kind == "standard":
        return datetime.date(year, month, day).toordinal()
    days = sum(month_length(2001, m, kind) for m in range(1, month))
    return year * (360 if kind == "360_day" else 365) + days + day
