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
from halocline.run.outputs import check_file
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
    """Writes a copy of a file of forcing with degree-days at each record; see `physics.degree_days`.

    Trajectories are followed one after the other, each from its first record. Memory is that of the longest window.

    Raises:
        ValueError, OSError: The forcing is not as expected, or the output is there already or cannot be written.

    Collective: yes; rank 0 does the work.
    """
    with comm.together():
        if not comm.is_root:
            return
        options = build(DegreeDayOptions, apply_overrides({}, parse_overrides(arguments)), "")
        output = Path(options.output)
        check_file(output)
        check_new(output, forcing)
        with open_air_temperature(forcing) as air:
            hours = interval_of(air.times, forcing)
            count = len(air.times)
            print(f"{forcing}: {air.runs} x {count} records of {hours:g} h, {air.sea.sum()} cells", flush=True)
            with write_degree_days(output, air) as write, Reporter("degree-days", air.runs * count) as reporter:
                for run in range(air.runs):
                    follow(air, run, hours, write, reporter)
        print(f"written: {output}", flush=True)


def follow(air: AirTemperature, run: int, hours: float, write: Writer, reporter: Reporter) -> None:
    """Writes the degree-days of one trajectory, from its first record on."""
    days = DegreeDays((int(air.sea.sum()),), hours)
    for record in range(len(air.times)):
        days.update(torch.from_numpy(air.read(run, record)))
        write(run, record, {name: x.numpy() for name, x in days.fields().items()})
        reporter.advance()


def check_new(output: Path, forcing: Path) -> None:
    """Refuses to write over a file, least of all over the forcing.

    Raises:
        ValueError: There is one.
    """
    if output.exists() and forcing.exists() and output.samefile(forcing):
        raise ValueError(f"output is {output}, the forcing itself, expected a file of its own: choose another name.")
    if output.exists():
        raise ValueError(f"output is {output}, which exists, expected a new file: choose another name or remove it.")


def interval_of(times: np.ndarray, path: Path) -> float:
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
