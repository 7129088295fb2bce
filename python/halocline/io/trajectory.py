"""The record of a running model: its verdicts and diagnostics, one record per observed state, in time order.

Dimensions are time (unlimited), check, k (levels) and w (interfaces between them). A model that is started again from a
restart goes on in the record of its first part.
"""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
from numpy.typing import ArrayLike

from halocline.io.atomic import atomic_path
from halocline.io.modelfile import create_dataset, open_dataset
from halocline.io.records import RecordFile
from halocline.io.trajectory_layout import (
    EDGES,
    LONGEST_REASON,
    UNCHECKED,
    Series,
    Setting,
    clock_text,
    define,
    differences,
)

__all__ = ["CheckRecord", "Recent", "Series", "Setting", "Trajectory", "read_recent"]


@dataclass(frozen=True)
class CheckRecord:
    """Value and status of a check; the status is the number of its level."""

    value: float
    status: int


class Trajectory:
    """Appends to a record, which is made with the first state. Use by one process.

    A state as old as, or older than, the newest one in the record replaces all that is not older than itself, so time
    always grows. What another run of the model had recorded there is first kept in a copy.

    Arguments:
        path: File; one that exists is continued.
        setting: What it is about.
        catalogue: Diagnostics that may be recorded; those with other dimensions than k and w are not.

    Raises:
        OSError: An existing file cannot be opened or read, or another process appends to it.
        ValueError: It is a record of something else.

    Collective: no.
    """

    def __init__(self, path: Path, setting: Setting, catalogue: Mapping[str, Series]) -> None:
        self.path, self.setting, self.catalogue = path, setting, catalogue
        self.origin = setting.date
        self._times: list[float] = []
        self._file: RecordFile | None = None
        if path.exists():
            self._resume()
        self._earlier = len(self._times)  # records of earlier runs of the model

    def append(
        self,
        time: float,
        step: int,
        verdict: tuple[int, int, str],
        checks: Mapping[str, CheckRecord],
        diagnostics: Mapping[str, np.ndarray],
    ) -> Path | None:
        """Adds a state.

        Arguments:
            time: Model time, s since step 0.
            step: Its number.
            verdict: Level, action, reason.
            checks: Those made; others of the setting count as unchecked.
            diagnostics: Name to number or profile; a new record keeps those of its first state.

        Returns:
            The copy that was made of what the state replaces, if any.

        Raises:
            OSError: The record could not be written; what is in it is unharmed.
        """
        if self._file is None:
            self._create(diagnostics)
        assert self._file is not None
        seconds = self.setting.since(self.origin, time)
        kept = self._go_back(seconds)
        numbers = {name: diagnostics[name] for name in self._recorded if name in diagnostics}
        self._file.append({"time": seconds, "step": step, **_verdict(*verdict), **self._checks(checks), **numbers})
        self._times.append(seconds)
        return kept

    def close(self) -> None:
        """Ends writing."""
        if self._file is not None:
            self._file.close()

    def _checks(self, checks: Mapping[str, CheckRecord]) -> dict[str, ArrayLike]:
        missing = CheckRecord(np.nan, UNCHECKED)
        rows = [checks.get(name, missing) for name in self.setting.limits]
        return {
            "check_value": np.array([row.value for row in rows]),
            "check_status": np.array([row.status for row in rows], np.int8),
        }

    def _go_back(self, seconds: float) -> Path | None:
        """Forgets what is not older than a time."""
        assert self._file is not None
        keep = bisect_left(self._times, seconds)
        if keep == len(self._times):
            return None
        copy = None
        if keep < self._earlier:
            copy = _free_name(self.path)
            with atomic_path(copy) as temporary:
                shutil.copyfile(self.path, temporary)
            self._earlier = keep
        self._file.cut(keep)
        del self._times[keep:]
        return copy

    def _resume(self) -> None:
        """Opens an existing record."""
        with open_dataset(self.path) as dataset:
            if lines := differences(dataset, self.setting):
                raise ValueError(
                    f"Record {self.path} cannot be continued: {'; '.join(lines)}. Name another output folder, or "
                    "move the record away."
                )
            self.origin = int(dataset.origin)
            self._times = [float(x) for x in dataset["time"][:]]
            self._recorded = [name for name in dataset.variables if "time" in dataset[name].dimensions]
        self._file = RecordFile(self.path)

    def _create(self, diagnostics: Mapping[str, np.ndarray]) -> None:
        rows = {name: row for name, row in self.catalogue.items() if np.size(diagnostics.get(name, ()))}
        rows = {name: row for name, row in rows.items() if row.dims in ((), ("k",), ("w",))}
        with atomic_path(self.path) as temporary, create_dataset(temporary, "NETCDF3_64BIT_OFFSET") as dataset:
            define(dataset, self.setting, rows)
        self._recorded = list(rows)
        self._file = RecordFile(self.path)


def _verdict(level: int, action: int, reason: str) -> dict[str, ArrayLike]:
    text = np.frombuffer(reason.encode()[:LONGEST_REASON].ljust(LONGEST_REASON, b"\0"), "S1")
    return {"level": level, "action": action, "reason": text}


@dataclass(frozen=True, eq=False)
class Recent:
    """The newest states of a record.

    Attributes:
        attributes: Of the file.
        total: Number of states in all of it.
        clocks: Date and time of the day of each state here.
        steps, levels, actions, reasons: Of each state.
        checks: Names.
        limits: Shape (check, 4): low, high, reject_low, reject_high.
        values: Shape (state, check); NaN where unchecked.
        statuses: Name of a level or "unchecked", shape (state, check).
    """

    attributes: Mapping[str, object]
    total: int
    clocks: list[str]
    steps: list[int]
    levels: list[str]
    actions: list[str]
    reasons: list[str]
    checks: list[str]
    limits: np.ndarray
    values: np.ndarray
    statuses: np.ndarray


def read_recent(path: Path, last: int) -> Recent:
    """Reads the newest states of a record, which may be growing.

    Arguments:
        path: File.
        last: Number of states, at most.

    Raises:
        FileNotFoundError, OSError: It does not exist or cannot be read.
        ValueError: It is not a record of verdicts.

    Collective: no.
    """
    with open_dataset(path) as dataset:
        if "check_value" not in dataset.variables:
            raise ValueError(f"File {path} is not a record of verdicts: name the output folder of a coupled run.")
        total = len(dataset.dimensions["time"])
        rows = slice(max(0, total - last), total)
        time = dataset["time"]
        return Recent(
            {name: dataset.getncattr(name) for name in dataset.ncattrs()},
            total,
            [clock_text(float(x), time.units, time.calendar) for x in time[rows]],
            [int(x) for x in dataset["step"][rows]],
            _words(dataset["level"], rows).tolist(),
            _words(dataset["action"], rows).tolist(),
            [str(text) for text in dataset["reason"][rows]],
            [str(name) for name in dataset["check"][:]],
            np.stack([np.ma.getdata(dataset[f"check_{edge}"][:]) for edge in EDGES], axis=1),
            np.ma.filled(dataset["check_value"][rows], np.nan),
            _words(dataset["check_status"], rows),
        )


def _words(variable: netCDF4.Variable, rows: slice) -> np.ndarray:
    """Names of flags."""
    words, first = np.array(variable.flag_meanings.split()), int(variable.flag_values[0])
    result: np.ndarray = words[np.ma.getdata(variable[rows]).astype(int) - first]
    return result


def _free_name(path: Path) -> Path:
    """First name NAME.1.nc, NAME.2.nc, ... that is not taken."""
    number = 1
    while (name := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return name
