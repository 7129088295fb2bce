import errno
import os
import shutil

import netCDF4
import numpy as np
import pytest

from halocline.io import nemo_restart
from halocline.io.decomposition import rectangles
from halocline.io.nemo import read_grid, read_restart, write_restart
from halocline.mesh.grid import box_grid

OCEAN = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
GYRE = "nemo_gyre/restarts/GYRE_00129600_restart.nc"


@pytest.fixture
def like(grid, state, tmp_path):
    """A restart of step 720 at the end of April of year 3, time step 3600 s."""
    path = tmp_path / "like.nc"
    write_restart(path, state, grid)
    scalars = {"kt": 720, "ndastp": 30430, "adatrj": 840, "ntime": 1200, "rdt": 3600}
    with netCDF4.Dataset(path, "a") as file:
        for name, value in scalars.items():
            file.createVariable(name, "f8", ())[...] = value
    return path


def change(path, **values):
    with netCDF4.Dataset(path, "a") as file:
        for name, value in values.items():
            file[name][...] = value


def scalars(path):
    with netCDF4.Dataset(path) as file:
        return {n: float(v[...]) for n, v in file.variables.items() if not v.dimensions}


def test_restart_has_the_form_that_nemo_writes(grid, state, tmp_path):
    write_restart(tmp_path / "r.nc", state, grid)
    with netCDF4.Dataset(tmp_path / "r.nc") as file:
        assert file.data_model == "NETCDF3_64BIT_OFFSET"
        assert file.dimensions["time_counter"].isunlimited()
        assert list(file.dimensions) == ["x", "y", "nav_lev", "time_counter"]
        for name in ("un", "vn", "tn", "sn"):
            assert file[name].dtype == np.float64
            assert file[name].dimensions == ("time_counter", "nav_lev", "y", "x")
        assert file["sshn"].dimensions == ("time_counter", "y", "x")
        assert {n: file[n].dtype for n in ("nav_lon", "nav_lat", "nav_lev", "time_counter")} == {
            n: np.float32 for n in ("nav_lon", "nav_lat", "nav_lev", "time_counter")
        }
        assert file.DOMAIN_size_global.tolist() == [5, 7]
        assert file.DOMAIN_position_last.tolist() == [5, 7]
        assert file.DOMAIN_type == "BOX"


def test_no_group_is_begun_that_nemo_would_want_complete(grid, state, like, tmp_path):
    write_restart(tmp_path / "r.nc", state, grid, like=like, depth_means=True)
    with netCDF4.Dataset(tmp_path / "r.nc") as file:
        fields = {name for name, v in file.variables.items() if len(v.dimensions) > 2}
    assert fields == {"un", "vn", "tn", "sn", "sshn", "uu_n", "vv_n", "ssha"}


def test_written_restart_comes_back_to_the_last_bit_and_land_is_zero(grid, state, tmp_path):
    write_restart(tmp_path / "r.nc", state, grid)
    again = read_restart(tmp_path / "r.nc", grid)
    for name in OCEAN:
        assert np.array_equal(again[name], np.nan_to_num(state[name])), name
    with netCDF4.Dataset(tmp_path / "r.nc") as file:
        for name, mask in (("tn", grid.tmask), ("un", grid.umask), ("vn", grid.vmask)):
            assert (file[name][0][~mask] == 0).all()
            assert (file[name][0][mask] != 0).all()


def test_velocity_on_land_is_not_written(grid, state, tmp_path):
    state["velocity_u"] = np.ones(grid.shape)  # also on closed faces between wet cells and land
    write_restart(tmp_path / "r.nc", state, grid)
    assert np.array_equal(read_restart(tmp_path / "r.nc")["velocity_u"], grid.umask.astype(float))


@pytest.mark.parametrize("per_rank", [(2, 1), (1, 3), (2, 3), (5, 7), 4])
def test_parts_joined_equal_the_global_file(grid, state, like, tmp_path, per_rank):
    write_restart(tmp_path / "whole.nc", state, grid, like=like)
    paths = write_restart(tmp_path / "r.nc", state, grid, like=like, per_rank=per_rank)
    assert paths[1].name == "r_0001.nc"
    count = per_rank if isinstance(per_rank, int) else per_rank[0] * per_rank[1]
    assert len(paths) == count == len(list(tmp_path.glob("r_*.nc")))
    whole = read_restart(tmp_path / "whole.nc")
    for given in (tmp_path / "r.nc", tmp_path / "r", paths[-1]):
        joined = read_restart(given)
        assert all(np.array_equal(joined[name], whole[name]) for name in OCEAN)
    assert scalars(paths[-1]) == scalars(tmp_path / "whole.nc")


