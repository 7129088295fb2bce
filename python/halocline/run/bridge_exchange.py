"""Fields on their way between a model's rectangles and the emulator's tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from halocline.mesh.communicator import AnyCommunicator
from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rearrange, tile_rectangles, unstack_tiles
from halocline.run.bridge_host import Host
from halocline.run.contract import Declaration

__all__ = ["Exchange"]


@dataclass(eq=False)
class Exchange:
    """Moves fields both ways, each number once, in the model's precision. Built by `build`.

    Attributes:
        host: Fields of this rank in the model's memory, at their present addresses.
        layout: Tiles of the emulator; None on a rank without.
        tiles: Room for the fields on tiles, shape (tile, level, tile_j, tile_i); no fields on a rank without tiles.
        places: For each field, in one order on all ranks, views of its tiles without padding.
        to_tiles, to_host: Plans.
        under_way: Field that moves just now, "" if none; for the traceback.
    """

    host: Host
    layout: Layout | None
    tiles: dict[str, np.ndarray]
    places: dict[str, list[np.ndarray]]
    to_tiles: Rearrange
    to_host: Rearrange
    under_way: str = field(default="", init=False)

    @classmethod
    def build(cls, host: Host, declaration: Declaration, layout: Layout | None, comm: AnyCommunicator) -> Exchange:
        """Plans the moves, and makes room for the fields on tiles.

        Arguments:
            host: Of this rank.
            declaration: Of the model, the same on all ranks.
            layout: Tiles and their owners, which are the first ranks of `comm`; None on a rank without tiles.
            comm: All ranks of the model.

        Collective: yes.
        """
        theirs = comm.broadcast(None if layout is None else tile_rectangles(layout))
        ours = [(rank, rect) for rank, rect in enumerate(declaration.rectangles) if rect is not None]
        tiles: dict[str, np.ndarray] = {}
        places: dict[str, list[np.ndarray]] = {row.name: [] for row in declaration.fields}
        if layout is not None:
            for row in declaration.fields:
                shape = (len(layout.local), row.levels, *layout.lattice.tile)
                tiles[row.name] = np.zeros(shape, f"f{row.bytes}")
                places[row.name] = unstack_tiles(layout, tiles[row.name])
        to_tiles = Rearrange.build(ours, theirs, comm, dry=True)
        return cls(host, layout, tiles, places, to_tiles, Rearrange.build(theirs, ours, comm, dry=True))

    def hand_over(self) -> dict[str, np.ndarray]:
        """Brings the model's fields to the tiles, and returns these. Collective: yes."""
        for name, places in self.places.items():
            self.under_way = f"field {name}"
            self.to_tiles.into(self.host.fields[name].views, places)
        self.under_way = ""
        return self.tiles

    def fill(self, state: Mapping[str, np.ndarray]) -> None:
        """Brings a state from the tiles into the model's fields, zero where there is no tile.

        Arguments:
            state: Variable to array of shape (tile, level, tile_j, tile_i); nothing on a rank without tiles.

        Collective: yes.
        """
        for name in self.places:
            self.under_way = f"field {name}"
            target = self.host.fields[name]
            arrays: list[np.ndarray] = []
            if self.layout is not None:
                arrays = unstack_tiles(self.layout, state[name].astype(target.dtype, copy=False))
            for view in target.views:
                view[...] = 0
            self.to_host.into(arrays, target.views)
        self.under_way = ""
