r"""Forcing of a forecast, streamed from files: one record is held at a time.

At time t the forcing is that of the last record not later than t, as in neXtSIM_DG; there is no interpolation. A record
is valid for the usual time between two of them, and the last one for its own time only: forcing that ends, or has a
gap, is refused instead of being stretched.
"""

from __future__ import annotations

import datetime
import glob
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from halocline.io.calendar import Stamps, month_length
from halocline.io.checks import check_wet, mask_of
from halocline.io.forcing_files import FORCING, SECOND, ForcingFile, open_file, remedy
from halocline.mesh.grid import Grid
from halocline.state.variables import Variable, variable

__all__ = ["FORCING", "Forcing", "instants", "open_forcing"]

Instant = np.datetime64 | datetime.datetime | str


class Forcing:
    """Forcing along one time axis.

    Attributes:
        variables: Those that it reads.
        times: Of the records, ascending, datetime64[s].
        valid: How long a record is valid: the median time between two.
        cycle: Whether the records begin again after the last, for runs longer than they are.

    Collective: no; every rank opens and reads for itself.
    """

    def __init__(
        self, rows: Sequence[Variable], series: Sequence[Sequence[ForcingFile]], grid: Grid, cycle: bool
    ) -> None:
        self.variables = tuple(row.name for row in rows)
        self.times = np.concatenate([file.times for file in series[0]])
        steps = np.diff(self.times)
        self.valid = np.timedelta64(int(np.median(steps.astype(np.int64))) if len(steps) else 0, "s")
        self.cycle = cycle
        self._gaps = set(np.flatnonzero(2 * steps > 3 * self.valid).tolist())  # rounded times differ a little
        self._rows, self._series, self._grid = list(rows), list(series), grid
        self._held: tuple[int, dict[str, np.ndarray]] | None = None

    def read(self, when: Instant) -> dict[str, np.ndarray]:
        """Reads the forcing at a time.

        Arguments:
            when: UTC, to the second.

        Returns:
            Variable to (nj, ni), float32, in the unit of the table, 0 on land. Not to be written to: the same arrays
            are returned while the record is the same.

        Raises:
            ValueError: There is no record for that time, or it holds something impossible in the sea.
            OSError: A file cannot be read.

        Collective: no.
        """
        record = self._record(_instant(when))
        if self._held is None or self._held[0] != record:
            self._held = None  # not two records at a time
            pairs = zip(self._rows, self._series, strict=True)
            self._held = record, {row.name: self._field(row, files, record) for row, files in pairs}
        return dict(self._held[1])

    def bracket(self, when: Instant) -> tuple[np.datetime64, np.datetime64]:
        """Times of the record that is valid at a time and of the one after it.

        With `cycle` they are those of the round in which the time lies; the last record is followed by the first.

        Arguments:
            when: UTC, to the second.

        Raises:
            ValueError: There is no record for that time. Whether there is one after it is not looked at.

        Collective: no.
        """
        time = _instant(when)
        record = self._record(time)
        before = time - (self._folded(time) - self.times[record])
        later = record + 1 < len(self.times)
        return before, before + (self.times[record + 1] - self.times[record] if later else self.valid)

    def covers(self, first: Instant, last: Instant, every: np.timedelta64 | None = None) -> bool:
        """Whether all times of a run can be read; see `require`. Collective: no."""
        return not self._lacks(first, last, every)

    def require(self, first: Instant, last: Instant, every: np.timedelta64 | None = None) -> None:
        """Refuses a run whose forcing is not all there, before it begins.

        Arguments:
            first, last: Times of the run.
            every: Time between two that are read; left out, any time between first and last may be.

        Raises:
            ValueError: The forcing begins later, ends earlier, or has a gap.

        Collective: no.
        """
        if reason := self._lacks(first, last, every):
            raise ValueError(reason)

    def _lacks(self, first: Instant, last: Instant, every: np.timedelta64 | None) -> str:
        """What a run lacks, a sentence, or nothing."""
        start, end = _instant(first), _instant(last)
        step = SECOND if every is None else every.astype("timedelta64[s]")
        asked = self._asked(start, end) if every is None else np.arange(start, end + SECOND, step)
        return next((reason for when in asked if (reason := self._missing(when))), "")

    def _asked(self, start: np.datetime64, end: np.datetime64) -> np.ndarray:
        """Times of a run at which any lack shows: its ends, and the ends of the records on its way."""
        expiring = self.times[1:] - SECOND
        inside = expiring[(expiring >= start) & (expiring <= end)]
        if self.cycle and end > self.times[-1]:
            inside = expiring  # it may come to all of them
        return np.concatenate([[start], inside, [end]])

    def _missing(self, when: np.datetime64) -> str:
        """Why a time cannot be read, a sentence; nothing if it can."""
        first, last = self.times[0], self.times[-1]
        if when < first:
            return (
                f"Forcing begins at {first} with {self._file(0).path}, but {when} is needed: give files that begin "
                "earlier."
            )
        if when > last and not self.cycle:
            return (
                f"Forcing ends at {last} with {self._file(-1).path}, but {when} is needed: give files that go on to "
                "it, shorten the forecast, or let the forcing begin again (cycle)."
            )
        k, folded = self._index(when), self._folded(when)
        if k in self._gaps and folded - self.times[k] >= self.valid:
            return (
                f"Forcing has no record between {self.times[k]} ({self._file(k).path}) and {self.times[k + 1]} "
                f"({self._file(k + 1).path}), but {folded} is needed and a record is valid for {self.valid}: give the "
                "missing file."
            )
        return ""

    def _record(self, when: np.datetime64) -> int:
        if reason := self._missing(when):
            raise ValueError(reason)
        return self._index(when)

    def _folded(self, when: np.datetime64) -> np.datetime64:
        """The time within the records that stands for a later one."""
        first, period = self.times[0], self.times[-1] - self.times[0] + max(self.valid, SECOND)
        return first + (when - first) % period if self.cycle else when

    def _index(self, when: np.datetime64) -> int:
        return int(np.searchsorted(self.times, self._folded(when), side="right")) - 1

    def _file(self, record: int, files: Sequence[ForcingFile] | None = None) -> ForcingFile:
        return self._find(record % len(self.times), files or self._series[0])[0]

    @staticmethod
    def _find(record: int, files: Sequence[ForcingFile]) -> tuple[ForcingFile, int]:
        """The file of a record, and its number in it."""
        for file in files:
            if record < len(file.times):
                return file, record
            record -= len(file.times)
        raise AssertionError("a record beyond the last file")

    def _field(self, row: Variable, files: Sequence[ForcingFile], record: int) -> np.ndarray:
        file, number = self._find(record, files)
        x = file.read(row, number)
        where = f"{row.name} ({file.names[row.name]} of {file.path})"
        check_wet(row, x[None, None], self._grid, where, (number,))
        field: np.ndarray = np.where(mask_of(row, self._grid)[0], x, 0.0).astype(np.float32)
        field.setflags(write=False)
        return field


