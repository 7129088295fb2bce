"""A cascade on any number of ranks gives the same bits, whoever owns which tile of either level."""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from halocline.flow.networks import UNetConfig
from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.layout import Layout
from halocline.run.config import CoarseConfig, DataConfig, LatticeConfig, RunConfig, SamplingConfig
from halocline.run.generator import Generator
from halocline.run.run_folder import save_generator, start_run_folder
from halocline.run.sample import SampleOptions, generate, generate_tiles
from halocline.run.teams import Team, form_team

sys.path.append(str(Path(__file__).parent))

from test_sample_ranks import untrained

FACTOR = 2
TRACERS = ("temperature", "salinity")
OPTIONS = SampleOptions(members=4, seed=7)


def land_broken_grid(nj: int, ni: int, **edges) -> Grid:
    wet = np.ones((nj, ni), bool)
    wet[:8, 8:16] = False  # one whole tile
    wet[12, 3:7] = False
    return box_grid(4, nj, ni, wet=wet, **edges)


GRIDS = {
    "closed": land_broken_grid(19, 23),  # no multiples of the factor
    "folded": land_broken_grid(18, 24, periodic_i=True, fold="F"),
}


def build(grid: Grid, tile: int, coarsen: int, factor: int) -> Generator:
    """An untrained generator of fine or coarse states."""
    config = RunConfig(
        data=DataConfig(grid="", states=("",), coarsen=coarsen),
        lattice=LatticeConfig((tile, tile), 2),
        output="",
        network=UNetConfig(width=8, multipliers=(1, 2), blocks=1, embedding=16, cell_features=2),
        sampling=SamplingConfig(sampler="euler", steps=2, tile_batch=4),
        coarse=CoarseConfig(factor=factor, noise=0.2),
    )
    return untrained(config, grid)


@pytest.fixture(params=GRIDS)
def fine(request, comm):
    """A generator that is told coarse states, made by one whose run folder all ranks see."""
    torch.set_num_threads(1)
    grid = GRIDS[request.param]
    folder = Path(comm.broadcast(tempfile.mkdtemp() if comm.is_root else None))
    with comm.together():
        if comm.is_root:
            coarse = build(coarsen_grid(grid, FACTOR), 6, FACTOR, 1)
            start_run_folder(folder, coarse)
            save_generator(folder, coarse, dict(coarse.denoiser.network.named_parameters()))
    generator = build(grid, 8, 1, FACTOR)
    config = generator.config
    sampling = replace(config.sampling, coarse=str(folder))
    yield replace(generator, config=replace(config, sampling=sampling))
    comm.barrier()
    if comm.is_root:
        shutil.rmtree(folder)


def alone(generator: Generator) -> dict[str, np.ndarray]:
    """What one process makes."""
    layout = Layout.build(generator.lattice, Serial())
    return generate(generator, layout, Team(Serial(), (0, 1, 2, 3)), OPTIONS, False)


def test_cascade_does_not_depend_on_layout(comm, fine):
    expected = alone(fine)
    rng = np.random.default_rng(5)
    tiles = fine.lattice.count
    deal = rng.permutation(np.concatenate([np.arange(comm.size), rng.integers(0, comm.size, tiles - comm.size)]))
    for owners in (None, deal):
        layout = Layout.build(fine.lattice, comm, owners)
        fields = generate(fine, layout, Team(comm, (0, 1, 2, 3)), OPTIONS, False)
        if comm.is_root:
            for name, values in expected.items():
                assert np.isfinite(values).all() and np.ptp(values) > 0
                assert np.array_equal(fields[name], values), name


def test_members_of_a_cascade_do_not_depend_on_teams(comm, fine):
    expected = alone(fine)
    team = form_team(comm, fine.lattice.count, 4, size=1)
    fields = generate(fine, Layout.build(fine.lattice, team.comm), team, OPTIONS, False, comm)
    for name, values in fields.items():
        assert np.array_equal(values, expected[name][list(team.members)])


def test_members_are_told_the_coarse_states_and_nothing_like_their_mean(comm, fine):
    layout, team = Layout.build(fine.lattice, comm), Team(comm, (0, 1))
    grid, channels = fine.coarse_context().grid, fine.coarse_context().channels
    told = generate_tiles(fine, layout, team, OPTIONS, False)
    mean = torch.zeros(2, channels.count, grid.nj, grid.ni)
    untold = generate_tiles(fine, layout, team, OPTIONS, False, coarse=mean)
    apart = comm.allgather(float((told["temperature"] - untold["temperature"]).abs().max()))
    assert max(apart) > 1e-3


def test_coarse_member_that_diverges_ends_all_teams(comm, fine):
    place = Path(fine.config.sampling.coarse)
    comm.barrier()
    if comm.is_root:
        coarse = build(coarsen_grid(fine.grid, FACTOR), 6, FACTOR, 1)
        weights = {name: 1e6 * p for name, p in coarse.denoiser.network.named_parameters()}
        save_generator(place, coarse, weights)
    comm.barrier()
    team = form_team(comm, fine.lattice.count, 4, size=1)
    layout = Layout.build(fine.lattice, team.comm)
    with pytest.raises(ValueError, match=r"Member \d diverged"):
        generate(fine, layout, team, OPTIONS, False, comm)
