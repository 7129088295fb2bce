"""Where a model and a generator do not fit each other: every difference in a sentence of its own, local work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from halocline.io.calendar import CALENDARS, month_length
from halocline.io.checks import check_unit
from halocline.mesh.grid import Grid
from halocline.mesh.rearrange import Rect
from halocline.run.bridge_config import BridgeConfig
from halocline.run.config import DataConfig
from halocline.run.contract import Declaration, FieldDeclaration
from halocline.state.variables import VARIABLES

__all__ = ["Contract", "date_of", "nearest_month_end"]

NEED_SEA_LEVEL = ("temperature", "salinity", "velocity_u", "velocity_v")


@dataclass(frozen=True, eq=False)
class Contract:
    """What the emulator expects of a model.

    Arguments:
        grid: Geometry and masks of the generator.
        names: Variables that it generates.
        data: Names the kind of free surface.
        config: May ask for a calendar and a time step.
    """

    grid: Grid
    names: tuple[str, ...]
    data: DataConfig
    config: BridgeConfig

    def differences(self, declaration: Declaration) -> list[str]:
        """Compares all that the model declares but its mask.

        Collective: no.
        """
        sizes = list(self._sizes(declaration))
        return [
            *sizes,
            *([] if sizes else self._rectangles(declaration.rectangles)),
            *self._fields(declaration),
            *self._time(declaration),
        ]

    def mask_differences(self, rect: Rect, mask: np.ndarray, owner: str) -> list[str]:
        """Compares the mask of one rank of the model.

        Arguments:
            rect: Cells of the rank.
            mask: True in the sea, shape (nk, rows, columns).
            owner: Names the rank, such as "rank 3".

        Returns:
            A sentence, or none; none either where sizes do not fit, which `differences` tells.

        Collective: no.
        """
        _, nj, ni = self.grid.shape
        if not inside(rect, nj, ni) or not self._has_the_sea(len(mask)) or mask.shape[1:] != rect.shape:
            return []
        differing = mask != self.grid.tmask[: len(mask), rect.j0 : rect.j1, rect.i0 : rect.i1]
        if not differing.any():
            return []
        k, j, i = (int(n) for n in np.argwhere(differing)[0])
        here, there = ("sea", "land") if mask[k, j, i] else ("land", "sea")
        return [
            f"Mask of {owner}: {int(differing.sum())} cells differ from tmask of the generator's grid, first at level "
            f"{k}, j={rect.j0 + j}, i={rect.i0 + i}: {here} in the model, {there} in the generator."
        ]

    def _sizes(self, declaration: Declaration) -> Iterator[str]:
        nk, nj, ni = self.grid.shape
        swapped = (declaration.nj, declaration.ni) == (ni, nj)
        hint = ": i and j are swapped" if swapped else ""
        nk = declaration.nk if self._has_the_sea(declaration.nk) else nk
        for axis, theirs, ours in (("i", declaration.ni, ni), ("j", declaration.nj, nj), ("k", declaration.nk, nk)):
            if theirs != ours:
                yield f"Grid along {axis}: the model has {theirs} cells, the generator {ours}{hint * (axis != 'k')}."

    def _has_the_sea(self, levels: int) -> bool:
        """Whether these are all levels with sea: some models keep NEMO's last level, which is land, others do not."""
        return 0 < levels <= self.grid.nk and not self.grid.tmask[levels:].any()

    def _rectangles(self, rectangles: Sequence[Rect | None]) -> Iterator[str]:
        """Rectangles beyond the grid, overlapping ones, and sea that no rank holds."""
        _, nj, ni = self.grid.shape
        owner = np.full((nj, ni), -1)
        for rank, rect in enumerate(rectangles):
            if rect is None:
                continue
            if not inside(rect, nj, ni):
                yield (
                    f"Rectangle of rank {rank}: j from {rect.j0} to {rect.j1 - 1}, i from {rect.i0} to {rect.i1 - 1} "
                    f"lies outside the grid of {nj} x {ni} (j, i)."
                )
                continue
            cells = owner[rect.j0 : rect.j1, rect.i0 : rect.i1]
            if (cells >= 0).any():
                j, i = (int(n) for n in np.argwhere(cells >= 0)[0])
                yield (
                    f"Rectangle of rank {rank}: {int((cells >= 0).sum())} of its cells are other ranks', too, first "
                    f"j={rect.j0 + j}, i={rect.i0 + i} of rank {cells[j, i]}: leave the halo out."
                )
            cells[...] = rank
        missing = self.grid.wet & (owner < 0)
        if missing.any():
            j, i = (int(n) for n in np.argwhere(missing)[0])
            yield f"Decomposition: no rank holds {int(missing.sum())} columns of sea, first j={j}, i={i}."

    def _fields(self, declaration: Declaration) -> Iterator[str]:
        registered = [field.name for field in declaration.fields]
        if not registered:
            yield f"Fields: the model registers none, expected some of {', '.join(self.names)}."
        for field in declaration.fields:
            yield from self._field(field, declaration.nk)
        stretched = self.data.free_surface != "linear" and any(name in registered for name in NEED_SEA_LEVEL)
        if stretched and "sea_level" not in registered:
            yield (
                f"Field sea_level: the model does not register it, but layers follow it (the generator has "
                f"data.free_surface: {self.data.free_surface})."
            )

    def _field(self, field: FieldDeclaration, nk: int) -> Iterator[str]:
        if field.name not in self.names:
            yield f"Field {field.name}: unknown to the generator, which has {', '.join(self.names)}."
            return
        row = VARIABLES[field.name]
        if field.point != row.point:
            yield f"Field {field.name}: the model has it at point '{field.point}', the generator at '{row.point}'."
        levels = nk if row.is_3d else 1
        if field.levels != levels:
            yield f"Field {field.name}: the model gives it {field.levels} levels, expected {levels}."
        if field.bytes not in (4, 8):
            yield f"Field {field.name}: the model has {field.bytes} bytes per number, expected 4 or 8."
        try:
            check_unit(row, field.unit or "none", field.name)
        except ValueError:
            yield f"Field {field.name}: the model has it in '{field.unit}', the generator in '{row.unit}'."

    def _time(self, declaration: Declaration) -> Iterator[str]:
        theirs, ours = declaration.calendar, self.config.calendar
        if theirs not in CALENDARS:
            yield f"Calendar: the model has '{theirs}', expected one of {', '.join(CALENDARS)}."
        elif ours and theirs != ours:
            yield f"Calendar: the model has '{theirs}', the configuration '{ours}'."
        step = declaration.time_step
        if not 0 < step < math.inf:
            yield f"Time step: the model has {step:g} s, expected more than 0."
        elif self.config.time_step and step != self.config.time_step:
            yield f"Time step: the model has {step:.12g} s, the configuration {self.config.time_step:.12g} s."
        if theirs in CALENDARS and not is_date(declaration.date, theirs):
            yield f"Date: the model starts at {declaration.date}, expected a date yyyymmdd of the calendar {theirs}."


def inside(rect: Rect, nj: int, ni: int) -> bool:
    """Whether a rectangle has cells, all of them in the grid."""
    return 0 <= rect.j0 < rect.j1 <= nj and 0 <= rect.i0 < rect.i1 <= ni


def date_of(date: int) -> tuple[int, int, int]:
    """Returns year, month, day of yyyymmdd."""
    return date // 10000, date // 100 % 100, date % 100


def is_date(date: int, calendar: str) -> bool:
    """Whether a calendar has this day; year 0, with which idealised runs start, counts as a leap year."""
    year, month, day = date_of(date)
    return date >= 0 and 1 <= month <= 12 and 1 <= day <= month_length(year or 4, month, calendar)


def nearest_month_end(date: int, calendar: str) -> int:
    """Finds the month whose end is nearest to the beginning of a day: 12 for 1 January.

    Arguments:
        date: yyyymmdd, a date of the calendar.
        calendar: "360_day", "noleap" or "standard".

    Returns:
        1 to 12; in the middle of a month, the month itself.

    Collective: no.
    """
    year, month, day = date_of(date)
    gone = day - 1
    if 2 * gone >= month_length(year or 4, month, calendar):
        return month
    return (month - 2) % 12 + 1
