"""What model and emulator tell each other: declarations of the model, judgements of the emulator.

Numbers of levels and actions are those of `halocline.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np

from halocline.mesh.communicator import AnyCommunicator
from halocline.mesh.rearrange import Rect
from halocline.physics.verdict import Check

__all__ = [
    "ACTIONS", "ALL_TOLD", "CONTRACT", "EXCEPTION", "FALL_BACK", "GO_ON", "LEVELS", "OK", "REJECT", "START", "STOP",
    "SUSPECT", "Told", "UNJUDGED", "USAGE",
    "ContractError", "Declaration", "FieldDeclaration", "Judgement", "agree", "on_part", "refuse", "shortened",
]  # fmt: skip

S = TypeVar("S")
T = TypeVar("T")

OK, SUSPECT, REJECT, UNJUDGED = range(4)
LEVELS = ("ok", "suspect", "reject", "unjudged")
"""Names of the levels of a verdict."""

GO_ON, STOP, FALL_BACK = range(3)
ACTIONS = {"continue": GO_ON, "stop": STOP, "fallback": FALL_BACK}
"""What a policy of the configuration asks the model to do."""

Told = tuple[int, int, int, str]
"""Level, action, step, reason: a verdict as the model hears it."""

ALL_TOLD: Told = (UNJUDGED, GO_ON, -1, "Every verdict has been told.")
"""What is left to say at the end."""

USAGE, START, EXCEPTION, CONTRACT = 1, 2, 3, 4
"""Status of a wrong call, of a failed start, of an exception, of a contract that the two sides do not share."""

LONGEST_REASON = 511
"""Bytes of a reason, without C's closing zero."""

MOST_LINES = 40
"""Differences that are told: a thousand ranks may have one each."""


class ContractError(ValueError):
    """Model and emulator do not agree on fields, grid, calendar or time step."""

    halocline_status = CONTRACT

    @classmethod
    def of(cls, differences: Sequence[str]) -> ContractError:
        """Makes one text of all differences, one in a line."""
        count = f"{len(differences)} difference{'s' if len(differences) > 1 else ''}"
        lines = [f"Model and emulator do not fit each other, {count}:", *differences[:MOST_LINES]]
        return cls("\n".join(lines + ["..."] * (len(differences) > MOST_LINES)))


@dataclass(frozen=True)
class FieldDeclaration:
    """A field as the model registers it.

    Attributes:
        name, point, unit: As in the variable table.
        levels: Those of the model's grid, or 1.
        bytes: Per number, 8 or 4.
    """

    name: str
    point: str
    unit: str
    levels: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.name} at {self.point} in {self.unit}, {self.levels} levels of {self.bytes} bytes"


@dataclass(frozen=True)
class Declaration:
    """What the model says of itself; the same on all its ranks.

    Attributes:
        ni, nj, nk: Size of the global grid.
        fields: In the order of their registration on rank 0.
        calendar: "360_day", "noleap" or "standard".
        time_step: In s.
        step: Number of the step at which it starts.
        date: At the start, yyyymmdd.
        rectangles: Cells of each rank of the model, without halo; None for a rank without cells.
    """

    ni: int
    nj: int
    nk: int
    fields: tuple[FieldDeclaration, ...]
    calendar: str
    time_step: float
    step: int
    date: int
    rectangles: tuple[Rect | None, ...]

    def time(self, step: int) -> float:
        """Model time at the end of a step, s since step 0: goes on over restarts of the model."""
        return step * self.time_step

    @classmethod
    def join(cls, parts: Sequence[Declaration]) -> tuple[Declaration, list[str]]:
        """Joins what each rank of the model declares with its own rectangle alone.

        Arguments:
            parts: In rank order.

        Returns:
            What rank 0 says, with all rectangles; and a sentence for everything that another rank says otherwise.
        """
        whole = replace(parts[0], rectangles=tuple(part.rectangles[0] for part in parts))
        lines = []
        for rank, part in enumerate(parts):
            for name in (f.name for f in fields(cls) if f.name not in ("fields", "rectangles")):
                theirs, ours = getattr(part, name), getattr(whole, name)
                if theirs != ours:
                    lines.append(f"Rank {rank} of the model says {name} = {theirs}, but rank 0 {ours}.")
            for row in sorted(set(part.fields) ^ set(whole.fields), key=str):
                speaker, other = (rank, 0) if row in part.fields else (0, rank)
                lines.append(f"Rank {speaker} of the model registers {row}, but not rank {other}.")
        return whole, lines


@dataclass(frozen=True)
class Judgement:
    """A verdict as the model hears it.

    Attributes:
        level: OK, SUSPECT, REJECT or UNJUDGED.
        action: GO_ON, STOP or FALL_BACK, by the user's policy.
        step: Time step that was judged; -1: none.
        reason: A sentence, at most 511 bytes of UTF-8.
        checks: Diagnostics that have a threshold.
        diagnostics: All diagnostics, by name: numbers, profiles and maps, float64.
    """

    level: int
    action: int
    step: int
    reason: str
    checks: tuple[Check, ...] = ()
    diagnostics: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def told(self) -> Told:
        """Level, action, step, reason: what the model hears."""
        return self.level, self.action, self.step, self.reason


def shortened(text: str) -> str:
    """Cuts a sentence to what fits the model's buffer."""
    if len(text.encode()) <= LONGEST_REASON:
        return text
    return text.encode()[: LONGEST_REASON - 3].decode(errors="ignore") + "..."


def refuse(differences: Sequence[str], comm: AnyCommunicator) -> None:
    """Raises one error with the differences that any rank found, each once.

    Arguments:
        differences: Sentences of this rank, none if it agrees.
        comm: Ranks that compare.

    Raises:
        ContractError: On every rank, if any has a difference.

    Collective: yes.
    """
    found = dict.fromkeys(line for lines in comm.allgather(list(differences)) for line in lines)
    if not found:
        return
    error = ContractError.of(list(found))
    error.agreed = True  # type: ignore[attr-defined]  # every rank raises it: nobody is left waiting
    raise error


def agree(error: Exception | None, comm: AnyCommunicator) -> None:
    """Raises one error on every rank if any rank has one, with the status that it carries.

    Arguments:
        error: This rank's error, or None.
        comm: Ranks that agree.

    Raises:
        Exception: As `Communicator.agree`; `halocline_status` is on every rank what it is where the error has it.

    Collective: yes.
    """
    try:
        comm.agree(error)
    except Exception as shared:
        statuses = comm.allgather(getattr(error, "halocline_status", None))
        shared.halocline_status = next((s for s in statuses if s is not None), EXCEPTION)  # type: ignore[attr-defined]
        shared.agreed = True  # type: ignore[attr-defined]
        raise


def on_part(tool: S | None, work: Callable[[S], T], size: int, comm: AnyCommunicator) -> T | None:
    """Works on some ranks; what these agree to raise is raised on all.

    Arguments:
        tool: What the work needs; None on ranks that do not work.
        work: Collective over those that do.
        size: Number of ranks that work.
        comm: All ranks.

    Returns:
        What the work returns; None on ranks that do not work.

    Raises:
        Exception: On all ranks with `agreed`; or on this one alone, where the working ranks did not agree: others
            may wait inside the work, so the job must end.

    Collective: yes.
    """
    result: T | None = None
    error: Exception | None = None
    try:
        if tool is not None:
            result = work(tool)
    except Exception as caught:
        if comm.size > 1 and not getattr(caught, "agreed", False):
            raise
        error = caught
    if error is not None or size < comm.size:
        agree(error, comm)
    return result
