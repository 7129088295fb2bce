"""Ice edge and presence: a displaced edge in closed form, the split of the Brier score, sharpness on tiles."""

import math

import numpy as np
import pytest
import torch
from setting import cut, split

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.ensembles import areas
from halocline.physics.geometry import Geometry
from halocline.physics.ice_edge import Reliability, edge_error, presence_reliability
from halocline.physics.sharpness import Faces, FineScales, Window, log_power

AREA = 2.0e8  # m2 of a cell


@pytest.fixture
def channel():
    """10 x 12 cells, row 0 land."""
    wet = np.ones((10, 12), bool)
    wet[0] = False
    grid = box_grid(1, 10, 12, wet=wet, e1=2.0e4, e2=1.0e4)
    geometry, layout = split(grid)
    return areas(geometry), layout, geometry


def edges(layout, *columns: int) -> torch.Tensor:
    """Ice west of a column, one for each member."""
    ice = np.arange(12) < np.array(columns)[:, None]
    return cut(np.where(ice, 0.9, 0.0)[:, None, None] * np.ones((10, 1)), layout)


def test_displaced_edge_costs_the_area_between(channel):
    weight, layout, _ = channel
    error = edge_error(edges(layout, 5, 8, 6), edges(layout, 6), weight, layout)
    assert error.over == (0.0, 2 * 9 * AREA, 0.0)
    assert error.under == (1 * 9 * AREA, 0.0, 0.0)
    assert error.iiee == (9 * AREA, 18 * AREA, 0.0)
    assert error.median_iiee == 0.0  # the middle one of 5, 6, 8
    # p - c is -1/3 in column 5 and 1/3 in columns 6 and 7
    assert error.sps == pytest.approx(3 / 9 * 9 * AREA, rel=1e-14)


def test_probability_score_of_one_member_is_its_edge_error(channel):
    weight, layout, _ = channel
    error = edge_error(edges(layout, 9), edges(layout, 6), weight, layout)
    assert error.sps == error.iiee[0] == error.median_iiee == 27 * AREA


def test_threshold_decides_what_is_covered(channel):
    weight, layout, _ = channel
    error = edge_error(edges(layout, 9), edges(layout, 6), weight, layout, threshold=0.95)
    assert error.iiee == (0.0,)


def test_brier_score_splits_exactly(channel):
    weight, layout, _ = channel
    rng = np.random.default_rng(0)
    truth = cut(rng.uniform(size=(1, 1, 10, 12)), layout)
    forecast = (truth + cut(rng.normal(0, 0.3, (5, 1, 10, 12)), layout)).clamp(0, 1)
    table = presence_reliability(forecast, truth, weight, layout, 0.5)
    sea = weight > 0
    p = (forecast >= 0.5).double().mean(0)[sea]
    brier = float(((p - (truth[0] >= 0.5).double()[sea]) ** 2).mean())
    assert table.brier == pytest.approx(brier, rel=1e-12)
    uncertainty = table.climate * (1 - table.climate)
    assert table.reliability - table.resolution + uncertainty == pytest.approx(brier, rel=1e-12)
    assert edge_error(forecast, truth, weight, layout, 0.5).sps == pytest.approx(brier * 108 * AREA, rel=1e-12)
    assert sum(table.share) == pytest.approx(1.0)


def test_brier_score_is_that_of_the_library_scores(channel):
    library, xarray = pytest.importorskip("scores.probability"), pytest.importorskip("xarray")
    _, layout, geometry = channel
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(6, 1, 10, 12)), rng.uniform(size=(1, 1, 10, 12))
    table = presence_reliability(cut(x, layout), cut(y, layout), areas(geometry), layout, 0.4)
    expected = library.brier_score_for_ensemble(
        xarray.DataArray(x[:, 0, 1:], dims=("m", "j", "i")), xarray.DataArray(y[0, 0, 1:], dims=("j", "i")), "m", 0.4,
        fair_correction=False,
    )  # fmt: skip
    assert table.brier == pytest.approx(float(expected.values.item()), rel=1e-12)


def test_a_reliable_forecast_has_no_reliability_term():
    table = Reliability(share=(0.5, 0.0, 0.5), covered=(0.0, 0.0, 0.5))
    assert (table.reliability, table.resolution, table.brier) == (0.0, 0.25, 0.0)
    assert table.probability == (0.0, 0.5, 1.0) and math.isnan(table.observed[1])


def test_a_broken_cell_of_the_sea_is_not_hidden(channel):
    weight, layout, _ = channel
    forecast = edges(layout, 5, 6)
    forecast[0, -1, 0, 0, 0] = torch.nan
    error = edge_error(forecast, edges(layout, 6), weight, layout)
    assert math.isnan(error.iiee[0]) and math.isnan(error.median_iiee) and math.isnan(error.sps)
    assert any(math.isnan(x) for x in presence_reliability(forecast, edges(layout, 6), weight, layout).share)
    land = edges(layout, 5, 6)
    land[:, 0, 0, 0] = torch.nan
    assert edge_error(land, edges(layout, 6), weight, layout).iiee == (9 * AREA, 0.0)


