"""A closed budget and controlled drift give the same bits on any number of ranks, whoever owns which tile."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from halocline.flow.networks import UNetConfig
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.layout import Layout
from halocline.run.budget_fit import Budget
from halocline.run.config import DataConfig, ForecastConfig, LatticeConfig, RunConfig, SamplingConfig, TrainingConfig
from halocline.run.forecast import run_members
from halocline.run.forecast_step import Stepper
from halocline.run.generator import Generator, Parameters
from halocline.run.increments import Increments
from halocline.state.state import Channels, Standardisation

NJ, NI = 19, 23
STATE = ("concentration", "thickness", "damage", "snow", "ice_u", "ice_v")
FORCING = ("wind_u", "air_temperature")


def closed_grid(**edges) -> Grid:
    wet = np.ones((NJ, NI + len(edges.get("fold", ""))), bool)
    wet[0] = wet[:8, 8:16] = wet[12, 3:7] = False
    if not edges:
        wet[-1] = wet[:, [0, -1]] = False
    return box_grid(1, *wet.shape, wet=wet, **edges)


def build(grid: Grid) -> Generator:
    config = RunConfig(
        data=DataConfig(grid="", states=(), variables=STATE, forcing=FORCING),
        lattice=LatticeConfig((8, 8), 2),
        output="",
        network=UNetConfig(width=8, multipliers=(1, 2), blocks=1, embedding=16, cell_features=0),
        training=TrainingConfig(centre="level"),
        forecast=ForecastConfig(leads=(6.0, 12.0)),
        sampling=SamplingConfig(sampler="multistep", steps=2, tile_batch=4),
    )
    channels = Channels.build(config.data.stored, grid)
    torch.manual_seed(0)
    states = torch.randn(3, channels.count, grid.nj, grid.ni, dtype=torch.float64)
    standardisation = Standardisation.fit(channels, states, grid, centre="level")
    scale, shares = (torch.full((2, channels.count), x).double() for x in (0.2, 0.1))
    increments = Increments(torch.tensor([6.0, 12.0]).double(), scale, shares, scale, shares, shares)
    budget = Budget(
        increments.leads, torch.tensor([[1e-4, 1.2e-5, 3e-4], [2e-4, 1.1e-5, 2e-4]]).double(),
        torch.zeros(2).double(), torch.tensor([[0.0, 0.3], [0.7, 1.0], [0.2, 0.21]]).double(),
        torch.tensor([[2.0, 1e-4], [0.0, 1e-4]]).double(),
    )  # fmt: skip
    none = Parameters.fit((), torch.zeros(3, 0))
    return Generator.build(config, grid, standardisation, none, increments=increments, budget=budget)


class Weather:
    """Another one at each time."""

    def __init__(self, grid: Grid) -> None:
        self.shape = (grid.nj, grid.ni)

    def read(self, when: np.datetime64) -> dict[str, np.ndarray]:
        hour = int((when - np.datetime64("2010-01-01T00:00:00")) / np.timedelta64(1, "h"))
        fields = np.random.default_rng(hour).standard_normal((2, *self.shape)).astype(np.float32)
        return {"wind_u": fields[0], "air_temperature": 8 * fields[1] - 20}


def trajectory(generator: Generator, layout: Layout, first: int = 0, x: torch.Tensor | None = None, **asked) -> list:
    """Three steps of two members, from step `first`."""
    stepper, states = Stepper.build(generator, layout, **asked), []
    if x is None:
        field = np.random.default_rng(1).uniform(0, 1, (len(STATE), generator.grid.nj, generator.grid.ni))
        tiles = torch.where(stepper.mask, torch.as_tensor(layout.cut(field)).float(), 0)
        x = tiles.expand(2, *tiles.shape).contiguous()
    options = SimpleNamespace(lead=8.0, steps=3, seed=7)
    when = np.datetime64("2010-01-01T00:00:00")
    run_members(stepper, x, Weather(generator.grid), when, options, (0, 5), lambda n, s: states.append(s), first)
    return states


@pytest.mark.parametrize("edges", [{}, {"periodic_i": True, "fold": "F"}])
def test_corrected_forecast_does_not_depend_on_layout_or_interruption(comm, edges):
    torch.set_num_threads(1)
    generator = build(closed_grid(**edges))
    asked = {"budget": True, "drift_control": True}
    whole = Layout.build(generator.lattice, Serial())
    expected = trajectory(generator, whole, **asked)
    rng, count = np.random.default_rng(5), generator.lattice.count
    owners = rng.permutation(np.concatenate([np.arange(comm.size), rng.integers(0, comm.size, count - comm.size)]))
    for deal in (None, owners):
        layout = Layout.build(generator.lattice, comm, deal)
        states = trajectory(generator, layout, **asked)
        again = trajectory(generator, layout, 1, states[0], **asked)
        assert all(torch.equal(a, b) for a, b in zip(again, states[1:], strict=True))
        assert all(torch.equal(a, b[:, layout.local]) for a, b in zip(states, expected, strict=True))
    free = trajectory(generator, whole)
    assert all(not torch.equal(free[0][:, :, n], expected[0][:, :, n]) for n in range(len(STATE)))
