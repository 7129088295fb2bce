"""Cells on their way between the ranks of a model and the tiles of an emulator rank beside it.

All that goes between one rank of the model and one emulator rank in one exchange is one message, in chunks: magic,
sequence, step, bytes (64 bits each); then for each field, for each part: [level][j][i] in the model's type; zeros up to
a multiple of 8 bytes after each field. The other side is `fortran_bridge/src/mpmd_move.c`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rect, tile_rectangles
from halocline.run.contract import Declaration, FieldDeclaration
from halocline.run.peer_link import SHORT_NAP, Link, naps
from halocline.run.peer_wire import MAGIC, DeadlineError, PeerError, Tag

__all__ = ["LONGEST", "Cells", "Part", "Pieces", "plan"]

LONGEST = 2**21
"""Bytes of a chunk: the model fills one while those before it travel."""

HEAD = 4  # numbers
WORD = 8

Pieces = list[tuple[Rect, dict[str, np.ndarray]]]
"""Cells of the model and their fields, (level, row, column), in the model's type."""


class Part(NamedTuple):
    """Cells that a tile shares with a rank of the model: owner and number of the tile, its first cell, the cells."""

    owner: int
    tile: int
    corner: tuple[int, int]
    cells: Rect

    @property
    def place(self) -> tuple[slice, slice]:
        """Where the cells lie in the tile."""
        j, i = self.corner
        return slice(self.cells.j0 - j, self.cells.j1 - j), slice(self.cells.i0 - i, self.cells.i1 - i)


def plan(layout: Layout, rectangles: Sequence[Rect | None]) -> list[list[Part]]:
    """Lists the parts of every rank of the model, by owner, then by tile.

    Collective: no.
    """
    tiles = tile_rectangles(layout)
    bounds = np.array([rect for _, rect in tiles], np.int64)
    result: list[list[Part]] = []
    for rect in rectangles:
        parts = []
        if rect is not None:
            low, high = np.maximum(bounds[:, ::2], (rect.j0, rect.i0)), np.minimum(bounds[:, 1::2], (rect.j1, rect.i1))
            for n in np.flatnonzero((low < high).all(axis=1)):
                owner, tile = tiles[n]
                cells = Rect(int(low[n, 0]), int(high[n, 0]), int(low[n, 1]), int(high[n, 1]))
                parts.append(Part(owner, int(n), (tile.j0, tile.i0), cells))
        result.append(sorted(parts))
    return result


