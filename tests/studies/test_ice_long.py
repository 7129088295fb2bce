"""A long forecast against the model: blocks, sharpness, pieces of a run that is interrupted."""

import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import zarr
from fake_model import START, state
from start_file import NI, NJ, sea

from halocline.io.forecast_store import create_forecast

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

import ice_long

HOURS = 9


@pytest.fixture
def forecast(tmp_path: Path) -> Path:
    """Six of nine hours are complete; ice grows from 0.8 by 0.02 an hour, and changes from row to row in member 1."""
    hours, path = np.arange(0.0, HOURS + 1, 3.0), tmp_path / "forecast.zarr"
    create_forecast(path, tuple(state()), sea(), (NJ, NI), 2, hours, START, {})
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for name, x in state().items():
        group[name][:] = np.broadcast_to(x[0], (2, len(hours), NJ, NI))
    concentration = 0.8 + 0.02 * hours[:, None, None] + np.zeros((NJ, NI))
    rows = 0.1 * (-1.0) ** np.arange(NJ)[:, None]
    group["concentration"][:] = np.where(sea(), np.stack([concentration, concentration + rows]), np.nan)
    group["complete"][:] = [2, 3]
    return path


def words(case, like: Path, forecast: Path, folder: Path, *more: object) -> list[str]:
    named = ["--model", case.model, "--config", case.config, "--like", like, "--forcing", like.parent / "weather.nc",
             "--atmosphere", like.parent / "example.nc"]  # fmt: skip
    return [str(x) for x in (forecast, "--folder", folder, "--piece", 0.125, "--block", 0.125, *named, *more)]


@pytest.fixture
def weather(tmp_path: Path) -> None:
    """Two hours of forcing, to be begun again, and an example of the model's."""
    sizes = {"xdim": NI, "ydim": NJ}
    for name in ("weather.nc", "example.nc"):
        with netCDF4.Dataset(tmp_path / name, "w") as file:
            file.createGroup("structure").type = "parametric_rectangular"
            data = file.createGroup("data")
            for axis, size in (("time", None), *sizes.items()):
                data.createDimension(axis, size)
            seconds = (START - np.datetime64("1970-01-01T00:00:00")) / np.timedelta64(1, "s")
            data.createVariable("time", "f8", ("time",))[:] = seconds + 3600.0 * np.arange(2)
            for key, x in {"u": 3.0, "v": 4.0, "tair": -20.0, "dew2m": -22.0, "lw_in": 200.0, "pair": 1e5}.items():
                data.createVariable(key, "f4", ("time", "ydim", "xdim"))[:] = np.full((2, NJ, NI), x)


def test_blocks_of_a_forecast_are_set_against_the_models_pieces(case, like, forecast, weather, tmp_path, capsys):
    ice_long.main(words(case, like, forecast, tmp_path / "long"))
    assert sorted(path.name for path in (tmp_path / "long").iterdir()) == ["piece_000", "piece_001", "table.csv"]
    lines = [line.split(",") for line in (tmp_path / "long" / "table.csv").read_text().splitlines()[1:]]
    rows = {(float(first), name): list(map(float, rest)) for first, _, name, *rest in lines}
    assert len(rows) == 12  # six variables, two blocks of three hours; the last three hours are not complete
    # rows of sea are 1, 2, 3: means of -0.1, 0.1, -0.1, weighted by cells 6, 5, 6, in one of two members
    shift = 0.5 * (-0.1 * 6 + 0.1 * 5 - 0.1 * 6) / 17
    assert rows[0.0, "concentration"][:2] == pytest.approx([0.86 + shift, 0.83], abs=1e-6)
    assert rows[0.125, "concentration"][:2] == pytest.approx([0.92 + shift, 0.86], abs=1e-6)  # from its own restart
    assert rows[0.0, "thickness"] == pytest.approx([1.0, 1.0, 0.0, 0.0])
    assert "0.125 to 0.25" in capsys.readouterr().out


def test_what_was_run_is_not_run_again(case, like, forecast, weather, tmp_path):
    folder = tmp_path / "long"
    ice_long.main(words(case, like, forecast, folder))
    (folder / "piece_001" / "done").unlink()
    before = (folder / "piece_000" / "out.nc").stat().st_mtime_ns
    ice_long.main(words(case, like, forecast, folder))
    assert (folder / "piece_000" / "out.nc").stat().st_mtime_ns == before and (folder / "piece_001" / "done").exists()
    with pytest.raises(SystemExit, match=r"piece_000 holds the run Case\(.*, expected Case\("):
        ice_long.main(words(case, like, forecast, folder, "--piece", 0.25))
    table = (folder / "table.csv").read_text()
    outputs = [folder / f"piece_00{n}" / "out.nc" for n in (0, 1)]
    other = words(case, like, forecast, tmp_path / "given")[:7]
    ice_long.main([*other, "--outputs", *map(str, outputs)])
    assert (tmp_path / "given" / "table.csv").read_text() == table


def test_a_model_that_fails_is_told(case, like, forecast, weather, tmp_path):
    group = zarr.open_group(forecast, mode="r+", use_consolidated=False)
    group["ice_u"][:] = np.broadcast_to(np.where(sea(), 0.91, np.nan), (2, 4, NJ, NI))
    with pytest.raises(SystemExit, match=r"The model failed in .*piece_000: the model ended with 7: no wind"):
        ice_long.main(words(case, like, forecast, tmp_path / "long"))


def test_what_is_missing_is_named(forecast, tmp_path, capsys):
    with pytest.raises(SystemExit):
        ice_long.main([str(forecast), "--folder", str(tmp_path / "long"), "--model", "nextsim"])
    assert "--config, --like, --atmosphere, --forcing missing" in capsys.readouterr().err
    zarr.open_group(forecast, mode="r+", use_consolidated=False)["complete"][:] = 0
    with pytest.raises(SystemExit, match="no complete step"):
        ice_long.main([str(forecast), "--folder", str(tmp_path / "long"), "--outputs", "none.nc"])


def test_sharpness_is_that_of_neighbours_in_the_sea():
    x = np.random.default_rng(0).normal(size=(3, NJ, NI))
    wet = sea()
    squares = [
        (x[:, j + a, i + b] - x[:, j, i]) ** 2
        for a, b in ((1, 0), (0, 1)) for j in range(NJ - a) for i in range(NI - b) if wet[j, i] and wet[j + a, i + b]
    ]  # fmt: skip
    assert ice_long.roughness(x, wet) == pytest.approx(np.sqrt(np.mean(squares)))
    assert ice_long.roughness(np.where(wet, x, np.nan), wet) == ice_long.roughness(x, wet)
