"""Statistics of a training store, the same bits on any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from halocline.io.training_store import STATISTICS, TrainingStore, explained, save_table
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.progress import Reporter

__all__ = ["learn", "of_chunks"]

Made = TypeVar("Made")


def learn(path: Path, comm: Communicator | Serial) -> None:
    """Computes the statistics of the records that are not held out; tiles are dealt to ranks.

    Every sum runs over records in the order of the store, so it does not depend on the number of ranks.

    Raises:
        ValueError: A chunk is damaged.

    Collective: yes.
    """
    with comm.together():
        store = TrainingStore.open(path)
        lead = usual_lead(store)
        leads = increment_leads(store, lead)
    whole = of_chunks(store, comm, "statistics", lambda J, I: Moments.of(store, leads, J, I))
    with comm.together(), explained(path):
        if whole is not None:
            table = summary(store, list(whole.values()), list(whole)) | {"lead": lead}
            save_table(path / STATISTICS, table)


def of_chunks(
    store: TrainingStore, comm: Communicator | Serial, what: str, work: Callable[[int, int], Made]
) -> dict[tuple[int, int], Made] | None:
    """Works on each chunk (J, I) of a store, on the ranks in turn, and reports progress.

    Returns:
        On the root what was made of each, row by row; None elsewhere.

    Raises:
        ValueError: What `work` raised, on all ranks.

    Collective: yes.
    """
    rows, columns = (-(-n // c) for n, c in zip((store.grid.nj, store.grid.ni), store.chunk, strict=True))
    places = [(J, I) for J in range(rows) for I in range(columns)]
    mine = places[comm.rank :: comm.size]
    with comm.together(), Reporter(what, len(mine), 0, comm.is_root) as reporter:
        made = {}
        for place in mine:
            made[place] = work(*place)
            reporter.advance()
    parts = comm.gather(made)
    if parts is None:
        return None
    whole = {place: x for part in parts for place, x in part.items()}
    return {place: whole[place] for place in places}


@dataclass
class Moments:
    """Sums over the records of one chunk that are not held out, shifted by the first of them.

    Attributes:
        shift, total, squares: Per cell, shape (channel, rows, columns).
        low, high: Over wet cells, shape (channel).
        steps: Number, sum, sum of squares of increments over wet cells, shape (3, channel).
    """

    shift: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(cls, store: TrainingStore, leads: np.ndarray, J: int, I: int) -> Moments:
        """Reads one chunk of all records; `leads` as `increment_leads` gives them."""
        seen = np.flatnonzero(~store.records.held_out)
        cj, ci = store.chunk
        sea = store.channels.mask(store.grid)[:, J * cj : (J + 1) * cj, I * ci : (I + 1) * ci]
        shift = store.block(1, int(seen[0]), J, I).astype(np.float64)
        made = cls(
            shift, np.zeros_like(shift), np.zeros_like(shift), np.full(len(sea), np.inf), np.full(len(sea), -np.inf),
            np.zeros((3, len(sea))),
        )  # fmt: skip
        before = shift
        for record in seen.tolist():
            x = store.block(1, record, J, I).astype(np.float64)
            made._add(x, sea)
            if leads[record] > 0:
                change = np.where(sea, x - before, 0.0) / leads[record]
                made.steps += [sea.sum(axis=(1, 2)), change.sum(axis=(1, 2)), (change**2).sum(axis=(1, 2))]
            before = x
        return made

    def _add(self, x: np.ndarray, sea: np.ndarray) -> None:
        self.total += x - self.shift
        self.squares += (x - self.shift) ** 2
        self.low = np.minimum(self.low, np.where(sea, x, np.inf).min(axis=(1, 2)))
        self.high = np.maximum(self.high, np.where(sea, x, -np.inf).max(axis=(1, 2)))


def summary(
    store: TrainingStore, moments: Sequence[Moments], places: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Puts the moments of all chunks together; see `Statistics`."""
    count = int((~store.records.held_out).sum())
    shape, (cj, ci) = (store.channels.count, store.grid.nj, store.grid.ni), store.chunk
    mean, variance = np.zeros(shape), np.zeros(shape)
    for part, (J, I) in zip(moments, places, strict=True):
        here = (slice(None), slice(J * cj, (J + 1) * cj), slice(I * ci, (I + 1) * ci))
        departure = part.total / count
        mean[here] = part.shift + departure
        variance[here] = np.maximum(part.squares / count - departure**2, 0.0)
    number, total, squares = np.sum([part.steps for part in moments], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = total / number
        deviation = np.sqrt(np.maximum(squares / number - change**2, 0.0))
    return {
        "mean": mean, "variance": variance, "minimum": np.min([part.low for part in moments], axis=0),
        "maximum": np.max([part.high for part in moments], axis=0), "increment_mean": change,
        "increment_deviation": deviation, "held_out": store.records.held_out,
    }  # fmt: skip


def usual_lead(store: TrainingStore) -> float:
    """Median time between consecutive records of a trajectory, days; NaN where there are none."""
    leads = np.diff(store.records.time.astype(float))[np.diff(store.records.trajectory) == 0]
    return float(np.median(leads)) if leads.size else float("nan")


def increment_leads(store: TrainingStore, usual: float) -> np.ndarray:
    """Time from the record before to each, in usual leads, shape (record).

    0 where there is no increment: at the beginning of a trajectory, across a gap of more than two leads, and where one
    of the two is held out.
    """
    records = store.records
    leads = np.zeros(store.count)
    leads[1:] = np.diff(records.time.astype(float)) / usual
    pairs = (np.diff(records.trajectory) == 0) & ~records.held_out[1:] & ~records.held_out[:-1]
    leads[1:] = np.where(pairs & (leads[1:] <= 2), leads[1:], 0.0)
    return leads
