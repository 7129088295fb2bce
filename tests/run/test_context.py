"""What a network is told of the coarse state: its own record's, at the place of each cell, with noise that is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from fake_store import FakeStore, make_generator, make_states

from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.layout import Layout
from halocline.run.coarse_windows import coarse_records
from halocline.run.context import stream_of
from halocline.run.generator import Generator
from halocline.run.loader import Batch, WindowLoader
from halocline.state.climatology import Climatology
from halocline.state.coarsening import Coarsening

FACTOR, RECORDS = 2, 3


def broken_by_land(nj: int, ni: int, **edges: object) -> Grid:
    """Sea of 0 to 3 levels, with a tile of land."""
    levels = np.random.default_rng(0).integers(0, 4, (nj, ni))
    levels[:8, 8:16] = 0
    return box_grid(3, nj, ni, levels=levels, **edges)


GRIDS = {
    "closed": broken_by_land(13, 19),
    "torus": broken_by_land(12, 20, periodic_i=True, periodic_j=True),
    "pivot F": broken_by_land(14, 20, periodic_i=True, fold="F"),
}


@pytest.fixture(params=GRIDS)
def grid(request) -> Grid:
    return GRIDS[request.param]


def make(grid: Grid, noise: float = 0.0, **training: object) -> tuple[Generator, FakeStore]:
    """A generator that is told coarse states, and a store of random states with theirs."""
    coarse = {"factor": FACTOR, "noise": noise, "variables": ["temperature", "sea_level"]}
    generator = make_generator(grid, coarse=coarse, **{"batch": 1, **training})
    states = make_states(generator, RECORDS)
    store = FakeStore.of(generator, states)
    coarsening = Coarsening.build(grid, FACTOR, generator.channels)
    store.states[FACTOR] = coarsening.apply(torch.as_tensor(states).double()).float().numpy()
    store.grids[FACTOR] = coarsen_grid(grid, FACTOR)
    return generator, store


def told(batch: Batch, generator: Generator) -> torch.Tensor:
    """The part of the conditions per cell that is the coarse state."""
    return batch.conditions["static"][:, -generator.coarse_context().channels.count :]


def expected_windows(generator: Generator, states: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Coarse departures as the windows of the tiles show them, shape (record, tile, channel, wj, wi).

    Made another way than in the code: departures are coarsened, each coarse cell is copied to its fine ones, and the
    windows are cut from that.
    """
    grid, channels = generator.grid, generator.channels
    chosen = [c.index for c in channels.channels if c.variable.name in ("temperature", "sea_level")]
    coarse = Coarsening.build(grid, FACTOR, channels).apply(torch.as_tensor(states - references).double()).numpy()
    departures = coarse[:, chosen] / generator.standardisation.scale.numpy()[chosen, None, None]
    copied = departures.repeat(FACTOR, axis=-2).repeat(FACTOR, axis=-1)[..., : grid.nj, : grid.ni]
    layout = Layout.build(generator.lattice, Serial())
    return np.moveaxis(layout.cut(copied, halo=True), 1, 0)


def test_windows_are_told_the_coarse_state_of_their_own_record(grid):
    generator, store = make(grid)
    loader = WindowLoader(store, generator, 0, 1)
    expected = expected_windows(generator, store.states[1], generator.standardisation.reference.numpy())
    assert np.abs(expected).max() > 1
    for n in range(loader.windows):
        drawn = loader.sample(n)
        (batch,) = loader.draw(n)
        # float32 of the store and of what is told
        np.testing.assert_allclose(told(batch, generator)[0], expected[drawn.record, drawn.window], atol=2e-6)
    loader.close()


