"""GenSIM's stores in their three layouts give the same states; what they do not say is not guessed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from halocline.io.models import open_states, read_states
from halocline.io.nextsim import holds_nextsim
from halocline.mesh.grid import Grid, box_grid

ICE = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")
NJ, NI, TIMES = 3, 5, 4
UNITS = {"sic": "1", "sit": "m", "snt": "m", "sid": "1", "siu": "m s-1", "siv": "m s-1", "tus": "K", "uas": "m s-1"}


def at_centres(grid: Grid) -> Grid:
    """The same grid with U and V points at cell centres, as for neXtSIM."""
    return replace(grid, umask=grid.tmask, vmask=grid.tmask)


@pytest.fixture
def grid() -> Grid:
    levels = np.ones((NJ, NI), int)
    levels[0, :2], levels[2, 3] = 0, 0
    return at_centres(box_grid(1, NJ, NI, levels=levels))


def content(grid: Grid) -> xr.Dataset:
    """States every six hours, NaN on land; the air in kelvins."""
    rng = np.random.default_rng(3)
    fields = {}
    for name, unit in UNITS.items():
        x = rng.uniform(0.1, 0.9, (TIMES, NJ, NI)).astype(np.float32) + (250.0 if unit == "K" else 0.0)
        fields[name] = (("time", "y", "x"), np.where(grid.tmask[0], x, np.nan).astype(np.float32), {"units": unit})
    times = np.datetime64("1995-01-01T03:00:00", "ns") + np.timedelta64(6, "h") * np.arange(TIMES)
    return xr.Dataset(fields, {"time": times})


def rows_of_sea(dataset: xr.Dataset, grid: Grid) -> xr.Dataset:
    """As GenSIM stacks the cells."""
    mask = grid.tmask[0].reshape(-1)
    stacked = dataset.stack(cell=("y", "x")).isel(cell=mask).drop_vars(["cell", "y", "x"], errors="ignore")
    return stacked.rename(cell="grid")


def cube(dataset: xr.Dataset, grid: Grid) -> xr.Dataset:
    """As GenSIM joins its variables."""
    joined = rows_of_sea(dataset, grid).to_dataarray("var_names").transpose("time", "var_names", "grid")
    joined = joined.assign_coords(var_names=joined["var_names"].astype("unicode"))
    return joined.to_dataset(name="datacube")


@pytest.fixture
def write(tmp_path: Path, grid: Grid) -> Callable[..., Path]:
    def make(layout: str, dataset: xr.Dataset | None = None, form: int = 2) -> Path:
        dataset = content(grid) if dataset is None else dataset
        path = tmp_path / f"{layout}{form}"
        if layout == "netcdf":
            dataset.to_netcdf(path)
            return path
        arranged = {"maps": lambda d, g: d, "rows": rows_of_sea, "cube": cube}[layout](dataset, grid)
        arranged.to_zarr(path, zarr_format=form, consolidated=False, mode="w")
        return path

    return make


@pytest.mark.parametrize(("layout", "form"), [("netcdf", 2), ("maps", 2), ("rows", 2), ("cube", 2), ("rows", 3)])
def test_every_layout_gives_the_same_states(grid, write, layout, form):
    path = write(layout, form=form)
    assert holds_nextsim(path)
    names = (*ICE, "air_temperature", "wind_u")
    states, expected = read_states(path, names, grid), content(grid)
    assert len(states) == TIMES and states.year.tolist() == [1995] * TIMES
    np.testing.assert_allclose(np.diff(states.time), 0.25, atol=1e-9)
    for name, key in zip(names, ("sic", "sit", "snt", "sid", "siu", "siv", "tus", "uas"), strict=True):
        x = expected[key].values - (273.15 if key == "tus" else 0.0)
        np.testing.assert_allclose(states.fields[name][:, 0], x, rtol=1e-6, atol=1e-5)


def test_some_states_are_read_and_the_store_is_known_again(grid, write):
    path = write("cube")
    source = open_states(path, ICE, grid)
    part = source.read(np.array([1, 3]))
    whole = read_states(path, ICE, grid)
    np.testing.assert_array_equal(part.fields["damage"], whole.fields["damage"][[1, 3]])
    file = source.files[0]
    assert file.is_as(file.to_dict()) and file.bytes > 0
    remembered = file.to_dict()
    array = zarr.open_group(path, mode="r+")["datacube"]
    array[0] = 0.5 * np.asarray(array[0])
    assert not open_states(path, ICE, grid).files[0].is_as(remembered)


def test_stores_that_do_not_fit_or_do_not_say_are_refused(grid, write):
    dataset = content(grid)
    with pytest.raises(ValueError, match="may be 0 or 1 where the ice is intact, expected sid"):
        read_states(write("rows", dataset.rename(sid="damage")), ICE, grid)
    with pytest.raises(ValueError, match="12 cells in a row, expected the 15"):
        read_states(write("rows"), ICE, at_centres(box_grid(1, NJ, NI)))
    with pytest.raises(ValueError, match=r"\(level, y, x\) = \(1, 3, 5\), expected \(1, 5, 3\)"):
        read_states(write("maps"), ICE, at_centres(box_grid(1, NI, NJ)))
    with pytest.raises(ValueError, match="lacks siv"):
        read_states(write("cube", dataset.drop_vars("siv")), ICE, grid)
    percent = dataset.assign(sic=(100.0 * dataset["sic"]).assign_attrs(units="%"))
    with pytest.raises(ValueError, match=r"Unit of concentration .* is '%'"):
        read_states(write("maps", percent), ICE, grid)
    with pytest.raises(ValueError, match=r"concentration .* expected 0 to 1"):
        read_states(write("cube", percent), ICE, grid)
    hole = dataset.copy(deep=True)
    hole["sit"][2, 1, 1] = -1.0e14
    with pytest.raises(ValueError, match=r"thickness .* missing or NaN at 1 wet cells .* j=1, i=1"):
        read_states(write("cube", hole), ICE, grid)


def test_other_folders_are_not_taken_for_stores(tmp_path):
    (tmp_path / "folder").mkdir()
    assert not holds_nextsim(tmp_path / "folder")
    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("x", shape=(2,), dtype="f4")
    assert not holds_nextsim(tmp_path / "other.zarr") and not holds_nextsim(tmp_path / "none.zarr")