@dataclass(frozen=True, eq=False)
class Message:
    """The parts of one rank of the model here.

    Attributes:
        rank: In the joint communicator.
        parts: In the order of the message.
        buffer: Bytes, used anew in each exchange.
        blocks: The numbers of each field in it.
        views: The parts of each field in them.
    """

    rank: int
    parts: list[Part]
    buffer: np.ndarray
    blocks: dict[str, np.ndarray]
    views: dict[str, list[np.ndarray]]

    @classmethod
    def build(cls, rank: int, parts: list[Part], fields: Sequence[FieldDeclaration]) -> Message:
        """Makes room for a message."""
        cells = sum(part.cells.shape[0] * part.cells.shape[1] for part in parts)
        sizes = [-(-cells * field.levels * field.bytes // WORD) * WORD for field in fields]
        buffer = np.zeros((HEAD * WORD + sum(sizes)) // WORD, np.int64).view(np.uint8)
        blocks: dict[str, np.ndarray] = {}
        views: dict[str, list[np.ndarray]] = {}
        first = HEAD * WORD
        for field, size in zip(fields, sizes, strict=True):
            numbers = cells * field.levels
            block = buffer[first : first + numbers * field.bytes].view(f"f{field.bytes}")
            shapes = [(field.levels, *part.cells.shape) for part in parts]
            ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
            pieces = np.split(block, ends[:-1])
            blocks[field.name] = block
            views[field.name] = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
            first += size
        return cls(rank, parts, buffer, blocks, views)

    def holds_tiles(self, layout: Layout) -> bool:
        """Whether its parts are the tiles of this emulator rank, whole and in their order."""
        tiles = [part.tile for part in self.parts]
        return tiles == layout.local.tolist() and all(part.cells.shape == layout.lattice.tile for part in self.parts)

    @property
    def head(self) -> np.ndarray:
        """Magic, sequence, step, bytes."""
        return self.buffer[: HEAD * WORD].view(np.int64)

    def chunks(self, longest: int) -> list[np.ndarray]:
        """The buffer in pieces that one message of MPI carries."""
        longest = longest // WORD * WORD
        return [self.buffer[first : first + longest] for first in range(0, len(self.buffer), longest)]

    def pieces(self) -> Pieces:
        """The cells as they came or went."""
        return [
            (part.cells, {name: views[n] for name, views in self.views.items()}) for n, part in enumerate(self.parts)
        ]


class Cells:
    """This emulator rank's tiles, and the messages that fill them and empty them.

    Arguments:
        link: To the model.
        layout: Of the emulator.
        declaration: Of the model.
        ranks: Joint ranks of the model.
        parts: From `plan`.
        longest: Bytes of a chunk.

    Attributes:
        tiles: Field to array of shape (tile, level, j, i) in the model's type, zero where the model has no cell.
        in_place: Whether they are the message itself, because one rank of the model holds just these tiles.
    """

    def __init__(
        self, link: Link, layout: Layout, declaration: Declaration, ranks: Sequence[int],
        parts: Sequence[Sequence[Part]], longest: int = LONGEST,
    ) -> None:  # fmt: skip
        self.link, self.longest = link, longest
        self.slots = layout.slots
        self.messages = []
        for rank, all_parts in zip(ranks, parts, strict=True):
            if own := [part for part in all_parts if part.owner == layout.comm.rank]:
                self.messages.append(Message.build(rank, own, declaration.fields))
        shapes = {row.name: (len(layout.local), row.levels, *layout.lattice.tile) for row in declaration.fields}
        self.in_place = len(self.messages) == 1 and self.messages[0].holds_tiles(layout)
        if self.in_place:
            self.tiles = {name: self.messages[0].blocks[name].reshape(shape) for name, shape in shapes.items()}
        else:
            self.tiles = {row.name: np.zeros(shapes[row.name], f"f{row.bytes}") for row in declaration.fields}

    def receive(self, sequence: int, step: int, seconds: float) -> dict[str, np.ndarray]:
        """Receives an observation into the tiles.

        Arguments:
            sequence, step: Of the observation.
            seconds: Longest wait.

        Returns:
            `tiles`.

        Raises:
            DeadlineError: A rank of the model sent nothing.
            PeerError: It sent what belongs to another exchange.

        Collective: no.
        """
        waiting = [
            (message, [self.link.expect(chunk, message.rank, Tag.OBSERVED) for chunk in message.chunks(self.longest)])
            for message in self.messages
        ]
        for _ in naps(seconds, SHORT_NAP):
            there = [all([request.Test() for request in requests]) for _, requests in waiting]
            for (message, _), arrived in zip(waiting, there, strict=True):
                if arrived:
                    self._unpack(message, sequence, step)
            waiting = [entry for entry, arrived in zip(waiting, there, strict=True) if not arrived]
            if not waiting:
                return self.tiles
        late = ", ".join(str(message.rank) for message, _ in waiting)
        raise DeadlineError(
            f"The model sent no cells of step {step} within {seconds:g} s after its rank 0 called halocline_observe; "
            f"waiting for rank {late} of all programs: is it stopped, or slower than the others?"
        )

    def _unpack(self, message: Message, sequence: int, step: int) -> None:
        expected = [MAGIC, sequence, step, len(message.buffer)]
        if message.head.tolist() != expected:
            raise PeerError(
                f"Rank {message.rank} of all programs sent cells of message {message.head[1]}, step {message.head[2]}, "
                f"expected message {sequence}, step {step}: do all ranks of the model call halocline_observe alike?"
            )
        if self.in_place:
            return
        for name, views in message.views.items():
            for part, view in zip(message.parts, views, strict=True):
                self.tiles[name][(self.slots[part.tile], slice(None), *part.place)] = view

    def pack(self, sequence: int, step: int, state: Mapping[str, np.ndarray]) -> None:
        """Makes the messages of a generated state, in the model's types.

        Arguments:
            sequence, step: Of the request.
            state: Field to array of shape (tile, level, j, i).

        Collective: no.
        """
        for message in self.messages:
            message.head[...] = MAGIC, sequence, step, len(message.buffer)
            for name, views in message.views.items():
                for part, view in zip(message.parts, views, strict=True):
                    view[...] = state[name][(self.slots[part.tile], slice(None), *part.place)]

    def send(self, seconds: float) -> None:
        """Sends what `pack` made, and waits until the model has it.

        Raises:
            DeadlineError: The model does not take it.

        Collective: no.
        """
        for message in self.messages:
            for chunk in message.chunks(self.longest):
                self.link.post(chunk, message.rank, Tag.GENERATED)
        self.link.flush(seconds, f"The model did not take the generated state within {seconds:g} s.")

    def pieces(self) -> Pieces:
        """The cells of the last exchange, as views of what came or went."""
        return [piece for message in self.messages for piece in message.pieces()]
