"""`halocline degree-days`: the means that it writes, all else as it was, and forecasts that are told them."""

import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray
from case import Result, here
from ice_case import NI, NJ, RUNS, TIMES, sea, trajectories, write_case, write_grid, write_trajectories

from halocline.io import degree_day_files, forcing_files
from halocline.io.forcing import open_forcing
from halocline.io.models import open_states, read_grid
from halocline.physics.degree_days import DEGREE_DAYS, THRESHOLD
from halocline.state.variables import variable

MASK = sea()
NAMES = {"pdd_month": (1, 30), "fdd_month": (-1, 30), "pdd_year": (1, 366), "fdd_year": (-1, 366)}
TOLD = ["wind_u", "wind_v", "air_temperature", "freezing_month"]


def temperature() -> np.ndarray:
    """Around the freezing point of the sea, another in each trajectory; (trajectory, time, y, x), degC."""
    noise = np.random.default_rng(1).standard_normal((RUNS, TIMES, NJ, NI))
    return np.where(MASK, THRESHOLD + 4.0 * noise, 0.0).astype(np.float32)


def means(x: np.ndarray, sign: int, length: int) -> np.ndarray:
    """Of degrees above (1) or below (-1) the threshold, over the last records of each; x is (record, y, x), degC.

    Temperatures are whole multiples of 2**-16 K, of which sums of float64 are exact.
    """
    degrees = np.clip(sign * np.round((x.astype(np.float64) - THRESHOLD) * 2**16), 0, None) / 2**16
    return np.stack([degrees[max(0, k + 1 - length) : k + 1].mean(axis=0) for k in range(len(x))])


