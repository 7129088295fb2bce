"""Batches read from the store: each sample is what it is, whoever reads it, from how little memory, after any step."""

import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from case import alone, basin
from fake_store import FakeStore, make_generator, make_states
from torch import Tensor

from halocline.flow.conditions import CellConditions, extra_conditions, extra_count, sample_conditions
from halocline.flow.times import stratified_times
from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run import loader as loader_module
from halocline.run.chunks import ChunkCache
from halocline.run.generator import Generator
from halocline.run.loader import Batch, WindowLoader, draw_noise
from halocline.run.prefetch import Prefetch
from halocline.state.coarsening import Coarsening

RECORDS = 3


def broken_by_land(nj: int, ni: int, **edges: object) -> Grid:
    """Sea of 0 to 4 levels, with a tile of land."""
    levels = np.random.default_rng(0).integers(0, 5, (nj, ni))
    levels[:8, 8:16] = 0
    return box_grid(4, nj, ni, levels=levels, **edges)


GRIDS = {
    "closed": basin(),
    "channel": broken_by_land(13, 19, periodic_i=True),
    "torus": broken_by_land(11, 19, periodic_i=True, periodic_j=True),
    "pivot T": broken_by_land(13, 20, periodic_i=True, fold="T"),
    "pivot F": broken_by_land(13, 20, periodic_i=True, fold="F"),
}


@pytest.fixture(params=GRIDS)
def grid(request) -> Grid:
    return GRIDS[request.param]


def bits(x: Tensor) -> bytes:
    return x.contiguous().numpy().tobytes()


def same(batch: Batch, other: Batch) -> bool:
    """Whether two batches are equal to the bit."""
    return (
        all(bits(getattr(batch, name)) == bits(getattr(other, name)) for name in ("x0", "z", "t", "wet"))
        and batch.wet_count == other.wet_count
        and all(bits(value) == bits(other.conditions[name]) for name, value in batch.conditions.items())
    )


def filled(generator: Generator, lattice: Lattice, states: np.ndarray) -> Tensor:
    """Standardised states as the halo exchange shows them, shape (record, tile, channel, wj, wi)."""
    layout = Layout.build(lattice, Serial())
    channels = generator.channels
    standardised = generator.standardisation.forward(states).numpy()
    owned = torch.as_tensor(layout.cut(standardised)).transpose(0, 1).contiguous()
    return HaloPlan.build(layout, channels.points, channels.signs).fill(owned)


def make_loader(grid: Grid, rank: int = 0, ranks: int = 1, count: int = RECORDS, **training: object) -> WindowLoader:
    generator = make_generator(grid, **training)
    return WindowLoader(FakeStore.of(generator, make_states(generator, count)), generator, rank, ranks)


def test_windows_of_an_epoch_are_those_of_the_halo_exchange_each_once(grid):
    generator = make_generator(grid, batch=1)
    states = make_states(generator, RECORDS)
    store = FakeStore.of(generator, states)
    loader = WindowLoader(store, generator, 0, 1)
    windows = filled(generator, generator.lattice, states)
    layout = Layout.build(generator.lattice, Serial())
    mask = generator.channels.mask(grid)
    wet = filled_mask(generator, mask)
    cells = CellConditions.build(grid, layout)
    standardised = (torch.as_tensor(store.records.parameters["viscosity"])[:, None] - 2.0) / 0.5
    conditions = sample_conditions(torch.as_tensor(store.records.season), standardised)
    seen = Counter()
    for n in range(loader.windows):
        drawn = loader.sample(n)
        seen[drawn.record, drawn.window] += 1
        (batch,) = loader.draw(n)
        assert bits(batch.x0[0]) == bits(windows[drawn.record, drawn.window])
        assert torch.equal(batch.wet[0], wet[drawn.window])
        assert batch.wet_count == float(wet[drawn.window, :, 2:-2, 2:-2].sum())
        assert bits(batch.conditions["static"][0]) == bits(cells.static[drawn.window])
        assert torch.equal(batch.conditions["cells"][0], cells.cells[drawn.window])
        assert torch.equal(batch.conditions["conditions"][0], conditions[drawn.record])
        assert torch.equal(batch.z, draw_noise(7, [n], windows.shape[2:]))
        assert torch.equal(batch.t, stratified_times(7, n, 1))
    assert loader.windows == RECORDS * generator.lattice.count == len(seen)
    assert set(seen.values()) == {1}


