"""Recorded traffic played again: to the emulator without the model, and to the model without the emulator."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from halocline.mesh.communicator import AnyCommunicator
from halocline.mesh.layout import Layout
from halocline.run.bridge_config import BridgeConfig, read_bridge_config
from halocline.run.contract import ContractError, Declaration, Judgement, on_part, refuse
from halocline.run.differences import Difference, Tiles, own_rectangles, read_tiles, tile_difference, verdict_difference
from halocline.run.emulator import Emulator, load
from halocline.run.generator import Generator
from halocline.run.outputs import table_console
from halocline.run.progress import Reporter
from halocline.run.traffic import Event, Record, Traffic
from halocline.run.verdict_log import VerdictLog, setting_of

__all__ = ["ReplayEmulator", "replay"]

MAY_DIFFER = ("fields", "rectangles")  # of two declarations: the decomposition; fields are compared one by one


def replay(path: Path | str, folder: Path | str, comm: AnyCommunicator) -> None:
    """Plays a record to the emulator, and compares verdicts and generated states bit for bit. Prints a table.

    Arguments:
        path: Configuration of the bridge; its run folder and policies are used.
        folder: Of the record.
        comm: Any number of ranks.

    Raises:
        FileNotFoundError, OSError, ValueError: Configuration, run folder or record cannot be used.
        RuntimeError: The emulator answers otherwise than recorded.

    Collective: yes.
    """
    with comm.together():
        config = read_bridge_config(path)
        record = Record.open(folder)
    generator = load(config, comm)
    workers = min(comm.size, generator.lattice.count)
    part: Any = comm.split(0 if comm.rank < workers else None, comm.rank)
    found = on_part(part, lambda ranks: play(record, config, generator, ranks), workers, comm)
    if found := comm.broadcast(found):
        event, difference = found[0]
        failure = RuntimeError(
            f"The emulator does not answer as recorded in {folder}: {len(found)} of {len(record.events)} events "
            f"differ, first {event.file}: {difference}."
        )
        failure.agreed = True  # type: ignore[attr-defined]  # every rank raises it
        raise failure


def play(
    record: Record, config: BridgeConfig, generator: Generator, comm: AnyCommunicator
) -> list[tuple[Event, Difference]]:
    """Plays a record on the ranks that have tiles, and prints the table.

    Returns:
        Events that differ, with their first difference.

    Collective: yes.
    """
    emulator = Emulator.build(config, comm, generator)
    with comm.together():
        emulator.check(record.declaration)
        limits, names = emulator.judge.thresholds, emulator.contract.names
        setting = setting_of(generator, limits, names, record.declaration, config.run)
        emulator.log = VerdictLog(config.output, setting, speaks=False)  # that of the recorded run stays as it is
    found, unanswered = [], 0
    with Reporter("replay", len(record.events), speaks=comm.is_root) as reporter:
        for event in record.events:
            with comm.together():
                traffic = record.read(event)
            unanswered += traffic.judgement is None and event.verb != "ready"
            if (difference := play_event(record, event, traffic, emulator)) is not None:
                found.append((event, difference))
            reporter.advance()
    if comm.is_root:
        show(record, found, unanswered)
    return found


def play_event(record: Record, event: Event, traffic: Traffic, emulator: Emulator) -> Difference | None:
    """Plays one event; returns its first difference, the same on every rank. Collective: yes."""
    layout = emulator.layout
    with layout.comm.together():
        recorded, known = read_tiles(record, event, layout)
    if event.verb == "ready":
        check_masks(recorded, emulator)
        return None
    if event.verb == "observe":
        judgement = emulator.observe(traffic.step, record.declaration.time(traffic.step), recorded)
        return verdict_difference(traffic.judgement, judgement)
    tiles, judgement = emulator.generate(record.declaration.date)
    return verdict_difference(traffic.judgement, judgement) or tile_difference(recorded, known, tiles, layout)


def check_masks(recorded: Tiles, emulator: Emulator) -> None:
    """Refuses a record of another mask. Collective: yes."""
    layout = emulator.layout
    lines = []
    if "mask" in recorded:
        for t, rect in enumerate(own_rectangles(layout)):
            rows, columns = rect.shape
            lines += emulator.check_mask(rect, recorded["mask"][t, :, :rows, :columns], "the recorded model")
    refuse(lines, layout.comm)


def show(record: Record, found: list[tuple[Event, Difference]], unanswered: int) -> None:
    """Prints what was played, and what came of it."""
    table = Table(title=f"record {record.folder}, made by {record.ranks} ranks", title_justify="left", box=None)
    for title in ("verb", "events", "equal", "different"):
        table.add_column(title, justify="left" if title == "verb" else "right")
    played = Counter(event.verb for event in record.events)
    different = Counter(event.verb for event, _ in found)
    for verb, count in played.items():
        table.add_row(verb, str(count), str(count - different[verb]), str(different[verb]))
    table_console().print(table)
    if unanswered:
        events = "1 event" if unanswered == 1 else f"{unanswered} events"
        print(f"{events} without recorded verdict: the emulator had failed there")
    if record.lost:
        print("the last event is incomplete and was left out: recording was cut short")
    for event, difference in found[:1]:
        print(f"first difference: {event.file}: {difference}")


class ReplayEmulator(Emulator):
    """Answers a model from a record, and holds what the model hands over against it. For `mode: replay`.

    Arguments:
        config: Of the bridge; names the record.
        generator: Whose grid and tiles are used.
        layout: Who owns which tile.

    Raises:
        FileNotFoundError, ValueError: The record cannot be used.
    """

    def __init__(self, config: BridgeConfig, generator: Generator, layout: Layout) -> None:
        super().__init__(config, generator, layout)
        self.record = Record.open(config.replay)
        self.coming = [event for event in self.record.events if event.verb != "ready"]

    def check(self, declaration: Declaration) -> None:
        """Refuses a model that is not the recorded one; it may be decomposed otherwise.

        Raises:
            ContractError: The text has all differences, one in a line.

        Collective: no.
        """
        super().check(declaration)
        ours = self.record.declaration
        names = [field.name for field in fields(Declaration) if field.name not in MAY_DIFFER]
        lines = [
            f"Record: it has {name} = {getattr(ours, name)}, the model {getattr(declaration, name)}."
            for name in names
            if getattr(ours, name) != getattr(declaration, name)
        ]
        lines += [f"Record: it lacks {row} of the model." for row in declaration.fields if row not in ours.fields]
        lines += [f"Record: it has {row}, the model has not." for row in ours.fields if row not in declaration.fields]
        if lines:
            raise ContractError.of(lines)

    def generate(self, date: int) -> tuple[dict[str, np.ndarray], Judgement]:
        """Returns the recorded state and its verdict.

        Raises:
            ContractError: The record goes on otherwise, or has no answer.

        Collective: yes.
        """
        event, traffic, tiles, _ = self._next("generate", None)
        return tiles, self._answer(event, traffic)

    def observe(self, step: int, time: float, tiles: Tiles) -> Judgement:
        """Compares a state with the recorded one, and returns the recorded verdict.

        Raises:
            ContractError: The state differs from the recorded one, the record goes on otherwise, or has no answer.

        Collective: yes.
        """
        event, traffic, recorded, known = self._next("observe", step)
        if difference := tile_difference(recorded, known, tiles, self.layout):
            where = f"record {self.record.folder}, {event.file}, step {step}"
            raise _agreed(f"The model differs from {where}: {difference}.")
        return self._answer(event, traffic)

    def finalize(self) -> None:
        """Says what of the record was not asked for. Collective: yes."""
        if self.coming:
            self._say(f"the record goes on with {len(self.coming)} events, first {self.coming[0].file}")

    def _next(self, verb: str, step: int | None) -> tuple[Event, Traffic, dict[str, np.ndarray], np.ndarray]:
        """Reads the next event of the record, which must be the one asked for. Collective: yes."""
        asked = verb if step is None else f"{verb} of step {step}"
        if not self.coming:
            raise _agreed(f"Record {self.record.folder} has ended, but the model calls {asked}: record a longer run.")
        event = self.coming.pop(0)
        with self.comm.together():
            traffic = self.record.read(event)
            tiles, known = read_tiles(self.record, event, self.layout)
        if event.verb != verb or (step is not None and traffic.step != step):
            raise _agreed(
                f"Record {self.record.folder} goes on with {event.verb} of step {traffic.step}, but the model calls "
                f"{asked}: run the model as it was recorded."
            )
        return event, traffic, tiles, known

    def _answer(self, event: Event, traffic: Traffic) -> Judgement:
        if traffic.judgement is None:
            raise _agreed(
                f"Record {self.record.folder} has no verdict in {event.file}, step {traffic.step}: the emulator failed "
                "there; play it to the emulator with `halocline replay`."
            )
        return traffic.judgement


def _agreed(text: str) -> ContractError:
    """An error that every rank raises: nobody is left waiting."""
    error = ContractError(text)
    error.agreed = True  # type: ignore[attr-defined]
    return error
