"""The verdict on a state that lies on tiles: cell by cell by the table of variables, and as a whole by thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from halocline.io.checks import mask_of
from halocline.mesh.layout import Layout
from halocline.physics.diagnostics import of_member
from halocline.physics.geometry import Geometry
from halocline.physics.verdict import Check, Thresholds, judge
from halocline.run.bridge_config import ObserveConfig
from halocline.run.config import DataConfig
from halocline.run.contract import ACTIONS, GO_ON, LEVELS, REJECT, SUSPECT, UNJUDGED, Judgement, shortened
from halocline.run.generator import Generator
from halocline.run.judging import CATALOGUE, ONLINE, diagnose_tiles
from halocline.state.variables import VARIABLES, Variable

__all__ = ["Judge"]

ROUNDING = 1e-6
"""Distance to which a running model may pass a bound, in units of the bounds' width or of 1: an ice concentration of
1 + 1e-16 is no reason to stop."""


@dataclass(frozen=True)
class Fault:
    """Wet cells of one variable with impossible values.

    Attributes:
        name: Variable.
        nonfinite, beyond: Numbers of cells that are not finite, and that are beyond the bounds.
        place: Level, j, i of the first cell (of those not finite, if any).
        value: There.
    """

    name: str
    nonfinite: int
    beyond: int
    place: tuple[int, int, int]
    value: float

    @property
    def sentence(self) -> str:
        """Names variable, value, place, number of cells, and limits."""
        row = VARIABLES[self.name]
        level, j, i = self.place
        unit = "" if self.nonfinite or row.unit == "1" else f" {row.unit}"
        others = (
            f"{self.nonfinite} wet cells that are not finite"
            if self.nonfinite
            else f"{self.beyond} wet cells beyond {row.bounds[0]:g} to {row.bounds[1]:g}"
        )
        where = f"level {level}, j={j}, i={i}" if row.is_3d else f"j={j}, i={i}"
        return f"{self.name} = {self.value:.6g}{unit} at {where}, the first of {others}."


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges states on the tiles of a layout.

    Arguments:
        layout: Who owns which tile.
        geometry: Of these tiles.
        data: Names the equation of state and the kind of free surface.
        thresholds: Of the checkpoint.
        policy: What follows from a verdict.
        masks: Sea of each variable that may come, shape (tile, level, j, i).
    """

    layout: Layout
    geometry: Geometry
    data: DataConfig
    thresholds: Thresholds
    policy: ObserveConfig
    masks: Mapping[str, np.ndarray]

    @classmethod
    def build(cls, generator: Generator, names: Sequence[str], layout: Layout, policy: ObserveConfig) -> Judge:
        """Cuts geometry and masks for the tiles of this rank.

        Arguments:
            generator: Gives grid, thresholds, equation of state.
            names: Variables that may come.
            layout: Who owns which tile.
            policy: What follows from a verdict.

        Raises:
            ValueError: The thresholds of the checkpoint cannot be read.

        Collective: no.
        """
        grid = generator.grid
        return cls(
            layout,
            Geometry.build(grid, layout),
            generator.config.data,
            Thresholds.from_json(generator.thresholds) if generator.thresholds else Thresholds({}),
            policy,
            {name: layout.cut(mask_of(VARIABLES[name], grid), fill=False) for name in names},
        )

    def __call__(self, step: int, tiles: Mapping[str, np.ndarray]) -> Judgement:
        """Judges one state.

        Arguments:
            step: Its time step.
            tiles: Variable to array of shape (tile, level, j, i), float32 or float64, NaN or anything on land; deep
                levels without sea may be missing.

        Returns:
            The same on every rank and every layout.

        Collective: yes.
        """
        faults = self._faults(tiles)
        members = {name: torch.from_numpy(x)[None] for name, x in tiles.items()}
        diagnosed = diagnose_tiles(members, self.geometry, self.layout, self.data, self.wanted)
        diagnostics = of_member(diagnosed, 0)
        verdict = judge(diagnostics, self._checked(diagnostics))
        if faults:
            level, reason = REJECT, " ".join(fault.sentence for fault in faults)
        elif verdict.checks:
            level, reason = LEVELS.index(verdict.status), verdict.reason
        else:
            level, reason = UNJUDGED, "All values lie within their bounds, but no threshold can be checked."
        checks = (*verdict.checks, *cell_checks(tiles, faults))
        return Judgement(level, self._action(level), step, shortened(reason), checks, diagnostics)

    @cached_property
    def wanted(self) -> frozenset[str]:
        """Diagnostics that are computed."""
        judged = (diagnostic_of(name) for name in self.thresholds.limits)
        return frozenset(CATALOGUE if self.policy.diagnostics == "all" else (*ONLINE, *judged))

    def unchecked(self, diagnostics: Mapping[str, np.ndarray]) -> list[str]:
        """Lists the thresholds that the diagnosed fields do not allow to check. Collective: no."""
        return [name for name in self.thresholds.limits if diagnostic_of(name) not in diagnostics]

    def _checked(self, diagnostics: Mapping[str, np.ndarray]) -> Thresholds:
        limits = self.thresholds.limits
        return Thresholds({name: limit for name, limit in limits.items() if diagnostic_of(name) in diagnostics})

    def _action(self, level: int) -> int:
        """What the user's policy asks for."""
        policies = {SUSPECT: self.policy.on_suspect, REJECT: self.policy.on_reject}
        return ACTIONS[policies[level]] if level in policies else GO_ON

    def _faults(self, tiles: Mapping[str, np.ndarray]) -> list[Fault]:
        """Finds impossible values, in the order of the variables. Collective: yes."""
        mine = [fault for name, x in tiles.items() if (fault := self._fault(VARIABLES[name], x)) is not None]
        everyone = self.layout.comm.allgather(mine)
        found = [[fault for faults in everyone for fault in faults if fault.name == name] for name in tiles]
        return [joined(faults) for faults in found if faults]

    def _fault(self, row: Variable, x: np.ndarray) -> Fault | None:
        low, high = limits_of(row)
        with np.errstate(invalid="ignore"):
            possible = (x >= low) & (x <= high)
        bad = self.masks[row.name][:, : x.shape[1]] & ~possible
        if not bad.any():
            return None
        nonfinite = bad & ~np.isfinite(x)
        count = int(nonfinite.sum())
        place, value = self._first(nonfinite if count else bad, x)
        return Fault(row.name, count, int(bad.sum()) - count, place, value)

    def _first(self, bad: np.ndarray, x: np.ndarray) -> tuple[tuple[int, int, int], float]:
        """Level, j, i of the first bad cell of the grid, and its value."""
        lattice = self.layout.lattice
        tile, level, j, i = np.nonzero(bad)
        rows, columns = (lattice.tiles[self.layout.local[tile]] * lattice.tile).T
        first = int(np.lexsort((columns + i, rows + j, level))[0])
        place = (int(level[first]), int(rows[first] + j[first]), int(columns[first] + i[first]))
        return place, float(x[tile[first], level[first], j[first], i[first]])


