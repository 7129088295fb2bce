"""`halocline serve`: the emulator on ranks of its own beside a running model, in one MPI job.

The root hears the requests of the model's rank 0, forwards them to the other emulator ranks, and answers. Cells come
straight from every rank of the model to the emulator rank that owns them. While the emulator works nobody looks at new
messages: they wait where they are, and the model with them only if it wants its verdict without lag.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from halocline import __version__
from halocline.mesh.communicator import Communicator
from halocline.run.bridge_config import BridgeConfig, check_mode, read_bridge_config
from halocline.run.contract import FALL_BACK, START, Declaration, Judgement, shortened
from halocline.run.emulator import Emulator, load
from halocline.run.peer_cells import LONGEST, Cells, plan
from halocline.run.peer_faults import Interrupted, end, interrupts, refuse
from halocline.run.peer_library import Sides, StartError, divide, start_deadline
from halocline.run.peer_link import Link
from halocline.run.peer_model import Model, plan_frame
from halocline.run.peer_wire import Frame, Kind, PeerError, Settings, Tag
from halocline.run.threads import usable_cores
from halocline.run.traffic import Recorder

__all__ = ["Build", "Peer", "build_emulator", "serve"]

Build = Callable[[BridgeConfig, Communicator], Emulator]

EARLIER = 0.8
"""Share of the model's deadline after which a wait for its other ranks ends: the sentence here says who is missing."""


def serve(config: Path, arguments: Sequence[str] = (), build: Build | None = None) -> None:
    """Serves the model that runs beside this program until its farewell.

    A failure is told to the model and printed; then the job ends with 80 plus the status that the model sees, unless
    the configuration lets the model go on alone.

    Arguments:
        config: The bridge's YAML file, the same as the model's.
        arguments: None are taken.
        build: Makes the emulator; from the run folder if left out.

    Raises:
        ValueError: Arguments are given.

    Collective: yes, over MPI_COMM_WORLD.
    """
    if arguments:
        raise ValueError(
            f"halocline serve got {' '.join(arguments)}, expected the configuration alone: the model reads the same "
            "file, so write it there."
        )
    with interrupts():
        try:
            peer = Peer(divide(), config)
        except (StartError, Interrupted) as error:
            refuse(error)
        try:
            peer.serve(build or build_emulator)
        except BaseException as error:
            end(peer, error)


def build_emulator(config: BridgeConfig, comm: Communicator) -> Emulator:
    """Sets the emulator up on all emulator ranks.

    Raises:
        FileNotFoundError, ValueError: The run folder cannot be used, or has fewer tiles than there are ranks.

    Collective: yes.
    """
    generator = load(config, comm)
    with comm.together():
        if comm.size > generator.lattice.count:
            raise ValueError(
                f"{comm.size} ranks run `halocline serve`, but the lattice of {config.run} has "
                f"{generator.lattice.count} tiles: start at most that many."
            )
    return Emulator.build(config, comm, generator)


