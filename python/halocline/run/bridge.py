"""The bridge inside a model's process: what `halocline_python.so` calls, on the model's own ranks.

The model's rectangles and the emulator's tiles are two decompositions of one grid; fields go from one to the other
without a copy of the whole, in the model's own precision. With more ranks than tiles the emulator runs on the first
ones, and all take part in moving fields.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from halocline import __version__
from halocline.mesh.communicator import AnyCommunicator, Communicator
from halocline.run.bridge_config import BridgeConfig, check_mode, read_bridge_config
from halocline.run.bridge_errors import write_traceback
from halocline.run.bridge_exchange import Exchange
from halocline.run.bridge_host import Host, Stride
from halocline.run.contract import (
    ALL_TOLD,
    FALL_BACK,
    START,
    Declaration,
    FieldDeclaration,
    Judgement,
    Told,
    on_part,
    refuse,
)
from halocline.run.emulator import Emulator, contract_of, load
from halocline.run.replay import ReplayEmulator
from halocline.run.threads import share_cores
from halocline.run.traffic import Recorder

__all__ = ["Bridge", "mpi_library_version", "start"]

S = TypeVar("S")
T = TypeVar("T")


def start(communicator: int, config: str) -> Bridge:
    """Attaches to a model that has initialised MPI.

    Arguments:
        communicator: Fortran handle of the model's communicator.
        config: Path of the configuration.

    Raises:
        FileNotFoundError, ValueError: The configuration or the run folder cannot be used; with status START.

    Collective: yes, over the model.
    """
    leave_mpi_to_the_model()
    return Bridge.build(Communicator.from_fortran(communicator), config)


def mpi_library_version() -> str:
    """Returns the version text of the MPI library that mpi4py calls. Collective: no."""
    leave_mpi_to_the_model()
    from mpi4py import MPI

    return MPI.Get_library_version()


def leave_mpi_to_the_model() -> None:
    """Keeps mpi4py from initialising MPI, and from finalising it under the model."""
    if "mpi4py.MPI" not in sys.modules:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False


class Bridge:
    """One rank's side of the bridge. Built by `build`; the verbs follow in the order of `halocline.h`.

    The communicator belongs to the bridge, which frees it at the end.

    Attributes:
        deadline, generate_deadline: Longest waits that the configuration allows, s.
        on_fault: 0: a failure ends the job; 1: the model goes on alone.
    """

    def __init__(self, comm: AnyCommunicator, config: BridgeConfig) -> None:
        self.comm, self.config = comm, config
        self.deadline, self.generate_deadline = config.deadline, config.generate_deadline
        self.on_fault = int(config.on_fault == "continue")
        self.every = config.observe.every
        self.host = Host()
        self.recorder: Recorder | None = None

    @classmethod
    def build(cls, comm: AnyCommunicator, path: Path | str) -> Bridge:
        """Reads the configuration, and sets threads and emulator up.

        Raises:
            FileNotFoundError, ValueError: The configuration or the run folder cannot be used; with status START.

        Collective: yes.
        """
        try:
            with comm.together():
                config = read_bridge_config(path)
                check_mode(config, path, beside=False)
            bridge = cls(comm, config)
            with bridge._reporting("start"):
                bridge._set_up()
        except Exception as error:
            error.halocline_status = START  # type: ignore[attr-defined]
            raise
        return bridge

    def _set_up(self) -> None:
        """Loads the emulator on the ranks that have tiles. Collective: yes."""
        node = self.comm.split_by_node()
        threads = share_cores(node)
        node.free()
        torch.zeros(2**17).add_(1)  # starts the threads here, where the model's floating-point traps are off
        generator = load(self.config, self.comm)
        self.workers = min(self.comm.size, generator.lattice.count)
        part = self.comm.split(0 if self.comm.rank < self.workers else None, self.comm.rank)
        self.contract = contract_of(self.config, generator)
        kind = ReplayEmulator if self.config.mode == "replay" else Emulator
        self.emulator = self._on_workers(part, partial(kind.build, self.config, generator=generator))
        if self.comm.is_root:
            print(
                f"halocline {__version__} in {sys.prefix}: {self.config.mode}, {self.comm.size} ranks, "
                f"{generator.lattice.count} tiles on {self.workers} of them, {threads} threads each, device cpu; "
                f"run folder {self.config.run}, training step {generator.step}",
                flush=True,
            )

    def grid(
        self, ni: int, nj: int, nk: int, i0: int, j0: int, nx: int, ny: int, mask: memoryview | None, stride: Stride
    ) -> None:
        """Takes the sizes of the global grid, this rank's rectangle, and its mask; see `Host.take_grid`.

        Collective: no.
        """
        with self._reporting("grid"):
            self.host.take_grid((ni, nj, nk), (i0, j0), (nx, ny), mask, stride)

    def field(
        self, name: str, point: str, unit: str, itemsize: int, levels: int, data: memoryview | None, stride: Stride
    ) -> None:
        """Registers a field, or its new address; see `Host.take_field`.

        Collective: no.
        """
        with self._reporting("field", at=f"field {name}"):
            self.host.take_field(FieldDeclaration(name, point, unit, levels, itemsize), data, stride)

    def ready(self, calendar: str, time_step: float, step: int, date: int) -> float:
        """Compares what the model declared with the emulator, and plans how fields move.

        Arguments:
            calendar: "360_day", "noleap" or "standard".
            time_step: In s.
            step, date: Those of the start; date is yyyymmdd.

        Returns:
            Longest wait for an answer, s.

        Raises:
            ContractError: They do not fit, on every rank; the text has all differences.

        Collective: yes.
        """
        with self._reporting("ready", step):
            mine = self.host.declaration(calendar, time_step, step, date)
            self.declaration, lines = Declaration.join(self.comm.allgather(mine))
            refuse(lines if self.comm.is_root else [], self.comm)
            self._compare()
            layout = None if self.emulator is None else self.emulator.layout
            self.exchange = Exchange.build(self.host, self.declaration, layout, self.comm)
            self._start_record()
        return self.deadline

    def _compare(self) -> None:
        """Refuses a model that does not fit. Collective: yes."""
        lines = self.contract.differences(self.declaration) if self.comm.is_root else []
        if self.host.rect is not None:
            lines += self.contract.mask_differences(self.host.rect, self.host.mask, f"rank {self.comm.rank}")
        refuse(lines, self.comm)
        self._on_workers(self.emulator, self._check)

    def _check(self, emulator: Emulator) -> None:
        """Lets the emulator compare for itself: a record may hold another model. Collective: yes, over its ranks."""
        with emulator.comm.together():
            emulator.check(self.declaration)

    def generate(self) -> Told:
        """Fills the registered fields with a generated state, zero on land, unless its verdict says to fall back.

        Raises:
            ValueError: The state has diverged; the fields are as they were.

        Collective: yes.
        """
        with self._reporting("generate", self.declaration.step):
            state: dict[str, np.ndarray] = {}

            def work(emulator: Emulator) -> Judgement:
                tiles, judgement = emulator.generate(self.declaration.date)
                state.update(tiles)
                return judgement

            judgement = self._answer(work)
            if judgement.action != FALL_BACK:
                self.exchange.fill(state)
            pieces = self.host.pieces if judgement.action != FALL_BACK else []
            self._record(lambda to: to.generate(pieces, judgement))
            return judgement.told

    def observe(self, step: int) -> Told | None:
        """Judges the registered fields at the end of a step.

        Returns:
            Level, action, step, reason; None where no verdict is due.

        Collective: yes, where one is due.
        """
        if not self.every or step % self.every:
            return None
        with self._reporting("observe", step):
            tiles, time = self.exchange.hand_over(), self.declaration.time(step)
            try:
                judgement = self._answer(lambda emulator: emulator.observe(step, time, tiles))
            except Exception as error:
                if getattr(error, "agreed", False):  # what broke the emulator can be replayed
                    self._record(lambda to: to.observe(step, self.host.pieces, None))
                raise
            self._record(lambda to: to.observe(step, self.host.pieces, judgement))
            return judgement.told

    def finalize(self) -> Told:
        """Ends the emulator. All verdicts have been told. Collective: yes."""
        with self._reporting("finalize"):
            self._on_workers(self.emulator, lambda emulator: emulator.finalize())
            if self.emulator is not None:
                self.emulator.comm.free()
            self.comm.barrier()
            self.comm.free()
        return ALL_TOLD

    def _start_record(self) -> None:
        """Starts the record of what passes, if one is wanted. Collective: yes."""
        if not self.config.record:
            return
        with self.comm.together():
            self.recorder = Recorder(self.config.record, self.comm.rank)
            rect, mask = self.host.rect, self.host.mask
            self.recorder.ready(self.declaration, [] if rect is None else [(rect, mask)])

    def _record(self, write: Callable[[Recorder], None]) -> None:
        """Writes to the record, if there is one. Collective: yes."""
        if self.recorder is not None:
            with self.comm.together():
                write(self.recorder)

    def _answer(self, work: Callable[[Emulator], Judgement]) -> Judgement:
        """Lets the emulator judge, and tells its judgement to all ranks. Collective: yes."""
        judgement: Any = self._on_workers(self.emulator, work)
        if self.workers == self.comm.size:
            return judgement
        told = self.comm.broadcast(replace(judgement, checks=(), diagnostics={}) if self.comm.is_root else None)
        return told if judgement is None else judgement

    def _on_workers(self, tool: S | None, work: Callable[[S], T]) -> T | None:
        """Works on the ranks that have tiles; see `on_part`. Collective: yes."""
        return on_part(tool, work, self.workers, self.comm)

    @contextmanager
    def _reporting(self, verb: str, step: int | None = None, at: str = "") -> Iterator[None]:
        """Leaves a traceback file if the verb fails."""
        try:
            yield
        except BaseException as error:
            moving = at or getattr(getattr(self, "exchange", None), "under_way", "")  # there is none before `ready`
            where = ", ".join(filter(None, (verb, "" if step is None else f"step {step}", moving)))
            write_traceback(Path(self.config.output), self.comm.rank, where, error)
            raise
