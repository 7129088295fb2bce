"""What of a generated state becomes velocity and sea level of a start: in a restart file and in memory, bit for bit.

Which choice is best was measured with `jobs/studies/shock` on NEMO's GYRE at 1 degree: the largest ratio to the model's
own run between 8 hours and 30 days, mean of two states, of the rms vertical velocity, the rms rise of the sea and the
kinetic energy.

===========  =========  ========  ====  ======
velocity     sea level  vertical  rise  energy
===========  =========  ========  ====  ======
generated    generated     1.547  5.90   1.008
balanced     generated     1.547  5.84   1.008
generated    mean-free     1.547  5.90   1.008
geostrophic  generated     3.389  89.6   1.040
rest         generated      31.2   179   1.872
generated    rest           16.2  2280   1.107
===========  =========  ========  ====  ======

The state as it is generated is among the best, and is the default. Balancing removes the rise of the start itself,
78 mm a day, but after NEMO's first step of 4 hours (three other states) the two differ by 2 % in the rise and by less
than 0.1 % in the rest. What shock there is comes with temperature and salinity, and with the sea level: generated
velocities put into the model's own state leave its vertical velocity as it was. In basin, whose velocities follow from
the state, all velocities do the same; of the sea levels, rest is the worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from halocline.io.checks import mask_of
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rearrange, Rect, stack_tiles, tile_rectangles
from halocline.physics.balance import without_divergence
from halocline.physics.free_surface import stretching
from halocline.physics.geometry import Geometry
from halocline.physics.ice import ICE
from halocline.physics.integrals import global_mean
from halocline.physics.operators import geostrophic_velocity
from halocline.run.config import DataConfig, one_of
from halocline.run.judging import OCEAN, eos_of
from halocline.state.variables import VARIABLES

__all__ = ["SEA_LEVELS", "VELOCITIES", "Choice", "flow_of", "start_names", "start_on_grid", "start_on_tiles"]

NEEDED = ("temperature", "salinity", "sea_level")
FLOW = ("velocity_u", "velocity_v")
FLOW_OF_ICE = ("ice_u", "ice_v")
VELOCITIES = ("generated", "balanced", "geostrophic", "rest")
SEA_LEVELS = ("generated", "mean-free", "rest")


@dataclass(frozen=True)
class Choice:
    """Velocity and sea level of a start.

    Attributes:
        velocity: "generated" (as in the state), "balanced" (as generated, less what makes the transport of columns
            diverge; sea ice, which has no columns, keeps its velocity), "geostrophic" (from density and sea level) or
            "rest".
        sea_level: "generated", "mean-free" (less its mean over the sea) or "rest"; it is chosen before the velocity.
    """

    velocity: str = "generated"
    sea_level: str = "generated"

    def check(self, section: str = "") -> None:
        """Refuses unknown words.

        Arguments:
            section: What stands before the keys, for the sentence.

        Raises:
            ValueError: A word is not known.
        """
        one_of(f"{section}velocity", self.velocity, VELOCITIES)
        one_of(f"{section}sea_level", self.sea_level, SEA_LEVELS)

    def check_ice(self) -> None:
        """Refuses what sea ice does not have.

        Raises:
            ValueError: The velocity is geostrophic, or the sea level is not that of the state.
        """
        if self.velocity == "geostrophic":
            raise ValueError("velocity is 'geostrophic', expected 'generated' or 'rest' for sea ice.")
        if self.sea_level != "generated":
            raise ValueError(f"sea_level is '{self.sea_level}', expected 'generated' for sea ice: leave it out.")

    def needs(self, data: DataConfig) -> tuple[str, ...]:
        """Lists the variables from which an ocean state's velocity and sea level are made. Collective: no."""
        names = ("temperature", "salinity") if self.velocity == "geostrophic" else ()
        if self.sea_level == "mean-free" or (self.sea_level != "rest" and self._feels_the_sea_level(data)):
            names = (*names, "sea_level")
        return names

    def _feels_the_sea_level(self, data: DataConfig) -> bool:
        stretched = self.velocity == "balanced" and data.free_surface == "nonlinear"
        return stretched or self.velocity == "geostrophic"

    def makes(self) -> tuple[str, ...]:
        """Lists the variables that an ocean state has in any case once they are chosen. Collective: no."""
        velocity = FLOW if self.velocity in ("geostrophic", "rest") else ()
        return (*velocity, *(("sea_level",) if self.sea_level == "rest" else ()))


def flow_of(names: Iterable[str]) -> tuple[str, str]:
    """Names of the velocity of a state: of the ice where it has nothing of the ocean."""
    return FLOW_OF_ICE if ICE & set(names) and not OCEAN & set(names) else FLOW


def start_names(variables: Sequence[str], choice: Choice, data: DataConfig) -> tuple[str, ...]:
    """Lists the variables of a generated state once its velocity and sea level are chosen.

    Arguments:
        variables: Those of the generator.
        choice: Velocity and sea level.
        data: Names the kind of free surface.

    Raises:
        ValueError: The choice needs a variable that is not there, or is one that sea ice does not have.

    Collective: no.
    """
    if flow_of(variables) == FLOW_OF_ICE:
        choice.check_ice()
        return tuple(dict.fromkeys((*variables, *(FLOW_OF_ICE if choice.velocity == "rest" else ()))))
    missing = [name for name in choice.needs(data) if name not in variables]
    if missing:
        raise ValueError(
            f"The generator lacks {', '.join(missing)}, needed for velocity: {choice.velocity} with sea_level: "
            f"{choice.sea_level}: train with these data.variables, or choose velocity: generated or rest."
        )
    return tuple(dict.fromkeys((*variables, *choice.makes())))