@pytest.mark.parametrize(
    ("size", "ranks", "widths"), [(10, 4, [3, 3, 2, 2]), (27, 2, [14, 13]), (32, 2, [16, 16])]
)
def test_grid_is_cut_as_nemo_cuts_it(size, ranks, widths):
    parts = rectangles(box_grid(1, 3, size), (ranks, 1))
    assert [p.columns.stop - p.columns.start for p in parts] == widths
    assert [p.rows for p in parts] == [slice(0, 3)] * ranks


def test_missing_part_is_named(grid, state, tmp_path):
    paths = write_restart(tmp_path / "r.nc", state, grid, per_rank=(2, 2))
    paths[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"r_0002.nc does not exist, but .* one of 4 parts"):
        read_restart(tmp_path / "r.nc")


def test_parts_of_another_run_are_noticed(grid, state, tmp_path):
    paths = write_restart(tmp_path / "r.nc", state, grid, per_rank=(2, 1))
    three = write_restart(tmp_path / "s.nc", state, grid, per_rank=(3, 1))
    shutil.copy(three[1], paths[1])
    with pytest.raises(ValueError, match=r"r_0001.nc is one of 3 parts .*expected 2 of 5 x 7"):
        read_restart(tmp_path / "r.nc")


def test_gap_between_parts_is_allowed_on_land_only(grid, state, tmp_path):
    paths = write_restart(tmp_path / "r.nc", state, grid, per_rank=(5, 1))
    for rank, path in enumerate(paths[1:]):  # the first column is land; renumber the others
        path.rename(tmp_path / f"s_{rank:04d}.nc")
        with netCDF4.Dataset(tmp_path / f"s_{rank:04d}.nc", "a") as file:
            file.DOMAIN_number, file.DOMAIN_number_total = np.int32(rank), np.int32(4)
    joined = read_restart(tmp_path / "s.nc", grid)
    assert all(np.array_equal(joined[name], np.nan_to_num(state[name])) for name in OCEAN)
    with pytest.raises(ValueError, match="leave 7 of 35 cells out, first at j=0, i=0"):
        read_restart(tmp_path / "s.nc")
    wetter = box_grid(4, 7, 5, levels=np.maximum(grid.tmask.sum(axis=0), 1))
    with pytest.raises(ValueError, match=r"missing or NaN at .* wet cells"):
        read_restart(tmp_path / "s.nc", wetter)


def test_part_that_contradicts_itself_is_named(grid, state, tmp_path):
    paths = write_restart(tmp_path / "r.nc", state, grid, per_rank=(2, 1))
    with netCDF4.Dataset(paths[1], "a") as file:
        file.DOMAIN_position_last = np.array([9, 7], np.int32)
    with pytest.raises(ValueError, match=r"r_0001.nc says .*contradicts itself"):
        read_restart(paths[0])
    with netCDF4.Dataset(paths[1], "a") as file:
        file.delncattr("DOMAIN_position_last")
    with pytest.raises(ValueError, match="no attribute DOMAIN_position_last"):
        read_restart(paths[0])


def test_old_parts_with_halo_are_cut_to_their_inner_cells(grid, state, tmp_path):
    """Before NEMO 4.2 files hold one halo cell, inside of the positions that they name."""
    whole = {name: np.nan_to_num(x) for name, x in state.items()}
    names = dict(zip(OCEAN, ("tn", "sn", "un", "vn", "sshn"), strict=True))
    for rank, (first, last, start, end) in enumerate([(1, 4, 0, 1), (3, 5, 1, 0)]):
        with netCDF4.Dataset(tmp_path / f"r_000{rank}.nc", "w") as file:
            for axis, size in (("x", last - first + 1), ("y", 7), ("nav_lev", 4)):
                file.createDimension(axis, size)
            file.createDimension("time_counter", None)
            pairs = {
                "size_global": (5, 7), "size_local": (last - first + 1, 7),
                "position_first": (first, 1), "position_last": (last, 7),
                "halo_size_start": (start, 0), "halo_size_end": (end, 0),
            }  # fmt: skip
            file.setncatts({f"DOMAIN_{k}": np.array(v, np.int32) for k, v in pairs.items()})
            file.DOMAIN_number_total = np.int32(2)
            for name, short in names.items():
                axes = ("time_counter", "nav_lev", "y", "x")
                axes = axes if short != "sshn" else ("time_counter", "y", "x")
                x = whole[name][..., first - 1 : last].copy()
                x[..., : start or 0] = -9  # the halo may hold anything
                if end:
                    x[..., -end:] = -9
                file.createVariable(short, "f8", axes)[0] = x if short != "sshn" else x[0]
    joined = read_restart(tmp_path / "r.nc", grid)
    assert all(np.array_equal(joined[name], whole[name]) for name in OCEAN)