def write_flat(path: Path, hours: np.ndarray, kelvin: np.ndarray) -> None:
    """Forcing as ERA5 has it: no mask, a classic file."""
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as file:
        for name, size in zip(("time", "latitude", "longitude"), (None, *kelvin.shape[1:]), strict=True):
            file.createDimension(name, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units = "hours since 2010-01-01 00:00:00"
        time[:] = hours
        air = file.createVariable("t2m", "f4", ("time", "latitude", "longitude"), fill_value=-999.0)
        air.units = "K"
        air[:] = kelvin


def made(forcing: Path, output: Path) -> Path:
    result = here("degree-days", forcing, f"output={output}")
    assert result.status == 0, result.err
    return output


def test_fields_are_the_means_since_the_first_record_of_each_trajectory(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "in.nc", tas=temperature())
    with netCDF4.Dataset(made(tmp_path / "in.nc", tmp_path / "out.nc")) as file:
        for name, (sign, _) in NAMES.items():  # nine records fill no window
            assert (file[name].units, file[name].dimensions) == ("K", file["tas"].dimensions)
            expected = np.stack([means(x, sign, TIMES) for x in temperature()]).astype(np.float32)
            found = np.ma.filled(file[name][:], np.nan)
            assert np.isnan(found[..., ~MASK]).all()
            assert found[..., MASK].tobytes() == expected[..., MASK].tobytes(), name


def test_windows_are_of_30_and_366_days_whatever_the_interval(tmp_path: Path) -> None:
    for step, count in ((24.0, 400), (12.0, 800)):
        kelvin = 271.35 + 8.0 * np.random.default_rng(2).standard_normal((count, 2, 3))
        kelvin[:, 1, 2] = np.nan  # land, as the first record has it
        path = tmp_path / f"{step:g}.nc"
        write_flat(path, step * np.arange(count), np.where(np.isnan(kelvin), -999.0, kelvin))
        degrees = kelvin.astype(np.float32).astype(np.float64) - 273.15
        with netCDF4.Dataset(made(path, tmp_path / f"out{step:g}.nc")) as file:
            np.testing.assert_array_equal(np.ma.filled(file["t2m"][:], np.nan), kelvin.astype(np.float32))
            for name, (sign, days) in NAMES.items():
                expected = means(degrees, sign, round(days * 24 / step)).astype(np.float32)
                np.testing.assert_array_equal(np.ma.filled(file[name][:], np.nan), expected, err_msg=name)


def write_year(path: Path, kelvin: np.ndarray, first: int, last: int) -> Path:
    """Records of one file of a daily series."""
    write_flat(path, 24.0 * np.arange(first, last), kelvin[first:last])
    return path


def test_windows_go_on_from_file_to_file_in_the_order_of_their_times(tmp_path: Path) -> None:
    kelvin = 271.35 + 8.0 * np.random.default_rng(2).standard_normal((420, 2, 3))
    whole = made(write_year(tmp_path / "whole.nc", kelvin, 0, 420), tmp_path / "one.nc")
    years = [write_year(tmp_path / f"{k}.nc", kelvin, *ends) for k, ends in enumerate([(0, 10), (10, 380), (380, 420)])]
    result = here("degree-days", years[2], years[0], years[1], f"output={tmp_path / 'out'}")
    assert result.status == 0, result.err
    with netCDF4.Dataset(whole) as file:
        for name in NAMES:
            parts = []
            for year in years:
                with netCDF4.Dataset(tmp_path / "out" / year.name) as part:
                    parts.append(np.ma.filled(part[name][:], np.nan))
            assert np.concatenate(parts).tobytes() == np.ma.filled(file[name][:], np.nan).tobytes(), name


def test_files_that_are_no_series_are_a_sentence_and_leave_no_file(tmp_path: Path) -> None:
    kelvin = np.full((40, 2, 3), 260.0)
    first = write_year(tmp_path / "a.nc", kelvin, 0, 10)
    (tmp_path / "other").mkdir()
    narrow = tmp_path / "narrow.nc"
    write_flat(narrow, 24.0 * np.arange(10, 20), kelvin[10:20, :, :2])
    cases = (
        (write_year(tmp_path / "late.nc", kelvin, 11, 20), "48 h apart, expected 24 h"),
        (narrow, "has 1 trajectories and 4 cells of sea in (2, 2), expected 1 and the same 6 in (2, 3)"),
        (write_year(tmp_path / "other/a.nc", kelvin, 10, 20), "called alike"),
        (write_year(tmp_path / "over.nc", kelvin, 9, 20), "0 h apart, expected 24 h"),
    )
    for second, sentence in cases:
        result = here("degree-days", first, second, f"output={tmp_path / 'out'}")
        assert result.status == 1 and sentence in result.sentence, result.err
        assert not list(tmp_path.glob("out/*"))


def attributes(x: netCDF4.Dataset | netCDF4.Variable) -> dict[str, str]:
    return {name: repr(x.getncattr(name)) for name in x.ncattrs()}


def test_all_else_is_copied_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "in.nc"
    write_trajectories(path)
    with netCDF4.Dataset(path, "a") as file:
        file.title, file.version = "runs of a model", np.int32(3)
        file.createDimension("step", None)
        axes = ("step", "y", "x")
        packed = file.createVariable("packed", "i2", axes, zlib=True, chunksizes=(2, 5, 7), fill_value=-7)
        packed.setncatts({"scale_factor": 0.1, "add_offset": np.float32(2), "valid_range": np.array([-9, 9], "i2")})
        packed.set_auto_maskandscale(False)
        packed[:] = np.arange(-7, 5 * NJ * NI - 7).reshape(5, NJ, NI)
        text = file.createVariable("name", str, ("trajectory",))
        text[:] = np.array(["a", "bc", "d"], object)
        file.createGroup("about").createVariable("number", "f8", ()).assignValue(0.1)
    made(path, tmp_path / "out.nc")
    with netCDF4.Dataset(path) as before, netCDF4.Dataset(tmp_path / "out.nc") as after:
        before.set_auto_maskandscale(False)
        after.set_auto_maskandscale(False)
        assert [name for name in after.variables if name not in NAMES] == list(before.variables)
        assert attributes(after) == attributes(before) and after.dimensions["step"].isunlimited()
        assert after["packed"].chunking() == [2, 5, 7] and after["packed"].filters()["zlib"]
        for name in (*before.variables, "about/number"):
            one, other = before[name], after[name]
            assert (other.dtype, other.dimensions) == (one.dtype, one.dimensions)
            assert attributes(other) == attributes(one), name
            np.testing.assert_array_equal(other[...], one[...], err_msg=name)


def test_forcing_of_the_model_is_given_them_in_its_group(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "atm.nc", "w") as file:
        file.createGroup("structure").type = "parametric_rectangular"
        data = file.createGroup("data")
        for name, size in (("time", None), ("ydim", NJ), ("xdim", NI)):
            data.createDimension(name, size)
        data.createVariable("time", "f8", ("time",))[:] = 1.2e9 + 3600.0 * np.arange(TIMES)
        data.createVariable("tair", "f4", ("time", "ydim", "xdim"))[:] = temperature()[0]
    made(tmp_path / "atm.nc", tmp_path / "out.nc")
    write_grid(tmp_path / "init.nc")
    names = ("air_temperature", *DEGREE_DAYS)
    forcing = open_forcing(tmp_path / "out.nc", names, read_grid(tmp_path / "init.nc"))
    found = forcing.read(forcing.times[5])
    for name, (sign, _) in zip(DEGREE_DAYS, NAMES.values(), strict=True):
        expected = means(temperature()[0], sign, TIMES)[5].astype(np.float32)
        np.testing.assert_array_equal(found[name], np.where(MASK, expected, 0), err_msg=name)


def test_it_reads_one_field_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, read = [], degree_day_files._read

    def watched(*arguments: object) -> np.ndarray:
        sizes.append(np.size(x := read(*arguments)))
        return x

    monkeypatch.setattr(degree_day_files, "_read", watched)
    write_trajectories(tmp_path / "in.nc")
    made(tmp_path / "in.nc", tmp_path / "out.nc")
    assert len(sizes) >= RUNS * TIMES and max(sizes) == NJ * NI


def test_forcing_has_the_names_of_the_physics_and_humidity_in_any_unit_of_one(tmp_path: Path) -> None:
    assert forcing_files.DEGREE_DAYS == DEGREE_DAYS and set(DEGREE_DAYS) < set(forcing_files.FORCING)
    assert {variable(name).nextsim for name in DEGREE_DAYS} == set(NAMES)
    write_grid(tmp_path / "init.nc")
    grid = read_grid(tmp_path / "init.nc")
    for unit in ("1", "kg kg-1", "kg/kg", "kg kg**-1"):
        write_trajectories(tmp_path / "in.nc")
        with netCDF4.Dataset(tmp_path / "in.nc", "a") as file:
            file.createVariable("huss", "f4", file["tas"].dimensions)[:] = np.where(MASK, 0.002, 0)
            file["huss"].units = unit
        forcing = open_forcing(tmp_path / "in.nc", ("specific_humidity",), grid, trajectory=1)
        assert (forcing.read(forcing.times[0])["specific_humidity"][MASK] == np.float32(0.002)).all()
    with netCDF4.Dataset(tmp_path / "in.nc", "a") as file:
        file["huss"].units = "g/kg"
    with pytest.raises(ValueError, match=r"'g/kg', expected kg/kg for specific_humidity"):
        open_forcing(tmp_path / "in.nc", ("specific_humidity",), grid, trajectory=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of forecasts that are told degree-days."""
    folder = tmp_path_factory.mktemp("degree_days")
    config = write_case(folder, data={"states": ["with.nc"], "forcing": TOLD}, training={"steps": 10})
    made(folder / "trajectories.nc", folder / "with.nc")
    result = here("train", config)
    assert result.status == 0, result.err
    return folder / "run"


def asked(run: Path, forcing: Path, output: Path) -> Result:
    """A forecast of two steps from the held-out run."""
    usual = (f"start={run.parent / 'with.nc'}", f"state={2 * TIMES}", "forcing_trajectory=2", "lead=6", "steps=2")
    return here("forecast", run, *usual, "members=1", f"forcing={forcing}", f"output={output}")


def test_training_and_forecast_are_told_what_the_file_says(run: Path, tmp_path: Path) -> None:
    write_grid(tmp_path / "init.nc")
    source = open_states(run.parent / "with.nc", ("freezing_month",), read_grid(tmp_path / "init.nc"))
    known = np.stack([means(x, -1, TIMES) for x in trajectories()["tas"]]).reshape(-1, NJ, NI)[:, MASK]
    read = source.read(np.arange(RUNS * TIMES)).fields["freezing_month"][:, 0, MASK]
    np.testing.assert_array_equal(read, known.astype(np.float32))
    thickness = {}
    for name, factor in (("same", 1.0), ("warmer", 0.5)):
        shutil.copy(run.parent / "with.nc", tmp_path / f"{name}.nc")
        with netCDF4.Dataset(tmp_path / f"{name}.nc", "a") as file:
            file["fdd_month"][:] = factor * file["fdd_month"][:]
        result = asked(run, tmp_path / f"{name}.nc", tmp_path / f"{name}.zarr")
        assert result.status == 0, result.err
        with xarray.open_zarr(tmp_path / f"{name}.zarr") as data:
            thickness[name] = data["thickness"].values[..., MASK]
    usual = asked(run, run.parent / "with.nc", tmp_path / "usual.zarr")
    assert usual.status == 0, usual.err
    with xarray.open_zarr(tmp_path / "usual.zarr") as data:
        assert data["thickness"].values[..., MASK].tobytes() == thickness["same"].tobytes()
    assert (thickness["warmer"][:, 0] == thickness["same"][:, 0]).all()  # the start
    assert (thickness["warmer"][:, 1:] != thickness["same"][:, 1:]).mean() > 0.1


def test_where_degree_days_are_missing_the_error_says_how_to_make_them(run: Path, tmp_path: Path) -> None:
    result = asked(run, run.parent / "trajectories.nc", tmp_path / "x.zarr")
    assert result.status == 1
    assert "Forcing lacks freezing_month" in result.sentence and "`halocline degree-days " in result.sentence
    result = here("train", write_case(tmp_path, data={"forcing": TOLD}))
    assert result.status == 1
    assert "lacks fdd_month" in result.sentence and "`halocline degree-days " in result.sentence


def spoilt(path: Path, kind: str) -> Path:
    """Writes a file that is refused; returns the output that is asked for."""
    write_trajectories(path)
    if kind == "short":
        path.write_bytes(path.read_bytes()[:3000])
    if kind == "folder":
        path.unlink()
        path.mkdir()
    if path.is_dir() or kind == "short":
        return path.with_name("out.nc")
    with netCDF4.Dataset(path, "a") as file:
        if kind == "no temperature":
            file.renameVariable("tas", "air")
        if kind == "made before":
            file.renameVariable("snt", "fdd_year")
        if kind == "gap":
            file["time"][5:] += 6.0
        if kind == "7 h":
            file["time"][:] *= 7 / 6
        if kind == "hole":
            file["tas"][1, 4, 3, 2] = np.nan
        if kind == "kelvin":
            file["tas"][:] += 273.15
        if kind == "mask":
            file.renameDimension("x", "i")
            file.renameVariable("mask", "old")
            file.createVariable("mask", "i1", ("i", "y"))[:] = MASK.T
        if kind == "all land":
            file["mask"][:] = 0
    if kind == "exists":
        path.with_name("out.nc").write_text("of somebody")
    return path if kind == "itself" else path.with_name("out.nc")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("no temperature", "expected an air temperature, tas or t2m"),
        ("made before", "has fdd_year already, expected forcing without"),
        ("gap", "2010-01-11T00:00:00 and 2010-01-11T12:00:00 are 12 h apart, expected 6 h"),
        ("7 h", "are 7 h apart, expected an interval that divides a day"),
        ("hole", "is nan degC at 2010-01-11T00:00:00, trajectory 1, j=3, i=2"),
        ("kelvin", "degC at 2010-01-10T00:00:00, trajectory 0, j=1, i=1, expected -100 to 60"),
        ("mask", "mask of in.nc has the shape (19, 13), expected (13, 19)"),
        ("all land", "has no cell of sea"),
        ("short", "in.nc cannot be read"),
        ("folder", "in.nc is a folder, expected a netCDF file"),
        ("exists", "output is out.nc, which exists, expected a new file"),
        ("itself", "output is in.nc, the forcing itself"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_leaves_no_file(
    kind: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = spoilt(Path("in.nc"), kind)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    result = here("degree-days", "in.nc", f"output={output}")
    assert result.status == 1 and sentence in result.sentence and result.sentence.endswith("."), result.err
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_less_than_two_records_and_no_file_are_refused(tmp_path: Path) -> None:
    write_flat(tmp_path / "one.nc", np.zeros(1), np.full((1, 2, 3), 260.0))
    write_flat(tmp_path / "empty.nc", np.zeros(0), np.zeros((0, 2, 3)))
    told = (("one.nc", "has one record"), ("empty.nc", "has no record of t2m"), ("none.nc", "does not exist"))
    for name, sentence in told:
        result = here("degree-days", tmp_path / name, f"output={tmp_path / 'out.nc'}")
        assert result.status == 1 and sentence in result.sentence
    assert "Key 'output' is missing" in here("degree-days", tmp_path / "one.nc").sentence
