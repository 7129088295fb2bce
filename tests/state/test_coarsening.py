"""Coarse states: what is conserved, against the operators of the physics and sums over blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.grid import Grid, box_grid
from halocline.physics.operators import divergence
from halocline.state.coarsening import Coarsening
from halocline.state.state import Channels

NK = 3
NAMES = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level", "ice_u", "ice_v")
SHAPES = {  # rows, columns, edges
    "odd": (13, 19, {}),
    "channel": (11, 16, {"periodic_i": True}),
    "torus": (8, 24, {"periodic_i": True, "periodic_j": True}),
    "folded": (16, 32, {"periodic_i": True, "fold": "F"}),
}


def shown(grid: Grid, x: np.ndarray, point: str, sign: int = 1) -> np.ndarray:
    """Gives repeated values of a folded row those that they repeat."""
    cells, crossed = grid.edges.canonical(point, np.arange(grid.nj)[:, None], np.arange(grid.ni))
    return x.reshape(*x.shape[:-2], -1)[..., cells] * np.where(crossed, sign, 1)


def rough(name: str, seed: int = 1) -> Grid:
    """Broken by land, all cells different."""
    nj, ni, edges = SHAPES[name]
    rng = np.random.default_rng(seed)
    grid = box_grid(NK, nj, ni, levels=rng.integers(0, NK + 1, (nj, ni)), **edges)
    fields = [f"{e}{p}" for e in ("e1", "e2", "e3") for p in "tuv"]
    sizes = {n: getattr(grid, n) * rng.uniform(0.5, 1.5, getattr(grid, n).shape) for n in fields}
    return replace(grid, **{n: shown(grid, x, n[-1].upper()) for n, x in sizes.items()})


def make_state(grid: Grid, channels: Channels, seed: int = 2) -> torch.Tensor:
    """Two random states, NaN on land."""
    x = np.random.default_rng(seed).standard_normal((2, channels.count, grid.nj, grid.ni)) + 3
    for n, (point, sign) in enumerate(zip(channels.points, channels.signs, strict=True)):
        x[:, n] = shown(grid, x[:, n], point, sign)
    return torch.as_tensor(np.where(channels.mask(grid), x, np.nan))


def fields(channels: Channels, state: torch.Tensor) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in channels.split(state.nan_to_num()).items()}


@pytest.fixture(params=SHAPES)
def grid(request) -> Grid:
    return rough(request.param)


@pytest.fixture
def channels(grid) -> Channels:
    return Channels.build(NAMES, grid)


@pytest.mark.parametrize("f", [2, 4, 8])
def test_heat_salt_and_sea_level_are_conserved_in_each_block(grid, channels, f):
    state, coarse = make_state(grid, channels), coarsen_grid(grid, f)
    fine, found = fields(channels, state), fields(channels, Coarsening.build(grid, f, channels).apply(state))

    def of_blocks(x: np.ndarray) -> np.ndarray:
        x = np.add.reduceat(x, np.arange(0, grid.nj, f), axis=-2)
        return np.add.reduceat(x, np.arange(0, grid.ni, f), axis=-1)

    for name in ("temperature", "salinity"):
        expected = of_blocks(fine[name] * grid.cell_volume)
        np.testing.assert_allclose(found[name] * coarse.cell_volume, expected, rtol=1e-12, err_msg=name)
    areas = [g.e1t * g.e2t * g.tmask[:1] for g in (grid, coarse)]
    np.testing.assert_allclose(found["sea_level"] * areas[1], of_blocks(fine["sea_level"] * areas[0]), rtol=1e-12)


@pytest.mark.parametrize("f", [2, 4, 8])
def test_transports_through_coarse_faces_are_sums_of_fine_ones(grid, channels, f):
    state, coarse = make_state(grid, channels), coarsen_grid(grid, f)
    fine, found = fields(channels, state), fields(channels, Coarsening.build(grid, f, channels).apply(state))
    east, north = (np.minimum(np.arange(f - 1, n + f - 1, f), n - 1) for n in (grid.ni, grid.nj))
    rows, columns = np.arange(0, grid.nj, f), np.arange(0, grid.ni, f)
    for u, v, thick in [("velocity_u", "velocity_v", True), ("ice_u", "ice_v", False)]:
        wide = [(g.e2u * (g.e3u if thick else 1), g.e1v * (g.e3v if thick else 1)) for g in (grid, coarse)]
        expected = np.add.reduceat((fine[u] * wide[0][0])[..., east], rows, axis=-2)
        np.testing.assert_allclose(found[u] * wide[1][0], expected, rtol=1e-11, atol=1e-9)
        expected = np.add.reduceat((fine[v] * wide[0][1])[..., north, :], columns, axis=-1)
        np.testing.assert_allclose(found[v] * wide[1][1], expected, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("f", [2, 4, 8])
def test_coarse_divergence_is_the_volume_mean_of_the_fine_one(grid, channels, f):
    """Across cyclic edges and the fold too, by an operator that knows nothing of blocks."""
    state, coarse = make_state(grid, channels), coarsen_grid(grid, f)
    fine, found = fields(channels, state), fields(channels, Coarsening.build(grid, f, channels).apply(state))
    outflow = divergence(fine["velocity_u"], fine["velocity_v"], grid).numpy() * grid.cell_volume
    blocks = np.add.reduceat(outflow, np.arange(0, grid.nj, f), axis=-2)
    blocks = np.add.reduceat(blocks, np.arange(0, grid.ni, f), axis=-1)
    mean = np.divide(blocks, coarse.cell_volume, out=np.zeros_like(blocks), where=coarse.tmask)
    result = divergence(found["velocity_u"], found["velocity_v"], coarse).numpy()
    np.testing.assert_allclose(result, mean, rtol=0, atol=1e-13 * np.abs(mean).max())


@pytest.mark.parametrize("f", [2, 8])
def test_constant_stays_constant_in_the_sea_and_land_is_zero(grid, channels, f):
    coarse = coarsen_grid(grid, f)
    mask = torch.as_tensor(channels.mask(coarse))
    x = torch.where(torch.as_tensor(channels.mask(grid)), 5.0, torch.nan).double()
    found = Coarsening.build(grid, f, channels).apply(x)
    assert (~mask).any() and (found[~mask] == 0).all()
    np.testing.assert_allclose(found[mask], 5.0, rtol=1e-14)


@pytest.mark.parametrize("twice", [(2, 2), (2, 4), (4, 2)])
def test_coarsening_twice_is_coarsening_by_the_product(grid, channels, twice):
    state, (first, second) = make_state(grid, channels), twice
    between = Coarsening.build(grid, first, channels).apply(state)
    again = Coarsening.build(coarsen_grid(grid, first), second, channels).apply(between)
    once = Coarsening.build(grid, first * second, channels).apply(state)
    np.testing.assert_allclose(again, once, rtol=1e-11, atol=1e-12)


def test_flow_through_an_open_edge_of_an_odd_grid_is_kept():
    grid = box_grid(1, 5, 7)
    grid = replace(grid, umask=np.ones_like(grid.umask), vmask=np.ones_like(grid.vmask))
    channels = Channels.build(("velocity_u", "velocity_v"), grid)
    u, v = np.random.default_rng(3).standard_normal((2, 5, 7))
    found = Coarsening.build(grid, 4, channels).apply(np.stack([u, v]))
    np.testing.assert_allclose(found[0, :, -1], [u[:4, -1].mean(), u[4, -1]])
    np.testing.assert_allclose(found[1, -1], [v[-1, :4].mean(), v[-1, 4:].mean()])


def test_channel_whose_faces_lie_inside_blocks_stays_in_its_place_and_is_zero():
    levels = np.ones((4, 4), int)
    levels[:2, 0] = levels[0, 1] = 2  # level 1: an open U and an open V face, both in the first block
    grid = box_grid(2, 4, 4, levels=levels)
    channels = Channels.build(("velocity_u", "velocity_v", "temperature"), grid)
    found = channels.split(Coarsening.build(grid, 2, channels).apply(torch.ones(channels.count, 4, 4)))
    coarse = coarsen_grid(grid, 2)
    assert not coarse.umask[1].any() and not found["velocity_u"][1].any() and not found["velocity_v"][1].any()
    assert found["velocity_u"][0].any() and coarse.tmask[1].sum() == found["temperature"][1].sum() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_stays_and_each_state_has_the_same_bits_in_any_company(dtype):
    grid = rough("odd")
    channels = Channels.build(NAMES, grid)
    coarsening, x = Coarsening.build(grid, 4, channels), make_state(grid, channels).to(dtype)
    found = coarsening.apply(x[None])
    assert found.dtype == dtype and found.shape == (1, 2, channels.count, 4, 5)
    assert torch.equal(found[0, 1], coarsening.apply(x[1]))
    assert torch.equal(found, coarsening.apply(x.numpy())[None])


def test_mean_of_coarse_states_is_the_coarse_mean():
    grid = rough("channel")
    channels = Channels.build(NAMES, grid)
    coarsening, x = Coarsening.build(grid, 2, channels), make_state(grid, channels)
    np.testing.assert_allclose(coarsening.apply(x).mean(dim=0), coarsening.apply(x.mean(dim=0)), rtol=1e-13)


def test_states_of_another_grid_are_refused():
    grid = rough("odd")
    channels = Channels.build(("temperature",), grid)
    with pytest.raises(ValueError, match=r"has shape \(3, 13, 18\), expected \(..., 3, 13, 19\)"):
        Coarsening.build(grid, 2, channels).apply(torch.zeros(3, 13, 18))
