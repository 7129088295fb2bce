"""Forcing is read as the model reads it, converted only where a file says its unit, and refused where it ends."""

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from halocline.io.calendar import from_dates
from halocline.io.forcing import instants, open_forcing
from halocline.io.models import read_grid
from halocline.io.nextsim_forcing import ATMOSPHERE, write_forcing
from halocline.mesh.grid import Grid, box_grid

NJ, NI = 3, 5
START = 14629 * 86400  # 2010-01-20, s since 1970
HOUR = np.timedelta64(1, "h")
DAY0 = np.datetime64("2010-01-20T00:00:00")


@pytest.fixture
def grid() -> Grid:
    levels = np.ones((NJ, NI), int)
    levels[0], levels[2, 3] = 0, 0
    return box_grid(1, NJ, NI, levels=levels)


def values(records: int, offset: float = 0.0) -> np.ndarray:
    """Record number plus a tenth of the column, (record, j, i)."""
    return offset + np.arange(records)[:, None, None] + 0.1 * np.arange(NI) + 0.01 * np.arange(NJ)[:, None]


@pytest.fixture
def write_dg(tmp_path: Path) -> Callable[..., Path]:
    def write(
        name: str = "atm.nc",
        hours: object = range(6),
        shape: tuple[int, int] = (NJ, NI),
        **change: np.ndarray | None,
    ) -> Path:
        times = START + 3600.0 * np.array(list(hours), float)
        with netCDF4.Dataset(tmp_path / name, "w") as file:
            file.createGroup("structure").type = "parametric_rectangular"
            data = file.createGroup("data")
            for axis, size in (("time", None), ("ydim", shape[0]), ("xdim", shape[1])):
                data.createDimension(axis, size)
            data.createVariable("time", "f8", ("time",))[:] = times
            usual = {"u": values(len(times)), "v": values(len(times), -20.0), "tair": values(len(times), -30.0)}
            for variable, x in {**usual, **change}.items():
                if x is not None:
                    created = data.createVariable(variable, "f4", ("time", "ydim", "xdim"))
                    created[:] = np.resize(x, (len(times), *shape))
        return tmp_path / name

    return write


@pytest.fixture
def write_flat(tmp_path: Path) -> Callable[..., Path]:
    """A CF file, or trajectories: `write(trajectories=2)`."""

    def write(
        name: str = "flat.nc",
        fields: tuple[tuple[str, str | None], ...] = (("uas", "m s-1"), ("vas", "m/s"), ("tas", "degC")),
        hours: object = range(0, 36, 6),
        trajectories: int = 0,
        calendar: str = "standard",
        mask: np.ndarray | None = None,
        offset: float = 0.0,
    ) -> Path:
        hours = np.array(list(hours), float)
        with netCDF4.Dataset(tmp_path / name, "w") as file:
            for axis, size in (("trajectory", trajectories or 1), ("time", None), ("y", NJ), ("x", NI)):
                file.createDimension(axis, size)
            time = file.createVariable("time", "f8", ("time",))
            time.setncatts({"units": "hours since 2010-01-20 00:00:00", "calendar": calendar})
            time[:] = hours
            if mask is not None:
                file.createVariable("mask", "i1", ("y", "x"))[:] = mask
            for key, unit in fields:
                axes = ("trajectory",) * bool(trajectories) + ("time", "y", "x")
                variable = file.createVariable(key, "f4", axes, fill_value=-999.0)
                if unit is not None:
                    variable.units = unit
                x = values(len(hours), offset)
                variable[:] = np.stack([x + 50 * k for k in range(trajectories)]) if trajectories else x
        return tmp_path / name

    return write


def test_the_record_is_the_last_one_not_later_than_the_time(grid, write_dg):
    forcing = open_forcing(write_dg(), ATMOSPHERE, grid)
    assert (forcing.times == DAY0 + np.arange(6) * HOUR).all()
    for minutes, record in ((0, 0), (59, 0), (60, 1), (90, 1), (300, 5)):
        field = forcing.read(DAY0 + np.timedelta64(minutes, "m"))["wind_u"]
        np.testing.assert_array_equal(field[1], values(6)[record, 1].astype(np.float32))
        assert field.dtype == np.float32 and (field[0] == 0).all() and field[2, 3] == 0  # land
    assert forcing.read("2010-01-20T02:00:00")["air_temperature"][1, 1] == np.float32(-30 + 2 + 0.11)