def test_training_draws_the_shifted_times_that_are_asked_for(grid) -> None:
    drawn = torch.cat([batch.t for batch in make_loader(grid, batch=4, time_shift=3.0).draw(2)])
    assert torch.equal(drawn, stratified_times(7, 2, 4, shift=3.0))


def filled_mask(generator: Generator, mask: np.ndarray) -> Tensor:
    """Mask of each channel as the halo exchange shows it, shape (tile, channel, wj, wi)."""
    layout = Layout.build(generator.lattice, Serial())
    plan = HaloPlan.build(layout, generator.channels.points, generator.channels.signs)
    return plan.fill(torch.as_tensor(layout.cut(mask)).float()[None])[0] != 0


def test_noise_is_that_of_one_generator_per_sample():
    expected = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed((7 << 32) + 4 * 2654435761 % 2**32))
    assert torch.equal(draw_noise(7, [2, 4], (3, 5, 7))[1], expected)


def test_free_windows_show_the_grid_as_it_continues_beyond_its_edges(grid):
    generator = make_generator(grid, windows="free", least_wet=0.05, batch=1)
    states = make_states(generator, 1)
    loader = WindowLoader(FakeStore.of(generator, states), generator, 0, 1)
    reach = 10  # a tile and its halo
    whole = Lattice.from_grid(grid, (grid.nj, grid.ni), reach)  # one window that shows the grid and all around it
    padded = filled(generator, whole, states)[0, 0]
    crossings = 0
    for n in range(40):
        (batch,) = loader.draw(n)
        window = loader.sample(n).window
        j, i = loader._scales[1].windows.origin(window)
        if j + 10 + reach > padded.shape[1] or i + 10 + reach > padded.shape[2]:
            continue
        rows, columns = slice(j + reach - 2, j + reach + 10), slice(i + reach - 2, i + reach + 10)
        assert torch.equal(batch.x0[0], padded[:, rows, columns])
        crossings += j + 10 > grid.nj or i + 10 > grid.ni or i < 2
    assert crossings > 5


def test_free_windows_own_enough_water_and_lie_wherever_there_is(grid):
    loader = make_loader(grid, windows="free", least_wet=0.3)
    windows, cells = loader._scales[1].windows, loader._scales[1].cutter.cells
    expected = set()
    for j in range(cells.origins[0]):
        for i in range(cells.origins[1]):
            cell, _ = grid.edges.canonical("T", j + np.arange(8)[:, None], i + np.arange(8))
            if grid.wet.ravel()[cell[cell >= 0]].sum() >= 0.3 * 64:
                expected.add((j, i))
    assert {windows.origin(n) for n in range(len(windows))} == expected
    drawn = Counter(loader.sample(n).window for n in range(20 * len(windows)))
    assert set(drawn) == set(range(len(windows)))
    assert max(drawn.values()) < 60, "an origin is drawn more often than chance makes likely"


def test_every_cell_with_water_is_owned_by_a_free_window():
    grid = GRIDS["closed"]
    windows = make_loader(grid, windows="free", least_wet=0.02)._scales[1].windows
    owned = np.zeros((32, 32), bool)
    for j, i in windows.origins:
        owned[j : j + 8, i : i + 8] = True
    assert owned[: grid.nj, : grid.ni][grid.wet].all()


@pytest.mark.parametrize("windows", ["lattice", "free"])
def test_global_batch_is_the_same_on_any_number_of_ranks_and_parts(windows):
    step, size = 4, 7
    (whole,) = make_loader(GRIDS["pivot F"], windows=windows, batch=size).draw(step)
    assert whole.wet_count == float(whole.wet[..., 2:-2, 2:-2].sum())
    for ranks in (1, 2, 3, 8):
        for parts in (1, 2, 3):
            for rank in range(ranks):
                mine = make_loader(GRIDS["pivot F"], rank, ranks, windows=windows, batch=size, accumulate=parts)
                drawn = mine.draw(step)
                assert len(drawn) == parts
                for part, batch in enumerate(drawn):
                    places = list(range(rank, size, ranks))[part::parts]
                    assert same(batch, taken(whole, places))


def taken(batch: Batch, places: list[int]) -> Batch:
    """Some samples of a batch."""
    conditions = {name: value[places] for name, value in batch.conditions.items()}
    return Batch(batch.x0[places], batch.z[places], batch.t[places], batch.wet[places], batch.wet_count, conditions)


