"""`halocline degree-days`: forcing with how much the air has melted and frozen over the last month and year."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from halocline.io.degree_day_files import AirTemperature, Writer, open_air_temperature, write_degree_days
from halocline.mesh.communicator import Communicator, Serial
from halocline.physics.degree_days import DegreeDays
from halocline.run.config import apply_overrides, build, parse_overrides
from halocline.run.outputs import check_file, make_folder
from halocline.run.progress import Reporter

__all__ = ["DegreeDayOptions", "degree_days"]

UNEVEN = 0.1
"""Part of the usual interval by which times in float32 may differ from it; a record that is missing is more."""

CLOSE = 0.01
"""Part of a day by which whole intervals may miss it, for the same reason."""


@dataclass(frozen=True)
class DegreeDayOptions:
    """Options of `halocline degree-days`; see its help."""

    output: str


def degree_days(forcing: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Writes copies of files of forcing with degree-days at each record; see `physics.degree_days`.

    Trajectories are followed one after the other, each from its first record in the earliest file to its last in the
    latest. Memory is that of the longest window, for each trajectory if there are several files.

    Arguments:
        forcing: A file.
        arguments: More files, in any order, and `key=value` options.
        comm: All ranks.

    Raises:
        ValueError, OSError: The forcing is not as expected, or the output is there already or cannot be written.

    Collective: yes; rank 0 does the work.
    """
    with comm.together():
        if not comm.is_root:
            return
        files = [forcing, *(Path(text) for text in arguments if "=" not in text)]
        settings = parse_overrides([text for text in arguments if "=" in text])
        options = build(DegreeDayOptions, apply_overrides({}, settings), "")
        series = Series.read(files)
        outputs = places(series.files, Path(options.output))
        count, names = series.runs * sum(series.counts), ", ".join(map(str, series.files))
        print(f"{names}: {count} records of {series.hours:g} h, {series.cells} cells", flush=True)
        kept: dict[int, DegreeDays] = {}
        with Reporter("degree-days", count) as reporter:
            for path, output in zip(series.files, outputs, strict=True):
                with open_air_temperature(path) as air, write_degree_days(output, air) as write:
                    for run in range(air.runs):
                        days = kept.pop(run, None) or DegreeDays((series.cells,), series.hours)
                        follow(air, run, days, write, reporter)
                        if path != series.files[-1]:
                            kept[run] = days
        print(f"written: {options.output}", flush=True)


def follow(air: AirTemperature, run: int, days: DegreeDays, write: Writer, reporter: Reporter) -> None:
    """Writes the degree-days of one trajectory in one file, from where `days` stands."""
    for record in range(len(air.times)):
        days.update(torch.from_numpy(air.read(run, record)))
        write(run, record, {name: x.numpy() for name, x in days.fields().items()})
        reporter.advance()


@dataclass(frozen=True)
class Series:
    """Files that go on from one another.

    Attributes:
        files: In the order of their times.
        counts: Records of each.
        runs: Trajectories, in every file.
        cells: Of sea, in every file.
        hours: Between two records.
    """

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    runs: int
    cells: int
    hours: float

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Series:
        """Opens each in turn.

        Raises:
            ValueError: They have other trajectories or cells, or a gap between them.
        """
        found: list[tuple[np.ndarray, Path, int, np.ndarray]] = []
        for path in paths:
            with open_air_temperature(path) as air:
                found.append((air.times, path, air.runs, air.sea))
        found.sort(key=lambda row: row[0][0])
        times, files, runs, seas = zip(*found, strict=True)
        for path, count, sea in zip(files[1:], runs[1:], seas[1:], strict=True):
            if count != runs[0] or not np.array_equal(sea, seas[0]):
                raise ValueError(
                    f"File {path} has {count} trajectories and {sea.sum()} cells of sea in {sea.shape}, expected "
                    f"{runs[0]} and the same {seas[0].sum()} in {seas[0].shape}, those of {files[0]}: name files of "
                    "one series."
                )
        hours = interval_of(np.concatenate(times), ", ".join(map(str, files)))
        return cls(files, tuple(map(len, times)), runs[0], int(seas[0].sum()), hours)


def places(files: Sequence[Path], output: Path) -> list[Path]:
    """Where the copies go: a file for a file, a folder with their names for several.

    Raises:
        ValueError, OSError: One is there already, two are the same, or none can be written there.
    """
    made = [output] if len(files) == 1 else [output / path.name for path in files]
    if len(set(made)) < len(made):
        raise ValueError(f"Two of the files are called alike, {files[0].name}, expected different names: rename one.")
    if len(files) > 1:
        make_folder(output)
    for place in made:
        check_file(place)
        for path in files:
            check_new(place, path)
    return made


def check_new(output: Path, forcing: Path) -> None:
    """Refuses to write over a file, least of all over the forcing.

    Raises:
        ValueError: There is one.
    """
    if output.exists() and forcing.exists() and output.samefile(forcing):
        raise ValueError(f"output is {output}, the forcing itself, expected a file of its own: choose another name.")
    if output.exists():
        raise ValueError(f"output is {output}, which exists, expected a new file: choose another name or remove it.")


def interval_of(times: np.ndarray, path: str) -> float:
    """Time between two records, hours.

    Raises:
        ValueError: It varies, or does not divide a day; there is but one record.
    """
    steps = np.diff(times).astype(np.float64) / 3600.0
    if not len(steps):
        raise ValueError(f"File {path} has one record, expected several: degree-days need the time between them.")
    usual = float(np.median(steps))
    uneven = np.flatnonzero((np.abs(steps - usual) > UNEVEN * usual) | (steps <= 0))
    if len(uneven):
        k = int(uneven[0])
        raise ValueError(
            f"Records of {path} at {times[k]} and {times[k + 1]} are {steps[k]:g} h apart, expected {usual:g} h as "
            "between the others: fill the gap, or resample the forcing."
        )
    per_day = max(1, round(24.0 / steps.mean()))
    if abs(per_day * steps.mean() - 24.0) > 24.0 * CLOSE:
        raise ValueError(
            f"Records of {path} are {usual:g} h apart, expected an interval that divides a day, such as 6 h: resample "
            "the forcing."
        )
    return 24.0 / per_day