def open_forcing(
    paths: str | Path | Iterable[str | Path],
    variables: Sequence[str],
    grid: Grid,
    *,
    trajectory: int | None = None,
    cycle: bool = False,
) -> Forcing:
    """Finds the forcing of a forecast in files; see `forcing_files` for their kinds.

    Arguments:
        paths: Files or glob patterns, in any order. Variables may lie in files of their own.
        variables: Some of `FORCING`.
        grid: Of the states.
        trajectory: Which one, from 0, where files hold several.
        cycle: Begin again after the last record: a forecast may then be of any length. The period is the time from the
            first record to the end of the last.

    Raises:
        FileNotFoundError, OSError: A file does not exist or cannot be read.
        ValueError: A variable, dimension, time, mask or calendar is not as expected; files overlap. Units, shapes and
            values are looked at in the first record, and in every other one when it is read.

    Collective: no.
    """
    if unknown := [name for name in variables if name not in FORCING] or not variables:
        raise ValueError(f"Forcing {unknown or 'nothing'} was asked for, expected some of {', '.join(FORCING)}.")
    files = [open_file(path, grid, trajectory) for path in _expand(paths)]
    rows = [variable(name) for name in variables]
    forcing = Forcing(rows, [_sort(row, files) for row in rows], grid, cycle)
    for row, found in zip(rows, forcing._series, strict=True):
        times = np.concatenate([file.times for file in found])
        if not np.array_equal(times, forcing.times):
            raise ValueError(
                f"{row.name} has {len(times)} records from {times[0]} to {times[-1]}, expected those of "
                f"{rows[0].name}, {len(forcing.times)} from {forcing.times[0]} to {forcing.times[-1]}: give files of "
                "the same times."
            )
    forcing.read(forcing.times[0])
    return forcing


def _sort(row: Variable, files: Sequence[ForcingFile]) -> list[ForcingFile]:
    """Files of a variable in the order of their times.

    Raises:
        ValueError: There is none, or two overlap.
    """
    found = sorted((file for file in files if row.name in file.names), key=lambda file: file.times[0])
    if not found:
        raise ValueError(
            f"Forcing lacks {row.name}: none of {', '.join(str(file.path) for file in files[:3])} has it under a known "
            f"name; {remedy(row, 'name the file that does')}."
        )
    for one, other in pairwise(found):
        if other.times[0] <= one.times[-1]:
            raise ValueError(
                f"Files {one.path} (to {one.times[-1]}) and {other.path} (from {other.times[0]}) overlap in "
                f"{row.name}, expected one record at a time: leave one out."
            )
    return found


def _expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found = [Path(match) for pattern in given for match in sorted(glob.glob(str(pattern))) or [str(pattern)]]
    for path in found:
        if not path.is_file():
            raise FileNotFoundError(f"No file matches {path}: check the path of the forcing.")
    if not found:
        raise ValueError("No forcing is named, expected files: name some.")
    return list(dict.fromkeys(found))


def _instant(when: Instant) -> np.datetime64:
    return np.datetime64(when, "s") if not isinstance(when, np.datetime64) else when.astype("datetime64[s]")


def instants(stamps: Stamps) -> np.ndarray:
    """Times of states of a calendar with real months, datetime64[s]: the inverse of their place in the year.

    Raises:
        ValueError: A year is not known.

    Collective: no.
    """
    if (stamps.year <= 0).any():
        raise ValueError("Year of a state is 0 (unknown), expected a date: a forecast needs to know when its start is.")
    found = []
    for year, month, season in zip(stamps.year.tolist(), stamps.month.tolist(), stamps.season.tolist(), strict=True):
        begun = int(season * 12 + 1e-9)  # months of the year that have passed
        year += month == 12 and begun == 0  # the end of December is the first instant of the next year
        seconds = round((season * 12 - begun) * month_length(year, begun + 1, "standard") * 86400)
        month_begins = np.datetime64(f"{year:04d}-{begun + 1:02d}-01T00:00:00", "s")
        found.append(month_begins + np.timedelta64(max(seconds, 0), "s"))
    return np.array(found, "datetime64[s]")