def test_gradient_energy_of_a_slope_is_its_square_on_any_tiles():
    wet = np.random.default_rng(0).random((11, 14)) < 0.8
    grid = box_grid(1, 11, 14, wet=wet, e1=2.0e4, e2=1.0e4)
    j, i = np.mgrid[:11, :14]
    slope = np.where(wet, 3.0 * i * 2.0e4 + 0.0 * j, np.nan)[None, None]
    energies = []
    for tile in ((3, 4), (11, 14), (4, 4)):
        geometry, layout = split(grid, tile)
        energies.append(Faces.build(geometry, layout).energy(cut(slope, layout)))
    along_i = (wet[:, 1:] & wet[:, :-1]).sum()
    faces = along_i + (wet[1:] & wet[:-1]).sum()
    for energy in energies:
        assert float(energy[0]) == pytest.approx(9.0 * along_i / faces, rel=1e-12)


def test_gradient_energy_crosses_a_cyclic_edge():
    grid = box_grid(1, 4, 8, periodic_i=True, e1=1.0, e2=1.0)
    geometry, layout = split(grid, (4, 4))
    x = np.zeros((1, 1, 4, 8))
    x[..., 0] = 1.0  # differs from both sides, one of which is across the edge
    assert float(Faces.build(geometry, layout).energy(cut(x, layout))) == pytest.approx(2 * 4 / (4 * 8 + 3 * 8))


def test_gradients_need_a_halo():
    grid = box_grid(1, 4, 8)
    layout = Layout.build(Lattice.from_grid(grid, (4, 4), 0), Serial())
    with pytest.raises(ValueError, match="halo of 0 cells, expected at least 1"):
        Faces.build(Geometry.build(grid, layout), layout)


def test_a_spectrum_has_the_variance_of_its_waves():
    wet = np.zeros((40, 50), bool)
    wet[4:34, 8:38] = True
    window = Window.largest(wet, np.full(wet.shape, 1.0e4))
    j, i = np.mgrid[:40, :50]
    field = np.where(wet, np.cos(2 * np.pi * 13 * i / 30) + 4 * np.cos(2 * np.pi * 8 * j / 30), np.nan)
    wavenumber, power = window.power(np.stack([field, 2.0 * field, 0.0 * field]))
    assert (len(wavenumber), wavenumber[-1]) == (15, pytest.approx(0.5e-4))
    # The taper of unit mean square leaves variances.
    assert power[0].sum() / 30.0e4 == pytest.approx(0.5 + 8.0, rel=0.02)
    logarithms, count = log_power(power)
    assert count == 2  # what is at rest is left out; the geometric mean of factors 1 and 4 is 2
    np.testing.assert_allclose(np.exp(logarithms / count), 2.0 * power[0], rtol=1e-10)


def test_fine_scales_are_the_last_third_up_to_nyquist():
    """Of waves of 2.3 and 5 cells the first counts: fine scales are those shorter than three cells."""
    wet = np.ones((41, 53), bool)
    fine = FineScales.over(wet, np.full(wet.shape, 1.0e4))
    j, i = np.mgrid[:41, :53]
    field = np.cos(2 * np.pi * i / 2.3) + 4 * np.cos(2 * np.pi * j / 5.0)
    energy = fine.energy(np.stack([field, 2.0 * field, 0.0 * field, 4 * np.cos(2 * np.pi * j / 5.0)]))
    np.testing.assert_allclose(energy, [0.5, 2.0, 0.0, 0.0], atol=0.01, rtol=0.03)
    assert fine.spacing == 1.0e4 and fine.side == 16


def test_fine_scales_are_seen_all_over_a_broken_sea_and_nowhere_else():
    """Roughness in one bay counts where the bay is, beyond what one window in the largest basin sees."""
    wet = np.ones((48, 64), bool)
    wet[:, 30:33] = False  # a small basin in the west, a large one in the east
    fine = FineScales.over(wet, np.full(wet.shape, 2.0e4))
    rough = np.random.default_rng(0).normal(size=wet.shape)
    i = np.arange(64)
    west, east = (float(fine.energy(np.where(side, rough, 0.0))) for side in (i < 30, i > 32))
    whole = float(fine.energy(np.where(wet, rough, np.nan)))
    assert whole == pytest.approx(west + east) and 0.7 < west / east < 1.1  # 30 and 31 columns
    shown = np.zeros(wet.shape, bool)
    for j, k in fine.corners:
        assert wet[j : j + 16, k : k + 16].all()
        shown[j : j + 16, k : k + 16] = True
    assert shown[wet].mean() > 0.9  # all but three columns along the strip of land


@pytest.mark.parametrize(("size", "side"), [((5, 7), 5), ((2, 30), 2), ((1, 9), 1)])
def test_a_narrow_sea_has_narrow_windows(size, side):
    wet = np.zeros((24, 40), bool)
    wet[3 : 3 + size[0], 5 : 5 + size[1]] = True
    fine = FineScales.over(wet, np.full(wet.shape, 1.0e3))
    found = fine.energy(np.where(wet, np.random.default_rng(1).normal(size=(2, 24, 40)), np.nan))
    assert fine.side == side and fine.corners and found.shape == (2,)
    assert np.isnan(found).all() if side == 1 else (found > 0).all()
    with pytest.raises(ValueError, match="must have a wet cell"):
        FineScales.over(np.zeros((4, 4), bool), np.ones((4, 4)))
