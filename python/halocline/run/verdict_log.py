"""What a coupled run leaves in its output folder: `verdicts.log` to follow with `tail -f`, and `trajectory.nc`.

A model that is started again goes on in both files.
"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from halocline import __version__
from halocline.io.records import write_all
from halocline.io.trajectory import CheckRecord, Series, Setting, Trajectory
from halocline.mesh.grid import Grid
from halocline.physics.verdict import Check, Thresholds
from halocline.run.check_text import Limits, concern, number, ok_text, reject_text
from halocline.run.contract import ACTIONS, LEVELS, OK, UNJUDGED, Declaration, Judgement
from halocline.run.generator import Generator
from halocline.run.judging import CATALOGUE
from halocline.run.outputs import make_folder

__all__ = ["LOG", "TRAJECTORY", "VerdictLog", "setting_of"]

LOG, TRAJECTORY = "verdicts.log", "trajectory.nc"
SYNC_INTERVAL = 1.0  # s between forcing the log to disk, where other nodes see it
ACTION_NAMES = tuple(ACTIONS)
MOST_LINES = 8  # failing checks that are told beside the worst one: a single NaN fails nearly all


class VerdictLog:
    """Writes log and record of one run of the model.

    Arguments:
        folder: Made if needed.
        setting: What the verdicts are about; see `setting_of`.
        speaks: Whether this rank writes; the others do nothing here.

    Raises:
        OSError: The folder or a file cannot be written, or another run writes there.
        ValueError: The folder holds the record of something else.

    Collective: no.
    """

    def __init__(self, folder: Path | str, setting: Setting, speaks: bool = True) -> None:
        self.folder, self.setting, self.speaks = Path(folder), setting, speaks
        if not speaks:
            return
        make_folder(self.folder)
        self.trajectory = Trajectory(self.folder / TRAJECTORY, setting, _catalogue())
        self._lines = Lines(self.folder / LOG)
        self._lines.add(list(preamble(setting)))

    def write(self, judgement: Judgement, time: float) -> None:
        """Adds a verdict.

        Arguments:
            judgement: With all its checks and diagnostics.
            time: Model time, s since step 0.

        Raises:
            OSError: It could not be written; what was written before is unharmed.
        """
        if not self.speaks:
            return
        self._lines.add(list(lines_of(judgement, self.setting, time)))
        checks = {check.name: CheckRecord(check.value, LEVELS.index(check.status)) for check in judgement.checks}
        verdict = (judgement.level, judgement.action, judgement.reason)
        copy = self.trajectory.append(time, judgement.step, verdict, checks, judgement.diagnostics)
        if copy is not None:
            self._lines.add([
                f"# The model has gone back to {self.setting.clock(time)}: {TRAJECTORY} goes on from there, "
                f"{copy.name} keeps what it replaces."
            ])  # fmt: skip

    def close(self) -> None:
        """Ends writing."""
        if self.speaks:
            self.trajectory.close()
            self._lines.close()


class Lines:
    """Appends lines to a text file, all of them or none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced = clock.monotonic()
        try:
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (as long as this object)
        except OSError as error:
            raise OSError(f"Cannot write {path} ({error.strerror}): choose another output folder.") from error

    def add(self, lines: list[str]) -> None:
        """Writes lines at the end.

        Raises:
            OSError: The disk does not take them; the file is as before.
        """
        handle = self._file.fileno()
        before = os.fstat(handle).st_size
        try:
            write_all(handle, "".join(f"{line}\n" for line in lines).encode(), before)
            if clock.monotonic() - self._synced >= SYNC_INTERVAL:
                os.fsync(handle)
                self._synced = clock.monotonic()
        except OSError as error:
            os.ftruncate(handle, before)
            raise OSError(
                f"Cannot write {self.path} ({error.strerror}); the verdicts in it are unharmed: free space, raise the "
                "quota or the limit of file sizes, or choose another output folder."
            ) from error

    def close(self) -> None:
        """Ends writing."""
        self._file.close()


