"""A training store in memory, and generators beside it: the loader is tested without files."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

from halocline.mesh.grid import Grid
from halocline.run.config import RunConfig, build
from halocline.run.generator import Generator, Parameters
from halocline.state.state import Channels, Standardisation


@dataclass
class FakeStore:
    """Has what the loader asks of a store. Counts the chunks that are read.

    Attributes:
        grid, channels, chunk: Of the states.
        states: By scale, physical units, shape (record, channel, nj, ni), float32, zero on land.
        grids: By scale.
        records: What is known of each state.
        broken: Chunks (scale, record, J, I) that cannot be decoded.
    """

    grid: Grid
    channels: Channels
    chunk: tuple[int, int]
    states: dict[int, np.ndarray]
    grids: dict[int, Grid]
    records: SimpleNamespace
    broken: set[tuple[int, int, int, int]] = field(default_factory=set)
    reads: int = 0

    @classmethod
    def of(cls, generator: Generator, states: np.ndarray, held_out: tuple[int, ...] = ()) -> "FakeStore":
        """Holds states, shape (record, channel, nj, ni), at scale 1."""
        count = len(states)
        records = SimpleNamespace(
            season=np.linspace(0, 1, count, endpoint=False),
            held_out=np.isin(np.arange(count), held_out),
            parameters={"viscosity": np.linspace(1.0, 3.0, count)},
        )
        grid, tile = generator.grid, generator.lattice.tile
        return cls(grid, generator.channels, tile, {1: states}, {1: grid}, records)

    @property
    def scales(self) -> tuple[int, ...]:
        return tuple(self.states)

    @property
    def count(self) -> int:
        return len(self.records.season)

    def grid_at(self, scale: int) -> Grid:
        return self.grids[scale]

    def block(self, scale: int, record: int, J: int, I: int) -> np.ndarray:
        self.reads += 1
        if (scale, record, J, I) in self.broken:
            raise ValueError(f"Chunk {record}/0/{J}/{I} of scale_{scale} is corrupt: make the store again.")
        cj, ci = self.chunk
        return self.states[scale][record, :, J * cj : (J + 1) * cj, I * ci : (I + 1) * ci].copy()


def make_generator(
    grid: Grid,
    tile: tuple[int, int] = (8, 8),
    halo: int = 2,
    coarse: dict[str, object] | None = None,
    **training: object,
) -> Generator:
    """Builds an untrained generator whose standardisation differs from cell to cell."""
    config = {
        "data": {"grid": "mesh_mask.nc", "states": ["states.nc"], "parameters": ["viscosity"]},
        "lattice": {"tile": list(tile), "halo": halo},
        "network": {"width": 4, "multipliers": [1, 2], "blocks": 1, "embedding": 8, "cell_features": 2},
        "training": {"batch": 5, "seed": 7, "precision": "fp32", **training},
        "coarse": coarse or {},
        "output": "run",
    }
    parsed = build(RunConfig, config, "")
    channels = Channels.build(parsed.data.variables, grid)
    rng = np.random.default_rng(1)
    mask = channels.mask(grid)
    standardisation = Standardisation(
        torch.as_tensor(np.where(mask, rng.standard_normal(mask.shape), 0.0)),
        torch.as_tensor(rng.uniform(0.5, 2.0, channels.count)),
        torch.as_tensor(mask),
    )
    parameters = Parameters(("viscosity",), *(torch.tensor([x]).double() for x in (2.0, 0.5, 1.0, 3.0)))
    return Generator.build(parsed, grid, standardisation, parameters)


def make_states(generator: Generator, count: int) -> np.ndarray:
    """Draws states as a store holds them, shape (record, channel, nj, ni)."""
    mask = generator.channels.mask(generator.grid)
    values = np.random.default_rng(2).standard_normal((count, *mask.shape), np.float32)
    return np.where(mask, values, np.float32(0))
