"""`halocline restart` takes a member of a forecast at a time of it."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from halocline.io.forecast_store import create_forecast
from halocline.mesh.grid import box_grid
from halocline.run.restart import RestartOptions, read_chosen

ICE = ("concentration", "thickness")


@pytest.fixture
def forecast(tmp_path: Path) -> Path:
    path, start = tmp_path / "forecast.zarr", np.datetime64("2010-01-31T18:00:00")
    create_forecast(path, ICE, np.ones((3, 4), bool), (3, 4), 2, np.array([0.0, 6.0, 12.0]), start, {})
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for k, name in enumerate(ICE):
        group[name][:] = 0.1 * k + 0.01 * np.arange(6).reshape(2, 3, 1, 1) + np.zeros((3, 4))
    group["complete"][:] = [2, 1]
    return path


def test_a_member_and_a_time_of_a_forecast_are_chosen(forecast, capsys):
    grid = box_grid(1, 3, 4)
    options = RestartOptions(states=str(forecast), output="start.nc", member=1, hours=6.0)
    fields, month = read_chosen(options, ICE, grid)
    assert fields["thickness"].shape == (1, 3, 4) and (fields["thickness"] == np.float32(0.14)).all()
    assert month == 2 and "member 1 at 2010-02-01T00:00:00" in capsys.readouterr().out
    last, _ = read_chosen(RestartOptions(states=str(forecast), output="start.nc"), ICE, grid)
    assert (last["concentration"] == np.float32(0.02)).all()  # the last complete time of member 0


def test_hours_belong_to_forecasts(tmp_path):
    options = RestartOptions(states=str(tmp_path / "states.nc"), output="start.nc", hours=6.0)
    with pytest.raises(ValueError, match=r"hours is 6, but .*states.nc is no forecast"):
        read_chosen(options, ICE, box_grid(1, 3, 4))
