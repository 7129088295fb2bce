from pathlib import Path

import netCDF4
import numpy as np
import pytest

from halocline.io.nemo import read_grid
from halocline.io.store import load_grid, save_grid
from halocline.mesh.grid import Grid, box_grid

HORIZONTAL = [f"{name}{p}" for name in ("glam", "gphi", "e1", "e2") for p in "tuvf"]
ALL = [*HORIZONTAL, "ff_t", "ff_f", "tmask", "umask", "vmask", "fmask"]
ALL += ["e3t", "e3u", "e3v", "e3w", "gdept", "gdepw", "gdept_1d"]


def write_mesh(path: Path, grid: Grid, leave: tuple[str, ...] = (), **attributes) -> Path:
    """Writes a grid as NEMO does with ln_meshmask, thicknesses in one dimension."""
    nk, nj, ni = grid.shape
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time_counter", None), ("nav_lev", nk), ("y", nj), ("x", ni)):
            file.createDimension(name, size)
        file.setncatts(attributes)
        content = {name: getattr(grid, name) for name in (*HORIZONTAL, "ff_t", "ff_f")}
        content |= {name: getattr(grid, name).astype("i1") for name in ("tmask", "umask", "vmask")}
        content["fmask"] = 2 * grid.fmask  # as under no slip: not a mask any more
        content |= {f"{n}_1d": getattr(grid, n)[:, 0, 0] for n in ("e3t", "e3w", "gdept", "gdepw")}
        for name, value in content.items():
            if name not in leave:
                axes = {1: ("nav_lev",), 2: ("y", "x"), 3: ("nav_lev", "y", "x")}[value.ndim]
                kind = "i1" if value.dtype == np.int8 else "f8"
                variable = file.createVariable(name, kind, ("time_counter", *axes))
                variable[0] = value
    return path


def write_domain(path: Path, grid: Grid, three: bool, **attributes) -> Path:
    """Writes a grid as NEMO does with ln_write_cfg."""
    write_mesh(path, grid, ("tmask", "umask", "vmask", "fmask", "gdept_1d", "gdepw_1d"), **attributes)
    with netCDF4.Dataset(path, "a") as file:
        bottom = grid.tmask.sum(axis=0)
        for name, value in (("top_level", np.minimum(bottom, 1)), ("bottom_level", bottom)):
            file.createVariable(name, "i4", ("time_counter", "y", "x"))[0] = value
        for name in ("e3t", "e3u", "e3v", "e3w") if three else ():
            variable = file.createVariable(f"{name}_0", "f8", ("time_counter", "nav_lev", "y", "x"))
            variable[0] = 1.5 * getattr(grid, name)
    return path


def test_mesh_mask_gives_the_grid_that_was_written(grid, tmp_path):
    read = read_grid(write_mesh(tmp_path / "mesh_mask.nc", grid))
    for name in ALL:
        assert np.array_equal(getattr(read, name), getattr(grid, name)), name
    assert read.fingerprint() == grid.fingerprint()


@pytest.mark.parametrize(
    ("attributes", "edges"),
    [
        ({}, (False, False, "")),
        ({"Iperio": 1, "Jperio": 0, "NFold": 0, "NFtype": "-"}, (True, False, "")),
        ({"Iperio": 1, "Jperio": 0, "NFold": 1, "NFtype": "T"}, (True, False, "T")),
        ({"jperio": 1}, (True, False, "")),
        ({"jperio": 2}, (False, True, "")),
        ({"jperio": 4}, (True, False, "T")),
        ({"jperio": 6}, (True, False, "F")),
        ({"jperio": 7}, (True, True, "")),
    ],
)
def test_periodicity_and_fold_of_either_age_are_understood(tmp_path, attributes, edges):
    periodic_i, periodic_j, fold = edges
    box = box_grid(2, 5, 6, periodic_i=periodic_i, periodic_j=periodic_j, fold=fold)
    read = read_grid(write_mesh(tmp_path / "mesh_mask.nc", box, **attributes))
    assert (read.periodic_i, read.periodic_j, read.fold) == edges


def test_masks_that_are_missing_follow_from_tmask_across_cyclic_edge_and_fold(tmp_path):
    levels = np.array([[2, 2, 0, 2, 1, 2]] * 5)
    box = box_grid(2, 5, 6, levels=levels, periodic_i=True, fold="T")
    path = write_mesh(tmp_path / "m.nc", box, ("umask", "vmask"), jperio=4)
    read = read_grid(path)
    # In the last row NEMO folds the masks too; the rows below have no such copies.
    for name in ("umask", "vmask", "fmask"):
        assert np.array_equal(getattr(read, name)[:, :-1], getattr(box, name)[:, :-1]), name
    assert read.umask[0, 0, 5] == (levels[0, 5] > 0 and levels[0, 0] > 0)


@pytest.mark.parametrize("three", [False, True])
def test_domain_cfg_builds_masks_and_depths(grid, tmp_path, three):
    read = read_grid(write_domain(tmp_path / "domain_cfg.nc", grid, three))
    for name in ("tmask", "umask", "vmask", "fmask"):
        assert np.array_equal(getattr(read, name), getattr(grid, name)), name
    factor = 1.5 if three else 1.0  # the 3D thicknesses differ from the reference column, and win
    for name in ("e3t", "e3u", "e3w", "gdept", "gdepw"):
        # Sums of four thicknesses, in another order than box_grid's.
        np.testing.assert_allclose(getattr(read, name), factor * getattr(grid, name), rtol=1e-14)