def start_on_grid(
    fields: Mapping[str, np.ndarray], grid: Grid, lattice: Lattice, data: DataConfig, choice: Choice
) -> dict[str, np.ndarray]:
    """Completes a state of the ocean for a restart.

    Arguments:
        fields: Variable to array of shape (k, nj, ni), anything on land.
        grid: Geometry.
        lattice: Tiles of the generator, in whose order sums are made.
        data: Names the equation of state and the kind of free surface.
        choice: Velocity and sea level.

    Returns:
        Temperature, salinity, velocities, sea level; what was changed is float64 and zero on land.

    Raises:
        ValueError: The state lacks a variable, or its velocity cannot be balanced.

    Collective: no.
    """
    needed = [name for name in (*NEEDED, *FLOW) if name not in choice.makes() or name in choice.needs(data)]
    missing = [name for name in needed if name not in fields]
    if missing:
        raise ValueError(
            f"The state lacks {', '.join(missing)}, expected {', '.join(needed)} for velocity={choice.velocity}: "
            "train with these data.variables, or choose velocity=geostrophic or rest."
        )
    layout = Layout.build(lattice, Serial())
    tiles = {name: layout.cut(np.where(mask_of(VARIABLES[name], grid), x, 0.0)) for name, x in fields.items()}
    start = start_on_tiles(tiles, grid, layout, data, choice)
    changed = {name: layout.collect(x) for name, x in start.items() if x is not tiles.get(name)}
    return {**fields, **{name: x for name, x in changed.items() if x is not None}}


def start_on_tiles(
    tiles: Mapping[str, np.ndarray], grid: Grid, layout: Layout, data: DataConfig, choice: Choice
) -> dict[str, np.ndarray]:
    """Completes a state that lies on tiles, with the numbers that `start_on_grid` puts into a restart.

    Arguments:
        tiles: Variable to array of shape (tile, k, j, i), zero on land.
        grid, data, choice: As for `start_on_grid`.
        layout: Who owns which tile.

    Returns:
        The same, with the velocity and the sea level of the choice: as they were, zero, or float64.

    Raises:
        ValueError: The velocity cannot be balanced.

    Collective: yes. A geostrophic velocity is computed by rank 0, which gathers the state.
    """
    state = dict(tiles)
    if choice.sea_level == "rest":
        state["sea_level"] = np.zeros((len(layout.local), 1, *layout.lattice.tile), np.float32)
    elif choice.sea_level == "mean-free":
        state["sea_level"] = mean_free(state["sea_level"], Geometry.build(grid, layout), layout)
    names = flow_of(state)
    if choice.velocity == "rest":
        shape = (len(layout.local), grid.nk, *layout.lattice.tile)
        return {**state, **{name: np.zeros(shape, np.float32) for name in names}}
    if choice.velocity == "geostrophic":
        return {**state, **geostrophic(state, grid, layout, data)}
    if choice.velocity == "balanced" and set(FLOW) <= set(state):
        return {**state, **balanced(state, grid, layout, data)}
    return state


def mean_free(sea_level: np.ndarray, geometry: Geometry, layout: Layout) -> np.ndarray:
    """Takes its mean over the sea from the sea level, (tile, 1, j, i); float64, zero on land. Collective: yes."""
    wet = geometry.wet.unsqueeze(1)
    x = torch.where(wet, torch.as_tensor(sea_level).double(), 0.0)
    mean = global_mean(x.unsqueeze(0), geometry.area_t.unsqueeze(1), layout)
    return torch.where(wet, x - mean, 0.0).numpy()


def balanced(state: Mapping[str, np.ndarray], grid: Grid, layout: Layout, data: DataConfig) -> dict[str, np.ndarray]:
    """Returns the velocities less what makes the transport of columns diverge, (tile, k, j, i). Collective: yes."""
    geometry = Geometry.build(grid, layout)
    sea_level = torch.as_tensor(state["sea_level"]).double().unsqueeze(0) if "sea_level" in state else None
    stretch = stretching(sea_level, geometry, layout, data.free_surface)  # type: ignore[arg-type]
    u, v = (torch.as_tensor(state[name]) for name in FLOW)
    u, v = without_divergence(u, v, geometry, layout, stretch)
    return {FLOW[0]: u.numpy(), FLOW[1]: v.numpy()}


def geostrophic(state: Mapping[str, np.ndarray], grid: Grid, layout: Layout, data: DataConfig) -> dict[str, np.ndarray]:
    """Returns velocities in balance with density and sea level, (tile, k, j, i). Collective: yes; rank 0 works."""
    whole = [layout.collect(state[name]) for name in NEEDED]
    flow: list[np.ndarray] = []
    with layout.comm.together():
        if layout.comm.is_root:
            T, S, sea_level = (x for x in whole if x is not None)
            pair = geostrophic_velocity(T, S, sea_level[0], grid, eos_of(data))
            masks = (grid.umask, grid.vmask)
            flow = [np.concatenate([np.where(mask, x.numpy(), 0.0) for mask, x in zip(masks, pair, strict=True)])]
    scatter = Rearrange.build([(0, Rect(0, grid.nj, 0, grid.ni))], tile_rectangles(layout), layout.comm)
    both = stack_tiles(layout, scatter(flow))
    return {FLOW[0]: both[:, : grid.nk], FLOW[1]: both[:, grid.nk :]}
