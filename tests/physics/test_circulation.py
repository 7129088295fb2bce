"""Transports, streamfunctions and energy of flows that are known exactly."""

import numpy as np
import pytest
import torch
from setting import broken_grid, broken_levels, cut, split

from halocline.constants import SVERDRUP
from halocline.mesh.grid import box_grid
from halocline.physics.circulation import (
    barotropic_streamfunction,
    channel_transport,
    depth_transport,
    gyre_transport,
    kinetic_energy,
    largest_magnitude,
    overturning_streamfunction,
    sea_level_statistics,
)
from halocline.physics.free_surface import stretching
from halocline.physics.operators import divergence


def rest(geometry, layout):
    return stretching(None, geometry, layout, "linear")


def difference(psi: np.ndarray, axis: int, periodic: bool = False) -> np.ndarray:
    """psi minus its southern (axis -2) or western (axis -1) neighbour, zero beyond a wall."""
    if periodic:
        return psi - np.roll(psi, 1, axis)
    return np.diff(psi, axis=axis, prepend=0.0)


def gyre(grid) -> np.ndarray:
    """A streamfunction at F points in m3/s: zero on every wall, (nj, ni)."""
    inside = grid.fmask.all(0)
    return 3.0e6 * np.random.default_rng(5).uniform(-1.0, 1.0, inside.shape) * inside


