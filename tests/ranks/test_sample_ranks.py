"""Sampling on any number of ranks gives the same bits, whoever owns which tile."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halocline.flow.networks import UNetConfig
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.layout import Layout
from halocline.run.config import DataConfig, LatticeConfig, RunConfig, SamplingConfig
from halocline.run.generator import Generator, Parameters
from halocline.run.sample import SampleOptions, generate
from halocline.run.teams import Team, form_team
from halocline.state.climatology import Climatology
from halocline.state.state import Channels, Standardisation

NK, NJ, NI = 12, 19, 23  # odd, not divisible by the tile, and broken by land; deep enough to mix layers of layers
TRACERS = ("temperature", "salinity")


def land_broken_grid(**edges) -> Grid:
    wet = np.ones((NJ, NI + len(edges.get("fold", ""))), bool)
    wet[:8, 8:16] = False  # one whole tile
    wet[12, 3:7] = False
    return box_grid(NK, *wet.shape, wet=wet, **edges)


def build(grid: Grid, sampler: str, precision: str) -> Generator:
    config = RunConfig(
        data=DataConfig(grid="", states=()),
        lattice=LatticeConfig((8, 8), 2),
        output="",
        network=UNetConfig(width=8, multipliers=(1, 2), blocks=1, embedding=16, cell_features=2),
        sampling=SamplingConfig(sampler=sampler, steps=2, tile_batch=4, precision=precision),
    )
    return untrained(config, grid)


def untrained(config: RunConfig, grid: Grid) -> Generator:
    """A generator whose layers do not begin with zero: these would hide the halo."""
    channels = Channels.build(config.data.variables, grid)
    torch.manual_seed(0)
    states = torch.randn(3, channels.count, grid.nj, grid.ni, dtype=torch.float64)
    states += torch.tensor([20.0 * (c.variable.name in TRACERS) for c in channels.channels])[:, None, None]
    standardisation = Standardisation.fit(channels, states, grid, centre="level")
    generator = Generator.build(config, grid, standardisation, Parameters.fit((), torch.zeros(3, 0)))
    torch.manual_seed(1)
    with torch.no_grad():
        for p in generator.denoiser.network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return generator


@pytest.mark.parametrize(
    ("edges", "sampler", "precision"),
    [
        ({}, "heun", "fp32"),
        ({"periodic_i": True}, "ancestral", "fp32"),
        ({"periodic_i": True, "fold": "T"}, "euler", "bf16"),
    ],
)
def test_sample_does_not_depend_on_layout(comm, edges, sampler, precision):
    torch.set_num_threads(1)
    generator = build(land_broken_grid(**edges), sampler, precision)
    options = SampleOptions(members=3, seed=7)
    alone = Team(Serial(), (0, 1, 2))
    whole = Layout.build(generator.lattice, Serial())
    expected = generate(generator, whole, alone, options, False)
    unmixed = generate(generator, whole, alone, replace(options, convection=False), False)
    assert all((expected[name] != unmixed[name]).mean() > 0.1 for name in TRACERS)  # so columns were unstable
    rng = np.random.default_rng(5)
    for owners in (None, deal(rng, generator.lattice.count, comm.size)):
        layout = Layout.build(generator.lattice, comm, owners)
        fields = generate(generator, layout, Team(comm, (0, 1, 2)), options, False)
        if comm.is_root:
            for name, values in expected.items():
                assert np.isfinite(values).all() and np.ptp(values) > 0
                assert np.array_equal(fields[name], values), name


def deal(rng: np.random.Generator, tiles: int, size: int) -> np.ndarray:
    """Deals tiles to ranks at random, at least one to each."""
    return rng.permutation(np.concatenate([np.arange(size), rng.integers(0, size, tiles - size)]))


def test_members_do_not_depend_on_teams(comm):
    torch.set_num_threads(1)
    generator = build(land_broken_grid(), "euler", "fp32")
    options = SampleOptions(members=5, seed=3)
    expected = generate(
        generator, Layout.build(generator.lattice, Serial()), Team(Serial(), tuple(range(5))), options, False
    )
    team = form_team(comm, generator.lattice.count, 5, size=1)
    fields = generate(generator, Layout.build(generator.lattice, team.comm), team, options, False)
    for name, values in fields.items():
        assert np.array_equal(values, expected[name][list(team.members)])


def test_departures_from_a_climatology_do_not_depend_on_layout(comm):
    torch.set_num_threads(1)
    plain = build(land_broken_grid(), "euler", "fp32")
    torch.manual_seed(2)
    reference = plain.standardisation.reference
    cycles = torch.randn(1, 4, *reference.shape) * plain.standardisation.mask
    cycles[:, 0] += reference
    generator = replace(plain, climatology=Climatology(torch.zeros(1, 0).double(), cycles))
    options = SampleOptions(members=3, seed=7, months=(1, 6, 9))
    team, whole = Team(Serial(), (0, 1, 2)), Layout.build(generator.lattice, Serial())
    expected = generate(generator, whole, team, options, False)
    without = generate(plain, whole, team, options, False)
    layout = Layout.build(generator.lattice, comm)
    fields = generate(generator, layout, Team(comm, (0, 1, 2)), options, False)
    if comm.is_root:
        for name, values in expected.items():
            assert np.array_equal(fields[name], values), name
            assert not np.array_equal(without[name], values), name
