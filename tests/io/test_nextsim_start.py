"""Whatever state comes, the start file of neXtSIM_DG is one that the model can carry, or there is none."""

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import zarr
from start_file import NI, NJ, sea, write_start_file

from halocline.io.forecast_file import is_forecast, read_forecast_state
from halocline.io.forecast_store import create_forecast
from halocline.io.nextsim import read_grid, write_start
from halocline.io.nextsim_start import THICKEST, mend_ice
from halocline.mesh.grid import Grid

ICE = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")


@pytest.fixture
def write_like(tmp_path: Path) -> Callable[..., Path]:
    """Writes a start file of the configuration; None leaves a variable out."""

    def write(name: str = "like.nc", **change: float | None) -> Path:
        fields = {key: change.get(key, usual) for key, usual in {"tsurf": -12.0, "sst": -1.7, "sss": 32.0}.items()}
        return write_start_file(tmp_path / name, **{key: x for key, x in fields.items() if x is not None})

    return write


@pytest.fixture
def grid(write_like) -> Grid:
    return read_grid(write_like())


def state(**values: float) -> dict[str, np.ndarray]:
    """A usual state, with other values in the sea cell j=1, i=1."""
    usual = {"concentration": 0.9, "thickness": 1.2, "snow": 0.1, "damage": 0.4, "ice_u": 0.05, "ice_v": -0.02}
    fields = {name: np.where(sea(), x, np.nan)[None] for name, x in usual.items()}
    for name, x in values.items():
        fields[name][0, 1, 1] = x
    return fields


def read_back(path: Path) -> dict[str, np.ndarray]:
    with netCDF4.Dataset(path) as file:
        file["data"].set_auto_mask(False)
        return {name: variable[:] for name, variable in file["data"].variables.items()}


def check_valid(content: dict[str, np.ndarray]) -> None:
    """The rules of a start file."""
    assert all(np.isfinite(x).all() and (np.abs(x) < 1e30).all() for x in content.values())
    cice, hice, hsnow = content["cice"], content["hice"], content["hsnow"]
    for name in ("cice", "hice", "hsnow", "u", "v"):
        assert (content[name][~sea()] == 0).all(), name
    assert (cice >= 0).all() and (cice <= 1).all() and (hice >= 0).all() and (hsnow >= 0).all()
    bare = (cice == 0) | (hice == 0)
    assert (cice[bare] == 0).all() and (hice[bare] == 0).all() and (hsnow[bare] == 0).all()
    own = hice[~bare] / cice[~bare]
    assert (own > 0.01).all() and (own <= THICKEST * (1 + 1e-12)).all() and (hsnow <= hice).all()
    assert (content["damage"] > 0).all() and (content["damage"] <= 1).all()
    assert (content["tsurf"] <= 0).all() and (content["sss"][sea()] > 0).all()
    assert (content["sst"][sea()] >= -0.055 * content["sss"][sea()]).all()