def diagnostic_of(limit: str) -> str:
    """Name of the diagnostic that a limit is for: without the level of a profile."""
    return limit.partition("[")[0]


def limits_of(row: Variable) -> tuple[float, float]:
    """Bounds of a variable with room for rounding; finite, so that infinite values are beyond them."""
    width = row.bounds[1] - row.bounds[0]
    room = ROUNDING * (width if np.isfinite(width) else 1.0)
    largest = float(np.finfo(np.float32).max)
    return max(row.bounds[0] - room, -largest), min(row.bounds[1] + room, largest)


def joined(faults: Sequence[Fault]) -> Fault:
    """One fault from those of several ranks."""
    worst = [fault for fault in faults if fault.nonfinite] or faults
    first = min(worst, key=lambda fault: fault.place)
    nonfinite, beyond = (sum(getattr(fault, kind) for fault in faults) for kind in ("nonfinite", "beyond"))
    return Fault(first.name, nonfinite, beyond, first.place, first.value)


def cell_checks(names: Mapping[str, np.ndarray], faults: Sequence[Fault]) -> list[Check]:
    """The numbers of impossible cells of each variable, as checks."""
    found = {fault.name: (fault.nonfinite, fault.beyond) for fault in faults}
    return [
        Check(f"{name}_{kind}", float(count), 0.0, 0.0, "reject" if count else "ok")
        for name in names
        for kind, count in zip(("nonfinite", "beyond_bounds"), found.get(name, (0, 0)), strict=True)
    ]