def test_one_record_is_held_and_no_other(grid, write_dg):
    forcing = open_forcing(write_dg(), ATMOSPHERE, grid)
    first = forcing.read(DAY0)
    assert forcing.read(DAY0 + HOUR // 2)["wind_v"] is first["wind_v"]
    assert forcing.read(DAY0 + HOUR)["wind_v"] is not first["wind_v"]
    assert forcing._held is not None and forcing._held[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        first["wind_v"][0] = 1.0


def test_forcing_that_ends_or_begins_late_is_refused_with_both_times(grid, write_dg):
    forcing = open_forcing(write_dg(), ATMOSPHERE, grid)
    with pytest.raises(ValueError, match=r"ends at 2010-01-20T05:00:00 with .*atm.nc, but 2010-01-20T06:00:00"):
        forcing.read(DAY0 + 6 * HOUR)
    with pytest.raises(ValueError, match=r"begins at 2010-01-20T00:00:00 .* 2010-01-19T23:00:00 is needed"):
        forcing.require(DAY0 - HOUR, DAY0)
    with pytest.raises(ValueError, match="ends at"):
        forcing.require(DAY0, DAY0 + 6 * HOUR)
    assert forcing.covers(DAY0, DAY0 + 5 * HOUR) and not forcing.covers(DAY0, DAY0 + 6 * HOUR)


def test_a_gap_is_refused_before_the_run_unless_no_time_falls_into_it(grid, write_dg):
    forcing = open_forcing([write_dg("b.nc", (6, 7, 8)), write_dg("a.nc", (0, 1, 2, 3))], ATMOSPHERE, grid)
    assert forcing.covers(DAY0, DAY0 + 3 * HOUR) and forcing.covers(DAY0 + 6 * HOUR, DAY0 + 8 * HOUR)
    with pytest.raises(ValueError, match=r"no record between .*03:00:00 .*a.nc.* and .*06:00:00 .*b.nc"):
        forcing.require(DAY0, DAY0 + 8 * HOUR)
    forcing.require(DAY0, DAY0 + 6 * HOUR, every=3 * HOUR)  # asks at 0, 3 and 6 h
    with pytest.raises(ValueError, match="no record between"):
        forcing.read(DAY0 + 4 * HOUR)
    assert forcing.read(DAY0 + 7 * HOUR)["wind_u"][1, 0] == np.float32(1.01)  # the second record of b.nc


def test_forcing_may_begin_again(grid, write_dg):
    forcing = open_forcing(write_dg(), ATMOSPHERE, grid, cycle=True)
    for hours, record in ((5, 5), (6, 0), (13, 1), (6 * 10**5 + 3, 3)):
        assert forcing.read(DAY0 + hours * HOUR)["wind_u"][1, 0] == np.float32(record + 0.01)
    assert forcing.covers(DAY0, DAY0 + 10**6 * HOUR) and not forcing.covers(DAY0 - HOUR, DAY0)
    gapped = open_forcing(write_dg("gap.nc", (0, 1, 2, 5)), ATMOSPHERE, grid, cycle=True)
    assert not gapped.covers(DAY0, DAY0 + 100 * HOUR)


def test_a_trajectory_is_chosen_by_its_number(grid, write_flat):
    path = write_flat(trajectories=2, mask=grid.tmask[0])
    forcing = open_forcing(path, ATMOSPHERE, grid, trajectory=1)
    assert forcing.read(DAY0 + 7 * HOUR)["wind_u"][1, 2] == np.float32(51.21)
    for chosen in (None, 2):
        with pytest.raises(ValueError, match=r"expected 0 to 1"):
            open_forcing(path, ATMOSPHERE, grid, trajectory=chosen)
    with pytest.raises(ValueError, match="none to choose from"):
        open_forcing(write_flat("one.nc"), ATMOSPHERE, grid, trajectory=0)
    with pytest.raises(ValueError, match=r"15 cells of sea .* expected the 9"):
        open_forcing(write_flat("other.nc", trajectories=1, mask=np.ones((NJ, NI))), ATMOSPHERE, grid)


def test_kelvins_are_converted_only_where_the_unit_says_so(grid, write_flat, write_dg):
    era5 = write_flat(fields=(("u10", "m s**-1"), ("t2m", "K")), offset=250.0)
    with pytest.raises(ValueError, match=r"wind_u \(u10 .* is 250.01 m/s"):  # no wind, but its unit is understood
        open_forcing(era5, ("wind_u",), grid)
    forcing = open_forcing(era5, ("air_temperature",), grid)
    assert forcing.read(DAY0)["air_temperature"][1, 0] == pytest.approx(250.01 - 273.15, abs=1e-4)
    for unit, sentence in ((None, "missing, expected degC"), ("F", "'F', expected degC")):
        with pytest.raises(ValueError, match=sentence):
            open_forcing(write_flat(fields=(("tas", unit),)), ("air_temperature",), grid)
    with pytest.raises(ValueError, match=r"air_temperature .* is 250.01 degC .* check the unit"):
        open_forcing(write_dg(tair=values(6, 250.0)), ATMOSPHERE, grid)


def test_winds_to_the_east_are_not_taken_for_winds_along_the_grid(grid, write_flat):
    path = write_flat()
    with netCDF4.Dataset(path, "a") as file:
        file["uas"].standard_name = "eastward_wind"
    with pytest.raises(ValueError, match=r"standard_name eastward_wind, expected wind_u along the axes of the grid"):
        open_forcing(path, ("wind_u",), grid)


def test_variables_may_lie_in_files_of_their_own_with_the_same_times(grid, write_flat):
    wind = write_flat("wind.nc", (("uas", "m/s"),))
    air = write_flat("air.nc", (("tas", "degC"),))
    assert open_forcing([air, wind], ("wind_u", "air_temperature"), grid).variables == ("wind_u", "air_temperature")
    with pytest.raises(ValueError, match="lacks wind_v"):
        open_forcing([air, wind], ("wind_u", "wind_v"), grid)
    late = write_flat("late.nc", (("tas", "degC"),), hours=range(6, 42, 6))
    with pytest.raises(ValueError, match=r"air_temperature has 6 records from 2010-01-20T06"):
        open_forcing([late, wind], ("wind_u", "air_temperature"), grid)


def test_other_files_are_refused_with_their_name(grid, write_dg, write_flat, tmp_path):
    with pytest.raises(ValueError, match=r"\(level, y, x\) = \(1, 5, 3\), expected \(1, 3, 5\)"):
        open_forcing(write_dg(shape=(NI, NJ)), ATMOSPHERE, grid)
    with pytest.raises(ValueError, match="lacks wind_v"):
        open_forcing(write_dg(v=None), ATMOSPHERE, grid)
    with pytest.raises(ValueError, match=r"a.nc .* and .*b.nc .* overlap"):
        open_forcing([write_dg("a.nc"), write_dg("b.nc", (5, 6, 7))], ATMOSPHERE, grid)
    with pytest.raises(ValueError, match="do not ascend"):
        open_forcing(write_dg(hours=(0, 2, 1)), ATMOSPHERE, grid)
    with pytest.raises(ValueError, match="calendar 'noleap'"):
        open_forcing(write_flat(calendar="noleap"), ATMOSPHERE, grid)
    with pytest.raises(ValueError, match=r"missing or NaN at 1 wet cells .* time index 2, level 0, j=1, i=1"):
        open_forcing(write_dg(u=np.where(np.arange(90).reshape(6, NJ, NI) == 36, np.nan, 0.0)), ATMOSPHERE, grid).read(
            DAY0 + 2 * HOUR
        )
    with pytest.raises(ValueError, match="expected some of wind_u"):
        open_forcing(write_dg(), ("snow",), grid)
    with pytest.raises(FileNotFoundError, match="No file matches"):
        open_forcing(tmp_path / "none.nc", ATMOSPHERE, grid)


def test_times_of_states_come_back_from_their_place_in_the_year():
    hours = np.array([0.0, 6.0, 24 * 22, 24 * 22 + 0.5, 24 * 50, 24 * 356, 24 * 800 + 1])
    found = instants(from_dates(hours, "hours since 2010-01-10 00:00:00", "standard"))
    assert (found == np.datetime64("2010-01-10") + np.array(3600 * hours, "timedelta64[s]")).all()
    with pytest.raises(ValueError, match="unknown"):
        instants(from_dates(hours, "hours since 0000-01-10 00:00:00", "noleap"))


def test_the_models_forcing_and_the_trajectories_are_one(require):
    """Trajectory 1 (seed 103) from day 10 on is the run whose forcing is there: equal but for rounding."""
    grid = read_grid(require("nextsim/dg_init.nc"))
    model = open_forcing(require("nextsim/dg_forcing_atm.nc"), ATMOSPHERE, grid)
    runs = open_forcing(require("nextsim/trajectories.nc"), ATMOSPHERE, grid, trajectory=1)
    assert len(model.times) == 25 and len(runs.times) == 77 and runs.valid == 6 * HOUR
    for hours in (0, 6, 12, 18, 24):
        one, other = model.read(DAY0 + hours * HOUR), runs.read(DAY0 + hours * HOUR)
        for name in ATMOSPHERE:
            # files round to 1/16 and 1/8, trajectories to 1/4
            np.testing.assert_allclose(one[name], other[name], rtol=0, atol=0.125 + 0.0625)


def test_the_model_is_given_the_forecasts_weather(grid, write_dg, write_flat, tmp_path):
    """Linear between records; dew point and sky follow the temperature; wind speed is that of the components."""
    sky, pressure = np.full((6, NJ, NI), 200.0), np.full((6, NJ, NI), 1e5)
    like = write_dg("like.nc", dew2m=values(6, -34.0), lw_in=sky, pair=pressure)
    forcing = open_forcing(write_flat(offset=-10.0), ATMOSPHERE, grid)
    times = DAY0 + np.arange(0, 13, 3) * HOUR
    path = write_forcing(tmp_path / "atm.nc", forcing, times, like=like)
    back = open_forcing(path, ATMOSPHERE, grid)
    assert (back.times == times).all()
    expected = values(3, -10.0)
    np.testing.assert_allclose(back.read(times[2])["wind_u"][1], expected[1, 1], rtol=1e-6)
    np.testing.assert_allclose(back.read(times[3])["wind_u"][1], 0.5 * (expected[1, 1] + expected[2, 1]), rtol=1e-6)
    with netCDF4.Dataset(path) as file:
        data = {name: file["data"][name][:] for name in file["data"].variables}
    np.testing.assert_allclose(data["wind_speed"], np.hypot(data["u"], data["v"]), rtol=1e-6)
    np.testing.assert_allclose(data["tair"] - data["dew2m"], 4.0, atol=1e-4)
    warmer = (data["tair"][4, 1, 2] + 273.15) / (-30 + 0.21 + 273.15)
    assert data["lw_in"][4, 1, 2] == pytest.approx(200.0 * warmer**4, rel=1e-6)
    assert (data["pair"] == 1e5).all()
    with pytest.raises(ValueError, match="Forcing ends at"):
        write_forcing(tmp_path / "atm.nc", forcing, DAY0 + np.arange(40) * HOUR, like=like)


def test_the_model_is_given_weather_that_begins_again(grid, write_dg, write_flat, tmp_path):
    """The last record goes over into the first within its validity, and the sky may be given."""
    sky, pressure = np.full((6, NJ, NI), 200.0), np.full((6, NJ, NI), 1e5)
    like = write_dg("like.nc", dew2m=values(6, -34.0), lw_in=sky, pair=pressure)
    forcing = open_forcing(write_flat(offset=-10.0), ATMOSPHERE, grid, cycle=True)
    times = DAY0 + np.array([0, 30, 33, 36, 69]) * HOUR
    assert forcing.bracket(times[2]) == (times[1], times[3]) and forcing.bracket(times[0])[1] == DAY0 + 6 * HOUR
    path = write_forcing(tmp_path / "atm.nc", forcing, times, like=like, emissivity=0.8)
    with netCDF4.Dataset(path) as file:
        wind, sky, air = (file["data"][name][:, 1, 1].astype(float) for name in ("u", "lw_in", "tair"))
    first, last = values(6, -10.0)[[0, 5], 1, 1]
    np.testing.assert_allclose(wind, [first, last, 0.5 * (first + last), first, 0.5 * (first + last)], rtol=1e-6)
    np.testing.assert_allclose(sky, 0.8 * 5.670374419e-8 * (air + 273.15) ** 4, rtol=1e-6)
