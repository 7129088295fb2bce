"""Messages between a model and the emulator ranks beside it; no wait is without end, and none spins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from halocline.run.peer_wire import DeadlineError, Tag

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["ANY", "Link", "naps"]

ANY = -1
"""In place of a rank: whoever sends."""

BUSY = 1e-3  # s at the beginning of a wait during which the core is only given away
LONG_NAP, SHORT_NAP = 1e-3, 5e-5  # s; the short one where a message needs both sides to move on
ARRIVAL = 60.0  # s that a message may take once it has begun


def naps(seconds: float, longest: float = LONG_NAP) -> Iterator[None]:
    """Yields until a deadline, with naps between that grow with the time waited.

    Arguments:
        seconds: From now; may be infinite.
        longest: Longest nap, s.

    Collective: no.
    """
    start = time.monotonic()
    while True:
        yield
        gone = time.monotonic() - start
        if gone > seconds:
            return
        time.sleep(0 if gone < BUSY else min(gone / 20, longest))


class Link:
    """The joint communicator. Nothing here is collective.

    Arguments:
        joint: All ranks of all programs.
    """

    def __init__(self, joint: MPI.Comm) -> None:
        self.joint = joint
        self._sent: list[tuple[Any, Any]] = []  # requests, and the buffers that must live as long

    def post(self, message: bytes | np.ndarray, rank: int, tag: Tag) -> None:
        """Starts to send a message, and keeps it until it is through."""
        self._sent = [(request, kept) for request, kept in self._sent if not request.Test()]
        self._sent.append((self.joint.Isend([message, _bytes()], rank, tag), message))

    def expect(self, buffer: np.ndarray, rank: int, tag: Tag) -> MPI.Request:
        """Starts to receive bytes."""
        return self.joint.Irecv([buffer, _bytes()], rank, tag)

    def poll(self, rank: int, tag: Tag) -> tuple[int, bytes] | None:
        """Receives a message if one has arrived.

        Arguments:
            rank: Sender, or ANY.
            tag: Of the message.

        Returns:
            Sender and message, or None.
        """
        from mpi4py import MPI

        status = MPI.Status()
        if not self.joint.Iprobe(MPI.ANY_SOURCE if rank == ANY else rank, tag, status):
            return None
        message, sender = bytearray(status.Get_count(MPI.BYTE)), status.Get_source()
        request = self.joint.Irecv([message, MPI.BYTE], sender, tag)
        for _ in naps(ARRIVAL, SHORT_NAP):
            if request.Test():
                return sender, bytes(message)
        raise DeadlineError(
            f"Rank {sender} of all programs began a message of {len(message)} bytes and did not end it."
        )

    def wait(self, rank: int, tag: Tag, seconds: float, missing: Callable[[], str]) -> tuple[int, bytes]:
        """Waits for a message.

        Arguments:
            rank, tag: As in `poll`.
            seconds: Longest wait.
            missing: Says who did not send what.

        Raises:
            DeadlineError: None came, with the sentence of `missing`.
        """
        for _ in naps(seconds):
            if arrived := self.poll(rank, tag):
                return arrived
        raise DeadlineError(missing())

    def flush(self, seconds: float, stuck: str) -> None:
        """Waits until all that was posted is through.

        Raises:
            DeadlineError: It is not, with the sentence `stuck`.
        """
        self.wait_all([request for request, _ in self._sent], seconds, stuck)
        self._sent = []

    def wait_all(self, requests: Sequence[MPI.Request], seconds: float, stuck: str) -> None:
        """Waits for messages under way; see `flush`."""
        left = list(requests)
        for _ in naps(seconds, SHORT_NAP):
            left = [request for request in left if not request.Test()]
            if not left:
                return
        raise DeadlineError(stuck)

    def drain(self, tag: Tag) -> None:
        """Receives and drops what has arrived."""
        while self.poll(ANY, tag):
            pass


def _bytes() -> Any:
    from mpi4py import MPI

    return MPI.BYTE
