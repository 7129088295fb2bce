"""`halocline restart`: a generated state as a restart file from which NEMO starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.calendar import CALENDARS
from halocline.io.nemo import read_states, write_restart
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.physics.operators import geostrophic_velocity
from halocline.run.config import DataConfig, apply_overrides, build, one_of, parse_overrides
from halocline.run.generator import load_generator
from halocline.run.judging import eos_of
from halocline.run.outputs import check_file

__all__ = ["RestartOptions", "restart", "with_velocity"]

NEEDED = ("temperature", "salinity", "sea_level")


@dataclass(frozen=True)
class RestartOptions:
    """Options of `halocline restart`; see its help."""

    states: str
    output: str
    member: int = 0
    like: str = ""
    velocity: str = "generated"
    calendar: str = "360_day"
    depth_means: bool = False
    per_rank: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        one_of("calendar", self.calendar, CALENDARS)
        one_of("velocity", self.velocity, ("generated", "geostrophic", "rest"))
        if self.per_rank is not None and (len(self.per_rank) != 2 or min(self.per_rank) < 1):
            raise ValueError(
                f"per_rank is {list(self.per_rank)}, expected the numbers of ranks along i and j, such as [2,1]."
            )


def restart(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Writes one member of generated states as a restart.

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
        data, grid = generator.config.data, generator.grid
        states = read_states((options.states,), data.variables, grid)
        if not 0 <= options.member < len(states.month):
            raise ValueError(
                f"member is {options.member}, expected 0 to {len(states.month) - 1}: {options.states} holds "
                f"{len(states.month)} members."
            )
        fields = {name: values[options.member] for name, values in states.fields.items()}
        fields = with_velocity(fields, grid, data, options.velocity)
        written = write_restart(
            Path(options.output),
            fields,
            grid,
            like=Path(options.like) if options.like else None,
            month=int(states.month[options.member]),
            calendar=options.calendar,
            depth_means=options.depth_means,
            per_rank=options.per_rank,
        )
        print("\n".join(f"written: {path}" for path in written), flush=True)


def with_velocity(
    fields: dict[str, np.ndarray], grid: Grid, data: DataConfig, choice: str
) -> dict[str, np.ndarray]:
    """Completes a state for a restart.

    Arguments:
        fields: Variable to array of shape (k, nj, ni), NaN on land.
        grid: Geometry.
        data: Names the equation of state.
        choice: "generated" (as in the state), "geostrophic" (in balance with density and sea level) or "rest".

    Returns:
        Temperature, salinity, velocities, sea level.

    Raises:
        ValueError: The state lacks a variable.

    Collective: no.
    """
    needed = (*NEEDED, "velocity_u", "velocity_v") if choice == "generated" else NEEDED
    missing = [name for name in needed if name not in fields]
    if missing:
        raise ValueError(
            f"The state lacks {', '.join(missing)}, expected {', '.join(needed)} for velocity={choice}: "
            "train with these data.variables, or choose velocity=geostrophic or rest."
        )
    if choice == "generated":
        return fields
    shape = (grid.nk, grid.nj, grid.ni)
    if choice == "rest":
        return {**fields, "velocity_u": np.zeros(shape), "velocity_v": np.zeros(shape)}
    T, S, sea_level = (fields[name] for name in NEEDED)
    u, v = geostrophic_velocity(T, S, sea_level[0], grid, eos_of(data))
    return {**fields, "velocity_u": u.numpy(), "velocity_v": v.numpy()}
