"""Works out the tables of a halo plan: which values move inside a rank, which to and from each other rank.

Ranks ask for what they need: each derives the sources of its own windows from the lattice and sends every owner the
list of positions that it wants, in the order in which they will be unpacked. Nobody looks at the whole grid.
"""

from dataclasses import dataclass, replace

import numpy as np

from halocline.mesh.layout import Layout
from halocline.mesh.moves import Builder, Moves, Side


@dataclass(frozen=True)
class Channels:
    """The channels at one point of the C-grid, which share one pattern."""

    point: str
    numbers: np.ndarray
    signs: np.ndarray


@dataclass(frozen=True)
class Want:
    """Window positions of this rank, at one point, whose source one rank owns (or nobody: rank -1).

    Arguments:
        at: Position in the windows of a member.
        source: Position in the owner's tiles, -1 if nobody's.
        flipped: Whether the value crossed the fold.
        tile: Number of the tile whose window this is.
        itself: Whether the position is the owned cell that it shows.
    """

    at: np.ndarray
    source: np.ndarray
    flipped: np.ndarray
    tile: np.ndarray
    itself: np.ndarray

    def where(self, mask: np.ndarray) -> "Want":
        """Selects entries."""
        return Want(self.at[mask], self.source[mask], self.flipped[mask], self.tile[mask], self.itself[mask])


class Frame:
    """The shapes and sides that all tables of a plan share."""

    def __init__(self, layout: Layout, points: tuple[str, ...], signs: tuple[int, ...]) -> None:
        lattice = layout.lattice
        self.layout = layout
        self.channels = len(points)
        self.owned = lattice.tile_j * lattice.tile_i
        self.window = lattice.window[0] * lattice.window[1]
        self.tiles = len(layout.local)
        self.groups = [
            Channels(point, numbers, np.asarray(signs)[numbers])
            for point in dict.fromkeys(points)
            for numbers in [np.flatnonzero([other == point for other in points])]
        ]

    def owned_side(self, group: Channels) -> Side:
        """Owned cells, (member, tile, channel, j, i)."""
        return Side(group.numbers * self.owned, 0, self.tiles * self.channels * self.owned)

    def window_side(self, group: Channels) -> Side:
        """Windows, (member, tile, channel, j, i)."""
        return Side(group.numbers * self.window, 0, self.tiles * self.channels * self.window)

    def wants(self, group: Channels) -> dict[int, Want]:
        """Sorts this rank's window positions by the rank that owns their source."""
        lattice, layout = self.layout.lattice, self.layout
        cell = lattice.source(group.point, layout.local).reshape(self.tiles, -1)
        flipped = lattice.flips(group.point, layout.local).ravel()
        owner_tile, place = lattice.locate(np.maximum(cell, 0).ravel())
        owner = np.where(cell.ravel() >= 0, layout.owners[owner_tile], -1)
        source = layout.slots[owner_tile] * (self.channels * self.owned) + place
        at = np.arange(self.tiles)[:, None] * (self.channels * self.window) + np.arange(self.window)
        tile = np.repeat(layout.local, self.window)
        itself = (self._own_cells() == cell).ravel() & (cell.ravel() >= 0)
        everything = Want(at.ravel(), np.where(owner >= 0, source, -1), flipped, tile, itself)
        return {int(rank): everything.where(owner == rank) for rank in np.unique(owner)}

    def kept(self, group: Channels) -> tuple[np.ndarray, np.ndarray]:
        """Every owned position, and the window position above it where that shows itself, else -1."""
        lattice = self.layout.lattice
        canonical = lattice.canonical_mask(group.point, self.layout.local)
        tile = np.arange(self.tiles)[:, None, None] * self.channels
        inner = (lattice.halo + np.arange(lattice.tile_j))[:, None] * lattice.window[1] + lattice.halo
        above = tile * self.window + inner + np.arange(lattice.tile_i)
        at = tile * self.owned + np.arange(self.owned).reshape(lattice.tile)
        return at.ravel(), np.where(canonical, above, -1).ravel()

    def _own_cells(self) -> np.ndarray:
        """Owned cell under each window position, -1 in the halo, shape (tile, window position)."""
        halo, cells = self.layout.lattice.halo, self.layout.lattice.cells(self.layout.local)
        return np.pad(cells, ((0, 0), (halo, halo), (halo, halo)), constant_values=-1).reshape(self.tiles, -1)


