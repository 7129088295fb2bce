r"""Changes of the state over the leads of a forecast: which records follow which, and how large the changes are.

A forecast generator makes :math:`x_0 = (X(T + \tau) - X(T)) / s_\tau`, where s is the root mean square change of a
channel over the lead :math:`\tau`, over wet cells and the pairs of states that are not held out. Between the leads that
were learned, :math:`\ln s` is linear in :math:`\ln \tau`. Variables that can be stretched
(`halocline.state.stretching`) are measured both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halocline.io.training_store import INCREMENTS, Records, TrainingStore, explained, save_table
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.store_statistics import of_chunks
from halocline.state.stretching import DISTANCE, Stretching

__all__ = ["AT_BOUND", "Increments", "learn_increments", "successors"]

TOLERANCE = 1e-3  # h, of times in files
USUAL = 12.0  # h, lead at which the network is told 0
LEAST = 1e-12  # scale of what never changes
AT_BOUND = 1e-5  # distance, in the unit of a variable, within which a number of float32 lies on its bound
TABLE = ("leads", "scale", "on_bounds", "stretched_scale", "stretched_level", "gap")
ATTAINED = 5e-3  # share of values from which on a bound is one that values reach, not one that they come near to


@dataclass(frozen=True)
class Increments:
    """How large the changes of a state are.

    Attributes:
        leads: Hours, ascending, shape (lead), float64.
        scale: s, in the units of the channels, shape (lead, channel), float64.
        on_bounds: Share of the values that lie on the lower and on the upper bound, shape (2, channel), float64.
        stretched_scale: s of what can be stretched, when it is, and s itself of the rest, like `scale`.
        stretched_level: Mean and standard deviation of the stretched states, shape (2, channel), float64.
        gap: Between the lower and the upper bound and the nearest value that is not on it, shape (2, channel), float64:
            the step of rounding where files are rounded, next to nothing where they are not; 0 where nobody knows.
    """

    leads: Tensor
    scale: Tensor
    on_bounds: Tensor
    stretched_scale: Tensor
    stretched_level: Tensor
    gap: Tensor

    @property
    def attained(self) -> Tensor:
        """Whether a bound is one that values reach, shape (2, channel): at the others nothing is censored."""
        return self.on_bounds >= ATTAINED

    def of(self, stretching: Stretching) -> Increments:
        """Returns the same with the changes of the stretched channels in `scale`. Collective: no."""
        chosen = torch.zeros(self.scale.shape[1], dtype=torch.bool)
        chosen[: len(stretching.chosen)] = stretching.chosen.flatten()  # forcing follows the state
        return replace(self, scale=torch.where(chosen, self.stretched_scale, self.scale))

    def at(self, hours: float) -> Tensor:
        """Returns s at a lead, shape (channel).

        Raises:
            ValueError: It is shorter or longer than all that were learned.

        Collective: no.
        """
        leads = self.leads.numpy()
        if not leads[0] - TOLERANCE <= hours <= leads[-1] + TOLERANCE:
            raise ValueError(
                f"lead is {hours:g} h, expected one between {leads[0]:g} and {leads[-1]:g} h, those of forecast.leads "
                "that the network has learned: choose one of these, or train with others."
            )
        nearest = int(np.abs(leads - hours).argmin())
        if abs(leads[nearest] - hours) <= TOLERANCE:
            return self.scale[nearest]
        above = int(np.searchsorted(leads, hours))
        share = np.log(hours / leads[above - 1]) / np.log(leads[above] / leads[above - 1])
        return torch.lerp(self.scale[above - 1].log(), self.scale[above].log(), float(share)).exp()

    @staticmethod
    def told(hours: Tensor) -> Tensor:
        r"""Returns what the network is told of leads, :math:`\ln(\tau / 12\,\mathrm{h})`, shape (sample, 1)."""
        return (hours.double() / USUAL).log().float()[:, None]

    def to_dict(self) -> dict[str, Tensor]:
        """Returns what is saved."""
        return {name: getattr(self, name) for name in TABLE}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor]) -> Increments | None:
        """The reverse; None of nothing.

        Raises:
            ValueError: Something is missing.
        """
        if not tensors:
            return None
        if lacking := [name for name in TABLE if name not in tensors and name != "gap"]:
            raise ValueError(f"Weights lack increments.{lacking[0]}: they are of another version; train again.")
        unknown = {"gap": torch.zeros_like(tensors["on_bounds"])}  # of weights that are older than it
        return cls(**{name: (unknown | dict(tensors))[name] for name in TABLE})


def successors(records: Records, hours: float, held_out: bool = False) -> np.ndarray:
    """Finds for each record the one that follows after a lead in the same run of the model.

    Arguments:
        records: Of a store.
        hours: The lead.
        held_out: Whether to pair states that are held out, or those that are not.

    Returns:
        Numbers of records, -1 where there is none, shape (record).

    Collective: no.
    """
    time, run, held = (np.asarray(x) for x in (records.time, records.trajectory, records.held_out))
    found = np.full(len(time), -1)
    for number in np.unique(run):
        mine = np.flatnonzero(run == number)
        clock = 24.0 * time[mine].astype(float)
        place = np.searchsorted(clock, clock + hours - TOLERANCE)
        there = np.minimum(place, len(mine) - 1)
        fits = (place < len(mine)) & (np.abs(clock[there] - clock - hours) <= TOLERANCE)
        fits &= (held[mine] == held_out) & (held[mine[there]] == held_out)
        found[mine] = np.where(fits, mine[there], -1)
    return found


def learn_increments(path: Path, leads: Sequence[float], comm: Communicator | Serial) -> None:
    """Measures the changes over leads and saves them in a training store.

    Raises:
        ValueError: No two states that are not held out are a lead apart; or a chunk is damaged.

    Collective: yes.
    """
    with comm.together():
        store = TrainingStore.open(path)
        follows = [successors(store.records, lead) for lead in leads]
        for lead, found in zip(leads, follows, strict=True):
            if not (found >= 0).any():
                raise ValueError(
                    f"forecast.leads names {lead:g} h, but no two of the {store.count} states of {path} that may be "
                    "learned are so far apart: name leads that the times of data.states have."
                )
    parts = of_chunks(store, comm, "increments", lambda J, I: Sums.of(store, follows, J, I))
    with comm.together(), explained(path):
        if parts is not None:
            cells = store.channels.mask(store.grid).sum(axis=(1, 2))
            pairs = np.array([[(found >= 0).sum()] for found in follows])
            held = np.asarray(store.records.held_out, bool)
            save_table(path / INCREMENTS, Sums.total(list(parts.values())).table(leads, pairs, cells, held))


@dataclass
class Sums:
    """Sums over the records of a chunk, as they are and stretched.

    Attributes:
        squares: Of changes over pairs, shape (2, lead, channel).
        levels: Of stretched values that are not held out, and of their squares, shape (2, channel).
        count: Of these that lie on bounds, shape (2, channel).
        gap: Smallest distance of the others from a bound, shape (2, channel), infinite where there are none.
    """

    squares: np.ndarray
    levels: np.ndarray
    count: np.ndarray
    gap: np.ndarray

    @classmethod
    def total(cls, parts: Sequence[Sums]) -> Sums:
        """Adds those of all chunks, in their order."""
        squares, levels, count = (
            np.sum([getattr(x, name) for x in parts], axis=0) for name in ("squares", "levels", "count")
        )
        return cls(squares, levels, count, np.min([x.gap for x in parts], axis=0))

    def table(
        self, leads: Sequence[float], pairs: np.ndarray, cells: np.ndarray, held: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Makes what is saved, see `TrainingStore.increments`."""
        seen = cells * (~held).sum()
        scale, stretched = np.maximum(np.sqrt(self.squares / (pairs * cells)), LEAST)
        mean, square = self.levels / seen
        level = np.stack([mean, np.maximum(np.sqrt(np.maximum(square - mean**2, 0.0)), LEAST)])
        return {
            "leads": np.array(leads, float), "scale": scale, "on_bounds": self.count / seen,
            "stretched_scale": stretched, "stretched_level": level,
            "gap": np.where(np.isfinite(self.gap), self.gap, 0.0), "held_out": held,
        }  # fmt: skip

    @classmethod
    def of(cls, store: TrainingStore, follows: Sequence[np.ndarray], J: int, I: int) -> Sums:
        """Adds those of a chunk; holds the states of the longest lead, no more."""
        cj, ci = store.chunk
        stretching = Stretching.build([channel.variable.name for channel in store.channels.channels], DISTANCE)
        limits = np.array([channel.variable.bounds for channel in store.channels.channels]).T[:, :, None, None]
        seen = ~np.asarray(store.records.held_out, bool)
        sea = store.channels.mask(store.grid)[:, J * cj : (J + 1) * cj, I * ci : (I + 1) * ci]
        n = len(sea)
        made = cls(np.zeros((2, len(follows), n)), np.zeros((2, n)), np.zeros((2, n)), np.full((2, n), np.inf))
        comes_from = [{int(b): int(a) for a, b in enumerate(found) if b >= 0} for found in follows]
        last = {a: max(int(found[a]) for found in follows) for a in range(store.count)}
        held: dict[int, np.ndarray] = {}
        for record in range(store.count):
            wanted = [(n, pairs[record]) for n, pairs in enumerate(comes_from) if record in pairs]
            if wanted or last[record] >= 0 or seen[record]:
                x = store.block(1, record, J, I).astype(np.float64)
                both = np.where(sea, np.stack([x, stretching(torch.from_numpy(x)).numpy()]), 0.0)
                if seen[record]:
                    distance = np.where(sea, np.abs(x - limits), np.inf)
                    made.count += (distance <= AT_BOUND).sum(axis=(2, 3))
                    others = np.where(distance <= AT_BOUND, np.inf, distance).min(axis=(2, 3))
                    made.gap = np.minimum(made.gap, others)
                    made.levels += np.stack([both[1].sum(axis=(1, 2)), (both[1] ** 2).sum(axis=(1, 2))])
                for n, before in wanted:
                    made.squares[:, n] += ((both - held[before]) ** 2).sum(axis=(2, 3))
                held[record] = both
            held = {a: block for a, block in held.items() if last[a] > record}
        return made
