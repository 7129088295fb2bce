"""What a model and the emulator ranks beside it say: kinds, tags and layouts of `fortran_bridge/src/mpmd_link.h`.

Numbers are the machine's own, 64 bits wide; a job does not mix machines.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from halocline.mesh.rearrange import Rect
from halocline.run.contract import Declaration, FieldDeclaration

__all__ = [
    "DEADLINE", "MAGIC", "PEER",
    "DeadlineError", "Frame", "Hello", "Kind", "PeerError", "Settings", "Tag", "read_declaration",
]  # fmt: skip

PROTOCOL = 1
MAGIC = 0x48414C4F434C0000 + PROTOCOL
PEER, DEADLINE = 5, 6
"""Status of a peer that does not do what is expected, and of a deadline that has passed."""

_HEADER = struct.Struct("=8q")
_SETTINGS = struct.Struct("=2d4q")
_DECLARATION = struct.Struct("=10qd64s")
_ROW = struct.Struct("=2q64s64s64s")


class PeerError(RuntimeError):
    """The other side says what was not expected."""

    halocline_status = PEER


class DeadlineError(TimeoutError):
    """The other side did not answer in time."""

    halocline_status = DEADLINE


class Tag(IntEnum):
    """Which way a message goes. ORDER: from the emulator's root to its other ranks, and back."""

    REQUEST, ANSWER, DECLARE, PLAN, OBSERVED, GENERATED, ORDER = range(1, 8)


class Kind(IntEnum):
    """What a frame says."""

    HELLO, WELCOME, DECLARE, ACCEPT, PLAN, GENERATE, OBSERVE, VERDICT, FAREWELL, BYE, FAULT = range(1, 12)


@dataclass(frozen=True)
class Frame:
    """A message other than cells.

    Attributes:
        kind: What it says.
        sequence: Of the request that is made or answered.
        step: Time step.
        status: Of a fault.
        level, action: Of a verdict.
        payload: What follows the header.
    """

    kind: Kind
    sequence: int = 0
    step: int = -1
    status: int = 0
    level: int = 0
    action: int = 0
    payload: bytes = b""

    def pack(self) -> bytes:
        """Returns the message."""
        rest = (self.sequence, self.step, self.status, self.level, self.action, len(self.payload))
        return _HEADER.pack(MAGIC, self.kind, *rest) + self.payload

    @classmethod
    def unpack(cls, message: bytes) -> Frame:
        """Reads a message.

        Raises:
            PeerError: It is none of this protocol.
        """
        if len(message) >= _HEADER.size:
            magic, kind, sequence, step, status, level, action, length = _HEADER.unpack_from(message)
            payload = message[_HEADER.size :]
            if magic == MAGIC and kind in iter(Kind) and length == len(payload):
                return cls(Kind(kind), sequence, step, status, level, action, payload)
        raise PeerError(
            f"A message of {len(message)} bytes from the model cannot be read: link the model with the libhalocline of "
            "this installation."
        )

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode(errors="replace")


@dataclass(frozen=True)
class Hello:
    """What a model says first.

    Attributes:
        ranks: Joint ranks of the model, in the order of its own ranks.
        path, text: Its configuration.
    """

    ranks: tuple[int, ...]
    path: str
    text: str

    @classmethod
    def of(cls, frame: Frame) -> Hello:
        """Reads the payload of a greeting."""
        first = 8 * frame.level
        ranks = np.frombuffer(frame.payload, np.int64, frame.level)
        path, text = frame.payload[first : first + frame.action], frame.payload[first + frame.action :]
        return cls(tuple(int(rank) for rank in ranks), path.decode(errors="replace"), text.decode(errors="replace"))


@dataclass(frozen=True)
class Settings:
    """What the model needs to know of the configuration; `longest`: bytes of one message of cells."""

    deadline: float
    generate_deadline: float
    every: int
    lag: int
    continue_on_fault: bool
    longest: int

    def pack(self) -> bytes:
        """Returns the payload of a welcome."""
        whole = (self.every, self.lag, int(self.continue_on_fault), self.longest)
        return _SETTINGS.pack(self.deadline, self.generate_deadline, *whole)


def read_declaration(frame: Frame) -> tuple[Declaration, np.ndarray | None]:
    """Reads what one rank of the model declares.

    Returns:
        Its declaration, with its own rectangle alone; and its mask, shape (nk, rows, columns), or None without cells.

    Raises:
        PeerError: The message is too short.

    Collective: no.
    """
    try:
        ni, nj, nk, i0, j0, nx, ny, count, step, date, time_step, calendar = _DECLARATION.unpack_from(frame.payload)
        first = _DECLARATION.size
        fields = tuple(_read_row(frame.payload, first + n * _ROW.size) for n in range(count))
        rect = Rect(j0, j0 + ny, i0, i0 + nx) if nx > 0 and ny > 0 else None
        declaration = Declaration(ni, nj, nk, fields, _text(calendar), time_step, step, date, (rect,))
        if rect is None:
            return declaration, None
        bits = np.frombuffer(frame.payload, np.uint8, -1, first + count * _ROW.size)
        cells = np.unpackbits(bits, count=nk * ny * nx, bitorder="little")
        return declaration, cells.astype(bool).reshape(nk, ny, nx)
    except (struct.error, ValueError) as error:
        raise PeerError(f"A declaration of the model cannot be read: {error}.") from error


def _read_row(payload: bytes, first: int) -> FieldDeclaration:
    size, levels, name, point, unit = _ROW.unpack_from(payload, first)
    return FieldDeclaration(_text(name), _text(point), _text(unit), levels, size)


def _text(padded: bytes) -> str:
    return padded.partition(b"\0")[0].decode(errors="replace")