@dataclass(frozen=True)
class Mailbox:
    """The messages of one direction, one behind the other in one buffer.

    Inside a message members follow each other; inside a member, groups; inside a group, channels.

    Arguments:
        ranks: Those with a message, ascending.
        bases, sizes: For each, values per member of the messages before it, and of its own.
        sides: For each (rank, group), where its values lie.
    """

    ranks: list[int]
    bases: list[int]
    sizes: list[int]
    sides: dict[tuple[int, int], Side]

    @classmethod
    def build(cls, groups: list[Channels], counts: dict[int, list[int]]) -> "Mailbox":
        """Lays out messages from the number of positions of each group, for each rank."""
        box = cls([], [], [], {})
        for rank in sorted(rank for rank, numbers in counts.items() if any(numbers)):
            size, base = sum(n * len(group.signs) for n, group in zip(counts[rank], groups, strict=True)), box.size
            first = 0
            for g, (n, group) in enumerate(zip(counts[rank], groups, strict=True)):
                box.sides[rank, g] = Side(first + np.arange(len(group.signs)) * n, base, size)
                first += n * len(group.signs)
            box.ranks.append(rank)
            box.bases.append(base)
            box.sizes.append(size)
        return box

    @property
    def size(self) -> int:
        """Values per member in all messages."""
        return sum(self.sizes)

    def parts(self, buffer: np.ndarray, members: int) -> list[tuple[int, np.ndarray]]:
        """Divides a buffer into (rank, message)."""
        return [
            (rank, buffer[members * base : members * (base + size)])
            for rank, base, size in zip(self.ranks, self.bases, self.sizes, strict=True)
        ]


@dataclass(frozen=True)
class HaloTables:
    """Everything that a halo plan executes.

    Arguments:
        inbox, outbox: Messages of `fill`; those of `adjoint` are the same the other way round.
        local: Owned cells to windows of this rank, and zeros where nothing lies.
        pack, unpack: Owned cells to outbox, inbox to windows.
        keep: Window values of cells that show themselves to these cells, zeros to the others.
        pack_adjoint: Window values that show other ranks' cells to their messages.
        add: Window values (this rank's, and those that came) to the cells they show, in lattice order.
    """

    inbox: Mailbox
    outbox: Mailbox
    local: Moves
    pack: Moves
    unpack: Moves
    keep: Moves
    pack_adjoint: Moves
    add: Moves


def build_tables(layout: Layout, points: tuple[str, ...], signs: tuple[int, ...]) -> HaloTables:
    """Works out all moves of a halo plan. Collective: yes."""
    frame, me = Frame(layout, points, signs), layout.comm.rank
    wants = [frame.wants(group) for group in frame.groups]
    asked = layout.comm.alltoall(_requests(wants, layout.comm.size, me))
    theirs = {rank: groups for rank, groups in enumerate(asked) if groups}
    others = sorted({rank for want in wants for rank in want} - {me, -1})
    inbox = Mailbox.build(frame.groups, {rank: [_count(want.get(rank)) for want in wants] for rank in others})
    outbox = Mailbox.build(frame.groups, {rank: [len(source) for source, _ in theirs[rank]] for rank in theirs})
    return HaloTables(
        inbox,
        outbox,
        _local(frame, wants, me),
        _pack(frame, outbox, theirs),
        _unpack(frame, inbox, wants),
        _keep(frame),
        _pack_adjoint(frame, inbox, wants),
        _add(frame, outbox, wants, theirs, me),
    )


Request = tuple[np.ndarray, np.ndarray]  # positions in the owner's tiles, and the tile whose window wants each
_NOTHING: Request = (np.empty(0, np.int64), np.empty(0, np.int64))


