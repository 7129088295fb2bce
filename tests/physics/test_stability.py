"""Unstable fraction and density profiles of columns that can be counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from setting import LINEAR, broken_grid, cut, split

from halocline.mesh.grid import box_grid
from halocline.physics.seawater import EOS80
from halocline.physics.stability import (
    STEP_THRESHOLD,
    density_step,
    potential_density_profile,
    stratification_profile,
    unstable_fraction,
)


def fraction(grid, T, eos=LINEAR, threshold=STEP_THRESHOLD, S=None) -> np.ndarray:
    geometry, layout = split(grid)
    T = np.broadcast_to(T, (1, *grid.shape))
    S = cut(np.full(T.shape, 35.0) if S is None else S, layout)
    step = density_step(cut(T, layout), S, geometry.gdepw, eos)
    return unstable_fraction(step, geometry, layout, threshold).numpy()


def stable(grid) -> np.ndarray:
    """Temperature that falls with depth; what stands on land would be unstable if looked at."""
    T = 20.0 - np.arange(grid.nk)[:, None, None] + np.zeros(grid.shape)
    return np.where(grid.tmask, T, 99.0)


def test_stable_columns_have_fraction_zero():
    grid = broken_grid()
    assert fraction(grid, stable(grid), threshold=0.0) == 0.0


def test_mixed_columns_are_not_unstable():
    grid = broken_grid()
    assert fraction(grid, np.full(grid.shape, 7.0), threshold=0.0) == 0.0


@pytest.mark.parametrize("k", [1, 2, 4])
def test_one_inverted_pair_counts_the_volume_of_its_lower_cell(k):
    grid = broken_grid()
    j, i = np.argwhere(grid.tmask[4])[0]
    T = stable(grid)
    T[:, j, i] = 10.0
    T[k:, j, i] = 11.0  # lighter from level k downwards: one inverted pair (k - 1, k)
    volume = grid.cell_volume
    expected = volume[k, j, i] / volume.sum()
    assert fraction(grid, T) == pytest.approx(expected, rel=1e-14)


def test_wholly_inverted_ocean_counts_all_but_the_top_level():
    grid = broken_grid()
    volume = grid.cell_volume
    expected = volume[1:].sum() / volume.sum()
    assert fraction(grid, np.arange(5.0)[:, None, None]) == pytest.approx(expected, rel=1e-14)


def test_land_is_no_neighbour():
    # A wet cell below land (an ice-shelf cavity) and a wet cell above the floor: no pair at all.
    grid = box_grid(3, 4, 5)
    tmask = grid.tmask.copy()
    tmask[1] = False
    grid = replace(grid, tmask=tmask, umask=tmask, vmask=tmask, fmask=tmask)
    T = np.array([5.0, 0.0, 30.0])[:, None, None]  # the lower water is lighter, but not a neighbour
    assert fraction(grid, T) == 0.0


def test_threshold_is_the_largest_stable_step():
    grid = broken_grid()
    T = np.zeros(grid.shape)
    T[1:] = 0.5e-3 / 0.2  # one step of 5e-4 kg/m3 between the two upper levels of every column
    has_pair = grid.tmask[1]
    expected = (grid.cell_volume[1] * has_pair).sum() / grid.cell_volume.sum()
    assert fraction(grid, T, threshold=0.0) == pytest.approx(expected, rel=1e-14)
    assert fraction(grid, T, threshold=4.9e-4) == pytest.approx(expected, rel=1e-14)
    assert fraction(grid, T, threshold=5.1e-4) == 0.0


def test_waters_are_compared_at_the_depth_of_their_interface():
    # Cold water is more compressible: over warm salty water that is denser at the surface, it is
    # itself the denser one at 2000 m.
    grid = box_grid(2, 2, 3, thickness=np.array([2000.0, 2000.0]))
    S = np.array([34.30, 34.80])[:, None, None] + np.zeros(grid.shape)
    T = np.array([-1.0, 4.0])[:, None, None]
    step = EOS80.density(-1.0, 34.30, 2000.0) - EOS80.density(4.0, 34.80, 2000.0)
    at_surface = EOS80.density(-1.0, 34.30, 0.0) - EOS80.density(4.0, 34.80, 0.0)
    assert step * at_surface < 0.0, "the example must tell the depths apart"
    geometry, layout = split(grid, (2, 3))
    T, S = cut(np.broadcast_to(T, (1, *grid.shape)), layout), cut(S[None], layout)
    result = density_step(T, S, geometry.gdepw, EOS80)
    torch.testing.assert_close(result, step.expand_as(result), rtol=1e-12, atol=0)


def test_profile_weights_by_volume_and_skips_land():
    grid = broken_grid()
    grid = replace(grid, e1t=grid.e1t * np.linspace(0.5, 2.0, grid.ni))
    geometry, layout = split(grid)
    T = np.random.default_rng(0).normal(10.0, 3.0, (2, *grid.shape))
    T[:, ~grid.tmask] = 99.0
    S = np.full_like(T, 35.0)
    profile = potential_density_profile(cut(T, layout), cut(S, layout), geometry, layout, LINEAR)
    density = 1026.0 - 0.2 * (T - 10.0)
    expected = (density * grid.cell_volume).sum((2, 3)) / grid.cell_volume.sum((1, 2))
    np.testing.assert_allclose(profile, expected, rtol=1e-13)


def test_stratification_is_positive_where_stable_and_missing_where_dry():
    grid = box_grid(4, 4, 5, levels=np.minimum(3, np.arange(20).reshape(4, 5)))
    geometry, layout = split(grid)
    T = cut(np.broadcast_to(20.0 - 0.01 * grid.gdept, (1, *grid.shape)), layout)
    step = density_step(T, torch.full_like(T, 35.0), geometry.gdepw, LINEAR)
    profile = stratification_profile(step, geometry, layout)[0].numpy()
    # d rho / dz = 0.2 kg/m3/K * 0.01 K/m, at the two interfaces that have wet pairs.
    np.testing.assert_allclose(profile[:2], 2.0e-3, rtol=1e-10)
    assert np.isnan(profile[2])


def test_profile_gradient_reaches_every_wet_cell_and_no_land():
    grid = broken_grid()
    geometry, layout = split(grid)
    T = cut(stable(grid)[None], layout).requires_grad_()
    S = torch.full_like(T, 35.0)
    profile = potential_density_profile(T, S, geometry, layout, LINEAR)
    (gradient,) = torch.autograd.grad(profile[0, 1], T)
    level = geometry.volume_t[:, 1]
    torch.testing.assert_close(gradient[0, :, 1], -0.2 * level / level.sum(), rtol=1e-12, atol=0)
    assert gradient[0, :, 0].abs().max() == 0.0
