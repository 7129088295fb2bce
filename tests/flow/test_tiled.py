"""Localised denoising: with a halo as wide as the network reaches, tiles give what the undivided grid gives."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from halocline.flow.conditions import CellConditions, position_features, season_features
from halocline.flow.denoiser import PreconditionedDenoiser
from halocline.flow.path import LinearPath
from halocline.flow.tiled import TiledDenoiser
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout

NJ, NI, CHANNELS, HALO, MEMBERS = 13, 19, 3, 2, 3


class Stencil(nn.Module):
    """Two 3 × 3 convolutions in float64: reaches two cells."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor, static: Tensor, conditions: Tensor, cells: Tensor) -> Tensor:
        wet = static[:, :1]  # land and what lies beyond the grid are alike, whether their tile was kept or dropped
        for layer in self.layers:
            x = torch.tanh(layer(x)) * wet
        return x * (1 + t[:, None, None, None] + conditions[:, :1, None, None])


def land_broken() -> Grid:
    wet = np.ones((NJ, NI), bool)
    wet[5:10, 5:10] = False  # one whole tile, dropped
    wet[2, 11:14] = False
    return box_grid(1, NJ, NI, wet=wet)


def tiled(grid: Grid, tile: tuple[int, int], halo: int, batch: int = 4) -> tuple[Layout, TiledDenoiser]:
    layout = Layout.build(Lattice.from_grid(grid, tile, halo), Serial())
    mask = torch.as_tensor(layout.cut(np.repeat(grid.wet[None], CHANNELS, 0))).float()
    denoiser = TiledDenoiser(
        denoiser=PreconditionedDenoiser(Stencil(), LinearPath()),
        halo=HaloPlan.build(layout, ["T"] * CHANNELS, [1] * CHANNELS),
        cell_conditions=CellConditions.build(grid, layout),
        conditions=torch.arange(MEMBERS).float()[:, None].expand(MEMBERS, 4),
        mask=mask,
        batch=batch,
        owned=slice(halo, -halo) if halo else slice(None),
    )
    return layout, denoiser


def evaluate(grid: Grid, tile: tuple[int, int], halo: int, batch: int = 4) -> np.ndarray:
    layout, denoiser = tiled(grid, tile, halo, batch)
    generator = torch.Generator().manual_seed(1)
    state = torch.randn(MEMBERS, CHANNELS, NJ, NI, generator=generator).numpy() * grid.wet
    x = torch.as_tensor(layout.cut(state)).transpose(0, 1).contiguous()
    return layout.collect(denoiser(x, 0.4).mean)


def test_tiles_equal_the_undivided_grid():
    grid = land_broken()
    whole = evaluate(grid, (NJ, NI), 0)
    # Float32 convolutions on windows of other shapes: a few units in the last place.
    np.testing.assert_allclose(evaluate(grid, (5, 5), HALO), whole, atol=2e-6)


def test_halo_narrower_than_the_reach_shows():
    grid = land_broken()
    whole = evaluate(grid, (NJ, NI), 0)
    assert np.abs(evaluate(grid, (5, 5), 1) - whole).max() > 1e-3


def test_batches_fill_up_with_copies_without_a_trace():
    # 11 tiles of 3 members in batches of 4: the last holds one real window.
    grid = land_broken()
    assert np.array_equal(evaluate(grid, (5, 5), HALO, batch=4), evaluate(grid, (5, 5), HALO, batch=4))
    np.testing.assert_allclose(
        evaluate(grid, (5, 5), HALO, batch=4), evaluate(grid, (5, 5), HALO, batch=7), atol=2e-6
    )


def test_mean_is_zero_on_land():
    grid = land_broken()
    mean = evaluate(grid, (5, 5), HALO)
    assert not mean[..., ~grid.wet].any() and mean[..., grid.wet].all()


def test_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="tile_batch is 1"):
        tiled(land_broken(), (5, 5), HALO, batch=1)


def test_season_has_no_seam_at_new_year():
    before, after = season_features(torch.tensor([0.999999, 0.0]))
    # 1e-6 of a year at the second harmonic: 1.3e-5.
    torch.testing.assert_close(before, after, atol=2e-5, rtol=0)
    assert not torch.allclose(*season_features(torch.tensor([0.25, 0.75])))


def test_positions_close_upon_themselves_only_where_the_grid_does():
    cyclic = position_features(16, periodic=True)
    step = np.abs(np.diff(cyclic, axis=1)).max()
    assert np.abs(cyclic[:, 0] - cyclic[:, -1]).max() <= step + 1e-12
    closed = position_features(16, periodic=False)
    assert np.abs(closed[:, 0] - closed[:, -1]).max() > 1.5


def test_conditions_are_zero_outside_the_grid():
    grid = land_broken()
    layout = Layout.build(Lattice.from_grid(grid, (5, 5), HALO), Serial())
    conditions = CellConditions.build(grid, layout)
    outside = conditions.cells < 0
    assert outside.any()
    assert not conditions.static.movedim(1, -1)[outside].any()
