"""`halocline restart`: a generated state as a restart file from which NEMO starts, or a start file of neXtSIM_DG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.calendar import CALENDARS
from halocline.io.nemo import read_states, write_restart
from halocline.io.nextsim import write_start
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rearrange, Rect, stack_tiles, tile_rectangles
from halocline.physics.ice import ICE
from halocline.physics.operators import geostrophic_velocity
from halocline.run.config import DataConfig, apply_overrides, build, one_of, parse_overrides
from halocline.run.judging import OCEAN, eos_of
from halocline.run.outputs import check_file
from halocline.run.run_folder import load_generator

__all__ = ["RestartOptions", "restart", "velocity_names", "with_velocity", "with_velocity_on_tiles"]

NEEDED = ("temperature", "salinity", "sea_level")
FLOW = ("velocity_u", "velocity_v")
FLOW_OF_ICE = ("ice_u", "ice_v")
VELOCITIES = ("generated", "geostrophic", "rest")


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
        one_of("velocity", self.velocity, VELOCITIES)
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
        if flow_of(fields) == FLOW_OF_ICE:
            written = [write_ice(fields, grid, options)]
        else:
            written = write_ocean(fields, grid, data, options, int(states.month[options.member]))
        print("\n".join(f"written: {path}" for path in written), flush=True)


def flow_of(names: Iterable[str]) -> tuple[str, str]:
    """Names of the velocity of a state: of the ice where it has nothing of the ocean."""
    return FLOW_OF_ICE if ICE & set(names) and not OCEAN & set(names) else FLOW


def write_ocean(
    fields: dict[str, np.ndarray], grid: Grid, data: DataConfig, options: RestartOptions, month: int
) -> list[Path]:
    """Writes a restart of NEMO; see `write_restart`."""
    return write_restart(
        Path(options.output),
        with_velocity(fields, grid, data, options.velocity),
        grid,
        like=Path(options.like) if options.like else None,
        month=month,
        calendar=options.calendar,
        depth_means=options.depth_means,
        per_rank=options.per_rank,
    )


def write_ice(fields: Mapping[str, np.ndarray], grid: Grid, options: RestartOptions) -> Path:
    """Writes a start file of neXtSIM_DG; see `write_start`.

    Raises:
        ValueError: There is no example, or a velocity is asked for that ice does not have.
    """
    if options.velocity == "geostrophic":
        raise ValueError("velocity is 'geostrophic', expected 'generated' or 'rest' for sea ice.")
    if not options.like:
        raise ValueError(
            "like is missing, expected a start or restart file of the configuration, whose coordinates and "
            "temperatures the start file of neXtSIM_DG needs: name it."
        )
    left_out = FLOW_OF_ICE if options.velocity == "rest" else ()
    ice = {name: x for name, x in fields.items() if name not in left_out}
    return write_start(Path(options.output), ice, grid, like=Path(options.like))


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
    needed = (*NEEDED, *FLOW) if choice == "generated" else NEEDED
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


def with_velocity_on_tiles(
    tiles: Mapping[str, np.ndarray], grid: Grid, layout: Layout, data: DataConfig, choice: str
) -> dict[str, np.ndarray]:
    """Completes a state that lies on tiles, with the numbers that `with_velocity` puts into a restart.

    Arguments:
        tiles: Variable to array of shape (tile, k, j, i), zero on land.
        grid, data, choice: As for `with_velocity`; for "geostrophic" the state has temperature, salinity, sea level.
        layout: Who owns which tile.

    Returns:
        The same and the velocities of the choice: zero, or float64 in balance with the state.

    Collective: yes. A geostrophic velocity is computed by rank 0, which gathers the state.
    """
    if choice == "generated":
        return dict(tiles)
    if choice == "rest":
        shape = (len(layout.local), grid.nk, *layout.lattice.tile)
        return {**tiles, **{name: np.zeros(shape, np.float32) for name in flow_of(tiles)}}
    fields = {name: layout.collect(tiles[name]) for name in NEEDED}
    flow: list[np.ndarray] = []
    with layout.comm.together():
        if layout.comm.is_root:
            whole = with_velocity({name: x for name, x in fields.items() if x is not None}, grid, data, choice)
            masks = (grid.umask, grid.vmask)
            flow = [np.concatenate([np.where(mask, whole[name], 0.0) for name, mask in zip(FLOW, masks, strict=True)])]
    scatter = Rearrange.build([(0, Rect(0, grid.nj, 0, grid.ni))], tile_rectangles(layout), layout.comm)
    both = stack_tiles(layout, scatter(flow))
    return {**tiles, FLOW[0]: both[:, : grid.nk], FLOW[1]: both[:, grid.nk :]}


def velocity_names(variables: Sequence[str], choice: str) -> tuple[str, ...]:
    """Lists the variables of a generated state once its velocity is chosen.

    Arguments:
        variables: Those of the generator.
        choice: As for `with_velocity`.

    Raises:
        ValueError: A geostrophic velocity needs a variable that is not there.

    Collective: no.
    """
    missing = [name for name in NEEDED if name not in variables]
    if choice == "geostrophic" and missing:
        raise ValueError(
            f"The generator lacks {', '.join(missing)}, expected {', '.join(NEEDED)} for velocity: geostrophic: train "
            "with these data.variables, or choose velocity: generated or rest."
        )
    return tuple(dict.fromkeys((*variables, *(() if choice == "generated" else flow_of(variables)))))
