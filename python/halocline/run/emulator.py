"""The emulator as a running model sees it: it starts the model, and judges it. On tiles, over ranks of its own.

The same object answers in the model's process, beside it, and from a record; the model's rectangles are the business
of those who call it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from halocline.mesh.communicator import AnyCommunicator
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rect
from halocline.run.balance import start_names, start_on_tiles
from halocline.run.bridge_config import BridgeConfig
from halocline.run.contract import ContractError, Declaration, FieldDeclaration, Judgement
from halocline.run.emulator_contract import Contract, nearest_month_end
from halocline.run.emulator_judge import Judge
from halocline.run.generator import Generator
from halocline.run.run_folder import load_generator
from halocline.run.sample import SampleOptions, generate_tiles, requested_parameters
from halocline.run.teams import Team
from halocline.run.verdict_log import VerdictLog, setting_of

__all__ = ["ContractError", "Declaration", "Emulator", "FieldDeclaration", "Judgement", "contract_of", "load"]

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


class Emulator:
    """Generates and judges states. Built by `build`.

    Arguments:
        config: Of the bridge.
        generator: Loaded from its run folder.
        layout: Who owns which tile.
    """

    def __init__(self, config: BridgeConfig, generator: Generator, layout: Layout) -> None:
        self.config, self.generator, self.layout = config, generator, layout
        self.declaration: Declaration | None = None
        self.contract = contract_of(config, generator)
        self.judge = Judge.build(generator, self.contract.names, layout, config.observe)
        self.log: VerdictLog | None = None  # opened by the first verdict
        self._told_unchecked = False

    @classmethod
    def build(cls, config: BridgeConfig, comm: AnyCommunicator, generator: Generator | None = None) -> Emulator:
        """Sets the emulator up on ranks of its own.

        Arguments:
            config: Of the bridge.
            comm: Ranks that share the tiles, at most as many as there are tiles.
            generator: From `load`; loaded if left out.

        Raises:
            FileNotFoundError, ValueError: The run folder is not one, or does not fit the configuration or the ranks.

        Collective: yes.
        """
        generator = generator or load(config, comm)
        layout = Layout.build(generator.lattice, comm)
        with comm.together():
            return cls(config, generator, layout)

    @property
    def comm(self) -> AnyCommunicator:
        """The emulator's ranks."""
        return self.layout.comm

    @property
    def grid(self) -> Grid:
        """Geometry and masks."""
        return self.generator.grid

    @property
    def lattice(self) -> Lattice:
        """Tiles."""
        return self.generator.lattice

    def differences(self, declaration: Declaration) -> list[str]:
        """Compares what the model declares, masks aside, with the generator. Collective: no."""
        return self.contract.differences(declaration)

    def check(self, declaration: Declaration) -> None:
        """Keeps what the model declares if it fits the generator.

        Arguments:
            declaration: The same on every rank.

        Raises:
            ContractError: It does not fit; the text has all differences, one in a line.

        Collective: no.
        """
        if lines := self.differences(declaration):
            raise ContractError.of(lines)
        self.declaration = declaration
        registered = {field.name for field in declaration.fields}
        if others := [name for name in self.contract.names if name not in registered]:
            self._say(f"not registered by the model, so neither filled nor judged: {', '.join(others)}")

    def check_mask(self, rect: Rect, mask: np.ndarray, owner: str = "the model") -> list[str]:
        """Compares the mask of one rank of the model; see `Contract.mask_differences`. Collective: no."""
        return self.contract.mask_differences(rect, mask, owner)

    def generate(self, date: int) -> tuple[dict[str, np.ndarray], Judgement]:
        """Generates the state that the configuration asks for, and judges it.

        The numbers are those that `halocline sample` and `halocline restart` put into a restart with the same seed,
        member, month, velocity and sea level, on any number of ranks.

        Arguments:
            date: At which the model starts, yyyymmdd; counts on rank 0.

        Returns:
            Variable to array of shape (tile, level, j, i), zero on land: float32, but float64 for a velocity
            or sea level that was computed, as in the restart; and the verdict.

        Raises:
            ValueError: The state has diverged.
            OSError: The log of verdicts cannot be written.

        Collective: yes. A geostrophic velocity is computed by rank 0, which gathers the state.
        """
        self._open_log()
        date = self.comm.broadcast(date)
        generate, declaration = self.config.generate, self._declared
        options = options_of(self.config, generate.month or nearest_month_end(date, declaration.calendar))
        self._say(
            f"generates member {generate.member} of seed {generate.seed} for the end of "
            f"{MONTHS[options.months[0] - 1]}, velocity {generate.velocity}, sea level {generate.sea_level}"
        )
        with one_thread():
            team = Team(self.comm, (generate.member,))
            members = generate_tiles(self.generator, self.layout, team, options, self.comm.is_root)
            state = {name: x[0].numpy() for name, x in members.items()}
            data = self.generator.config.data
            tiles = start_on_tiles(state, self.grid, self.layout, data, generate.choice)
        tiles = {name: x[:, : declaration.nk] for name, x in tiles.items()}  # levels without sea may not be the model's
        judgement = self.judge(declaration.step, tiles)
        self._write(judgement, declaration.time(declaration.step))
        return tiles, judgement

    def observe(self, step: int, time: float, tiles: Mapping[str, np.ndarray]) -> Judgement:
        """Judges the model's state.

        Arguments:
            step: Time step at whose end it stands.
            time: Model time, s; see `Declaration.time`.
            tiles: Variable to array of shape (tile, level, j, i), any float type, anything on land.

        Returns:
            The verdict, the same on every rank and for every number of ranks.

        Raises:
            OSError: The log of verdicts cannot be written.

        Collective: yes.
        """
        self._open_log()
        judgement = self.judge(step, tiles)
        self._write(judgement, time)
        if not self._told_unchecked and (names := self.judge.unchecked(judgement.diagnostics)):
            self._say(f"the registered fields do not allow to check: {', '.join(names)}")
        self._told_unchecked = True
        return judgement

    def finalize(self) -> None:
        """Ends the emulator and its log. Collective: yes."""
        with self.comm.together():
            if self.log is not None:
                self.log.close()

    @property
    def _declared(self) -> Declaration:
        if self.declaration is None:
            raise RuntimeError("The emulator was asked for a verdict before the model declared itself: call check.")
        return self.declaration

    def _open_log(self) -> None:
        """Opens the log of verdicts on the root. Collective: yes."""
        if self.log is not None:
            return
        self.declaration = self.comm.broadcast(self.declaration)
        with self.comm.together():
            limits, names = self.judge.thresholds, self.contract.names
            setting = setting_of(self.generator, limits, names, self._declared, self.config.run)
            self.log = VerdictLog(Path(self.config.output), setting, self.comm.is_root)

    def _write(self, judgement: Judgement, time: float) -> None:
        """Adds a verdict to the log. Collective: yes."""
        with self.comm.together():
            if self.log is not None:
                self.log.write(judgement, time)

    def _say(self, text: str) -> None:
        if self.comm.is_root:
            print(f"halocline: {text}", flush=True)


def load(config: BridgeConfig, comm: AnyCommunicator) -> Generator:
    """Loads the generator on every rank, also on those for which there is no tile.

    Raises:
        FileNotFoundError, ValueError: The run folder is not one, or does not fit the configuration.

    Collective: yes.
    """
    with comm.together():
        generator = load_generator(Path(config.run), config.generate.sampling)
        requested_parameters(generator, options_of(config, 1))
        contract_of(config, generator)
        return generator


def contract_of(config: BridgeConfig, generator: Generator) -> Contract:
    """Returns what the emulator expects of a model. Collective: no."""
    data = generator.config.data
    return Contract(generator.grid, start_names(data.variables, config.generate.choice, data), data, config)


def options_of(config: BridgeConfig, month: int) -> SampleOptions:
    """Options of `halocline sample` that make the state of the configuration."""
    wanted = config.generate
    return SampleOptions(
        members=wanted.member + 1,
        seed=wanted.seed,
        months=(month,),
        parameters=wanted.parameters,
        sampling=wanted.sampling,
        convection=wanted.convection,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Computes with one thread per rank, which is part of what fixes the bits of a sample."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