class Peer:
    """One emulator rank.

    Arguments:
        sides: The divided job.
        path: Of the configuration.

    Attributes:
        link: Messages to all ranks of all programs.
        comm: The emulator ranks.
        ranks: Their joint ranks.
        model: The other side.
        config: None before it is read.
        ready: Whether the contract is made.
        at: What goes on, for messages.
    """

    def __init__(self, sides: Sides, path: Path) -> None:
        self.link, self.sharing, self.path = Link(sides.joint), sides.sharing, path
        self.comm = Communicator(sides.emulators)
        self.ranks: list[int] = self.comm.allgather(sides.joint.Get_rank())
        self.model = Model(self.link)
        self.config: BridgeConfig | None = None
        self.recorder: Recorder | None = None
        self.ready = False
        self.at = "start"

    @property
    def settings(self) -> BridgeConfig:
        """The configuration, once it is read."""
        assert self.config is not None
        return self.config

    @property
    def patience(self) -> float:
        """Longest wait for a rank of the model when another one has called, s."""
        return EARLIER * self.settings.deadline

    def serve(self, build: Build) -> None:
        """Carries out what the model asks, until its farewell. Collective: yes."""
        self.start(build)
        if self.comm.is_root:
            self.greet()
        while True:
            order = self.hear() if self.comm.is_root else self.await_order()
            if self.carry_out(order):
                return

    def start(self, build: Build) -> None:
        """Reads the configuration and builds the emulator. Collective: yes."""
        try:
            with self.comm.together():
                self.config = read_bridge_config(self.path)
                check_mode(self.config, self.path, beside=True)
            self.threads = share_cores_of_job(self.sharing)
            self.emulator = build(self.config, self.comm)
        except Exception as error:
            error.halocline_status = START  # type: ignore[attr-defined]
            raise

    def greet(self) -> None:
        """Answers the model's greeting with what it needs of the configuration. Collective: no, root only."""
        config, observe = self.settings, self.settings.observe
        self.at = "init"
        self.model.await_hello(start_deadline())
        self.model.compare_configuration(self.path)
        alone = config.on_fault == "continue"
        told = Settings(config.deadline, config.generate_deadline, observe.every, observe.lag, alone, LONGEST)
        self.model.answer(Frame(Kind.WELCOME, 1, payload=told.pack()))
        print(
            f"halocline {__version__} in {sys.prefix}: mpmd, a model of {len(self.model.ranks)} ranks, "
            f"{self.emulator.layout.lattice.count} tiles on {self.comm.size} emulator ranks, {self.threads} threads "
            f"each, device cpu; run folder {config.run}",
            flush=True,
        )

    def hear(self) -> Frame:
        """Waits for what the model asks next, and forwards it to the other ranks. Collective: no, root only."""
        if self.ready:
            after, self.at = self.at, f"the wait after {self.at}"
            order = self.model.await_request(self.settings.idle_deadline, after)
        else:
            self.at = "ready"
            order = self.model.await_contract(
                self.emulator, self.settings.idle_deadline, self.patience, bool(self.settings.record)
            )
        for rank in self.ranks[1:]:
            self.link.post(order.pack(), rank, Tag.ORDER)
        return order

    def await_order(self) -> Frame:
        """Waits for what the root has heard. Collective: no."""
        seconds, after = self.settings.idle_deadline + self.settings.generate_deadline + start_deadline(), self.at
        _, message = self.link.wait(
            self.ranks[0],
            Tag.ORDER,
            seconds,
            lambda: f"The root of the emulator gave no order within {seconds:g} s after {after}.",
        )
        return Frame.unpack(message)

    def carry_out(self, order: Frame) -> bool:
        """Carries out an order; returns whether it was the last. Collective: yes."""
        if order.kind == Kind.DECLARE:
            self.prepare(order)
        elif order.kind == Kind.GENERATE:
            self.generate(order)
        elif order.kind == Kind.OBSERVE:
            self.observe(order)
        elif order.kind == Kind.FAREWELL:
            self.say_farewell(order)
            return True
        else:
            raise PeerError(f"The model sent {order.kind.name}, expected a request: is it of the same version?")
        return False

    def prepare(self, order: Frame) -> None:
        """Plans which cells go where, and tells the model. Collective: yes."""
        declaration, self.model.ranks = pickle.loads(order.payload)
        self.declaration: Declaration = declaration
        self.emulator.check(declaration)
        parts = plan(self.emulator.layout, declaration.rectangles)
        self.cells = Cells(self.link, self.emulator.layout, declaration, self.model.ranks, parts, LONGEST)
        if self.settings.record:
            self.recorder = Recorder(self.settings.record, self.comm.rank)
            self.recorder.ready(declaration, self.model.masks)
        if self.comm.is_root:
            for rank, own, fields in zip(self.model.ranks, parts, self.model.orders, strict=True):
                self.link.post(plan_frame(own, fields, self.ranks), rank, Tag.PLAN)
            self.model.answer(Frame(Kind.ACCEPT, order.sequence))
        self.ready = True

    def generate(self, order: Frame) -> None:
        """Makes the state from which the model starts. Collective: yes."""
        self.at = f"generate, step {self.declaration.step}"
        state, judgement = self.emulator.generate(self.declaration.date)
        falls_back = judgement.action == FALL_BACK
        if not falls_back:
            self.cells.pack(order.sequence, self.declaration.step, state)
        self.tell(order, judgement)
        if not falls_back:
            self.cells.send(self.patience)
        pieces = [] if falls_back else self.cells.pieces()
        if self.recorder is not None:
            self.recorder.generate(pieces, judgement)

    def observe(self, order: Frame) -> None:
        """Judges the model's state at the end of a step. Collective: yes."""
        self.at = f"observe, step {order.step}"
        tiles = self.cells.receive(order.sequence, order.step, self.patience)
        judgement = None
        try:
            judgement = self.emulator.observe(order.step, self.declaration.time(order.step), tiles)
            self.tell(order, judgement)
        finally:  # what broke the emulator can be replayed
            if self.recorder is not None:
                self.recorder.observe(order.step, self.cells.pieces(), judgement)

    def tell(self, order: Frame, judgement: Judgement) -> None:
        """Tells a verdict to the model. Collective: no."""
        if self.comm.is_root:
            level, action, step, reason = judgement.told
            payload = shortened(reason).encode()
            self.model.answer(Frame(Kind.VERDICT, order.sequence, step, level=level, action=action, payload=payload))

    def say_farewell(self, order: Frame) -> None:
        """Ends the emulator, unless another rank of it has failed and is not there to end it. Collective: yes."""
        self.at = "finalize"
        if order.level:
            self.link.post(Frame(Kind.BYE).pack(), self.ranks[0], Tag.ORDER)
        else:
            self.emulator.finalize()
        if self.comm.is_root:
            self.model.answer(Frame(Kind.BYE, order.sequence))
        self.link.flush(self.settings.deadline, "The model did not take the farewell.")


def share_cores_of_job(sharing: int) -> int:
    """Sets the threads of this rank to its share of the cores it may use, and returns it.

    Arguments:
        sharing: Ranks of all programs, the model's too, that may run on the same cores. OMP_NUM_THREADS, where the user
            has set it, wins.

    Collective: no.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(usable_cores()) // sharing))
    return torch.get_num_threads()
