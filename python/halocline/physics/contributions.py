"""What tiles contribute to the diagnostics of the globe: sums, extremes and pieces of maps, told in one message.

The sums are those of whole tiles: their bits do not depend on the blocks in which they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.layout import Layout, in_lattice_order, tile_sums
from halocline.physics import circulation, stability
from halocline.physics.blocks import Block, State
from halocline.physics.integrals import level_sums

__all__ = ["CONTRIBUTIONS", "TRACERS", "Contribution", "tell"]

TRACERS = ("temperature", "salinity")
FLOW = ("velocity_u", "velocity_v")


def _all(x: Tensor) -> Tensor:
    """Adds all cells of each tile: (..., tile, k, j, i) to (..., tile)."""
    return tile_sums(x, cells=3)


@dataclass(frozen=True)
class Contribution:
    """A number, profile or map of every tile.

    Arguments:
        fields: Without which there is none.
        of: Its values for a block, shape (member, ..., tile).
        reduce: Makes one value of those of all tiles, (tile, ...) to (...).
    """

    fields: tuple[str, ...]
    of: Callable[[Block], Tensor]
    reduce: Callable[[np.ndarray], np.ndarray] = in_lattice_order


def _weight(key: str, of: Callable[[Block], Tensor], moves: bool = True) -> Contribution:
    """Sums that the geometry alone decides; if they move with the free surface, only while layers are at rest."""

    def sums(block: Block) -> Tensor:
        if moves and not block.at_rest:
            return of(block)
        total = block.geometry.once(("weight", key, *block.choices.boxes.values()), lambda: of(block))
        return total.expand(block.members, *total.shape)

    return Contribution((), sums)


def _tracer(name: str) -> dict[str, Contribution]:
    def made(of: Callable[[Block], Tensor]) -> Contribution:
        return Contribution((name,), of)

    return {
        name: made(lambda block: _all(block[name] * block.volume)),
        f"{name}_deep": made(lambda block: _all(block[name] * block.volume_in("deep"))),
        f"{name}_bottom": made(lambda block: _all(block[name] * block.volume_in("bottom"))),
        f"{name}_levels": made(lambda block: level_sums(block[name] * block.volume)),
        f"{name}_spread": made(lambda block: level_sums(block.spread(name))),
    }


def _largest(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.max(axis=0))


def _smallest(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.min(axis=0))


def _each(values: np.ndarray) -> np.ndarray:
    return values


CONTRIBUTIONS: Mapping[str, Contribution] = {
    "nonfinite": Contribution((), lambda block: block.nonfinite),
    "volume": _weight("volume", lambda block: _all(block.volume)),
    "volume_deep": _weight("volume_deep", lambda block: _all(block.volume_in("deep"))),
    "volume_bottom": _weight("volume_bottom", lambda block: _all(block.volume_in("bottom"))),
    "volume_levels": _weight("volume_levels", lambda block: level_sums(block.volume)),
    "rest_levels": _weight("rest_levels", lambda block: level_sums(block.geometry.volume_t), moves=False),
    "area": _weight("area", lambda block: _all(block.area), moves=False),
    "interface_area": _weight(
        "interface_area", lambda block: level_sums(stability.interface_area(block.geometry)), moves=False
    ),
    **_tracer("temperature"),
    **_tracer("salinity"),
    "unstable": Contribution(TRACERS, lambda block: _all(block.unstable(block.choices.step_threshold))),
    "unstable_strict": Contribution(TRACERS, lambda block: _all(block.unstable(0.0))),
    "potential_density": Contribution(TRACERS, lambda block: level_sums(block.potential_density)),
    "stratification": Contribution(TRACERS, lambda block: level_sums(block.stratification)),
    "sea_level": Contribution(("sea_level",), lambda block: _all(block["sea_level"] * block.area)),
    "sea_level_squares": Contribution(("sea_level",), lambda block: _all(block["sea_level"] ** 2 * block.area)),
    "sea_level_min": Contribution(
        ("sea_level",), lambda block: circulation.wet_range(block["sea_level"], block.geometry)[0], _smallest
    ),
    "sea_level_max": Contribution(
        ("sea_level",), lambda block: circulation.wet_range(block["sea_level"], block.geometry)[1], _largest
    ),
    "energy": Contribution(FLOW, lambda block: _all(block.energy)),
    "velocity_u_max": Contribution(FLOW, lambda block: circulation.largest_of_tiles(block["velocity_u"]), _largest),
    "velocity_v_max": Contribution(FLOW, lambda block: circulation.largest_of_tiles(block["velocity_v"]), _largest),
    "columns": Contribution(FLOW, lambda block: block.columns, _each),
    "rows": Contribution(FLOW, lambda block: block.rows, _each),
}
"""All of them, by name."""


def tell(state: State, names: Collection[str], layout: Layout) -> dict[str, Tensor]:
    """Computes contributions, hands them to every rank, and makes one value of those of all tiles.

    Arguments:
        state: On all tiles of this rank.
        names: Of ``CONTRIBUTIONS``; the same on every rank, in any order.
        layout: Which tiles are here.

    Returns:
        Name to float64 tensor: sums and extremes (member, ...), maps (tile, member, ...) in lattice order.

    Collective: yes, one message.
    """
    chosen = [name for name in CONTRIBUTIONS if name in names]
    shapes: dict[str, tuple[int, ...]] = {}

    def packed(block: Block) -> Tensor:
        values = {name: CONTRIBUTIONS[name].of(block) for name in chosen}
        shapes.update({name: tuple(x.shape[1:-1]) for name, x in values.items()})
        return torch.cat([x.reshape(len(x), -1, x.shape[-1]) for x in values.values()], dim=1)

    with layout.comm.together():
        mine = torch.cat([torch.cat([packed(block) for block in blocks]) for blocks in state.blocks()], dim=-1)
    values = layout.gather(mine)
    edges = np.cumsum([int(np.prod(shapes[name])) for name in chosen])[:-1]
    pieces = dict(zip(chosen, np.split(values, edges, axis=2), strict=True))
    return {
        name: torch.from_numpy(CONTRIBUTIONS[name].reduce(x.reshape(*x.shape[:2], *shapes[name])))
        for name, x in pieces.items()
    }