def test_no_sample_is_skipped_or_repeated_whatever_step_is_asked_for():
    loader = make_loader(GRIDS["closed"], batch=4, prefetch=3)
    expected = [loader.draw(step) for step in range(12)]
    for step in [0, 1, 2, 3, 7, 8, 9, 2, 3, 11, 0]:  # on, ahead, back, and to the start
        (batch,) = loader.batch(step)
        assert same(batch, expected[step][0]), step
    loader.close()
    resumed = make_loader(GRIDS["closed"], batch=4)
    assert same(resumed.batch(9)[0], expected[9][0])
    resumed.close()


def test_order_of_the_windows_changes_from_epoch_to_epoch():
    loader = make_loader(GRIDS["closed"])
    epochs = [[loader.sample(e * loader.windows + n) for n in range(loader.windows)] for e in range(2)]
    assert epochs[0] != epochs[1]
    assert Counter(epochs[0]) == Counter(epochs[1])
    assert loader.steps_per_epoch == loader.windows / 5


def test_states_held_out_are_never_drawn():
    generator = make_generator(GRIDS["closed"])
    store = FakeStore.of(generator, make_states(generator, 4), held_out=(1, 3))
    loader = WindowLoader(store, generator, 0, 1)
    assert {loader.sample(n).record for n in range(2 * loader.windows)} == {0, 2}
    with pytest.raises(ValueError, match=r"none of which is for training.*data\.held_out_years"):
        WindowLoader(FakeStore.of(generator, make_states(generator, 2), held_out=(0, 1)), generator, 0, 1)


@pytest.mark.parametrize("limit", [0, 5_000, 20_000])
def test_cache_stays_within_its_bound_and_changes_nothing(limit, monkeypatch):
    plain = make_loader(GRIDS["pivot T"])
    expected = [plain.draw(step) for step in range(6)]
    monkeypatch.setattr(loader_module, "MIB", 1)
    loader = make_loader(GRIDS["pivot T"], cache=limit)
    for step, batches in enumerate(expected):
        assert same(loader.draw(step)[0], batches[0])
        assert loader.held_bytes <= limit
    assert (loader.held_bytes > 0) == (limit > 0)
    assert loader.read_bytes > plain.read_bytes


def test_chunk_used_last_is_the_last_to_go():
    store = SimpleNamespace(block=lambda *key: np.full(10, key[1], np.float32))
    cache = ChunkCache(store, 100)
    for record in (0, 1, 0, 2):
        assert cache.chunk(1, record, 0, 0)[0] == record
    read = cache.read_bytes
    cache.chunk(1, 0, 0, 0)
    assert cache.read_bytes == read == 120
    cache.chunk(1, 1, 0, 0)
    assert cache.read_bytes == 160 and cache.held == 80


def test_window_reads_only_the_chunks_that_it_shows():
    generator = make_generator(GRIDS["closed"], batch=1)
    store = FakeStore.of(generator, make_states(generator, RECORDS))
    loader = WindowLoader(store, generator, 0, 1)
    corner = next(n for n in range(loader.windows) if loader.sample(n).window == 0)
    loader.draw(corner)
    assert store.reads == 3, "a corner tile beside a tile of land"


def test_memory_does_not_grow_with_the_store(monkeypatch):
    monkeypatch.setattr(loader_module, "MIB", 2000)
    peaks = []
    for count in (3, 300):
        generator = make_generator(GRIDS["closed"], cache=10)
        store = FakeStore.of(generator, make_states(generator, 3))
        store.records = FakeStore.of(generator, np.empty((count, 0))).records
        store.states[1] = Repeated(store.states[1])
        tracemalloc.start()
        loader = WindowLoader(store, generator, 0, 1)
        for step in range(30):
            loader.draw(step)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    state = store.states[1].values[0].nbytes
    assert peaks[1] - peaks[0] < 3 * state, "of 297 states more"


