"""How an emulator rank beside a model ends when something fails: the model is told, nobody is left waiting."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from halocline.run.bridge_errors import write_traceback
from halocline.run.contract import EXCEPTION, START
from halocline.run.peer_library import start_deadline
from halocline.run.peer_link import ANY, naps
from halocline.run.peer_model import ModelFault
from halocline.run.peer_wire import DEADLINE, PEER, DeadlineError, Frame, Kind, PeerError, Tag

if TYPE_CHECKING:
    from halocline.run.peer import Peer

__all__ = ["Interrupted", "end", "interrupts", "refuse"]

LONGEST_TEXT = 8000
"""Bytes of a message that the model can hold."""

FIRST_CODE = 80
"""Exit code of the job is this plus the status."""

LAUNCHER_NEEDS = 2.0
"""Time from a launcher's SIGTERM to its SIGKILL, s."""


class Interrupted(BaseException):
    """A signal asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def interrupts() -> Iterator[None]:
    """Turns SIGTERM and SIGINT, which launchers send, into an exception."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse(error: BaseException) -> None:
    """Ends the job for an error before the model could be told. Collective: no."""
    if isinstance(error, Interrupted):
        interrupted(error, "start", True)
    say(f"halocline serve: error: {error}\n")
    abort(FIRST_CODE + int(getattr(error, "halocline_status", START)))


def end(peer: Peer, error: BaseException) -> None:
    """Tells an error and ends the job; returns only if the model is to go on alone, after its farewell.

    The model is given a deadline to end by itself, with its own restart and message.

    Arguments:
        peer: This rank.
        error: What ended its service.

    Collective: no.
    """
    if isinstance(error, Interrupted):
        interrupted(error, peer.at, peer.comm.is_root)
    status = int(getattr(error, "halocline_status", EXCEPTION))
    try:
        where = keep_traceback(peer, error, status)
        if peer.comm.is_root or not getattr(error, "agreed", False):
            text = describe(error, where)
            if not isinstance(error, ModelFault):
                tell_model(peer, text, status)
        if may_go_on(peer, status):
            idle(peer)
            return
        if peer.model.ranks or not peer.comm.is_root:
            for _ in naps(peer.config.deadline if peer.config else start_deadline()):
                peer.link.drain(Tag.OBSERVED)  # also keeps the message to the model going
    except Interrupted:
        os._exit(FIRST_CODE + status)  # the job is being ended
    abort(FIRST_CODE + status)


def interrupted(error: Interrupted, at: str, speaks: bool) -> None:
    """Ends the job for a signal. A launcher that ends the job itself will be done before; then nothing is added."""
    if speaks:
        say(f"halocline serve: ended by {error} during {at}.\n")
    time.sleep(LAUNCHER_NEEDS)
    abort(128 + error.number)


def keep_traceback(peer: Peer, error: BaseException, status: int) -> str:
    """Leaves a file of what raised, and returns where that was. An error of all ranks is written where it began."""
    where = f"emulator rank {peer.comm.rank}, {peer.at}"
    if peer.config is None or status not in (START, EXCEPTION):
        return where
    write_traceback(Path(peer.config.output), peer.comm.rank, where, error)
    file = getattr(error, "traceback_file", None)
    return f"{where}; traceback in {file}" if file else where


def describe(error: BaseException, where: str) -> str:
    """Prints an error with its place, and returns the sentence for the model."""
    foreseen = isinstance(error, (ValueError, OSError, RuntimeError))
    text = str(error) if foreseen else f"{type(error).__name__}: {error}"
    trace = "" if foreseen else "".join(traceback.format_exception(error))
    say(f"{trace}halocline serve: error ({where}): {text}\n")
    return f"{text} ({where})"


def say(text: str) -> None:
    """Writes to stderr, after what stdout holds."""
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()


def tell_model(peer: Peer, text: str, status: int) -> None:
    """Sends the error to the model's rank 0, whose greeting the root may have to await first."""
    if peer.comm.is_root and not peer.model.silent and not peer.model.ranks:
        try:
            peer.model.await_hello(start_deadline())
        except (DeadlineError, PeerError):
            return
    if peer.model.ranks:
        payload = text.encode()[:LONGEST_TEXT].decode(errors="ignore").encode()
        peer.model.answer(Frame(Kind.FAULT, status=status, payload=payload))


def may_go_on(peer: Peer, status: int) -> bool:
    """Whether the configuration lets the model go on without the emulator after such a failure."""
    wanted = peer.config is not None and peer.config.on_fault == "continue"
    return wanted and peer.ready and status in (EXCEPTION, PEER, DEADLINE)


def idle(peer: Peer) -> None:
    """Answers nothing until the model's farewell, then leaves with the other emulator ranks."""
    root = peer.ranks[0]
    source, tag = (peer.model.ranks[0], Tag.REQUEST) if peer.comm.is_root else (root, Tag.ORDER)
    for _ in naps(math.inf):  # the model may run for days, and the launcher ends all if it dies
        peer.link.drain(Tag.OBSERVED)
        arrived = peer.link.poll(source, tag)
        if arrived and Frame.unpack(arrived[1]).kind == Kind.FAREWELL:
            break
    leave(peer)


def leave(peer: Peer) -> None:
    """Ends with the other emulator ranks. If one of them is stuck, the model ends the job in its MPI_Finalize."""
    bye = Frame(Kind.BYE)
    if not peer.comm.is_root:
        peer.link.post(bye.pack(), peer.ranks[0], Tag.ORDER)
        return
    for rank in peer.ranks[1:]:
        peer.link.post(Frame(Kind.FAREWELL, level=1).pack(), rank, Tag.ORDER)
    missing = set(peer.ranks[1:])
    for _ in naps(peer.settings.idle_deadline):
        if not missing:
            peer.model.answer(bye)
            return
        if arrived := peer.link.poll(ANY, Tag.ORDER):
            missing.discard(arrived[0])
    say(f"halocline serve: error: emulator ranks {sorted(missing)} of all programs did not end after the farewell.\n")
    abort(FIRST_CODE + DEADLINE)


def abort(code: int) -> None:
    """Ends all programs of the job."""
    from mpi4py import MPI

    sys.stdout.flush()
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(code)
