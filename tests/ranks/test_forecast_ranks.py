"""A forecast has the same bits on any number of ranks, whoever owns which tile, and one that goes on likewise."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from halocline.flow.networks import UNetConfig
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.layout import Layout
from halocline.run.config import DataConfig, ForecastConfig, LatticeConfig, RunConfig, SamplingConfig, TrainingConfig
from halocline.run.forecast import run_members
from halocline.run.forecast_step import Stepper
from halocline.run.generator import Generator, Parameters
from halocline.run.increments import Increments
from halocline.state.state import Channels, Standardisation

NJ, NI = 19, 23
STATE = ("concentration", "thickness", "damage", "ice_u", "ice_v")
FORCING = ("wind_u", "wind_v")
ON_BOUNDS = torch.tensor([[0, 0, 0.1, 0, 0, 0, 0], [0.3, 0, 0, 0, 0, 0, 0]]).double()


def land_broken_grid(**edges) -> Grid:
    wet = np.ones((NJ, NI + len(edges.get("fold", ""))), bool)
    wet[:8, 8:16] = False
    wet[12, 3:7] = False
    return box_grid(1, *wet.shape, wet=wet, **edges)


def build(grid: Grid, sampler: str, precision: str, guided: bool = False) -> Generator:
    config = RunConfig(
        data=DataConfig(grid="", states=(), variables=STATE, forcing=FORCING),
        lattice=LatticeConfig((8, 8), 2),
        output="",
        network=UNetConfig(width=8, multipliers=(1, 2), blocks=1, embedding=16, cell_features=0),
        training=TrainingConfig(centre="level"),
        forecast=ForecastConfig(
            leads=(6.0, 12.0),
            first_guess="guess" if guided else "",
            stretched=("damage",) if guided else (),
        ),
        sampling=replace(
            SamplingConfig(sampler=sampler, steps=2, tile_batch=4, precision=precision, blend=2 if guided else 0),
            long_waves=1.5 if guided else 1.0,
            short_waves={"damage": 0.8} if guided else 1.0,
            memory=24.0 if guided else 0.0,
            wind_power={"damage": 0.3, "ice_u": 0.2} if guided else 0.0,
        ),
    )
    channels = Channels.build(config.data.stored, grid)
    torch.manual_seed(0)
    states = torch.randn(3, channels.count, grid.nj, grid.ni, dtype=torch.float64)
    standardisation = Standardisation.fit(channels, states, grid, centre="level")
    scale = torch.full((2, channels.count), 0.2).double()
    increments = Increments(torch.tensor([6.0, 12.0]).double(), scale, ON_BOUNDS, 2 * scale, 2 * scale, ON_BOUNDS / 4)
    none = Parameters.fit((), torch.zeros(3, 0))
    guess = None
    if guided:
        first = replace(config, forecast=ForecastConfig((6.0, 12.0), loss="gaussian", deterministic=True))
        guess = disturbed(Generator.build(first, grid, standardisation, none, increments=increments), 2)
    return disturbed(Generator.build(config, grid, standardisation, none, increments=increments, guess=guess), 1)


def disturbed(generator: Generator, seed: int) -> Generator:
    """Weights that begin with zero would hide what depends on the layout."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in generator.denoiser.network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return generator


class Wind:
    """A different wind at each time."""

    def __init__(self, grid: Grid) -> None:
        self.shape = (grid.nj, grid.ni)

    def read(self, when: np.datetime64) -> dict[str, np.ndarray]:
        hour = int((when - np.datetime64("2010-01-01T00:00:00")) / np.timedelta64(1, "h"))
        rng = np.random.default_rng(hour)
        return {name: rng.standard_normal(self.shape).astype(np.float32) for name in FORCING}


def trajectory(generator: Generator, layout: Layout, first: int = 0, x: torch.Tensor | None = None) -> list:
    """Three steps of three members, from step `first`, gathered on the root."""
    stepper, states = Stepper.build(generator, layout), []
    if x is None:
        field = np.random.default_rng(1).uniform(0, 1, (len(STATE), generator.grid.nj, generator.grid.ni))
        tiles = torch.where(stepper.mask, torch.as_tensor(layout.cut(field)).float(), 0)
        x = tiles.expand(3, *tiles.shape).contiguous()
    options = SimpleNamespace(lead=6.0, steps=3, seed=7)
    when = np.datetime64("2010-01-01T00:00:00")
    run_members(stepper, x, Wind(generator.grid), when, options, (0, 1, 5), lambda n, s: states.append(s), first)
    return states


@pytest.mark.parametrize(
    ("edges", "sampler", "precision", "guided"),
    [({}, "heun", "fp32", False), ({"periodic_i": True, "fold": "F"}, "multistep", "bf16", True)],
)
def test_forecast_does_not_depend_on_layout_or_interruption(comm, edges, sampler, precision, guided):
    torch.set_num_threads(1)
    generator = build(land_broken_grid(**edges), sampler, precision, guided)
    expected = trajectory(generator, Layout.build(generator.lattice, Serial()))
    rng = np.random.default_rng(5)
    count = generator.lattice.count
    owners = rng.permutation(np.concatenate([np.arange(comm.size), rng.integers(0, comm.size, count - comm.size)]))
    for deal in (None, owners):
        layout = Layout.build(generator.lattice, comm, deal)
        states = trajectory(generator, layout)
        again = trajectory(generator, layout, first=1, x=states[0])
        assert all(torch.equal(a, b) for a, b in zip(again, states[1:], strict=True))
        for state, whole in zip(states, expected, strict=True):
            assert torch.equal(state, whole[:, layout.local])
            assert float(state.std()) > 0.05
    if edges:
        crosses_the_fold(generator, layout)
    moved = (expected[1] - expected[0]).abs().amax(dim=(0, 1, 3, 4))
    assert bool((moved > 0).all())


def crosses_the_fold(generator: Generator, layout: Layout) -> None:
    """Wind beyond the fold blows the other way along the grid, as the halo exchange of a vector has it."""
    stepper = Stepper.build(generator, layout)
    wind = np.random.default_rng(3).standard_normal((2, generator.grid.nj, generator.grid.ni)).astype(np.float32)
    standard = np.where(generator.grid.mask("T")[0], (wind - stepper.mean) / stepper.scale, 0.0).astype(np.float32)
    owned = torch.as_tensor(layout.cut(standard))[None]
    exchanged = HaloPlan.build(layout, ("T", "T"), (-1, -1)).fill(owned)
    assert torch.equal(stepper._windows(wind), exchanged)