class Repeated:
    """Many states of which few differ."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __getitem__(self, key: tuple) -> np.ndarray:
        return self.values[(key[0] % len(self.values), *key[1:])]


def test_corrupt_chunk_is_named_by_the_batch_that_needs_it():
    generator = make_generator(GRIDS["closed"], batch=2)
    store = FakeStore.of(generator, make_states(generator, RECORDS))
    loader = WindowLoader(store, generator, 0, 1)
    clean = [loader.draw(step)[0] for step in range(4)]
    store.broken = {(1, loader.sample(4).record, J, I) for J in range(2) for I in range(3)}
    loader = WindowLoader(store, generator, 0, 1)
    for step in range(4):
        if store.broken & {(1, loader.sample(2 * step + n).record, 0, 0) for n in range(2)}:
            with pytest.raises(ValueError, match=r"Chunk \d+/0/\d/\d of scale_1 is corrupt"):
                loader.batch(step)
        else:
            assert same(loader.batch(step)[0], clean[step])
    loader.close()


def test_closed_loader_says_so_and_leaves_no_thread():
    loader = make_loader(GRIDS["closed"])
    loader.batch(0)
    thread = loader._prefetch._thread
    assert thread.is_alive() and thread.daemon
    loader.close()
    loader.close()
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="start another loader"):
        loader.batch(1)
    make_loader(GRIDS["closed"]).close()  # never used


def test_prefetch_makes_what_comes_next_and_no_more():
    made = []
    prefetch = Prefetch(made.append, 3)
    prefetch.take(5)
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    prefetch.close()
    assert made == [5, 6, 7, 8]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_reading_ahead_takes_one_thread_whatever_torch_may_take():
    grid = box_grid(4, 60, 60)
    loader = make_loader(grid, tile=(48, 48), count=1, windows="free", symmetries="all", batch=8)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))
        for step in range(2):
            loader.batch(step)
        assert len(list(Path("/proc/self/task").iterdir())) == threads + 1
    finally:
        loader.close()
        torch.set_num_threads(before)


def test_process_that_forgets_to_close_its_loader_ends():
    script = (
        "import time; from halocline.run.prefetch import Prefetch\n"
        "prefetch = Prefetch(lambda step: time.sleep(100 * (step > 0)), 2); prefetch.take(0); print('done')"
    )
    done = alone("-c", script, limit=30)
    assert done.status == 0 and done.out == "done\n", done.err


def test_waiting_is_counted_only_where_the_reading_lags():
    prefetch = Prefetch(lambda step: time.sleep(0.05), 2)
    prefetch.take(0)
    assert prefetch.waited > 0.04
    time.sleep(0.3)
    before = prefetch.waited
    prefetch.take(1)
    prefetch.take(2)
    prefetch.close()
    assert prefetch.waited - before < 0.04


def test_network_is_told_scale_and_attitude_only_where_they_vary():
    scales, symmetries = torch.tensor([1, 2, 8]), torch.tensor([0, 3, 6])
    many = SimpleNamespace(scales=(1, 2, 8), symmetries="all")
    expected = torch.tensor([[0, 0, 0, 0], [1 / 3, 1, 1, 0], [1, 0, 1, 1]])
    assert torch.equal(extra_conditions(many, scales, symmetries), expected)
    told_of = [((1,), "none", 0), ((1, 2), "none", 1), ((2,), "none", 1), ((1,), "flips", 3), ((1,), "turns", 0)]
    for scale_set, which, count in told_of:
        told = extra_conditions(SimpleNamespace(scales=scale_set, symmetries=which), scales, symmetries)
        assert told.shape == (3, count) and extra_count(scale_set, which) == count


def at_scales(generator: Generator, states: np.ndarray, *scales: int) -> FakeStore:
    """A store with coarsened states, too."""
    store = FakeStore.of(generator, states)
    for scale in scales:
        coarsening = Coarsening.build(generator.grid, scale, generator.channels)
        store.grids[scale] = coarsen_grid(generator.grid, scale)
        store.states[scale] = coarsening.apply(torch.as_tensor(states)).float().numpy()
    return store


@pytest.mark.parametrize("name", ["closed", "coarse channel"])
def test_coarse_window_is_cut_from_the_coarsened_state_and_covers_the_tile_that_was_drawn(name):
    grid = {"closed": GRIDS["closed"], "coarse channel": broken_by_land(21, 40, periodic_i=True)}[name]
    generator = make_generator(grid, scales=[1, 2], batch=1)
    states = make_states(generator, RECORDS)
    store = at_scales(generator, states, 2)
    loader = WindowLoader(store, generator, 0, 1)
    coarse = coarse_generator(generator, store.grids[2])
    windows = filled(coarse, coarse.lattice, store.states[2])
    seen = Counter()
    for n in range(loader.windows):
        drawn, (batch,) = loader.sample(n), loader.draw(n)
        seen[drawn.scale] += 1
        if drawn.scale == 1:
            assert batch.conditions["conditions"][0, -1] == 0 and (batch.conditions["cells"] >= 0).any()
            continue
        assert torch.allclose(batch.x0[0], windows[drawn.record, drawn.window], rtol=0, atol=1e-6)
        assert batch.wet_count == float(batch.wet[..., 2:-2, 2:-2].sum())
        assert (batch.conditions["cells"] == -1).all(), "learned features belong to the finest grid"
        assert batch.conditions["conditions"][0, -1] == np.float32(1 / 3)
        tile = int(loader._order(7, 0, loader.windows)[n]) % generator.lattice.count
        assert (coarse.lattice.tiles[drawn.window] == generator.lattice.tiles[tile] // 2).all()
    assert min(seen[1], seen[2]) > 0.2 * loader.windows


def coarse_generator(generator: Generator, grid: Grid) -> Generator:
    """The same on the coarsened grid, with the coarsened reference."""
    reference = Coarsening.build(generator.grid, 2, generator.channels).apply(generator.standardisation.reference)
    mask = torch.as_tensor(generator.channels.mask(grid))
    standardisation = replace(generator.standardisation, reference=reference, mask=mask)
    return replace(
        generator, grid=grid, standardisation=standardisation, lattice=Lattice.from_grid(grid, (8, 8), 2)
    )


def turned(x: Tensor, number: int) -> Tensor:
    """Flips along i (1), along j (2), then transposes (4) a field at T points."""
    x = x.flip(-1) if number & 1 else x
    x = x.flip(-2) if number & 2 else x
    return x.transpose(-2, -1) if number & 4 else x


@pytest.mark.parametrize("windows", ["lattice", "free"])
def test_divergence_of_a_turned_window_is_the_turned_divergence(grid, windows):
    generator = make_generator(grid, windows=windows, symmetries="all", batch=1)
    loader = WindowLoader(FakeStore.of(generator, make_states(generator, RECORDS)), generator, 0, 1)
    names = [channel.variable.name for channel in generator.channels.channels]
    u, v, t = (names.index(name) for name in ("velocity_u", "velocity_v", "temperature"))
    scale, cutter = generator.standardisation.scale[:, None, None], loader._scales[1].cutter
    seen = set()
    for n in range(40):
        (batch,), drawn = loader.draw(n), loader.sample(n)
        origin = loader._scales[1].windows.origin(drawn.window)
        read = partial(loader._cache.chunk, 1, drawn.record)
        plain = torch.from_numpy(cutter.states(origin, read, margin=1)) * scale
        divergence = (plain[u].diff(dim=1)[1:] + plain[v].diff(dim=0)[:, 1:])[:-1, :-1]
        x = batch.x0[0] * scale
        found = x[u].diff(dim=1)[1:] + x[v].diff(dim=0)[:, 1:]
        assert torch.allclose(found, turned(divergence, drawn.symmetry)[1:, 1:], atol=1e-5)
        assert torch.equal(batch.x0[0, t], turned(plain[t] / scale[t], drawn.symmetry)[1:-1, 1:-1].float())
        cells = torch.from_numpy(cutter.index(origin))
        assert torch.equal(batch.conditions["cells"][0], turned(cells, drawn.symmetry))
        assert batch.wet_count == float(batch.wet[..., 2:-2, 2:-2].sum()), "faces come from the neighbours"
        assert (batch.x0[~batch.wet] == 0).all()
        attitude = [drawn.symmetry & bit > 0 for bit in (1, 2, 4)]
        assert batch.conditions["conditions"][0, -3:].tolist() == attitude
        seen.add(drawn.symmetry)
    assert seen == set(range(8))


def test_masks_among_the_conditions_turn_with_the_state():
    generator = make_generator(GRIDS["channel"], windows="free", symmetries="all", batch=20)
    (batch,) = WindowLoader(FakeStore.of(generator, make_states(generator, 1)), generator, 0, 1).draw(0)
    names = np.array([channel.variable.name for channel in generator.channels.channels])
    for place, name in enumerate(("temperature", "velocity_u", "velocity_v")):
        sea = batch.wet[:, names == name].any(dim=1)
        assert torch.equal(batch.conditions["static"][:, place] > 0, sea), name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scales": [1, 2]}, r"has scales \[1\], but training\.scales names \[2\]"),
        ({"windows": "free", "least_wet": 1.0}, "owns 1 of wet cells, at most 0.97: lower training.least_wet"),
    ],
)
def test_loader_refuses_what_the_store_cannot_give(change, sentence):
    grid = box_grid(2, 10, 10, wet=np.arange(100).reshape(10, 10) % 33 != 0)
    with pytest.raises(ValueError, match=sentence):
        make_loader(grid, **change)