def test_step_and_dates_are_taken_over_and_moved_to_the_season(grid, state, like, tmp_path):
    path = tmp_path / "r.nc"
    write_restart(path, state, grid, like=like)
    assert scalars(path) == {"kt": 720, "ndastp": 30430, "adatrj": 840, "ntime": 1200, "rdt": 3600}
    write_restart(path, state, grid, like=like, month=7)
    assert scalars(path) == {"kt": 720 + 90 * 24, "ndastp": 30730, "adatrj": 930, "ntime": 0, "rdt": 3600}
    with netCDF4.Dataset(path) as file:
        assert file["time_counter"][:] == [720 + 90 * 24]


@pytest.mark.parametrize(
    ("calendar", "december", "march", "days"),
    [("360_day", 31230, 30330, 270), ("noleap", 31231, 30331, 275), ("standard", 41231, 40331, 275)],
)
def test_step_moves_with_the_date_and_back(grid, state, like, tmp_path, calendar, december, march, days):
    """Forcings that know the season by the step would start in another one than the state."""
    change(like, kt=8640 * 3, ndastp=december, adatrj=1080, rdt=3600)
    there, back = tmp_path / "there.nc", tmp_path / "back.nc"
    write_restart(there, state, grid, like=like, month=3, calendar=calendar)
    moved = {"kt": 8640 * 3 - days * 24, "ndastp": march, "adatrj": 1080 - days, "ntime": 0, "rdt": 3600}
    assert scalars(there) == moved
    write_restart(back, state, grid, like=there, month=12, calendar=calendar)
    assert scalars(back) == {**scalars(like), "ntime": 0}


def test_example_within_a_day_is_run_to_its_end(grid, state, like, tmp_path):
    change(like, kt=714, adatrj=839.75, ntime=600)
    write_restart(tmp_path / "r.nc", state, grid, like=like, month=5)
    assert scalars(tmp_path / "r.nc") == {"kt": 720 + 30 * 24, "ndastp": 30530, "adatrj": 870, "ntime": 0, "rdt": 3600}


@pytest.mark.parametrize("elapsed", [840, 30])
def test_move_to_before_the_run_began_goes_to_the_next_year(grid, state, like, tmp_path, elapsed):
    change(like, adatrj=elapsed)  # with 30, both step and elapsed days would be negative
    write_restart(tmp_path / "r.nc", state, grid, like=like, month=1)
    days = 360 - 90
    assert scalars(tmp_path / "r.nc") == {
        "kt": 720 + days * 24, "ndastp": 40130, "adatrj": elapsed + days, "ntime": 0, "rdt": 3600,
    }  # fmt: skip


@pytest.mark.parametrize(("rdt", "found"), [(None, "missing"), (0.0, "0.0")])
def test_date_is_not_moved_without_a_time_step(grid, state, like, tmp_path, rdt, found):
    if rdt is None:
        with netCDF4.Dataset(like, "a") as file:
            file.renameVariable("rdt", "other")
    else:
        change(like, rdt=rdt)
    with pytest.raises(ValueError, match=rf"rdt of restart .*like.nc is {found}, expected .* or leave it out"):
        write_restart(tmp_path / "r.nc", state, grid, like=like, month=7)
    assert not (tmp_path / "r.nc").exists()
    write_restart(tmp_path / "r.nc", state, grid, like=like, month=4)  # where it stands already
    assert scalars(tmp_path / "r.nc")["kt"] == 720


def test_without_example_no_step_or_date_is_invented(grid, state, like, tmp_path):
    write_restart(tmp_path / "r.nc", state, grid, month=7)
    assert scalars(tmp_path / "r.nc") == {}
    with netCDF4.Dataset(like, "a") as file:
        file.renameVariable("ntime", "other")
    write_restart(tmp_path / "r.nc", state, grid, like=like)
    assert scalars(tmp_path / "r.nc") == {"rdt": 3600}


def test_example_of_another_grid_is_refused(grid, state, like, make_fields, tmp_path):
    other = box_grid(4, 5, 7)
    fields = {name: x[0] for name, x in make_fields(other).items()}
    with pytest.raises(ValueError, match=r"= \(4, 7, 5\), expected \(4, 5, 7\) of the grid"):
        write_restart(tmp_path / "r.nc", fields, other, like=like)
    levels = grid.tmask.sum(axis=0)
    levels[2, 2] = 2
    other = box_grid(4, 7, 5, levels=levels)
    fields = {name: x[0] for name, x in make_fields(other).items()}
    with pytest.raises(ValueError, match="tmask in 1 cells, first at level 2, j=2, i=2"):
        write_restart(tmp_path / "r.nc", fields, other, like=like)
    assert not (tmp_path / "r.nc").exists()


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda s: s.pop("sea_level"), "lacks sea_level, which NEMO requires"),
        (lambda s: s["salinity"].__setitem__((1, 1, 1), np.nan), "salinity .* level 1, j=1, i=1"),
        (lambda s: s.update(sea_level=s["sea_level"][0]), r"sea_level of the state has .*\(7, 5\)"),
    ],
)
def test_unfit_state_leaves_no_file(grid, state, tmp_path, break_it, sentence):
    break_it(state)
    with pytest.raises(ValueError, match=sentence):
        write_restart(tmp_path / "r.nc", state, grid)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("per_rank", [(6, 1), (0, 1), 0, 11])