def _requests(wants: list[dict[int, Want]], size: int, me: int) -> list[list[Request] | None]:
    """What to ask of each rank, group by group; None where nothing is needed."""
    requests: list[list[Request] | None] = []
    for rank in range(size):
        lists = [(want[rank].source, want[rank].tile) if rank in want else _NOTHING for want in wants]
        requests.append(lists if rank != me and any(len(source) for source, _ in lists) else None)
    return requests


def _count(want: Want | None) -> int:
    return 0 if want is None else len(want.at)


def _no(n: int) -> np.ndarray:
    return np.zeros(n, bool)


def _local(frame: Frame, wants: list[dict[int, Want]], me: int) -> Moves:
    builder = Builder()
    for group, want in zip(frame.groups, wants, strict=True):
        for rank in (me, -1):
            if rank in want:
                w = want[rank]
                to, come = frame.window_side(group), frame.owned_side(group)
                builder.add(to, w.at, come, w.source, w.flipped, group.signs)
    return builder.build()


def _pack(frame: Frame, outbox: Mailbox, theirs: dict[int, list[Request]]) -> Moves:
    builder = Builder()
    for rank, requests in theirs.items():
        for g, (group, (source, _)) in enumerate(zip(frame.groups, requests, strict=True)):
            at = np.arange(len(source))
            builder.add(outbox.sides[rank, g], at, frame.owned_side(group), source, _no(len(source)), group.signs)
    return builder.build()


def _unpack(frame: Frame, inbox: Mailbox, wants: list[dict[int, Want]]) -> Moves:
    builder = Builder()
    for rank in inbox.ranks:
        for g, (group, want) in enumerate(zip(frame.groups, wants, strict=True)):
            if rank in want:
                w = want[rank]
                source = np.arange(len(w.at))
                builder.add(frame.window_side(group), w.at, inbox.sides[rank, g], source, w.flipped, group.signs)
    return builder.build()


def _keep(frame: Frame) -> Moves:
    builder = Builder()
    for group in frame.groups:
        at, source = frame.kept(group)
        builder.add(frame.owned_side(group), at, frame.window_side(group), source, _no(len(at)), group.signs)
    return builder.build()


def _pack_adjoint(frame: Frame, inbox: Mailbox, wants: list[dict[int, Want]]) -> Moves:
    builder = Builder()
    for rank in inbox.ranks:
        for g, (group, want) in enumerate(zip(frame.groups, wants, strict=True)):
            if rank in want:
                w = want[rank]
                at = np.arange(len(w.at))
                builder.add(inbox.sides[rank, g], at, frame.window_side(group), w.at, w.flipped, group.signs)
    return builder.build()


def _add(
    frame: Frame, outbox: Mailbox, wants: list[dict[int, Want]], theirs: dict[int, list[Request]], me: int
) -> Moves:
    """Additions, one window tile after another: that order is the lattice's own."""
    builder = Builder()
    owner = frame.layout.owners
    mine = [want[me].where(~want[me].itself) if me in want else None for want in wants]
    tiles = {int(t) for w in mine if w for t in w.tile} | {int(t) for r in theirs.values() for _, ts in r for t in ts}
    for tile in sorted(tiles):
        rank = int(owner[tile])
        for g, group in enumerate(frame.groups):
            to = frame.owned_side(group)
            if rank == me:
                w = mine[g]
                if w is None:
                    continue
                w = w.where(w.tile == tile)
                order = np.argsort(w.source, kind="stable")
                come, at, source, flipped = frame.window_side(group), w.source, w.at, w.flipped
            else:
                asked, of = theirs[rank][g]
                source = np.flatnonzero(of == tile)
                order = np.argsort(asked[source], kind="stable")
                come, at, flipped = replace(outbox.sides[rank, g], origin=1), asked[source], _no(len(source))
            builder.add(to, at[order], come, source[order], flipped[order], group.signs)
    return builder.build()
