"""C-grid operators against balances that are known exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halocline.constants import GRAVITY, RHO0
from halocline.mesh.grid import Grid, box_grid
from halocline.physics.operators import (
    EQUATORIAL_CUTOFF,
    Window,
    divergence,
    geostrophic_velocity,
    hydrostatic_pressure,
    pressure_gradient,
    vertical_integral,
)
from halocline.physics.seawater import EOS80, SimplifiedEOS

F0 = 1.0e-4
# Density linear in temperature alone: rho = rho0 - 0.2 (T - 10).
LINEAR = SimplifiedEOS(rn_a0=0.2, rn_b0=0.0, rn_lambda1=0.0, rn_lambda2=0.0, rn_mu1=0.0, rn_mu2=0.0, rn_nu=0.0)
NK, NJ, NI = 4, 7, 9


def broken_sea() -> np.ndarray:
    """Number of wet levels with an island, a sill and an isolated cell; (NJ, NI)."""
    levels = np.full((NJ, NI), NK)
    levels[0], levels[2:4, 3] = 0, 0
    levels[5, 6:8] = 2
    levels[1:3, 7] = 0
    levels[2, 8], levels[3, 8] = 3, 0
    return levels


def f_plane(**options) -> Grid:
    grid = box_grid(NK, NJ, NI, levels=broken_sea(), **options)
    return replace(grid, ff_t=np.full((NJ, NI), F0), ff_f=np.full((NJ, NI), F0))


def plane(grid: Grid, along_i: float, along_j: float) -> np.ndarray:
    """A field that grows linearly along i and j, per metre."""
    j, i = np.mgrid[: grid.nj, : grid.ni]
    return along_i * i * grid.e1t + along_j * j * grid.e2t


@pytest.mark.parametrize("shape", [(1.0e-6, -3.0e-6, 0.0, 0.0), (0.0, 0.0, 2e-6, 5e-6), (1, 2, 3, 4)])
def test_geostrophic_velocity_of_linear_fields_is_exact(shape):
    eta_x, eta_y, T_x, T_y = (1.0e-6 * x if isinstance(x, int) else x for x in shape)
    grid = f_plane(e1=9.0e4, e2=6.0e4)
    f = F0 * (1.0 + np.random.default_rng(0).random((NJ, NI)))
    grid = replace(grid, ff_t=f)
    T = 12.0 + plane(grid, T_x, T_y) + np.zeros((NK, 1, 1))
    T = np.where(grid.tmask, T, np.nan)  # whatever stands on land must not matter
    eta = np.where(grid.wet, plane(grid, eta_x, eta_y), np.nan)
    u, v = geostrophic_velocity(T, np.full_like(T, 35.0), eta, grid, LINEAR)
    # p_x / rho0 = g eta_x + g z rho_x / rho0, with the trapezoids exact for a uniform rho_x.
    p_x = GRAVITY * (eta_x - grid.gdept * 0.2 * T_x / RHO0)
    p_y = GRAVITY * (eta_y - grid.gdept * 0.2 * T_y / RHO0)
    # A face whose four neighbours across are all closed has no gradient to use.
    around_u = neighbours(grid.vmask, [(0, 0), (0, 1), (-1, 0), (-1, 1)])
    around_v = neighbours(grid.umask, [(0, 0), (1, 0), (0, -1), (1, -1)])
    assert (grid.umask & ~around_u).any(), "the sea must contain such a face"
    f_u = 0.5 * (f + np.roll(f, -1, 1))  # wraps on closed faces only
    f_v = 0.5 * (f + np.roll(f, -1, 0))
    tolerance = {"rtol": 1e-9, "atol": 1e-12}  # rounding of sums of 1e5 Pa over 1e5 m
    np.testing.assert_allclose(u, np.where(grid.umask & around_u, -p_y / f_u, 0.0), **tolerance)
    np.testing.assert_allclose(v, np.where(grid.vmask & around_v, p_x / f_v, 0.0), **tolerance)


def neighbours(mask: np.ndarray, offsets: list[tuple[int, int]]) -> np.ndarray:
    """Whether any of the given neighbours is wet, nothing beyond the edges."""
    wide = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    nj, ni = mask.shape[-2:]
    return np.any([wide[:, 1 + j : nj + 1 + j, 1 + i : ni + 1 + i] for j, i in offsets], axis=0)


def test_geostrophic_velocity_crosses_the_seam_of_a_cyclic_grid():
    grid = box_grid(NK, NJ, NI, periodic_i=True)
    rng = np.random.default_rng(4)
    T, eta = rng.normal(10.0, 2.0, grid.shape), rng.normal(0.0, 0.1, (NJ, NI))
    S = np.full_like(T, 35.0)
    for turn in (1, 4):
        there = geostrophic_velocity(np.roll(T, turn, -1), S, np.roll(eta, turn, -1), grid, EOS80)
        here = geostrophic_velocity(T, S, eta, grid, EOS80)
        for a, b in zip(there, here, strict=True):
            torch.testing.assert_close(a, b.roll(turn, -1), rtol=0, atol=0)


def test_geostrophic_velocity_across_the_fold_equals_the_unfolded_sphere():
    # F pivot: the rows beyond the last are the same rows turned by 180 degrees. A cyclic grid of
    # twice the rows, the upper half turned, has no fold and must give the same velocity.
    rng = np.random.default_rng(6)
    ni = 8
    levels = rng.integers(0, NK + 1, (NJ, ni))
    folded = box_grid(NK, NJ, ni, levels=levels, periodic_i=True, fold="F")
    both = np.concatenate([levels, levels[::-1, ::-1]])
    whole = box_grid(NK, 2 * NJ, ni, levels=both, periodic_i=True)
    whole = replace(whole, ff_t=np.concatenate([folded.ff_t, folded.ff_t[::-1, ::-1]]))
    T, eta = rng.normal(10.0, 2.0, folded.shape), rng.normal(0.0, 0.1, (NJ, ni))

    def double(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, x[..., ::-1, ::-1]], axis=-2)

    S = np.full_like(T, 35.0)
    ours = geostrophic_velocity(T, S, eta, folded, EOS80)
    reference = geostrophic_velocity(double(T), double(S), double(eta), whole, EOS80)
    for a, b in zip(ours, reference, strict=True):
        assert a[..., -1, :].abs().max() > 0.0
        torch.testing.assert_close(a, b[..., :NJ, :], rtol=0, atol=0)


def test_geostrophic_velocity_fades_to_zero_at_the_equator():
    grid = box_grid(2, 13, 5, latitude=0.0, e2=1.0e5)  # rows at most 5.4 degrees away
    eta = plane(grid, 0.0, 1.0e-6)
    T = np.full(grid.shape, 10.0)
    u, _ = geostrophic_velocity(T, np.full_like(T, 35.0), eta, grid, LINEAR)
    u, f = u[0, :, 2].numpy(), grid.ff_t[:, 2]
    far = np.abs(f) >= EQUATORIAL_CUTOFF
    assert far.any() and not far.all()
    gradient = GRAVITY * 1.0e-6
    np.testing.assert_allclose(u[far], -gradient / f[far], rtol=1e-9)
    # Linear in f within 3 degrees: continuous at the limit, zero at the equator, never larger.
    np.testing.assert_allclose(u[~far], -gradient * f[~far] / EQUATORIAL_CUTOFF**2, rtol=1e-9, atol=1e-15)


def test_hydrostatic_pressure_of_uniform_water_grows_with_depth():
    grid = f_plane()
    eta = plane(grid, 1e-6, 2e-6)
    pressure = hydrostatic_pressure(np.full(grid.shape, RHO0 + 2.0), eta, grid)
    expected = GRAVITY * (RHO0 * eta + 2.0 * grid.gdept)
    wet = grid.tmask
    np.testing.assert_allclose(pressure.numpy()[wet], expected[wet], rtol=1e-13)


def test_sloping_levels_make_no_pressure_gradient_at_rest():
    # Bottom cells of different thickness, density linear in depth: water at rest.
    grid = box_grid(3, 4, 5)
    gdept, e3w = grid.gdept.copy(), grid.e3w.copy()
    gdept[2] += np.random.default_rng(1).uniform(-3.0, 3.0, (4, 5))
    e3w[2] = gdept[2] - gdept[1]
    grid = replace(grid, gdept=gdept, e3w=e3w)
    density = RHO0 + 0.01 * gdept
    pressure = hydrostatic_pressure(density, np.zeros((4, 5)), grid)
    for gradient in pressure_gradient(pressure, density, grid):
        # Rounding of 50 Pa over 1e5 m; without the correction it is 1e-5 Pa/m.
        assert gradient.abs().max() < 1e-17 * 1e2


def test_divergence_of_a_streamfunction_vanishes_on_a_broken_grid():
    grid = f_plane(e1=9.0e4, e2=6.0e4)
    psi = np.random.default_rng(2).normal(size=grid.shape) * grid.fmask
    wide = np.pad(psi, ((0, 0), (1, 0), (1, 0)))
    south, west = wide[:, :-1, 1:], wide[:, 1:, :-1]
    # Along open faces only; on closed ones psi is the same on both sides.
    u = -(psi - south) / (grid.e2u * grid.e3u)
    v = (psi - west) / (grid.e1v * grid.e3v)
    result = divergence(u, v, grid)
    closed_flow = np.abs(u[~grid.umask]).max(initial=0.0) + np.abs(v[~grid.vmask]).max(initial=0.0)
    assert closed_flow == 0.0
    assert result.abs().max() < 1e-15 * np.abs(u).max()  # rounding over 1e5 m


def test_divergence_of_repeated_cells_of_the_fold_agrees():
    rng = np.random.default_rng(7)
    grid = box_grid(2, 5, 8, levels=rng.integers(0, 3, (5, 8)), periodic_i=True, fold="T")
    ring = Window.build(grid)
    u, v = (ring.widen(rng.normal(size=grid.shape), point, -1)[:, 1:-1, 1:-1] for point in "UV")
    result = divergence(u, v, grid)
    assert result[:, -1].abs().max() > 0.0
    # The same flux differences in another order of subtraction: rounding of 1e-5 1/s.
    torch.testing.assert_close(result, ring.widen(result, "T")[:, 1:-1, 1:-1], rtol=0, atol=1e-19)


def test_divergence_of_linear_flow_is_its_slope():
    grid = box_grid(2, 5, 6, e1=2.0e4, e2=3.0e4)
    u = 1.0e-6 * (np.arange(6) + 0.5) * 2.0e4 + np.zeros((2, 5, 1))
    v = -4.0e-6 * (np.arange(5)[:, None] + 0.5) * 3.0e4 + np.zeros((2, 5, 6))
    inner = divergence(u, v, grid)[:, 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, -3.0e-6), rtol=1e-12, atol=0)


def test_vertical_integral_stops_at_the_floor():
    grid = f_plane()
    x = np.where(grid.tmask, 2.0, np.nan)
    integral = vertical_integral(x, grid.e3t, grid.tmask)
    np.testing.assert_allclose(integral, 2.0 * grid.bathymetry, rtol=1e-15)


def test_window_flips_vectors_beyond_the_fold_and_closes_the_south():
    grid = box_grid(1, 4, 6, periodic_i=True, fold="F")
    x = torch.arange(1.0, 25.0, dtype=torch.float64).reshape(4, 6)
    ring = Window.build(grid)
    scalar, vector = ring.widen(x, "T"), ring.widen(x, "T", -1)
    torch.testing.assert_close(scalar[-1, 1:-1], x[-1].flip(0))
    torch.testing.assert_close(vector[-1, 1:-1], -x[-1].flip(0))
    assert (scalar[0] == 0.0).all()
    torch.testing.assert_close(scalar[1:-1, 0], x[:, -1])


def test_geostrophic_velocity_is_differentiable():
    grid = f_plane()
    T = torch.full(grid.shape, 10.0, dtype=torch.float64, requires_grad=True)
    u, v = geostrophic_velocity(T, torch.full(grid.shape, 35.0), np.zeros((NJ, NI)), grid, EOS80)
    (gradient,) = torch.autograd.grad((u + v).sum(), T)
    assert torch.isfinite(gradient).all() and gradient[torch.as_tensor(grid.tmask)].abs().max() > 0
    assert (gradient[~torch.as_tensor(grid.tmask)] == 0.0).all()


def test_geostrophic_velocity_follows_nemo_in_the_gyre(gyre_grid, states):
    state = states("nemo_gyre", slice(59, 60))
    balanced = geostrophic_velocity(state["temperature"], state["salinity"], state["sea_level"], gyre_grid, EOS80)
    # Below the wind-driven layer (100 m) and above 1000 m, where currents are strong enough to be
    # stored to 1 %, two cells away from the walls with their friction.
    k = (gyre_grid.gdept_1d > 100.0) & (gyre_grid.gdept_1d < 1000.0)
    for ours, name in zip(balanced, ("velocity_u", "velocity_v"), strict=True):
        a = ours[0].numpy()[k, 4:-4, 4:-4].ravel()
        b = state[name][0][k, 4:-4, 4:-4].ravel()
        correlation = np.corrcoef(a, b)[0, 1]
        slope = (a @ b) / (b @ b)
        print(f"{name}: correlation {correlation:.4f}, slope {slope:.3f}")
        assert correlation > 0.95 and abs(slope - 1.0) < 0.1
