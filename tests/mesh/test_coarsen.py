"""Coarser grids against sums over blocks, written out."""

from dataclasses import replace

import numpy as np
import pytest

from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice

NK = 3
SHAPES = {  # rows, columns, edges
    "odd": (13, 19, {}),
    "channel": (11, 16, {"periodic_i": True}),
    "torus": (8, 24, {"periodic_i": True, "periodic_j": True}),
    "folded": (16, 32, {"periodic_i": True, "fold": "F"}),
}


def rough(name: str, seed: int = 1) -> Grid:
    """Broken by land, all cells different, some only wet below a shelf; what the fold repeats agrees."""
    nj, ni, edges = SHAPES[name]
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, NK + 1, (nj, ni))
    levels[:4, :4] = 0
    grid = box_grid(NK, nj, ni, levels=levels, **edges)
    made = {}
    for p in "tuvf":
        cells, _ = grid.edges.canonical(p.upper(), np.arange(nj)[:, None], np.arange(ni))
        for field in (f"e1{p}", f"e2{p}", *([f"e3{p}"] if p != "f" else [])):
            x = getattr(grid, field) * rng.uniform(0.5, 1.5, getattr(grid, field).shape)
            made[field] = x.reshape(*x.shape[:-2], -1)[..., cells]
    tmask = grid.tmask.copy()
    tmask[0, 4, 6] = False  # an ice shelf: water below land
    return replace(grid, **made, tmask=tmask)


@pytest.fixture(params=SHAPES)
def grid(request) -> Grid:
    return rough(request.param)


def cells(x: np.ndarray, J: int, I: int, f: int) -> np.ndarray:
    """Fine cells of a block; fewer where the grid ends."""
    return x[..., J * f : (J + 1) * f, I * f : (I + 1) * f]


def each(coarse: Grid) -> list[tuple[int, int]]:
    return [(J, I) for J in range(coarse.nj) for I in range(coarse.ni)]


@pytest.mark.parametrize("f", [2, 4, 8])
def test_volume_area_and_depth_of_each_block_stay(grid, f):
    coarse = coarsen_grid(grid, f)
    area, found = grid.e1t * grid.e2t, coarse.e1t * coarse.e2t
    for J, I in each(coarse):
        volumes = cells(grid.cell_volume, J, I, f).sum(axis=(1, 2))
        np.testing.assert_allclose(coarse.cell_volume[:, J, I], volumes, rtol=1e-13)
        wet = cells(area * grid.tmask[0], J, I, f).sum() or cells(area * grid.wet, J, I, f).sum()
        if wet:
            assert found[J, I] == pytest.approx(wet, rel=1e-13)
            assert coarse.bathymetry[J, I] == pytest.approx(volumes.sum() / wet, rel=1e-13)
        else:
            assert not coarse.wet[J, I]
    surface = (found * coarse.tmask[0]).sum()
    assert surface == pytest.approx((area * grid.tmask[0]).sum(), rel=1e-13)


@pytest.mark.parametrize("f", [2, 4, 8])
def test_faces_are_as_open_as_the_fine_ones_on_them(grid, f):
    coarse = coarsen_grid(grid, f)
    for J, I in each(coarse):
        east, north = min((I + 1) * f, grid.ni) - 1, min((J + 1) * f, grid.nj) - 1
        rows, columns = slice(J * f, (J + 1) * f), slice(I * f, (I + 1) * f)
        u = (grid.e2u * grid.e3u * grid.umask)[:, rows, east]
        v = (grid.e1v * grid.e3v * grid.vmask)[:, north, columns]
        np.testing.assert_allclose((coarse.e2u * coarse.e3u * coarse.umask)[:, J, I], u.sum(axis=1), rtol=1e-13)
        np.testing.assert_allclose((coarse.e1v * coarse.e3v * coarse.vmask)[:, J, I], v.sum(axis=1), rtol=1e-13)
        assert (coarse.umask[:, J, I] == grid.umask[:, rows, east].any(axis=1)).all()
        assert (coarse.vmask[:, J, I] == grid.vmask[:, north, columns].any(axis=1)).all()
        assert (coarse.fmask[:, J, I] == grid.fmask[:, north, east]).all()
        assert (coarse.tmask[:, J, I] == cells(grid.tmask, J, I, f).any(axis=(1, 2))).all()


def test_cells_without_land_are_as_wide_as_their_fine_ones():
    coarse = coarsen_grid(box_grid(2, 8, 12, e1=3.0e4, e2=2.0e4, periodic_i=True), 4)
    widths = {name: getattr(coarse, name) for name in ("e1t", "e2t", "e1u", "e2u", "e1v", "e2v", "e1f", "e2f")}
    for name, width in widths.items():
        np.testing.assert_allclose(width, 4 * (3.0e4 if name[1] == "1" else 2.0e4), rtol=1e-14, err_msg=name)
    assert (coarse.nj, coarse.ni) == (2, 3)