def setting_of(
    generator: Generator, thresholds: Thresholds, variables: tuple[str, ...], declaration: Declaration, run: str
) -> Setting:
    """Describes what the verdicts of a run are about.

    Arguments:
        generator: That judges.
        thresholds: Its limits.
        variables: Fields that may be judged cell by cell.
        declaration: Of the model.
        run: Run folder.

    Collective: no.
    """
    grid = generator.grid
    limits: dict[str, Limits] = {
        name: (limit.low, limit.high, limit.reject_low, limit.reject_high) for name, limit in thresholds.limits.items()
    }
    limits |= {f"{name}_{kind}": (0.0, 0.0, 0.0, 0.0) for name in variables for kind in ("nonfinite", "beyond_bounds")}
    return Setting(
        run, generator.step, grid.fingerprint(), grid.shape, grid.gdept_1d, _interface_depth(grid),
        declaration.calendar, declaration.time_step, declaration.step, declaration.date, limits, LEVELS, ACTION_NAMES,
    )  # fmt: skip


def _interface_depth(grid: Grid) -> np.ndarray:
    """Depth of the interfaces between levels, m, where the cells are full."""
    depth: np.ndarray = grid.gdepw[1:].max(axis=(1, 2))
    return depth


def _catalogue() -> dict[str, Series]:
    return {name: Series(row.unit, row.meaning, row.dims) for name, row in CATALOGUE.items()}


def preamble(setting: Setting) -> Iterator[str]:
    """Says whose verdicts follow, and what their limits are."""
    start = setting.clock(setting.step * setting.time_step)
    yield f"# Verdicts on a running model, by halocline {__version__}"
    yield f"# run    {setting.run}, training step {setting.training_step}"
    yield f"# grid   {' x '.join(map(str, setting.sizes))} (k, j, i), fingerprint {setting.grid}"
    step = f"step {setting.step}; steps of {setting.time_step:g} s, calendar {setting.calendar}"
    yield f"# model  starts at {start}, {step}"
    width, ranges = _width(setting.limits), {name: ok_text(limits) for name, limits in setting.limits.items()}
    second = max(map(len, ranges.values()))
    yield f"# {'check':<{width}}  {'ok':<{second}}  reject"
    for name, limits in setting.limits.items():
        yield f"# {name:<{width}}  {ranges[name]:<{second}}  {reject_text(limits)} {_unit(name)}".rstrip()
    yield f"# {'date':<14} {'step':>9}  {'level':<8}  {'action':<8}  {'worst check':<{width}}  {'value':>13}  ok"


def lines_of(judgement: Judgement, setting: Setting, time: float) -> Iterator[str]:
    """One line for a verdict; more where it is not ok: the reason, and all other checks that fail."""
    width = _width(setting.limits)
    level, action = LEVELS[judgement.level], ACTION_NAMES[judgement.action]
    start = f"{setting.clock(time)} {judgement.step:>9}  {_loud(level):<8}  {action:<8}"
    ranked = sorted(judgement.checks, key=lambda check: _rank(check, setting.limits))
    texts = [_check_text(check, setting.limits, width) for check in ranked]
    yield f"{start}  {texts[0] if texts else '-'}"
    if judgement.level != OK:
        yield f"{'':<17}{judgement.reason}"
    further = [(check, text) for check, text in zip(ranked, texts, strict=True) if check.status != "ok"][1:]
    for check, text in further[:MOST_LINES]:
        yield f"{'':<28}{_loud(check.status):<18}  {text}"
    if len(further) > MOST_LINES:
        yield f"{'':<48}and {len(further) - MOST_LINES} more checks that fail"


def _loud(level: str) -> str:
    """Capitals for what should catch the eye."""
    return level if level in (LEVELS[OK], LEVELS[UNJUDGED]) else level.upper()


def _rank(check: Check, limits: Mapping[str, Limits]) -> tuple[int, float]:
    """Sorts the worst first."""
    return -LEVELS.index(check.status), -concern(check.value, _limits(check, limits))


def _check_text(check: Check, limits: Mapping[str, Limits], width: int) -> str:
    edges = _limits(check, limits)
    beyond = "" if check.status == "ok" else f", reject {reject_text(edges)}"
    return f"{check.name:<{width}}  {number(check.value):>13}  {ok_text(edges)}{beyond}"


def _limits(check: Check, limits: Mapping[str, Limits]) -> Limits:
    return limits.get(check.name, (check.low, check.high, check.low, check.high))


def _unit(check: str) -> str:
    row = CATALOGUE.get(check.partition("[")[0])
    if row is None:
        return "cells"
    return "" if row.unit == "1" else row.unit


def _width(limits: Mapping[str, Limits]) -> int:
    return max(len(name) for name in limits)