@pytest.mark.parametrize(
    "values",
    [
        {"concentration": -0.02, "thickness": 0.3},
        {"concentration": 1.04},
        {"thickness": -0.03},
        {"thickness": 1e-5},
        {"concentration": 1e-10, "thickness": 0.5},
        {"concentration": 1e-3, "thickness": 0.3, "snow": 0.1},
        {"snow": -0.01},
        {"snow": 5.0},
        {"damage": 1.03},
        {"damage": -0.03},
        {"concentration": 0.0, "thickness": 0.0, "snow": 0.1, "damage": 1.0},
    ],
)
def test_a_hostile_state_becomes_a_possible_one(grid, write_like, tmp_path, values):
    content = read_back(write_start(tmp_path / "start.nc", state(**values), grid, like=write_like()))
    check_valid(content)
    assert content["cice"][1, 2] == 0.9 and content["hice"][1, 2] == 1.2 and content["damage"][1, 2] == 0.6


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"thickness": np.nan}, "thickness of the state is missing or NaN at 1 wet cells"),
        ({"damage": np.inf}, "damage of the state is missing or NaN"),
        ({"thickness": -0.5}, "thickness of the state is -0.5 m"),
        ({"concentration": 90.0}, r"concentration of the state is 90 1 .* expected 0 to 1"),
        ({"damage": -0.5}, "damage of the state is -0.5"),
        ({"thickness": 60.0}, "thickness of the state is 60 m at j=1, i=1, the first of 1 cells above 20 m"),
        ({"ice_u": 40.0}, "ice_u of the state is 40 m/s"),
    ],
)
def test_a_state_that_is_no_ice_is_refused_and_nothing_is_written(grid, write_like, tmp_path, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_start(tmp_path / "start.nc", state(**values), grid, like=write_like())
    assert not (tmp_path / "start.nc").exists()


def test_any_state_within_the_overshoot_starts(grid, write_like, tmp_path):
    rng = np.random.default_rng(0)
    ranges = {"concentration": (-0.05, 1.05), "thickness": (-0.05, 20.0), "snow": (-0.02, 3.0), "damage": (-0.05, 1.05),
              "ice_u": (-10.0, 10.0), "ice_v": (-10.0, 10.0)}  # fmt: skip
    for _ in range(5):
        fields = {name: rng.uniform(low, high, (1, NJ, NI)) for name, (low, high) in ranges.items()}
        check_valid(read_back(write_start(tmp_path / "start.nc", fields, grid, like=write_like())))


def test_thick_ice_over_little_area_keeps_its_volume(grid):
    mended = mend_ice(state(concentration=1e-3, thickness=0.5, snow=0.7), grid)
    assert mended["thickness"][0, 1, 1] == 0.5 and mended["concentration"][0, 1, 1] == 0.5 / THICKEST
    assert mended["snow"][0, 1, 1] == pytest.approx(0.5 * 108 / 330)  # as much as floats on 0.5 m of ice
    assert mended["concentration"][0, 1, 2] == 0.9  # what is possible stays as it was


def test_the_sea_is_at_freezing_where_nothing_is_said_and_never_below(grid, write_like, tmp_path):
    cases = (({"sst": None, "sss": None}, -0.055 * 32, 32.0), ({"sst": None, "sss": 30.0}, -0.055 * 30, 30.0),
             ({"sst": -2.5, "sss": 30.0}, -0.055 * 30, 30.0), ({"sst": 3.0, "sss": 30.0}, 3.0, 30.0))  # fmt: skip
    for change, sst, sss in cases:
        content = read_back(write_start(tmp_path / "start.nc", state(), grid, like=write_like("other.nc", **change)))
        assert (content["sst"][sea()] == sst).all() and (content["sss"][sea()] == sss).all()
        assert (content["sst"][~sea()] == 0).all()
        check_valid(content)


@pytest.fixture
def forecast(tmp_path: Path) -> Path:
    """Two members at 0, 6, 12 h; member 1 is complete to 6 h."""
    path = tmp_path / "forecast.zarr"
    hours, start = np.array([0.0, 6.0, 12.0]), np.datetime64("2010-01-20T00:00:00")
    create_forecast(path, ICE, sea(), (NJ, NI), 2, hours, start, {})
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for k, name in enumerate(ICE):
        for member, last in ((0, 2), (1, 1)):
            for time in range(last + 1):
                group[name][member, time] = np.where(sea(), 0.1 * k + 0.3 * member + 0.01 * time, np.nan)
    group["complete"][:] = [2, 1]
    return path


def test_a_member_of_a_forecast_becomes_a_start_file(grid, write_like, forecast, tmp_path):
    fields, when = read_forecast_state(forecast, ICE, grid, member=1, hours=6.0)
    assert when == np.datetime64("2010-01-20T06:00:00") and fields["snow"].shape == (1, NJ, NI)
    assert fields["snow"][0, 1, 1] == np.float32(0.51) and np.isnan(fields["snow"][0, 0, 0])
    fields["snow"] = 0.1 * fields["snow"]
    check_valid(read_back(write_start(tmp_path / "start.nc", fields, grid, like=write_like())))
    assert read_forecast_state(forecast, ICE, grid)[1] == np.datetime64("2010-01-20T12:00:00")  # the last one


def test_what_a_forecast_has_not_come_to_is_refused(grid, forecast, tmp_path):
    with pytest.raises(ValueError, match=r"hours is 12, but member 1 of .* is complete at 0, 6 to 6 h"):
        read_forecast_state(forecast, ICE, grid, member=1, hours=12.0)
    with pytest.raises(ValueError, match="member is 2, expected 0 to 1"):
        read_forecast_state(forecast, ICE, grid, member=2)
    with pytest.raises(ValueError, match="lacks temperature"):
        read_forecast_state(forecast, ("temperature",), grid)
    with pytest.raises(FileNotFoundError, match="is no forecast"):
        read_forecast_state(tmp_path, ICE, grid)
    assert is_forecast(forecast) and not is_forecast(tmp_path) and not is_forecast(tmp_path / "like.nc")