def test_positions_are_those_of_the_sea():
    grid = box_grid(1, 8, 8, wet=np.arange(64).reshape(8, 8) % 8 != 1)  # column 1 is land
    ramp = {name: np.broadcast_to(np.arange(8.0), (8, 8)) for name in ("glamt", "glamu", "glamv", "glamf", "ff_t")}
    coarse = coarsen_grid(replace(grid, **ramp), 4)
    assert coarse.glamt[0].tolist() == coarse.ff_t[0].tolist() == [5 / 3, 5.5]
    assert coarse.glamu[0].tolist() == coarse.glamf[0].tolist() == [3, 7]
    assert coarse.glamv[0].tolist() == [5 / 3, 5.5]
    np.testing.assert_allclose(coarse.gphit[:, 0], grid.gphit.reshape(2, 4, 8)[..., 0].mean(axis=1), rtol=1e-14)


def test_longitudes_are_averaged_across_the_date_line():
    grid = box_grid(1, 2, 6, periodic_i=True)
    east = np.broadcast_to([178.0, 179.0, 179.5, -179.5, -179.0, -178.0], (2, 6))
    coarse = coarsen_grid(replace(grid, glamt=east), 2)
    assert (coarse.glamt[0] % 360).tolist() == [178.5, 180.0, 181.5]


def test_depths_are_means_over_the_water_of_a_level():
    grid = rough("odd")
    deeper = grid.gdept * np.random.default_rng(2).uniform(1, 1.1, grid.shape)
    coarse = coarsen_grid(replace(grid, gdept=deeper), 4)
    for k, J, I in np.argwhere(coarse.tmask).tolist():
        weight = cells(grid.cell_volume[k], J, I, 4)
        assert coarse.gdept[k, J, I] == pytest.approx((cells(deeper[k], J, I, 4) * weight).sum() / weight.sum())
    assert (coarse.gdept_1d == grid.gdept_1d).all()


def test_what_lies_on_land_does_not_matter():
    grid = rough("odd")
    dry = ~grid.wet
    names = ("e1t", "e3t", "gdept", "glamt", "gphit")
    other = replace(grid, **{name: np.where(dry, 7.0, getattr(grid, name)) for name in names})
    one, two = coarsen_grid(grid, 4), coarsen_grid(other, 4)
    for name in ("e3t", "gdept", "gphit"):
        np.testing.assert_allclose(*(np.where(one.tmask, getattr(g, name), 0) for g in (one, two)), err_msg=name)
    np.testing.assert_array_equal(one.tmask, two.tmask)


@pytest.mark.parametrize("twice", [(2, 2), (2, 4), (4, 2)])
def test_coarsening_twice_is_coarsening_by_the_product(grid, twice):
    once, again = coarsen_grid(grid, twice[0] * twice[1]), coarsen_grid(coarsen_grid(grid, twice[0]), twice[1])
    for name in ("tmask", "umask", "vmask", "fmask"):
        np.testing.assert_array_equal(getattr(once, name), getattr(again, name), err_msg=name)

    def amounts(g: Grid) -> dict[str, np.ndarray]:
        held = {name: getattr(g, name) for name in ("e2u", "e1v", "gphit", "gphiu", "glamv", "glamf", "ff_t", "ff_f")}
        held |= {"area": g.e1t * g.e2t, "volume": g.cell_volume, "u": g.e2u * g.e3u * g.umask}
        return held | {"v": g.e1v * g.e3v * g.vmask, "depth": g.gdept * g.tmask}

    for name, x in amounts(once).items():
        np.testing.assert_allclose(x, amounts(again)[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("f", [2, 4])
def test_coarse_grid_keeps_its_edges_and_takes_a_lattice(grid, f):
    coarse = coarsen_grid(grid, f)
    assert (coarse.periodic_i, coarse.periodic_j, coarse.fold) == (grid.periodic_i, grid.periodic_j, grid.fold)
    lattice = Lattice.from_grid(coarse, (4, 4), 1)
    assert lattice.weights.sum() == coarse.wet.sum()
    j, i = np.arange(coarse.nj)[:, None], np.arange(coarse.ni)
    for point, name in [("T", "tmask"), ("U", "umask"), ("V", "vmask"), ("F", "fmask"), ("V", "e3v"), ("V", "e1v")]:
        shown, _ = coarse.edges.canonical(point, j, i)  # what the fold repeats agrees
        x = getattr(coarse, name)
        np.testing.assert_allclose(x.reshape(*x.shape[:-2], -1)[..., shown], x, rtol=1e-14, err_msg=name)


@pytest.mark.parametrize(
    ("size", "edges", "f", "sentence"),
    [
        ((8, 8), {}, 3, "factor is 3, expected one of 2, 4, 8"),
        ((8, 8), {}, 1, "factor is 1, expected one of 2, 4, 8"),
        ((8, 10), {"periodic_i": True}, 4, "after ni = 10 cells, expected a multiple of 4"),
        ((9, 8), {"periodic_j": True}, 2, "after nj = 9 cells, expected a multiple of 2"),
        ((8, 8), {"periodic_i": True, "fold": "T"}, 2, "north fold about a T point cannot be coarsened"),
        ((9, 8), {"periodic_i": True, "fold": "F"}, 2, "after nj = 9 cells, expected a multiple of 2"),
        ((8, 12), {"periodic_i": True, "fold": "F"}, 4, "after ni = 12 cells, expected a multiple of 8"),
    ],
)
def test_grid_that_closes_upon_itself_where_blocks_do_not_is_refused(size, edges, f, sentence):
    with pytest.raises(ValueError, match=sentence):
        coarsen_grid(box_grid(2, *size, **edges), f)
