"""Moves fields between two decompositions of one grid into rectangles, such as a host model's and the tile lattice's.

The rectangles of the source may not overlap (a host leaves its halo out); those of the target may. Values are copied,
never changed. The ranks of the two sides may be the same, or two groups in one communicator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from halocline.mesh.communicator import AnyCommunicator
from halocline.mesh.layout import Layout

_TAG = 3


class Rect(NamedTuple):
    """Cells [j0, j1) x [i0, i1) of the global grid, 0-based."""

    j0: int
    j1: int
    i0: int
    i1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.j1 - self.j0, self.i1 - self.i0

    def within(self, other: "Rect") -> tuple[slice, slice]:
        """Where these cells lie in an array of another rectangle."""
        return slice(self.j0 - other.j0, self.j1 - other.j0), slice(self.i0 - other.i0, self.i1 - other.i0)


Piece = tuple[int, Rect]
"""A rectangle and the rank that holds it."""


class Part(NamedTuple):
    """Cells common to one source and one target rectangle: the places of both in their ranks' lists, and the cells."""

    target: int
    source: int
    cells: Rect


@dataclass(frozen=True, eq=False)
class Rearrange:
    """Moves arrays from one set of rectangles to another. Built once by `build`, immutable.

    Arguments:
        comm: The ranks.
        sources, targets: This rank's rectangles.
        sends, receives: For each rank, this one included, the parts that go there and that come from there.
        fill: Value of target cells without source.
    """

    comm: AnyCommunicator
    sources: list[Rect]
    targets: list[Rect]
    sends: dict[int, list[Part]]
    receives: dict[int, list[Part]]
    fill: float

    @classmethod
    def build(
        cls,
        source: Sequence[tuple[int, Sequence[int]]],
        target: Sequence[tuple[int, Sequence[int]]],
        comm: AnyCommunicator,
        *,
        dry: bool = False,
        fill: float = 0,
    ) -> "Rearrange":
        """Intersects two decompositions.

        Arguments:
            source: (rank, rectangle) of all that hold values, the same list on every rank.
            target: (rank, rectangle) of all that want values, likewise.
            comm: Ranks of both sides.
            dry: Whether target cells may lie in no source, because a decomposition leaves out land.
            fill: Value of such cells.

        Raises:
            ValueError: A rank does not exist, a rectangle is empty or negative, sources overlap, or a target is not
                covered.

        Collective: yes.
        """
        with comm.together():
            held, wanted = _checked("Source", source, comm.size), _checked("Target", target, comm.size)
            _check_cover(held, wanted, dry)
        sends = _meetings(held, wanted, comm.rank)
        receives = _meetings(wanted, held, comm.rank)
        return cls(
            comm,
            [rect for rank, rect in held if rank == comm.rank],
            [rect for rank, rect in wanted if rank == comm.rank],
            {rank: sorted(Part(t, s, cells) for s, t, cells in parts) for rank, parts in sends.items()},
            {rank: sorted(Part(t, s, cells) for t, s, cells in parts) for rank, parts in receives.items()},
            fill,
        )

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Moves one array per rectangle.

        Arguments:
            arrays: Shape (..., rows, columns) for each of this rank's source rectangles; leading sizes and type are the
                same for all arrays on all ranks.

        Returns:
            Likewise for each of this rank's target rectangles.

        Raises:
            ValueError: The number, a shape or a type is not as expected.

        Collective: yes.
        """
        lead, dtype = self._agree_kind(arrays)
        results = [np.full((*lead, *rect.shape), self.fill, dtype) for rect in self.targets]
        self.into(arrays, results)
        return results

    def into(self, arrays: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> None:
        """Moves one array per source rectangle into existing arrays, one per target rectangle.

        What stays on a rank is copied once, from place to place, so both sides may be views of a model's memory. Target
        cells without source keep their values.

        Arguments:
            arrays: Shape (..., rows, columns); leading sizes and type are the same for all arrays and results on all
                ranks, which is not checked here.
            results: Likewise.

        Collective: yes, messages between ranks whose rectangles meet.
        """
        others = [rank for rank in self.receives if rank != self.comm.rank]
        inbox = {rank: _buffer(self.receives[rank], results[0].shape[:-2], results[0].dtype) for rank in others}
        requests = [self.comm.receive(buffer, rank, _TAG) for rank, buffer in inbox.items()]
        outbox = {rank: self._pack(parts, arrays) for rank, parts in self.sends.items() if rank != self.comm.rank}
        requests += [self.comm.send(buffer, rank, _TAG) for rank, buffer in outbox.items()]
        for part in self.receives.get(self.comm.rank, ()):
            self._place(part, results)[...] = self._pick(part, arrays)
        self.comm.wait(requests)
        for rank, buffer in inbox.items():
            parts = self.receives[rank]
            for part, piece in zip(parts, _pieces(buffer, parts, results[0].shape[:-2]), strict=True):
                self._place(part, results)[...] = piece

    def _agree_kind(self, arrays: Sequence[np.ndarray]) -> tuple[tuple[int, ...], np.dtype]:
        """Leading sizes and type, also where this rank holds nothing."""
        with self.comm.together():
            shapes = [array.shape[-2:] for array in arrays]
            if shapes != [rect.shape for rect in self.sources]:
                raise ValueError(
                    f"Arrays of sizes {shapes} on rank {self.comm.rank} do not fit its rectangles "
                    f"{[rect.shape for rect in self.sources]}: pass one array per rectangle, in order."
                )
        kinds = set().union(*self.comm.allgather({(array.shape[:-2], array.dtype.str) for array in arrays}))
        if len(kinds) > 1:
            raise ValueError(f"Arrays differ in leading sizes or type, {sorted(kinds)}: pass the same on every rank.")
        lead, dtype = kinds.pop() if kinds else ((), "<f8")
        return lead, np.dtype(dtype)

    def _pack(self, parts: list[Part], arrays: Sequence[np.ndarray]) -> np.ndarray:
        lead = arrays[0].shape[:-2]
        buffer = _buffer(parts, lead, arrays[0].dtype)
        for part, piece in zip(parts, _pieces(buffer, parts, lead), strict=True):
            piece[...] = self._pick(part, arrays)
        return buffer

    def _pick(self, part: Part, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The cells of a part in its source array."""
        return arrays[part.source][(..., *part.cells.within(self.sources[part.source]))]

    def _place(self, part: Part, results: Sequence[np.ndarray]) -> np.ndarray:
        """The cells of a part in its target array."""
        return results[part.target][(..., *part.cells.within(self.targets[part.target]))]


