"""The model as the root of the emulator beside it hears it: greeting, declarations, requests."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from halocline.mesh.rearrange import Rect
from halocline.run.contract import START, ContractError, Declaration
from halocline.run.emulator import Emulator
from halocline.run.peer_cells import Part
from halocline.run.peer_link import ANY, Link, naps
from halocline.run.peer_wire import DeadlineError, Frame, Hello, Kind, Tag, read_declaration

__all__ = ["Model", "ModelFault", "plan_frame"]


class ModelFault(RuntimeError):
    """The model has told that it failed."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(f"The model has failed: {text}")
        self.halocline_status = status
        self.agreed = True  # the other emulator ranks wait for orders


class Model:
    """The model, seen by the root; the other emulator ranks know its ranks alone. Nothing here is collective.

    Arguments:
        link: To all ranks of all programs.

    Attributes:
        ranks: Its joint ranks, in the order of its own; none before they are known.
        hello: What it said first; None before.
        silent: Whether the greeting was awaited and has not come.
        orders: For each of its ranks the place of each field on the way in that rank's list.
        masks: Those of its ranks, if they are to be recorded.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.ranks: tuple[int, ...] = ()
        self.hello: Hello | None = None
        self.silent = False
        self.orders: list[list[int]] = []
        self.masks: list[tuple[Rect, np.ndarray]] = []

    def answer(self, frame: Frame) -> None:
        """Sends a frame to its rank 0."""
        self.link.post(frame.pack(), self.ranks[0], Tag.ANSWER)

    def await_hello(self, seconds: float) -> None:
        """Waits for its greeting.

        Raises:
            DeadlineError: None came.
        """
        self.silent = True
        _, message = self.link.wait(
            ANY,
            Tag.REQUEST,
            seconds,
            lambda: f"No program called halocline_init within {seconds:g} s: the model must, on all of its ranks.",
        )
        self.silent = False
        self.hello = Hello.of(Frame.unpack(message))
        self.ranks = self.hello.ranks

    def compare_configuration(self, path: Path) -> None:
        """Refuses a model that reads another configuration than this one.

        Raises:
            ValueError: A key differs; comments and the place of the file do not matter.
        """
        assert self.hello is not None
        theirs, ours = (yaml.safe_load(text) or {} for text in (self.hello.text, path.read_text()))
        if theirs == ours:
            return
        keys = set(theirs) | set(ours) if isinstance(theirs, dict) else set()
        differing = ", ".join(sorted(str(key) for key in keys if theirs.get(key) != ours.get(key)))
        error = ValueError(
            f"The model reads the configuration {self.hello.path} and `halocline serve` {path}; they differ in "
            f"{differing or 'all'}: give both the same file."
        )
        error.halocline_status = START  # type: ignore[attr-defined]
        raise awaited(error)

    def await_request(self, seconds: float, after: str) -> Frame:
        """Waits for its next request.

        Raises:
            DeadlineError: None came.
            ModelFault: It came to say that it has failed.
        """
        _, message = self.link.wait(
            self.ranks[0],
            Tag.REQUEST,
            seconds,
            lambda: f"The model has called nothing within {seconds:g} s (idle_deadline) after {after}: is it stopped?",
        )
        return understood(Frame.unpack(message))

    def await_contract(self, emulator: Emulator, idle: float, seconds: float, keep_masks: bool) -> Frame:
        """Waits until each of its ranks has declared itself, and compares.

        Arguments:
            emulator: To compare with.
            idle: Longest wait for the first rank, s.
            seconds: Longest wait for the others then, s.
            keep_masks: Whether `masks` are wanted.

        Returns:
            An order for the emulator ranks, with what the model declares; or its farewell.

        Raises:
            ContractError: Model and emulator do not fit.
            DeadlineError: A rank did not declare itself.
            ModelFault: The model has failed.
        """
        frames: dict[int, Frame] = {}
        for _ in naps(idle):
            if request := self.link.poll(self.ranks[0], Tag.REQUEST):
                return understood(Frame.unpack(request[1]))
            if self._collect(frames):
                break
        else:
            raise DeadlineError(f"The model did not call halocline_ready within {idle:g} s (idle_deadline).")
        for _ in naps(seconds):
            if self._collect(frames) == len(self.ranks):
                return self._compare([frames[rank] for rank in self.ranks], emulator, keep_masks)
        missing = ", ".join(str(n) for n, rank in enumerate(self.ranks) if rank not in frames)
        raise DeadlineError(
            f"Rank {missing} of the model did not call halocline_ready within {seconds:g} s after the first that did."
        )

    def _collect(self, frames: dict[int, Frame]) -> int:
        """Adds declarations that have arrived, by joint rank, and returns how many there are."""
        while arrived := self.link.poll(ANY, Tag.DECLARE):
            frames[arrived[0]] = Frame.unpack(arrived[1])
        return len(frames)

    def _compare(self, frames: list[Frame], emulator: Emulator, keep_masks: bool) -> Frame:
        """Compares what its ranks declare, in rank order, with each other and with the emulator."""
        declared, lines = [], []
        for rank, frame in enumerate(frames):
            declaration, mask = read_declaration(frame)
            declared.append(declaration)
            rect = declaration.rectangles[0]
            if rect is not None and mask is not None:
                lines += emulator.check_mask(rect, mask, f"rank {rank}")
                self.masks += [(rect, mask)] if keep_masks else []
        whole, disagreements = Declaration.join(declared)
        if lines := [*disagreements, *emulator.differences(whole), *lines]:
            raise awaited(ContractError.of(lines))
        self.orders = [[row.fields.index(field) for field in whole.fields] for row in declared]
        return Frame(Kind.DECLARE, frames[0].sequence, whole.step, payload=pickle.dumps((whole, self.ranks)))


def awaited(error: Exception) -> Exception:
    """Marks an error of the root while the other emulator ranks wait for orders: nobody is stuck."""
    error.agreed = True  # type: ignore[attr-defined]
    return error


def understood(frame: Frame) -> Frame:
    """Lets a request of the model pass.

    Raises:
        ModelFault: It is none, but the news that the model has failed.
    """
    if frame.kind == Kind.FAULT:
        raise ModelFault(frame.text, frame.status)
    return frame


def plan_frame(parts: Sequence[Part], fields: Sequence[int], joint_ranks: Sequence[int]) -> bytes:
    """Makes what one rank of the model must know.

    Arguments:
        parts: Of its cells.
        fields: Order of its fields on the way.
        joint_ranks: Of the emulator ranks.
    """
    numbers = [*fields, *(n for part in parts for n in (joint_ranks[part.owner], *part.cells))]
    return Frame(Kind.PLAN, payload=np.array(numbers, np.int64).tobytes()).pack()
