from dataclasses import replace

import numpy as np
import pytest

from halocline.constants import OMEGA
from halocline.mesh.grid import box_grid, mean_depth


def test_box_has_the_shapes_and_volume_of_its_cells():
    grid = box_grid(3, 5, 7, thickness=[10.0, 20.0, 40.0], e1=2.0, e2=3.0)
    assert grid.shape == (3, 5, 7)
    assert grid.cell_volume.sum() == 5 * 7 * 70.0 * 6.0
    assert np.array_equal(grid.gdept_1d, [5.0, 20.0, 50.0])
    assert np.array_equal(grid.e3w[:, 0, 0], [10.0, 15.0, 30.0])
    assert np.array_equal(grid.gdepw[:, 0, 0], [0.0, 10.0, 30.0])


def test_levels_make_bathymetry_and_wet_cells():
    levels = np.array([[0, 1, 3], [2, 3, 0]])
    grid = box_grid(3, 2, 3, levels=levels, thickness=[10.0, 20.0, 40.0])
    assert np.array_equal(grid.wet, levels > 0)
    assert np.array_equal(grid.bathymetry, [[0, 10, 70], [30, 70, 0]])


def test_closed_box_has_closed_faces():
    grid = box_grid(2, 4, 5)
    assert not grid.umask[:, :, -1].any() and not grid.vmask[:, -1].any() and not grid.fmask[:, -1].any()
    assert grid.umask[:, :, :-1].all() and grid.vmask[:, :-1].all()


def test_cyclic_and_folded_faces_are_open():
    grid = box_grid(1, 4, 6, periodic_i=True, fold="T")
    assert grid.umask.all() and grid.vmask.all() and grid.fmask.all()
    assert not box_grid(1, 4, 6, periodic_i=True).vmask[:, -1].any()


def test_faces_next_to_land_are_closed():
    wet = np.ones((4, 5), bool)
    wet[2, 3] = False
    grid = box_grid(1, 4, 5, wet=wet)
    assert not grid.umask[0, 2, 2:4].any() and not grid.vmask[0, 1:3, 3].any() and not grid.fmask[0, 1:3, 2:4].any()
    assert grid.umask[0, 2, 1] and grid.vmask[0, 0, 3] and grid.fmask[0, 0, 2]


def test_repeated_cells_of_a_folded_box_agree():
    wet = np.random.default_rng(0).random((5, 8)) > 0.4
    grid = box_grid(2, 5, 8, wet=wet, periodic_i=True, fold="T")
    assert np.array_equal(grid.wet[-1, 5:], grid.wet[-1, 3:0:-1])
    assert np.array_equal(grid.vmask[:, -1, 1:], grid.vmask[:, -2, :0:-1])


def test_coriolis_is_that_of_the_middle_latitude():
    grid = box_grid(1, 5, 3, latitude=45.0)
    assert grid.ff_t[2, 0] == pytest.approx(2 * OMEGA * np.sin(np.pi / 4), rel=1e-15)  # rounding only
    assert (np.diff(grid.ff_t, axis=0) > 0).all()


def test_mean_depth_counts_wet_cells_only():
    depth = np.array([[[1.0, 3.0]], [[5.0, 9.0]]])
    assert mean_depth(depth, np.array([[[True, False]], [[False, False]]])).tolist() == [1.0, 7.0]


def test_fingerprint_tells_grids_apart():
    grid = box_grid(2, 3, 4)
    assert grid.fingerprint() == box_grid(2, 3, 4).fingerprint()
    wider = grid.e1t.copy()
    wider[0, 0] += 1e-9
    others = [replace(grid, e1t=wider), replace(grid, periodic_i=True), box_grid(2, 4, 3)]
    assert len({grid.fingerprint(), *(other.fingerprint() for other in others)}) == 4


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"e1t": np.ones((4, 3))}, r"e1t has shape \(4, 3\), expected \(3, 4\)"),
        ({"gphit": np.full((3, 4), np.nan)}, "gphit has values that are not finite"),
        ({"e2v": np.zeros((3, 4))}, "e2v must be positive"),
        ({"tmask": np.ones((3, 4), bool)}, "tmask has 2 dimensions"),
        ({"fold": "T"}, "needs periodic_i"),
    ],
)
def test_wrong_geometry_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(box_grid(2, 3, 4), **change)


def test_box_takes_one_description_of_its_sea():
    with pytest.raises(ValueError, match="both given"):
        box_grid(1, 2, 2, wet=np.ones((2, 2)), levels=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected \(3, 2\)"):
        box_grid(1, 3, 2, wet=np.ones((2, 3)))
    with pytest.raises(ValueError, match="one thickness per level"):
        box_grid(2, 3, 2, thickness=[1.0])
