"""Tables of moves: which runs of values go from where to where. Executed by the compiled kernel.

A move is linear: it copies, or adds, with a sign. Tables count values, not bytes, and know nothing of MPI.
"""

from dataclasses import dataclass

import numpy as np

from halocline import _kernels

REVERSED, FLIPPED, ZERO = 1, 2, 4
"""Kinds of a run: source read backwards; times the channel's sign; no source, write 0."""


@dataclass(frozen=True)
class Side:
    """Where the values of one side of a move lie.

    Arguments:
        offsets: Offset of each channel from the start of a member.
        base: Values per member of what lies before, if several arrays lie one behind the other.
        stride: Values from one member to the next.
        origin: Which of the two sources; 0 for targets.
    """

    offsets: np.ndarray
    base: int
    stride: int
    origin: int = 0


@dataclass(frozen=True)
class Moves:
    """An executable list of moves, made by `Builder`."""

    groups: np.ndarray
    channels: np.ndarray
    runs: np.ndarray

    def __call__(
        self,
        target: np.ndarray,
        source: np.ndarray,
        members: int,
        *,
        other: np.ndarray | None = None,
        add: bool = False,
    ) -> None:
        """Moves values of contiguous float32 or float64 arrays into `target`; adds them to it if `add`."""
        second = source if other is None else other
        _kernels.move(
            target, source, second, self.groups, self.channels, self.runs, members, target.dtype.itemsize, add
        )


_GROUP_COLUMNS = 9  # as in kernels.h


class Builder:
    """Collects moves in the order in which they shall happen."""

    def __init__(self) -> None:
        self._counts = 0, 0  # runs, channels
        self._groups: list[list[int]] = []
        self._channels: list[np.ndarray] = [np.empty((0, 3), np.int64)]
        self._runs: list[np.ndarray] = [np.empty((0, 4), np.int32)]

    def add(
        self, to: Side, at: np.ndarray, come: Side, source: np.ndarray, flipped: np.ndarray, signs: np.ndarray
    ) -> None:
        """Adds a group: for each channel, value `source[n]` goes to `at[n]`.

        Arguments:
            to, come: Where the two sides lie.
            at: Position in the target, shape (n).
            source: Position in the source, shape (n); -1 writes 0.
            flipped: Whether the channel's sign applies, shape (n).
            signs: Of the channels.
        """
        if len(at) == 0 or len(signs) == 0:
            return
        runs = compress(at, source, flipped)
        first_run, first_channel = self._counts
        self._counts = first_run + len(runs), first_channel + len(signs)
        span = [first_run, self._counts[0], first_channel, self._counts[1]]
        self._groups.append([*span, to.base, to.stride, come.base, come.stride, come.origin])
        self._runs.append(runs)
        self._channels.append(np.stack([to.offsets, come.offsets, signs], axis=1).astype(np.int64))

    def build(self) -> Moves:
        """Returns what was collected."""
        return Moves(
            np.array(self._groups, np.int64).reshape(-1, _GROUP_COLUMNS),
            np.ascontiguousarray(np.concatenate(self._channels)),
            np.ascontiguousarray(np.concatenate(self._runs)),
        )


def compress(at: np.ndarray, source: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """Joins neighbouring moves to runs.

    A run goes on while the target advances by one and the source by one (or always by minus one, or is always absent)
    and the sign rule stays the same.

    Arguments:
        at, source, flipped: See `Builder.add`.

    Returns:
        Rows (target, source, length, kind), int32.

    Raises:
        ValueError: A position exceeds 32 bits.
    """
    at, source = np.asarray(at, np.int64), np.asarray(source, np.int64)
    if max(at.max(), source.max()) > np.iinfo(np.int32).max:
        raise ValueError(
            f"One member of this rank has {max(at.max(), source.max()) + 1} values, more than 2^31: use more ranks."
        )
    absent = source < 0
    step = np.where(absent[1:] & absent[:-1], 0, np.diff(source))
    joined = (np.diff(at) == 1) & (flipped[1:] == flipped[:-1]) & (absent[1:] == absent[:-1]) & (np.abs(step) <= 1)
    joined &= (step != 0) | absent[1:]
    turns = np.concatenate([[False], (step[1:] != step[:-1]) & joined[1:] & joined[:-1]])
    first = np.concatenate([[0], np.flatnonzero(~joined | turns) + 1])
    length = np.diff(np.append(first, len(at)))
    backwards = (length > 1) & (np.append(step, 0)[first] == -1)
    kind = REVERSED * backwards + FLIPPED * (flipped[first] & ~absent[first]) + ZERO * absent[first]
    return np.stack([at[first], np.maximum(source[first], 0), length, kind], axis=1).astype(np.int32)