def test_impossible_ranks_are_refused(grid, state, tmp_path, per_rank):
    with pytest.raises(ValueError, match="every rank needs a cell"):
        write_restart(tmp_path / "r.nc", state, grid, per_rank=per_rank)


def test_disk_that_fills_up_at_a_later_part_leaves_no_part(grid, state, tmp_path, monkeypatch):
    write = nemo_restart._write_part

    def fill_up(path, part, *rest):
        write(path, part, *rest)
        if part.number == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(nemo_restart, "_write_part", fill_up)
    with pytest.raises(OSError, match=r"Cannot write .*r_0000.nc .No space left on device"):
        write_restart(tmp_path / "r.nc", state, grid, per_rank=(2, 2))
    assert os.listdir(tmp_path) == []


def test_incomplete_restart_is_named(grid, state, tmp_path):
    path = tmp_path / "r.nc"
    write_restart(path, state, grid)
    with netCDF4.Dataset(path, "a") as file:
        file.renameVariable("un", "zz")
    with pytest.raises(ValueError, match=r"r.nc lacks un, expected un, vn, tn, sn and sshn"):
        read_restart(path)
    with pytest.raises(FileNotFoundError, match=r"s.nc does not exist, nor s_0000.nc"):
        read_restart(tmp_path / "s.nc")


def test_real_parts_joined_equal_the_one_written_again(require, tmp_path):
    grid = read_grid(require("nemo_gyre/mesh_mask.nc"))
    pair = require("nemo_gyre/restarts/GYRE_00002160_restart_0000.nc")
    state = read_restart(pair, grid)
    paths = write_restart(tmp_path / "r.nc", state, grid, like=pair, per_rank=(2, 1))
    for number, path in enumerate(paths):
        example = str(pair).replace("0000.nc", f"{number:04d}.nc")
        with netCDF4.Dataset(path) as ours, netCDF4.Dataset(example) as theirs:
            assert {a: np.array(ours.getncattr(a)).tolist() for a in ours.ncattrs()} == {
                a: np.array(theirs.getncattr(a)).tolist() for a in theirs.ncattrs()
            }
            for name, variable in ours.variables.items():
                assert variable.dtype == theirs[name].dtype, name
                assert variable.dimensions == theirs[name].dimensions, name
                assert np.array_equal(variable[...], theirs[name][...]), name
    write_restart(tmp_path / "whole.nc", state, grid, like=pair)
    whole = read_restart(tmp_path / "whole.nc")
    assert all(np.array_equal(whole[name], state[name]) for name in OCEAN)


@pytest.mark.parametrize("path", [GYRE, "nemo_dino/DINO_00001440_restart.nc"])
def test_real_restart_written_again_has_the_same_fields(require, tmp_path, path):
    grid = read_grid(require(path.split("/")[0] + "/mesh_mask.nc"))
    state = read_restart(require(path), grid)
    write_restart(tmp_path / "r.nc", state, grid, like=require(path))
    with netCDF4.Dataset(tmp_path / "r.nc") as ours, netCDF4.Dataset(require(path)) as theirs:
        for name in ("tn", "sn", "un", "vn", "sshn", "kt", "ndastp", "adatrj", "ntime", "rdt"):
            assert np.array_equal(ours[name][...], theirs[name][...]), name
        # DINO's reference column is not the one its levels have.
        for name in ("nav_lon", "nav_lat", *(["nav_lev"] if "GYRE" in path else [])):
            assert np.array_equal(ours[name][...], theirs[name][...]), name


def test_real_depth_means_are_those_of_nemo(require, tmp_path):
    grid = read_grid(require("nemo_gyre/mesh_mask.nc"))
    write_restart(tmp_path / "r.nc", read_restart(require(GYRE)), grid, depth_means=True)
    with netCDF4.Dataset(tmp_path / "r.nc") as ours, netCDF4.Dataset(require(GYRE)) as theirs:
        for name in ("uu_n", "vv_n"):
            # NEMO's sums over 30 levels of up to 0.4 m/s in another order.
            np.testing.assert_allclose(ours[name][:], theirs[name][:], rtol=0, atol=1e-15)


def test_real_ocean_restart_of_an_ice_run_is_read(require):
    state = read_restart(require("nemo_si3/BENCH_00000120_restart.nc"))
    assert state["temperature"].shape == (31, 50, 60) and state["sea_level"].shape == (1, 50, 60)
    assert (state["salinity"][30] == 0).all() and state["salinity"][0, 25, 30] > 30
