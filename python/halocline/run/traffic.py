"""Recorded traffic between a model and its emulator: every exchange, bit for bit, by rank.

A record is a folder::

    declaration.json                    what the model said of itself
    rank_0000/000000_ready.npz          masks
    rank_0000/000001_generate.npz       the state that the model received
    rank_0000/000002_observe.npz        the state that it handed over
    rank_0001/...

Each rank that records writes the rectangles that pass through it, in the model's own precision, and the verdict. Files
appear whole or not at all, so a record that a kill cuts short ends with its last complete event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from halocline.io.atomic import atomic_path
from halocline.mesh.rearrange import Rect
from halocline.physics.verdict import Check
from halocline.run.contract import Declaration, FieldDeclaration, Judgement
from halocline.run.event_file import EventFile
from halocline.run.outputs import make_folder

__all__ = ["DECLARATION", "Event", "Piece", "Record", "Recorder", "Traffic"]

FORMAT = 1
DECLARATION = "declaration.json"
VERBS = ("ready", "generate", "observe")
_FILE = re.compile(r"(\d{6,})_(" + "|".join(VERBS) + r")\.npz")
_FOLDER = re.compile(r"rank_(\d{4,})")

Piece = tuple[Rect, Mapping[str, np.ndarray]]
"""A rectangle of the grid, and its fields: name to array of shape (levels, rows, columns)."""


class Recorder:
    """Writes what passes through one rank. Every rank that records calls the same verbs in the same order.

    Arguments:
        folder: Of the record.
        rank: Number of this rank among those that record; rank 0 writes the declaration, too.

    Raises:
        FileExistsError: The folder holds a record.
        OSError: It cannot be made, or a file cannot be written; whole files stay.

    Collective: no.
    """

    def __init__(self, folder: Path | str, rank: int) -> None:
        self.folder, self.rank, self.number = Path(folder), rank, 0
        self._own = self.folder / f"rank_{rank:04d}"
        if next(self._own.glob("*.npz"), None) is not None:
            raise FileExistsError(f"Folder {folder} holds a record: name another one in `record`, or move it away.")
        make_folder(self._own)

    def ready(self, declaration: Declaration, masks: Sequence[tuple[Rect, np.ndarray]]) -> None:
        """Records what the model declares, with the masks of rectangles: True in the sea, (levels, rows, columns)."""
        if self.rank == 0:
            text = json.dumps({"format": FORMAT, "declaration": asdict(declaration)}, indent=1)
            with atomic_path(self.folder / DECLARATION) as temporary:
                temporary.write_text(text + "\n")
        self._write("ready", declaration.step, [(rect, {"mask": mask}) for rect, mask in masks], None)

    def generate(self, pieces: Sequence[Piece], judgement: Judgement | None) -> None:
        """Records the state that the model received: no pieces if it fell back, no judgement if there was none."""
        self._write("generate", judgement.step if judgement else -1, pieces, judgement)

    def observe(self, step: int, pieces: Sequence[Piece], judgement: Judgement | None) -> None:
        """Records the state that the model handed over, and the verdict; None if judging failed."""
        self._write("observe", step, pieces, judgement)

    def _write(self, verb: str, step: int, pieces: Sequence[Piece], judgement: Judgement | None) -> None:
        arrays = {f"{n}/{name}": array for n, (_, fields) in enumerate(pieces) for name, array in fields.items()}
        arrays["rectangles"] = np.array([rect for rect, _ in pieces], np.int64).reshape(-1, 4)
        arrays["event"] = np.array(json.dumps({"step": step, "judgement": _told(judgement)}))
        if judgement is not None and self.rank == 0:
            arrays |= {f"diagnostics/{name}": np.asarray(value) for name, value in judgement.diagnostics.items()}
        path = self._own / f"{self.number:06d}_{verb}.npz"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        self.number += 1


def _told(judgement: Judgement | None) -> dict[str, Any] | None:
    """A judgement without its diagnostics, which are arrays; JSON of Python keeps every float64."""
    return None if judgement is None else asdict(replace(judgement, diagnostics={}))


@dataclass(frozen=True)
class Event:
    """An exchange of a record: its number, and "ready", "generate" or "observe"."""

    number: int
    verb: str

    @property
    def file(self) -> str:
        """Name of its file in the folder of each rank."""
        return f"{self.number:06d}_{self.verb}.npz"


@dataclass(frozen=True)
class Traffic:
    """What an event says beside its fields.

    Attributes:
        step: Time step.
        judgement: The recorded one; None if there was none.
    """

    step: int
    judgement: Judgement | None


@dataclass(frozen=True)
class Record:
    """A recorded run. Opened by `open`.

    Attributes:
        folder: Of the record.
        ranks: Number of ranks that recorded.
        declaration: Of the model.
        events: In order, complete on all ranks.
        lost: Whether some ranks have one event more, as after a kill.
    """

    folder: Path
    ranks: int
    declaration: Declaration
    events: tuple[Event, ...]
    lost: bool

    @classmethod
    def open(cls, folder: Path | str) -> Record:
        """Finds the complete events of a record.

        Raises:
            FileNotFoundError: The folder is not a record, or lacks a rank or an event.
            ValueError: It contradicts itself.

        Collective: no.
        """
        folder = Path(folder)
        declaration = _read_declaration(folder / DECLARATION)
        found = sorted(int(m[1]) for path in folder.iterdir() if (m := _FOLDER.fullmatch(path.name)))
        if missing := set(range(max(found, default=0) + 1)) - set(found):
            raise FileNotFoundError(f"Record {folder} lacks folder rank_{min(missing):04d}: restore it.")
        lists = [_events(folder / f"rank_{rank:04d}") for rank in found]
        shortest = min(lists, key=len)
        for rank, events in enumerate(lists):
            if events[: len(shortest)] != shortest:
                raise ValueError(f"Record {folder} has other events in rank_{rank:04d} than elsewhere: restore it.")
        longest = max(lists, key=len)
        if len(longest) > len(shortest) + 1:  # by one they may differ: all ranks take part in every event
            rank, event = lists.index(shortest), longest[len(shortest)]
            raise FileNotFoundError(f"Record {folder} lacks {event.file} and more in rank_{rank:04d}: restore it.")
        return cls(folder, len(found), declaration, tuple(shortest), len(longest) > len(shortest))

    def read(self, event: Event) -> Traffic:
        """Reads what an event says beside its fields.

        Raises:
            FileNotFoundError, OSError: A file is missing or damaged.
        """
        with self._file(event, 0) as arrays:
            told = json.loads(str(arrays["event"]))
            diagnostics = {
                name.removeprefix("diagnostics/"): arrays[name] for name in arrays.files if name.startswith("diagn")
            }
        judgement = told["judgement"]
        if judgement is not None:
            checks = tuple(Check(**check) for check in judgement.pop("checks"))
            judgement = Judgement(**{**judgement, "checks": checks, "diagnostics": diagnostics})
        return Traffic(told["step"], judgement)

    def piece(self, event: Event, rect: Rect) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Joins what the ranks recorded of one rectangle; see `pieces`."""
        return self.pieces(event, [rect])[0]

    def pieces(self, event: Event, rects: Sequence[Rect]) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Joins what the ranks recorded of rectangles.

        Arguments:
            event: Of this record.
            rects: Cells of the grid.

        Returns:
            For each rectangle: name to array of shape (levels, rows, columns), zero where no rank of the model has
            cells; and where cells were recorded, shape (rows, columns). Nothing if the event has no fields.

        Raises:
            FileNotFoundError: A file is missing, or cells of the model are in none.
            OSError: A file is damaged.
        """
        results: list[tuple[dict[str, np.ndarray], np.ndarray]] = [({}, np.zeros(rect.shape, bool)) for rect in rects]
        recorded = 0
        for rank in range(self.ranks):
            with self._file(event, rank) as arrays:
                sources = [Rect(*row) for row in arrays["rectangles"].tolist()]
                recorded += len(sources)
                for n, source in enumerate(sources):
                    _join(rects, results, source, arrays, f"{n}/")
        if recorded:
            for rect, (_, known) in zip(rects, results, strict=True):
                self._check_cover(event, rect, known)
        return results

    def _check_cover(self, event: Event, rect: Rect, known: np.ndarray) -> None:
        """Refuses a rectangle of which cells of the model are missing."""
        for owner in self.declaration.rectangles:
            common = None if owner is None else _common(owner, rect)
            if common is not None and not known[common.within(rect)].all():
                raise FileNotFoundError(
                    f"Record {self.folder} lacks cells of rectangle {tuple(common)} (j0, j1, i0, i1) in {event.file}: "
                    f"it has {self.ranks} folders rank_0000 to rank_{self.ranks - 1:04d}, one is missing; restore it."
                )

    def _file(self, event: Event, rank: int) -> EventFile:
        return EventFile(self.folder / f"rank_{rank:04d}" / event.file)


def _join(
    rects: Sequence[Rect],
    results: Sequence[tuple[dict[str, np.ndarray], np.ndarray]],
    source: Rect,
    arrays: EventFile,
    prefix: str,
) -> None:
    """Copies the cells that a recorded rectangle shares with the wanted ones."""
    meetings = [(n, common) for n, rect in enumerate(rects) if (common := _common(source, rect)) is not None]
    for n, common in meetings:
        results[n][1][common.within(rects[n])] = True
    for key in (key for key in arrays.files if meetings and key.startswith(prefix)):
        values, name = arrays[key], key.removeprefix(prefix)
        for n, common in meetings:
            joined = results[n][0].setdefault(name, np.zeros((len(values), *rects[n].shape), values.dtype))
            joined[(..., *common.within(rects[n]))] = values[(..., *common.within(source))]


def _common(a: Rect, b: Rect) -> Rect | None:
    """Cells of both rectangles."""
    rect = Rect(max(a.j0, b.j0), min(a.j1, b.j1), max(a.i0, b.i0), min(a.i1, b.i1))
    return rect if rect.j0 < rect.j1 and rect.i0 < rect.i1 else None


def _events(folder: Path) -> list[Event]:
    """Lists the events of one rank."""
    matches = sorted((int(m[1]), m[2]) for path in folder.iterdir() if (m := _FILE.fullmatch(path.name)))
    events = [Event(number, verb) for number, verb in matches]
    for expected, event in enumerate(events):
        if event.number != expected:
            raise FileNotFoundError(f"Record {folder} lacks event {expected:06d}, but has {event.file}: restore it.")
    return events


def _read_declaration(path: Path) -> Declaration:
    if not path.is_file():
        raise FileNotFoundError(
            f"Folder {path.parent} is no record of traffic, it has no {path.name}: name the folder that `record` named."
        )
    try:
        table = json.loads(path.read_text())
        if table["format"] != FORMAT:
            raise ValueError(f"it has format {table['format']}, expected {FORMAT}")
        values = table["declaration"]
        values["fields"] = tuple(FieldDeclaration(**row) for row in values["fields"])
        values["rectangles"] = tuple(None if row is None else Rect(*row) for row in values["rectangles"])
        return Declaration(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"File {path} cannot be used ({error}): restore it.") from error
