r"""neXtSIM_DG in the loop: runs of the model from given states, judged against an uninterrupted one.

The diagnostics of each run (`ice_model`) are compared with those of a reference at the same time,

.. math:: \text{rms} = \Big( \frac1N \sum_{\text{sea}} (x - x_\text{ref})^2 \Big)^{1/2},

of vectors the sum over both components. Persistence, the change of the reference since the start, says how much there
was to be lost. Each state is judged by thresholds learnt from other states of the model.

Nothing here is collective: one process runs one model after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from halocline.io.nextsim_states import DG_NAMES
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.physics.verdict import Thresholds, judge
from halocline.run.config import DataConfig
from halocline.run.ice_model import duration, read_output
from halocline.run.judging import diagnose_fields, learn_thresholds

__all__ = ["ABSURD", "Outcome", "compare", "learn"]

ABSURD = 20.0
"""Thickness, m, that a mean over a cell never has: where the model shows more, it has failed."""

TILE = (32, 32)


@dataclass(frozen=True)
class Outcome:
    """A run at one lead.

    Attributes:
        name: Of the start.
        hours: Since the start.
        rms: Of the difference from the reference, by quantity: concentration, thickness (m), damage, drift (m/s).
        change: Of the reference since the start, likewise; NaN where the reference has no state then.
        verdict: "ok", "suspect" or "reject"; "" without thresholds.
        reason: Of the verdict, or why the run has no state at this time.
        bad: Cells of sea with a value that is not finite.
        thickest: Largest thickness, m, NaN where there is no state; `is_absurd` says what is too much.
    """

    name: str
    hours: float
    rms: Mapping[str, float]
    change: Mapping[str, float]
    verdict: str
    reason: str
    bad: int
    thickest: float

    @property
    def is_absurd(self) -> bool:
        """Whether the model has failed there, whatever the thresholds say."""
        return self.bad > 0 or self.thickest > ABSURD


def learn(fields: Mapping[str, np.ndarray], grid: Grid) -> Thresholds:
    """Learns thresholds from states of the model, variable to (state, 1, nj, ni)."""
    return learn_thresholds({name: x.numpy() for name, x in _diagnosed(fields, grid).items()})


def compare(
    name: str,
    output: tuple[Path, str],
    reference: tuple[np.ndarray, Mapping[str, np.ndarray]],
    start: np.datetime64,
    leads: Sequence[float],
    grid: Grid,
    thresholds: Thresholds | None = None,
) -> list[Outcome]:
    """Sets a run against the reference.

    Arguments:
        name: Of the start.
        output: What `run_model` returned.
        reference: What `read_output` gave of the uninterrupted run, which may begin before the start.
        start: Time of the start.
        leads: Hours after it.
        grid: Gives the sea.
        thresholds: For the verdict.

    Returns:
        One for each lead; where the run or the reference has no state, values are NaN and the reason says why.
    """
    path, failure = output
    try:
        times, fields = read_output(path)
    except (OSError, ValueError, IndexError) as error:
        times, fields, failure = np.zeros(0, "datetime64[s]"), {}, failure or str(error)
    found = []
    for lead in leads:
        when = start + duration(lead)
        here, there, begun = (_at(t, w) for t, w in ((times, when), (reference[0], when), (reference[0], start)))
        if here is None:
            reason = failure or f"no state at {when}"
            found.append(Outcome(name, lead, _nothing(), _nothing(), "reject", reason, 0, np.nan))
            continue
        state = {key: x[here] for key, x in fields.items()}
        then = None if there is None else {key: x[there] for key, x in reference[1].items()}
        before = None if begun is None else {key: x[begun] for key, x in reference[1].items()}
        found.append(_outcome(name, lead, state, then, before, grid, thresholds))
    return found


Fields = Mapping[str, np.ndarray]


def _outcome(
    name: str, lead: float, state: Fields, then: Fields | None, before: Fields | None, grid: Grid,
    thresholds: Thresholds | None,
) -> Outcome:  # fmt: skip
    sea = grid.tmask[0]
    bad = np.zeros_like(sea)
    for x in state.values():
        bad |= sea & ~np.isfinite(x)
    verdict, reason = "", ""
    if thresholds is not None:
        values = _diagnosed({key: x[None, None] for key, x in state.items()}, grid)
        judged = judge({key: x[0].numpy() for key, x in values.items()}, thresholds)
        verdict, reason = judged.status, judged.reason
    rms = _nothing() if then is None else _differences(state, then, sea)
    change = _nothing() if then is None or before is None else _differences(then, before, sea)
    thickest = float(np.max(np.where(np.isfinite(state["thickness"]), state["thickness"], 0.0)[sea]))
    return Outcome(name, lead, rms, change, verdict, reason, int(bad.sum()), thickest)


def _differences(one: Fields, other: Fields, sea: np.ndarray) -> dict[str, float]:
    """Root mean square differences over the sea."""
    mean = {name: float(np.mean((one[name] - other[name])[sea] ** 2)) for name in DG_NAMES}
    root = {name: float(np.sqrt(mean[name])) for name in ("concentration", "thickness", "damage")}
    return {**root, "drift": float(np.sqrt(mean["ice_u"] + mean["ice_v"]))}


def _nothing() -> dict[str, float]:
    return dict.fromkeys(("concentration", "thickness", "damage", "drift"), float("nan"))


def _at(times: np.ndarray, when: np.datetime64) -> int | None:
    """Number of a time, None if it is not there."""
    found = np.flatnonzero(times == when)
    return int(found[0]) if found.size else None


def _diagnosed(fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, Tensor]:
    lattice = Lattice.from_grid(grid, (min(TILE[0], grid.nj), min(TILE[1], grid.ni)), 0)
    data = DataConfig("", (), tuple(DG_NAMES))
    return diagnose_fields(fields, grid, lattice, data, Serial())
