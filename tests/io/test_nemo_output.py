import os
import time

import netCDF4
import numpy as np
import pytest
import xarray

from halocline.io.nemo import read_grid, read_member, read_states, standard_names_of, write_states

OCEAN = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")
MONTHS = [3, 12, 7]


def test_written_states_come_back_to_float32(grid, fields, tmp_path):
    path = tmp_path / "s.nc"
    write_states(path, fields, grid, months=MONTHS)
    states = read_states(path, OCEAN, grid)
    for name in OCEAN:
        assert np.array_equal(states.fields[name], fields[name].astype("f4"), equal_nan=True), name
    assert states.month.tolist() == MONTHS
    np.testing.assert_allclose(states.season, [0.25, 0.0, 7 / 12])
    assert os.listdir(tmp_path) == ["s.nc"]


def test_member_is_found_by_its_number(grid, fields, tmp_path):
    path = tmp_path / "s.nc"
    write_states(path, fields, grid, months=MONTHS, members=[4, 7, 9], season=[0.2, 0.9, 0.5])
    member = read_member(path, 7)
    for name in OCEAN:
        assert np.array_equal(member[name], fields[name][1].astype("f4"), equal_nan=True), name
    np.testing.assert_allclose(read_states(path, OCEAN, grid).season, [0.2, 0.9, 0.5])
    with pytest.raises(ValueError, match=r"Member 1 is not in .*s.nc, expected one of 4, 7, 9"):
        read_member(path, 1)


def test_land_of_any_content_becomes_fill_value(grid, fields, tmp_path):
    path = tmp_path / "s.nc"
    zeros = {name: np.nan_to_num(x) for name, x in fields.items()}
    write_states(path, zeros, grid, months=MONTHS)
    with netCDF4.Dataset(path) as file:
        file.set_auto_mask(False)
        assert (file["vozocrtx"][:][:, ~grid.umask] == np.float32(1e20)).all()
        assert (file["sossheig"][:][:, ~grid.tmask[0]] == np.float32(1e20)).all()


def test_equal_states_give_equal_bytes(grid, fields, tmp_path):
    for name in "ab":
        write_states(tmp_path / f"{name}.nc", fields, grid, months=MONTHS, attributes={"seed": 3})
        time.sleep(1.1)  # a time stamp in the file would differ
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


def test_file_describes_itself_to_cf_readers(grid, fields, tmp_path):
    path = tmp_path / "s.nc"
    write_states(
        path, fields, grid, months=MONTHS, attributes={"title": "test", "seed": 7},
        standard_names={"temperature": "sea_water_conservative_temperature"},
    )  # fmt: skip
    with xarray.open_dataset(path) as data:
        assert data.votemper.dims == ("member", "deptht", "y", "x")
        assert data.sossheig.dims == ("member", "y", "x")
        assert data.votemper.dtype == np.float32
        assert data.votemper.attrs["standard_name"] == "sea_water_conservative_temperature"
        assert data.vosaline.attrs["units"] == "1e-3"
        assert {"season", "month", "nav_lat_u", "nav_lon_u", "deptht"} <= set(data.vozocrtx.coords)
        assert np.array_equal(data.votemper.isnull().values[0], ~grid.tmask)
        np.testing.assert_allclose(data.deptht, grid.gdept_1d, rtol=1e-7)  # float32
        assert (data.attrs["title"], data.attrs["seed"], data.attrs["Conventions"]) == (
            "test", 7, "CF-1.8",
        )  # fmt: skip
    with netCDF4.Dataset(path) as file:
        filters = file["votemper"].filters()
        assert filters["zlib"] and filters["complevel"] == 1
        assert file["votemper"]._FillValue == np.float32(1e20)


@pytest.mark.parametrize(
    ("equation_of_state", "temperature", "salinity", "unit"),
    [
        ("eos80", "potential", "practical", "1e-3"),
        ("teos10", "conservative", "absolute", "g kg-1"),
        ("seos", "conservative", "absolute", "g kg-1"),
        ("dino", "conservative", "absolute", "g kg-1"),
    ],
)
def test_tracers_are_named_as_the_equation_of_state_takes_them(
    grid, fields, tmp_path, equation_of_state, temperature, salinity, unit
):
    path = tmp_path / "s.nc"
    write_states(path, fields, grid, months=MONTHS, standard_names=standard_names_of(equation_of_state))
    with netCDF4.Dataset(path) as file:
        assert file["votemper"].standard_name == f"sea_water_{temperature}_temperature"
        assert file["vosaline"].standard_name == f"sea_water_{salinity}_salinity"
        assert file["vosaline"].units == unit
    again = read_states(path, ("salinity",), grid)  # in either unit
    assert np.array_equal(again.fields["salinity"], fields["salinity"].astype("f4"), equal_nan=True)


def test_unknown_equation_of_state_is_named():
    with pytest.raises(ValueError, match=r"'linear', expected one of eos80, teos10, seos, dino"):
        standard_names_of("linear")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"months": [1, 2]}, "temperature to be written has shape .* with 2 members"),
        ({"months": []}, "expected one for each member"),
        ({"months": MONTHS, "season": [0.5]}, "have 3, 1 and 3 entries"),
    ],
)
def test_numbers_that_do_not_match_are_named(grid, fields, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_states(tmp_path / "s.nc", fields, grid, **change)
    assert os.listdir(tmp_path) == []


def test_nan_in_the_sea_is_not_written(grid, fields, tmp_path):
    fields["velocity_v"][1, 2, 1, 3] = np.nan
    with pytest.raises(ValueError, match=r"velocity_v to be written .* index 1, level 2, j=1, i=3"):
        write_states(tmp_path / "s.nc", fields, grid, months=MONTHS)
    with pytest.raises(ValueError, match="damage to be written is"):
        write_states(tmp_path / "s.nc", {"damage": fields["sea_level"]}, grid, months=MONTHS)
    assert os.listdir(tmp_path) == []


def test_real_states_survive_writing(require, tmp_path):
    grid = read_grid(require("nemo_dino/mesh_mask.nc"))
    states = read_states(require("nemo_dino/states.nc"), OCEAN, grid, time=slice(0, 2))
    write_states(tmp_path / "s.nc", states.fields, grid, months=states.month)
    again = read_states(tmp_path / "s.nc", OCEAN, grid)
    for name in OCEAN:
        assert np.array_equal(again.fields[name], states.fields[name], equal_nan=True), name