def flow(grid, psi: np.ndarray, periodic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Velocity of a depth-independent flow with the given barotropic streamfunction."""
    depth_u = (grid.e3u * grid.umask).sum(0).clip(min=1.0)
    depth_v = (grid.e3v * grid.vmask).sum(0).clip(min=1.0)
    u = -difference(psi, -2) / (grid.e2u * depth_u)
    v = difference(psi, -1, periodic) / (grid.e1v * depth_v)
    return (u * grid.umask)[None], (v * grid.vmask)[None]


def flat_basin(**options):
    wet = np.ones((8, 11), dtype=bool)
    wet[4:6, 5:7] = False  # an island
    return box_grid(5, 8, 11, wet=wet, e1=8.0e4, e2=6.0e4, **options)


def test_streamfunction_of_a_gyre_is_recovered():
    grid = flat_basin()
    geometry, layout = split(grid)
    psi = gyre(grid)
    u, v = flow(grid, psi)
    assert divergence(u[0], v[0], grid).abs().max() < 1e-18, "the flow must be closed"
    transport = depth_transport(cut(u, layout), geometry, layout, rest(geometry, layout))
    result = barotropic_streamfunction(transport, geometry)[0].numpy()
    # Sums of 8 rows of 3 Sv, in double.
    np.testing.assert_allclose(result, psi / SVERDRUP, rtol=0, atol=1e-14)
    high, low = gyre_transport(torch.as_tensor(result)[None], geometry)
    assert high.item() == pytest.approx(psi.max() / SVERDRUP)
    assert low.item() == pytest.approx(psi.min() / SVERDRUP)


def test_channel_transport_is_the_flow_around_and_stays_out_of_the_gyres():
    # Rows 0 to 2 are a channel open all around, land on the last column further north.
    wet = np.ones((8, 11), dtype=bool)
    wet[3:, 10] = False
    grid = box_grid(3, 8, 11, wet=wet, periodic_i=True)
    geometry, layout = split(grid)
    psi = np.zeros((8, 11))
    psi[4:7, 2:8] = 5.0e6  # a gyre in the north
    u, _ = flow(grid, psi, periodic=True)
    section = (grid.e2u * (grid.e3u * grid.umask).sum(0))[1]
    u[0, :, 1] += 40.0e6 / section[None, :]  # 40 Sv around, in row 1
    transport = depth_transport(cut(u, layout), geometry, layout, rest(geometry, layout))
    assert channel_transport(transport).item() == pytest.approx(40.0, rel=1e-13)
    stream = barotropic_streamfunction(transport, geometry)
    # Zero on the northern wall, the channel's transport on its southern side (F row 0).
    np.testing.assert_allclose(stream[0, 0], 40.0, rtol=1e-13)
    high, low = gyre_transport(stream, geometry)
    assert high.item() == pytest.approx(5.0) and low.item() == pytest.approx(0.0, abs=1e-13)
    # The last row of the channel (row 2) belongs to it.
    stream[0, 2], stream[0, 3] = 9.0, -3.0
    assert [x.item() for x in gyre_transport(stream, geometry)] == pytest.approx([5.0, -3.0])


def test_streamfunction_of_a_folded_grid_starts_in_the_south():
    grid = box_grid(2, 5, 8, periodic_i=True, fold="F")
    geometry, layout = split(grid, (2, 4))
    u = np.full((1, *grid.shape), 0.1)
    transport = depth_transport(cut(u, layout), geometry, layout, rest(geometry, layout))
    psi = barotropic_streamfunction(transport, geometry)
    row = transport[0, 0, 0].item() / SVERDRUP
    np.testing.assert_allclose(psi[0, :, 0], -row * np.arange(1, 6), rtol=1e-13)


def test_overturning_of_an_analytic_cell_is_recovered():
    grid = broken_grid()
    geometry, layout = split(grid)
    sections = (grid.e1v * grid.e3v * grid.vmask).sum(-1)  # (k, j), m2
    psi = 1.0e6 * np.random.default_rng(3).normal(size=sections.shape)
    psi[-1] = 0.0
    psi = np.where(sections > 0.0, psi, 0.0)
    layers = np.diff(psi, axis=0, prepend=0.0)
    v = np.divide(layers, sections, out=np.zeros_like(layers), where=sections > 0.0)
    v = (v[:, :, None] * grid.vmask)[None]
    result = overturning_streamfunction(cut(v, layout), geometry, layout, rest(geometry, layout))
    expected = np.cumsum(np.where(sections > 0.0, layers, 0.0), axis=0) / SVERDRUP
    assert result.shape == (1, 5, 8)
    np.testing.assert_allclose(result[0], expected, rtol=0, atol=1e-14)


def test_overturning_counts_repeated_faces_of_the_fold_once():
    grid = box_grid(2, 5, 8, periodic_i=True, fold="T")
    geometry, layout = split(grid, (2, 4))
    v = cut(np.full((1, *grid.shape), 0.1), layout)
    result = overturning_streamfunction(v, geometry, layout, rest(geometry, layout))
    # With a T pivot the last row of V repeats the one below it.
    row = 0.1 * (grid.e1v * grid.e3v[0])[0].sum() / SVERDRUP
    np.testing.assert_allclose(result[0, 0], [row, row, row, row, 0.0], rtol=1e-13)


def test_kinetic_energy_of_a_constant_flow():
    # Cyclic, so that every U face is open: all of the volume moves.
    grid = box_grid(4, 7, 9, periodic_i=True, latitude=50.0)
    geometry, layout = split(grid)
    u = cut(np.full((1, *grid.shape), 0.3), layout)
    energy = kinetic_energy(u, 0.0 * u, geometry, layout, rest(geometry, layout))
    assert energy.item() == pytest.approx(0.5 * 0.3**2, rel=1e-13)
    # Stretching all water alike changes its mass, not its energy per mass.
    eta = cut(np.full((1, 1, 7, 9), 3.0), layout)
    stretch = stretching(eta, geometry, layout, "nonlinear")
    assert stretch.t.max() > 1.05
    energy = kinetic_energy(u, 0.0 * u, geometry, layout, stretch)
    assert energy.item() == pytest.approx(0.5 * 0.3**2, rel=1e-13)


def test_kinetic_energy_ignores_what_stands_on_closed_faces():
    grid = broken_grid()
    geometry, layout = split(grid)
    u = np.random.default_rng(2).normal(size=(1, *grid.shape))
    v = np.random.default_rng(3).normal(size=(1, *grid.shape))
    stretch = rest(geometry, layout)
    energy = kinetic_energy(cut(u, layout), cut(v, layout), geometry, layout, stretch)
    volume_u = grid.e1u * grid.e2u * grid.e3u * grid.umask
    volume_v = grid.e1v * grid.e2v * grid.e3v * grid.vmask
    expected = 0.5 * ((u**2 * volume_u).sum() + (v**2 * volume_v).sum()) / grid.cell_volume.sum()
    assert energy.item() == pytest.approx(expected, rel=1e-13)


def test_sea_level_statistics_weight_by_area_and_skip_land():
    grid = broken_grid()
    geometry, layout = split(grid)
    eta = np.where(grid.wet, np.random.default_rng(7).normal(size=(8, 11)), 0.0)
    eta = np.where(grid.wet, eta + 5.0, eta)  # all above the zero that stands on land
    result = sea_level_statistics(cut(eta[None, None], layout), geometry, layout)
    values, area = eta[grid.wet], (grid.e1t * grid.e2t)[grid.wet]
    assert result["sea_level_mean"].item() == pytest.approx(np.average(values, weights=area))
    rms = np.sqrt(np.average(values**2, weights=area))
    assert result["sea_level_rms"].item() == pytest.approx(rms)
    assert result["sea_level_min"].item() == values.min()
    assert result["sea_level_max"].item() == values.max()


def test_largest_magnitude_sees_negative_values():
    grid = broken_grid()
    _, layout = split(grid)
    x = np.zeros((2, *grid.shape))
    x[0, 1, 7, 10], x[1, 0, 3, 2] = -4.0, 2.0
    assert largest_magnitude(cut(x, layout), layout).tolist() == [4.0, 2.0]


def test_nonlinear_free_surface_stretches_like_nemo():
    grid = broken_grid(periodic_i=True)
    geometry, layout = split(grid)
    eta = np.random.default_rng(9).normal(0.0, 0.5, (8, 11)) * grid.wet
    stretch = stretching(cut(eta[None, None], layout), geometry, layout, "nonlinear")
    depth = grid.bathymetry
    at_t = np.divide(eta, depth, out=np.zeros_like(eta), where=depth > 0.0)

    def agrees(ours: torch.Tensor, excess: np.ndarray) -> None:
        # Subtracting one leaves the rounding of one.
        np.testing.assert_allclose(ours - 1.0, cut(excess[None, None], layout), rtol=0, atol=1e-15)

    agrees(stretch.t, at_t)
    # U: area-weighted mean of the two columns over the depth of the face; equal areas here.
    depth_u = (grid.e3u * grid.umask).sum(0)
    mean = 0.5 * (eta + np.roll(eta, -1, -1))
    agrees(stretch.u, np.divide(mean, depth_u, out=np.zeros_like(eta), where=depth_u > 0.0))
    depth_v = (grid.e3v * grid.vmask).sum(0)
    mean = 0.5 * (eta + np.concatenate([eta[1:], 0 * eta[:1]]))
    agrees(stretch.v, np.divide(mean, depth_v, out=np.zeros_like(eta), where=depth_v > 0.0))


def test_moving_free_surface_needs_sea_level():
    geometry, layout = split(broken_grid())
    for kind in ("nonlinear", "top_layer"):
        with pytest.raises(ValueError, match=f"'{kind}' needs field 'sea_level'"):
            stretching(None, geometry, layout, kind)
    with pytest.raises(ValueError, match="must be 'linear', 'nonlinear' or 'top_layer', got 'qco'"):
        stretching(None, geometry, layout, "qco")


def test_grids_in_these_tests_drop_a_dry_tile():
    _, layout = split(broken_grid())
    assert (broken_levels(5, 8, 11)[:3, :4] == 0).all()
    assert layout.lattice.count == 3 * 3 - 1
