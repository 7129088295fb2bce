"""Contents, means and boxes against plain sums over the whole grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from setting import broken_grid, cut, split

from halocline.constants import RCP, RHO0
from halocline.mesh.grid import box_grid
from halocline.physics.integrals import global_mean, level_mean, level_std
from halocline.physics.water import (
    BOTTOM,
    DEEP,
    Box,
    drift,
    heat_content,
    salt_content,
    select_box,
)


@pytest.fixture
def ocean():
    grid = broken_grid()
    grid = replace(grid, e2t=grid.e2t * np.linspace(0.5, 2.0, grid.nj)[:, None])
    x = np.random.default_rng(8).normal(12.0, 4.0, (3, *grid.shape)) * grid.tmask
    return grid, x, *split(grid)


def test_level_mean_and_std_weight_by_volume(ocean):
    grid, x, geometry, layout = ocean
    weight = grid.cell_volume / grid.cell_volume.sum((1, 2), keepdims=True)
    mean = (x * weight).sum((2, 3))
    std = np.sqrt(((x - mean[:, :, None, None]) ** 2 * weight).sum((2, 3)))
    field = cut(x, layout)
    np.testing.assert_allclose(level_mean(field, geometry.volume_t, layout), mean, rtol=1e-13)
    np.testing.assert_allclose(level_std(field, geometry.volume_t, layout), std, rtol=1e-12)


def test_levels_without_water_have_no_mean():
    grid = box_grid(3, 4, 5, levels=np.full((4, 5), 2))
    geometry, layout = split(grid)
    x = cut(np.full((1, *grid.shape), 7.0), layout)
    for result in (
        level_mean(x, geometry.volume_t, layout),
        level_std(x, geometry.volume_t, layout),
    ):
        assert torch.isnan(result[0]).tolist() == [False, False, True]


def test_heat_and_salt_content_are_integrals(ocean):
    grid, x, geometry, layout = ocean
    heat = RHO0 * RCP * (x * grid.cell_volume).sum((1, 2, 3))
    salt = RHO0 * 1e-3 * (x * grid.cell_volume).sum((1, 2, 3))
    np.testing.assert_allclose(heat_content(cut(x, layout), geometry.volume_t, layout), heat, rtol=1e-13)
    np.testing.assert_allclose(salt_content(cut(x, layout), geometry.volume_t, layout), salt, rtol=1e-13)


@pytest.mark.parametrize("fold", ["T", "F"])
def test_repeated_cells_of_a_fold_count_once(fold):
    grid = box_grid(2, 5, 8, periodic_i=True, fold=fold)
    geometry, layout = split(grid, (2, 4))
    cells = sum(len({tuple(c) for c in np.argwhere(layout.lattice.canonical_mask(point))}) for point in "TUV")
    ones = [geometry.volume_t, geometry.volume_u, geometry.volume_v]
    masks = [geometry.tmask, geometry.umask, geometry.vmask]
    counted = sum(int((volume[:, 0] > 0).sum()) for volume in ones)
    assert counted == cells
    assert counted < sum(int(mask[:, 0].sum()) for mask in masks), "the fold must repeat cells"


def test_positions_outside_the_grid_have_no_volume(ocean):
    grid, _, geometry, _ = ocean
    assert geometry.volume_t.sum().item() == pytest.approx(grid.cell_volume.sum(), rel=1e-13)
    assert geometry.tmask.shape[2:] == (3, 4)


def basin(latitude: float, thickness: float = 400.0):
    """Six levels of equal thickness, 9 rows of 2 degrees or so."""
    return box_grid(6, 9, 4, latitude=latitude, e2=2.2e5, thickness=np.full(6, thickness))


def depths(box: Box, grid) -> tuple[np.ndarray, np.ndarray]:
    """Depths of the chosen cells in the southernmost and northernmost column."""
    geometry, layout = split(grid, (9, 4))
    chosen = select_box(box, geometry, layout)[0].numpy()
    return grid.gdept[chosen[:, 0, 0], 0, 0], grid.gdept[chosen[:, -1, 0], 0, 0]


def test_boxes_follow_latitude_and_depth():
    grid = basin(30.0)  # rows from 22 to 38 N; T points at 200, 600, 1000, 1400, 1800, 2200 m
    south, north = depths(DEEP, grid)
    assert south.tolist() == [600.0, 1000.0, 1400.0] and north.tolist() == []
    south, north = depths(BOTTOM, grid)
    assert south.tolist() == [1800.0, 2200.0]
    assert north.tolist() == [200.0, 600.0, 1000.0, 1400.0, 1800.0, 2200.0]


def test_boxes_hold_their_upper_limit_and_not_their_lower():
    south, _ = depths(Box(top=600.0, bottom=1400.0), basin(0.0))
    assert south.tolist() == [600.0, 1000.0]


def test_an_empty_box_drops_its_latitude():
    south, north = depths(DEEP, basin(60.0))
    assert south.tolist() == north.tolist() == [600.0, 1000.0, 1400.0]


def test_a_basin_shallower_than_the_box_gives_its_lower_half():
    for box in (DEEP, BOTTOM):
        south, _ = depths(box, basin(10.0, thickness=50.0))  # T points 25 ... 275 m
        assert south.tolist() == [175.0, 225.0, 275.0]


def test_box_mean_weights_by_volume(ocean):
    grid, x, geometry, layout = ocean
    box = Box(top=15.0)
    chosen = grid.tmask & (grid.gdept >= 15.0)
    volume = grid.cell_volume * chosen
    expected = (x * volume).sum((1, 2, 3)) / volume.sum()
    cells = select_box(box, geometry, layout)
    mean = global_mean(cut(x, layout), geometry.volume_t * cells, layout)
    np.testing.assert_allclose(mean, expected, rtol=1e-13)


def test_a_box_upside_down_is_refused():
    with pytest.raises(ValueError, match=r"top < bottom, got 1500\.0 and 500\.0 m"):
        Box(top=1500.0, bottom=500.0)


def test_drift_is_change_per_year():
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])
    assert drift(first, second, 4.0).tolist() == [0.25, -0.5]
    with pytest.raises(ValueError, match="positive time between two states, got 0"):
        drift(first, second, 0)