def test_uneven_thickness_of_faces_is_the_lower_of_both_sides(grid, tmp_path):
    path = write_mesh(tmp_path / "m.nc", grid)
    e3t = grid.e3t * np.linspace(0.5, 1.0, grid.ni)
    with netCDF4.Dataset(path, "a") as file:
        variable = file.createVariable("e3t_0", "f8", ("time_counter", "nav_lev", "y", "x"))
        variable[0] = e3t
    read = read_grid(path)
    assert np.array_equal(read.e3u[..., :-1], np.minimum(e3t[..., :-1], e3t[..., 1:]))
    assert np.array_equal(read.e3u[..., -1], e3t[..., -1])


def test_coriolis_follows_from_latitude_where_missing(grid, tmp_path):
    read = read_grid(write_mesh(tmp_path / "m.nc", grid, ("ff_t",)))
    sphere = 2 * 7.292115083046062e-05 * np.sin(np.deg2rad(grid.gphit))
    np.testing.assert_allclose(read.ff_t, sphere, rtol=1e-12)
    assert np.array_equal(read.ff_f, grid.ff_f)


@pytest.mark.parametrize(
    ("leave", "sentence"),
    [
        (("tmask",), "neither tmask nor bottom_level"),
        (("glamu",), "variable glamu is missing"),
        (("e3t_1d",), "neither e3t_0 nor e3t_1d"),
    ],
)
def test_what_cannot_be_derived_is_named(grid, tmp_path, leave, sentence):
    path = write_mesh(tmp_path / "m.nc", grid, leave)
    with pytest.raises(ValueError, match=f"Grid file {path}: .*{sentence}"):
        read_grid(path)


def test_copied_columns_of_older_releases_are_refused(tmp_path):
    box = box_grid(2, 5, 6, periodic_i=True)
    path = write_mesh(tmp_path / "m.nc", box, Iperio=1)
    with netCDF4.Dataset(path, "a") as file:
        glamt = file["glamt"][0]
        glamt[:, 0], glamt[:, -1] = glamt[:, -2], glamt[:, 1]
        file["glamt"][0] = glamt
    with pytest.raises(ValueError, match="first and last columns repeat"):
        read_grid(path)


def test_unreadable_grid_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mesh.nc does not exist"):
        read_grid(tmp_path / "mesh.nc")
    (tmp_path / "mesh.nc").write_text("nonsense")
    with pytest.raises(OSError, match=r"mesh.nc cannot be read .*damaged or not netCDF"):
        read_grid(tmp_path / "mesh.nc")


@pytest.mark.parametrize("fold", ["", "T", "F"])
def test_saved_grid_comes_back_to_the_last_bit(tmp_path, fold):
    levels = np.random.default_rng(0).integers(0, 4, (5, 6))
    box = box_grid(3, 5, 6, levels=levels, periodic_i=bool(fold), fold=fold)
    save_grid(box, tmp_path / "grid.nc")
    assert load_grid(tmp_path / "grid.nc").fingerprint() == box.fingerprint()
    save_grid(box, tmp_path / "again.nc")
    assert (tmp_path / "again.nc").read_bytes() == (tmp_path / "grid.nc").read_bytes()


def test_changed_grid_is_noticed(grid, tmp_path):
    path = tmp_path / "grid.nc"
    save_grid(grid, path)
    with netCDF4.Dataset(path, "a") as file:
        file["e1t"][1, 2] = 1.0
    with pytest.raises(ValueError, match=r"fingerprint .* it was changed"):
        load_grid(path)
    with pytest.raises(ValueError, match="lacks glamt"):
        load_grid(write_mesh(tmp_path / "m.nc", grid, ("glamt",)))


@pytest.mark.parametrize(
    ("case", "shape", "wet", "periodic"),
    [("nemo_gyre", (31, 22, 32), (18000, 17400, 17100), False),
     ("nemo_dino", (36, 101, 27), (86863, 83932, 85896), True)],
)  # fmt: skip
def test_real_grids_have_the_documented_cells(
    case, shape, wet, periodic, tmp_path, require
):
    grid = read_grid(require(f"{case}/mesh_mask.nc"))
    assert grid.shape == shape and grid.periodic_i is periodic and grid.fold == ""
    assert tuple(int(getattr(grid, m).sum()) for m in ("tmask", "umask", "vmask")) == wet
    save_grid(grid, tmp_path / "grid.nc")
    assert load_grid(tmp_path / "grid.nc").fingerprint() == grid.fingerprint()


def test_real_grid_with_three_dimensional_depths_uses_them(require):
    path = require("nemo_dino/mesh_mask.nc")
    grid = read_grid(path)
    with netCDF4.Dataset(path) as file:
        assert np.array_equal(grid.e3t, file["e3t_0"][0])
        assert np.array_equal(grid.gdept, file["gdept_0"][0])
        column = file["gdept_1d"][0]
    assert np.abs(grid.gdept_1d - column).max() > 100  # m; the reference column is another one
    with netCDF4.Dataset(require("nemo_dino/states.nc")) as file:
        # deptht is float32
        np.testing.assert_allclose(grid.gdept_1d, file["deptht"][:], rtol=1e-7)