def test_windows_anywhere_are_told_the_coarse_state_of_the_place(grid):
    generator, store = make(grid, windows="free", least_wet=0.05)
    loader = WindowLoader(store, generator, 0, 1)
    whole = coarse_records(generator, store, range(RECORDS)).numpy()
    place = generator.coarse_context().grid.ni
    for n in range(20):
        (batch,) = loader.draw(n)
        fine = batch.conditions["cells"][0].numpy()
        j, i = np.divmod(np.maximum(fine, 0), grid.ni)
        values = whole[loader.sample(n).record].reshape(len(whole[0]), -1)[:, j // FACTOR * place + i // FACTOR]
        assert np.array_equal(told(batch, generator)[0], np.where(fine >= 0, values, 0))
    loader.close()


def test_departures_are_from_the_coarse_climatology_of_the_records_own_season_and_parameter(grid):
    generator, store = make(grid)
    rng = np.random.default_rng(4)
    mask = generator.channels.mask(grid)
    cycles = torch.as_tensor(np.where(mask, rng.standard_normal((2, 3, *mask.shape)), 0.0)).float()
    points = generator.parameters.standardise(torch.tensor([[1.0], [3.0]]).double())
    generator = replace(generator, climatology=Climatology(points, cycles))
    season = torch.as_tensor(store.records.season)
    parameters = torch.as_tensor(store.records.parameters["viscosity"])[:, None].double()
    references = generator.climatology.reference(season, generator.parameters.standardise(parameters)).numpy()
    expected = expected_windows(generator, store.states[1], references)
    loader = WindowLoader(store, generator, 0, 1)
    for n in range(10):
        drawn = loader.sample(n)
        (batch,) = loader.draw(n)
        np.testing.assert_allclose(told(batch, generator)[0], expected[drawn.record, drawn.window], atol=2e-6)
    loader.close()


def test_noise_is_white_over_coarse_cells_and_another_for_each_sample():
    grid = GRIDS["closed"]
    (clean, store), (noisy, _) = make(grid), make(grid, noise=0.5)
    loaders = [WindowLoader(store, generator, 0, 1) for generator in (clean, noisy)]
    everything = []
    for n in range(60):
        plain, disturbed = (told(loader.draw(n)[0], noisy)[0].double().numpy() for loader in loaders)
        fine = loaders[0].draw(n)[0].conditions["cells"][0].numpy()
        cells = noisy.coarse_context().cells(fine)
        noise = disturbed - plain
        for cell in np.unique(cells[cells >= 0])[:5]:  # to within the rounding of the sum
            assert np.ptp(noise[:, cells == cell], axis=1).max() < 1e-6
        first = np.unique(np.where(cells >= 0, cells, 10**6), return_index=True)[1][:-1]
        everything.append(noise.reshape(len(noise), -1)[:, first])
        assert not noise[:, cells < 0].any()
    values = np.concatenate([noise[np.abs(noise) > 1e-6] for noise in everything])
    assert len(values) > 3000
    assert abs(values.std() / 0.5 - 1) < 0.05 and abs(values.mean()) < 0.03
    assert all(np.abs(a[:, :6] - b[:, :6]).max() > 0.1 for a, b in pairwise(everything)), "two samples share noise"
    for loader in loaders:
        loader.close()


def test_global_batch_is_told_the_same_on_any_number_of_ranks():
    generator, store = make(GRIDS["pivot F"], noise=0.3, batch=7)
    (whole,) = WindowLoader(store, generator, 0, 1).draw(2)
    for ranks in (2, 3):
        for rank in range(ranks):
            (mine,) = WindowLoader(store, generator, rank, ranks).draw(2)
            assert torch.equal(mine.conditions["static"], whole.conditions["static"][rank::ranks])


def test_sampling_and_training_tell_the_same_of_a_state(grid):
    generator, store = make(grid)
    context, layout = generator.coarse_context(), Layout.build(generator.lattice, Serial())
    tiles = context.on_tiles(layout, coarse_records(generator, store, range(RECORDS)), 0, 0, range(RECORDS))
    loader = WindowLoader(store, generator, 0, 1)
    for n in range(loader.windows):
        drawn = loader.sample(n)
        assert torch.equal(told(loader.draw(n)[0], generator)[0], tiles[drawn.record, drawn.window])
    loader.close()


def test_noise_of_a_member_is_its_own_and_never_that_of_the_state():
    generator, _ = make(GRIDS["torus"], noise=1.0)
    context, cells = generator.coarse_context(), np.arange(60)
    one, again, other = (context.draw(3, 0, member, cells) for member in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    plain, coarse = (stream_of(replace(generator.config.data, coarsen=n)) for n in (1, 4))
    assert plain == 0 != coarse  # cell 7 of the coarse grid is another place than cell 7 of the fine one
    assert not np.array_equal(context.draw(3, coarse, 1, cells), one)


def test_network_hears_what_it_is_told():
    generator, _ = make(GRIDS["closed"])
    torch.manual_seed(1)
    with torch.no_grad():
        for p in generator.denoiser.network.parameters():  # layers that begin with zero would hide it
            p.add_(0.1 * torch.randn_like(p))
    layout = Layout.build(generator.lattice, Serial())
    count, size = generator.coarse_context().channels.count, generator.lattice.window
    x = torch.randn(1, len(layout.local), generator.channels.count, *generator.lattice.tile)
    season, viscosity = torch.zeros(1).double(), torch.full((1, 1), 2.0).double()

    def mean(context: torch.Tensor) -> torch.Tensor:
        return generator.tiled(layout, season, viscosity, context)(x, 0.5).mean

    zero = torch.zeros(1, len(layout.local), count, *size)
    one = zero.clone()
    one[:, 2] = 1.0
    moved = (mean(one) - mean(zero)).abs().amax(dim=(0, 2, 3, 4))
    assert moved[2] > 1e-3 and not moved[[0, 1, 3]].any(), "a tile is told its own coarse state and no other"
    with pytest.raises(ValueError, match=r"Context has shape \(1, 3, .*: cut it on the tiles of these members"):
        mean(zero[:, :3])


def test_loader_refuses_a_store_without_the_coarse_states():
    generator, store = make(GRIDS["closed"])
    del store.states[FACTOR]
    with pytest.raises(ValueError, match=r"has scales \[1\], but coarse.factor names \[2\], too: make the store"):
        WindowLoader(store, generator, 0, 1)