def tile_rectangles(layout: Layout) -> list[Piece]:
    """Lists the owned cells inside the grid of every tile, with their owners, in lattice order."""
    lattice = layout.lattice
    first = lattice.tiles * lattice.tile
    last = np.minimum(first + lattice.tile, (lattice.nj, lattice.ni))
    return [
        (int(rank), Rect(int(j0), int(j1), int(i0), int(i1)))
        for rank, (j0, i0), (j1, i1) in zip(layout.owners, first, last, strict=True)
    ]


def unstack_tiles(layout: Layout, owned: Tensor | np.ndarray) -> list[np.ndarray]:
    """Gives this rank's tiles as arrays on the rectangles of `tile_rectangles`: views without the padding.

    Arguments:
        layout: Tiles and their owners.
        owned: Shape (..., tile, channel, tile_j, tile_i).
    """
    values = owned.detach().numpy() if isinstance(owned, Tensor) else owned
    rects = [rect for rank, rect in tile_rectangles(layout) if rank == layout.comm.rank]
    return [values[..., t, :, : rect.shape[0], : rect.shape[1]] for t, rect in enumerate(rects)]


def stack_tiles(layout: Layout, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Joins arrays on this rank's rectangles to (..., tile, channel, tile_j, tile_i), 0 outside the grid."""
    lead = arrays[0].shape[:-3]
    result = np.zeros((*lead, len(arrays), arrays[0].shape[-3], *layout.lattice.tile), arrays[0].dtype)
    for t, array in enumerate(arrays):
        result[..., t, :, : array.shape[-2], : array.shape[-1]] = array
    return result


def _checked(side: str, pieces: Sequence[tuple[int, Sequence[int]]], size: int) -> list[Piece]:
    result = []
    for rank, bounds in pieces:
        rect = Rect(*(int(bound) for bound in bounds))
        if not 0 <= rank < size:
            raise ValueError(f"{side} rectangle {tuple(rect)} belongs to rank {rank}, expected one in [0, {size}).")
        if not (0 <= rect.j0 < rect.j1 and 0 <= rect.i0 < rect.i1):
            raise ValueError(
                f"{side} rectangle {tuple(rect)} of rank {rank} is empty: give 0 <= j0 < j1 and 0 <= i0 < i1."
            )
        result.append((int(rank), rect))
    return result


def _check_cover(source: list[Piece], target: list[Piece], dry: bool) -> None:
    """Paints the sources onto the grid: no cell twice, and none of a target's left out unless it may be dry."""
    rects = [rect for _, rect in source + target]
    painted = np.zeros((max((r.j1 for r in rects), default=0), max((r.i1 for r in rects), default=0)), bool)
    for rank, rect in source:
        cells = painted[rect.j0 : rect.j1, rect.i0 : rect.i1]
        if cells.any():
            raise ValueError(
                f"Source rectangle {tuple(rect)} of rank {rank} overlaps another: give each cell once, without halo."
            )
        cells[...] = True
    for rank, rect in target:
        if not dry and not painted[rect.j0 : rect.j1, rect.i0 : rect.i1].all():
            raise ValueError(
                f"Target rectangle {tuple(rect)} of rank {rank} is not covered by the sources: "
                "add what is missing, or declare it dry."
            )


def _meetings(mine: list[Piece], theirs: list[Piece], rank: int) -> dict[int, list[tuple[int, int, Rect]]]:
    """Common cells of this rank's rectangles and the others': rank -> [(place of mine, place of theirs, cells)]."""
    ranks = np.array([owner for owner, _ in theirs], np.int64)
    bounds = np.array([rect for _, rect in theirs], np.int64).reshape(-1, 4)
    places = np.array([np.count_nonzero(ranks[:n] == owner) for n, owner in enumerate(ranks)], np.int64)
    meetings: dict[int, list[tuple[int, int, Rect]]] = {}
    for place, rect in enumerate(rect for owner, rect in mine if owner == rank):
        low, high = np.maximum(bounds[:, ::2], (rect.j0, rect.i0)), np.minimum(bounds[:, 1::2], (rect.j1, rect.i1))
        for n in np.flatnonzero((low < high).all(axis=1)):
            cells = Rect(int(low[n, 0]), int(high[n, 0]), int(low[n, 1]), int(high[n, 1]))
            meetings.setdefault(int(ranks[n]), []).append((place, int(places[n]), cells))
    return meetings


def _buffer(parts: list[Part], lead: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    cells = sum(part.cells.shape[0] * part.cells.shape[1] for part in parts)
    return np.empty(int(np.prod(lead, dtype=np.int64)) * cells, dtype)


def _pieces(buffer: np.ndarray, parts: list[Part], lead: tuple[int, ...]) -> list[np.ndarray]:
    """Views of a message, one per part."""
    views, first = [], 0
    for part in parts:
        size = int(np.prod((*lead, *part.cells.shape), dtype=np.int64))
        views.append(buffer[first : first + size].reshape(*lead, *part.cells.shape))
        first += size
    return views
