"""`halocline restart`: a generated state as a file from which NEMO, neXtSIM_DG or classic neXtSIM starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.calendar import CALENDARS
from halocline.io.forecast_file import is_forecast, read_forecast_state
from halocline.io.nemo import read_states, write_restart
from halocline.io.nextsim import write_start
from halocline.io.nextsim_classic_start import is_classic, write_classic_start
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.run.balance import FLOW_OF_ICE, Choice, flow_of, start_on_grid
from halocline.run.config import apply_overrides, build, one_of, parse_overrides
from halocline.run.generator import Generator
from halocline.run.outputs import check_file
from halocline.run.run_folder import load_generator

__all__ = ["RestartOptions", "check_fine", "restart"]


@dataclass(frozen=True)
class RestartOptions:
    """Options of `halocline restart`; see its help."""

    states: str
    output: str
    member: int = 0
    hours: float | None = None
    like: str = ""
    velocity: str = Choice.velocity
    sea_level: str = Choice.sea_level
    stress: str = "rest"
    calendar: str = "360_day"
    depth_means: bool = False
    per_rank: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        one_of("calendar", self.calendar, CALENDARS)
        one_of("stress", self.stress, ("rest", "generated"))
        self.choice.check()
        if self.per_rank is not None and (len(self.per_rank) != 2 or min(self.per_rank) < 1):
            raise ValueError(
                f"per_rank is {list(self.per_rank)}, expected the numbers of ranks along i and j, such as [2,1]."
            )

    @property
    def choice(self) -> Choice:
        """Velocity and sea level."""
        return Choice(self.velocity, self.sea_level)


def restart(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Writes one member of generated states, or of a forecast at one time, as a restart.

    Raises:
        ValueError, OSError: The states, the member, the run and the example do not fit each other.

    Collective: yes; rank 0 does the work.
    """
    with comm.together():
        if not comm.is_root:
            return
        options = build(RestartOptions, apply_overrides({}, parse_overrides(arguments)), "")
        check_file(Path(options.output))
        generator = load_generator(run)
        check_fine(generator)
        data, grid = generator.config.data, generator.grid
        fields, month = read_chosen(options, data.variables, grid)
        if flow_of(fields) == FLOW_OF_ICE:
            written = write_ice(fields, grid, options)
        elif options.stress != "rest":
            raise ValueError("stress is 'generated', but the state is one of the ocean, expected ice: leave it out.")
        else:
            written = write_ocean(fields, generator, options, month)
        print("\n".join(f"written: {path}" for path in written), flush=True)


def read_chosen(options: RestartOptions, names: Sequence[str], grid: Grid) -> tuple[dict[str, np.ndarray], int]:
    """Reads the state that is to be written, variable to (k, nj, ni), and its month.

    Raises:
        ValueError: The states have no such member, or `hours` is given for states that are no forecast.
    """
    if is_forecast(options.states):
        fields, when = read_forecast_state(options.states, names, grid, member=options.member, hours=options.hours)
        print(f"{options.states}: member {options.member} at {when}", flush=True)
        return fields, int(str(when)[5:7])
    if options.hours is not None:
        raise ValueError(f"hours is {options.hours:g}, but {options.states} is no forecast: leave it out.")
    states = read_states((options.states,), names, grid)
    if not 0 <= options.member < len(states.month):
        raise ValueError(
            f"member is {options.member}, expected 0 to {len(states.month) - 1}: {options.states} holds "
            f"{len(states.month)} members."
        )
    return {name: values[options.member] for name, values in states.fields.items()}, int(states.month[options.member])


def check_fine(generator: Generator) -> None:
    """Refuses a generator of coarse states, from which no model starts.

    Raises:
        ValueError: It is one.
    """
    factor = generator.config.data.coarsen
    if factor > 1:
        raise ValueError(
            f"The run was trained with data.coarsen={factor}, whose states have {factor} x {factor} cells of the model "
            "in one, expected data.coarsen=1: take the fine level of the cascade."
        )


def write_ocean(
    fields: dict[str, np.ndarray], generator: Generator, options: RestartOptions, month: int
) -> list[Path]:
    """Writes a restart of NEMO; see `write_restart`."""
    grid, lattice, data = generator.grid, generator.lattice, generator.config.data
    return write_restart(
        Path(options.output),
        start_on_grid(fields, grid, lattice, data, options.choice),
        grid,
        like=Path(options.like) if options.like else None,
        month=month,
        calendar=options.calendar,
        depth_means=options.depth_means,
        per_rank=options.per_rank,
    )


def write_ice(fields: Mapping[str, np.ndarray], grid: Grid, options: RestartOptions) -> list[Path]:
    """Writes a start file of neXtSIM_DG, or a restart of classic neXtSIM if the example is one.

    See `write_start` and `write_classic_start`.

    Raises:
        ValueError: There is no example, or a velocity or sea level is asked for that ice does not have, or a stress
            that the file or the state does not have.
    """
    options.choice.check_ice()
    if not options.like:
        raise ValueError(
            "like is missing, expected a start or restart file of the configuration, whose coordinates and "
            "temperatures the start file of neXtSIM_DG needs, or the field_ file of a restart of classic neXtSIM: name "
            "it."
        )
    ice, at_rest, stress = dict(fields), options.velocity == "rest", options.stress == "generated"
    if is_classic(options.like):
        if at_rest:  # what is left out would be the example's
            ice |= {name: np.zeros_like(fields["concentration"]) for name in FLOW_OF_ICE}
        return write_classic_start(options.output, ice, grid, like=options.like, stress=stress)
    if stress:
        raise ValueError(
            "stress is 'generated', expected 'rest' for neXtSIM_DG, whose files hold no stress: leave it out, or name "
            "the field_ file of a restart of classic neXtSIM as like."
        )
    if at_rest:
        ice = {name: x for name, x in ice.items() if name not in FLOW_OF_ICE}
    return [write_start(Path(options.output), ice, grid, like=Path(options.like))]
