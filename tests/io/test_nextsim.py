"""neXtSIM_DG's files: grid, states of diagnostics, restarts and trajectories, start files; made up and real ones."""

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from halocline.constants import EARTH_RADIUS
from halocline.io import models, nemo
from halocline.io.nextsim import holds_nextsim, is_dg, read_grid, read_states, write_start
from halocline.mesh.grid import Grid

ICE = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")
NJ, NI, WIDTH = 4, 6, 5.0e3
FILL = 1.7e38
DAY = 86400
START = 14619 * DAY  # 2010-01-10


def sea() -> np.ndarray:
    mask = np.ones((NJ, NI), bool)
    mask[0], mask[2, 3] = False, False
    return mask


def ice(seed: int = 0, states: int = 1) -> dict[str, np.ndarray]:
    """Values of the model on land and sea alike, (state, j, i), under its own names."""
    rng = np.random.default_rng(seed)
    shape = (states, NJ, NI)
    return {
        "cice": rng.uniform(0.2, 1.0, shape),
        "hice": rng.uniform(0.1, 2.0, shape),
        "hsnow": rng.uniform(0.0, 0.2, shape),
        "damage": rng.uniform(0.1, 1.0, shape),
        "u": rng.uniform(-0.2, 0.2, shape),
        "v": rng.uniform(-0.2, 0.2, shape),
    }


def add_grid(data: netCDF4.Group, spherical: bool, timed: bool = False) -> None:
    sizes = {"xdim": NI, "ydim": NJ, "xvertex": NI + 1, "yvertex": NJ + 1, "x_cg": NI + 1, "y_cg": NJ + 1,
             "dg_comp": 3, "dgstress_comp": 3, "ncoords": 2}  # fmt: skip
    for name, size in sizes.items():
        data.createDimension(name, size)
    x, y = np.meshgrid(np.arange(NI + 1.0), np.arange(NJ + 1.0))
    corner = np.stack([x, 60 + 0.5 * y] if spherical else [WIDTH * x, 2 * WIDTH * y], axis=-1)
    centre = 0.25 * (corner[1:, 1:] + corner[1:, :-1] + corner[:-1, 1:] + corner[:-1, :-1])
    names = ("longitude", "latitude") if spherical else ("x", "y")
    data.createVariable("coords", "f8", ("yvertex", "xvertex", "ncoords"))[:] = corner
    axes = ("time", "ydim", "xdim") if timed else ("ydim", "xdim")
    for name, values in zip((*names, "grid_azimuth"), (*np.moveaxis(centre, -1, 0), 0 * centre[..., 0]), strict=True):
        data.createVariable(name, "f8", axes)[:] = values


def create(path: Path) -> netCDF4.Dataset:
    file = netCDF4.Dataset(path, "w")
    for name in ("structure", "metadata"):
        file.createGroup(name).type = "parametric_rectangular"
    return file


@pytest.fixture
def write_restart(tmp_path: Path) -> Callable[..., Path]:
    """Writes a restart as the model does: cice and hice with DG components, 1.7e38 in the snow on land."""

    def write(name: str = "restart.nc", spherical: bool = False, **change: np.ndarray | None) -> Path:
        with create(tmp_path / name) as file:
            time = file["metadata"].createGroup("time").createVariable("time", "i8", ())
            time[...] = START + 10 * DAY
            data = file.createGroup("data")
            add_grid(data, spherical)
            values = {k: x[0] for k, x in ice().items()} | {
                "mask": sea().astype(float),
                "tsurf": np.full((NJ, NI), -12.0),
                "sst": np.where(sea(), -1.75, np.nan),
                "sss": np.full((NJ, NI), 32.0),
            }
            values["hsnow"] = np.where(sea(), values["hsnow"], FILL)
            values["damage"] = np.where(sea(), values["damage"], 1e-12)
            for key, x in (values | change).items():
                if x is None:
                    continue
                components = ("dg_comp",) * (key in ("cice", "hice"))
                variable = data.createVariable(key, "f8", ("ydim", "xdim", *components), fill_value=False)
                variable.missing_value = FILL
                variable[:] = np.stack([x, x + 9, x - 9], axis=-1) if components else x
        return tmp_path / name

    return write


@pytest.fixture
def write_diagnostics(tmp_path: Path) -> Callable[..., Path]:
    """Writes what ConfigOutput writes, six-hourly from the end of January: time along every field but coords."""

    def write(states: int = 3, name: str = "out.nc") -> Path:
        with create(tmp_path / name) as file:
            data = file.createGroup("data")
            data.createDimension("time", states)
            data.createVariable("time", "f8", ("time",))[:] = START + 22 * DAY + 21600 * np.arange(states)
            add_grid(data, spherical=False, timed=True)
            for key, x in ice(3, states).items():
                components = ("dg_comp",) * (key in ("cice", "hice"))
                variable = data.createVariable(key, "f8", ("time", "ydim", "xdim", *components))
                variable[:] = np.stack([x, x + 9, x - 9], axis=-1) if components else x
        return tmp_path / name

    return write


@pytest.fixture
def grid(write_restart) -> Grid:
    return read_grid(write_restart("grid.nc"))


def state(seed: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = {name: rng.uniform(0.1, 0.9, (1, NJ, NI)).astype(np.float32) for name in ICE}
    return {name: np.where(sea(), values, np.nan) for name, values in x.items()}


def read_back(path: Path) -> dict[str, np.ndarray]:
    with netCDF4.Dataset(path) as file:
        file["data"].set_auto_mask(False)
        return {name: variable[:] for name, variable in file["data"].variables.items()}


def test_a_cartesian_grid_has_one_level_with_all_points_at_cell_centres(grid):
    assert grid.shape == (1, NJ, NI)
    assert (grid.tmask[0] == sea()).all() and (grid.umask == grid.tmask).all() and (grid.vmask == grid.tmask).all()
    np.testing.assert_allclose(grid.e1t, WIDTH, rtol=1e-12)
    np.testing.assert_allclose(grid.e2v, 2 * WIDTH, rtol=1e-12)
    np.testing.assert_allclose(np.deg2rad(grid.glamu[0]) * EARTH_RADIUS, WIDTH * (np.arange(NI) + 0.5), rtol=1e-12)
    assert (grid.glamu == grid.glamt).all() and (grid.gphiv == grid.gphit).all()
    assert not grid.fmask[0, -1].any() and grid.fmask[0, 1, 0] and not grid.fmask[0, 1, 2]


def test_a_spherical_grid_has_the_widths_of_great_circles(write_restart):
    grid = read_grid(write_restart(spherical=True))
    latitude = np.deg2rad(60 + 0.5 * (np.arange(NJ) + 0.5))
    # a great circle between points one degree apart is shorter than the parallel by 1e-5 at these latitudes
    np.testing.assert_allclose(grid.e1t[:, 0], EARTH_RADIUS * np.deg2rad(1.0) * np.cos(latitude), rtol=5e-5)
    np.testing.assert_allclose(grid.e2t, EARTH_RADIUS * np.deg2rad(0.5), rtol=1e-12)
    np.testing.assert_allclose(grid.ff_t[:, 0], 2 * 7.292115e-5 * np.sin(latitude), rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"mask": None}, "no variable mask"), ({"mask": np.zeros((NJ, NI))}, "0 cells of sea")],
)
def test_a_grid_without_sea_is_refused(write_restart, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_grid(write_restart(**change))


def test_a_restart_gives_cell_means_and_damage_that_is_zero_where_intact(grid, write_restart):
    states = read_states(write_restart(), ICE, grid)
    model = ice()
    for name, key in zip(ICE, ("cice", "hice", "hsnow", None, "u", "v"), strict=True):
        expected = model[key] if key else 1.0 - model["damage"]
        np.testing.assert_array_equal(states.fields[name][:, 0], np.where(sea(), expected, np.nan))
    assert (states.year[0], states.month[0]) == (2010, 1)
    assert states.season[0] == pytest.approx(19 / 31 / 12)


def test_diagnostics_give_all_their_times(grid, write_diagnostics):
    states = read_states(str(write_diagnostics(3)), ICE, grid)
    assert len(states) == 3 and states.fields["thickness"].shape == (3, 1, NJ, NI)
    np.testing.assert_array_equal(states.fields["ice_v"][:, 0][:, sea()], ice(3, 3)["v"][:, sea()])
    assert states.month.tolist() == [1, 2, 2]  # 1 February 0:00 closes January
    np.testing.assert_allclose(states.time, 14641 + np.arange(3) / 4)


@pytest.fixture
def write_trajectories(tmp_path: Path) -> Callable[..., Path]:
    def write(**change: object) -> Path:
        with netCDF4.Dataset(tmp_path / "trajectories.nc", "w") as file:
            for name, size in (("trajectory", 2), ("time", 3), ("y", NJ), ("x", NI)):
                file.createDimension(name, size)
            time = file.createVariable("time", "f8", ("time",))
            time.setncatts({"units": "hours since 2010-01-10", "calendar": "standard"})
            time[:] = [24, 30, 36]
            file.createVariable("mask", "i1", ("y", "x"))[:] = change.get("mask", sea())
            values = np.where(sea(), np.random.default_rng(1).uniform(0, 1, (2, 3, NJ, NI)), change.get("land", 0))
            for name, unit in {"sic": "1", "sit": "m", "sid": "1", "snt": "m", "siu": "m s-1", "siv": "m s-1"}.items():
                variable = file.createVariable(name, "f4", ("trajectory", "time", "y", "x"))
                variable.units = change.get(name, unit)
                variable[:] = values
        return tmp_path / "trajectories.nc"

    return write


def test_trajectories_are_appended_to_each_other(grid, write_trajectories):
    path = write_trajectories()
    states = read_states(path, ICE, grid)
    assert len(states) == 6 and states.time.tolist() == [1.0, 1.25, 1.5] * 2
    with netCDF4.Dataset(path) as file:
        np.testing.assert_array_equal(states.fields["snow"][4, 0][sea()], file["snt"][1, 1].data[sea()])
    assert np.isnan(states.fields["snow"][:, 0, ~sea()]).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mask": np.ones((NJ, NI))}, "24 cells of sea .* expected the 17"),
        ({"land": 0.5}, "holds data on 7 land cells"),
        ({"sit": "cm"}, "Unit of thickness .* is 'cm', expected m"),
    ],
)
def test_trajectories_of_another_grid_or_unit_are_refused(grid, write_trajectories, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_states(write_trajectories(**change), ICE, grid)


def test_other_files_are_refused_with_their_name(grid, write_restart, tmp_path):
    with pytest.raises(ValueError, match="hold none"):
        read_states(write_restart(), ICE, grid, parameters=("albedo",))
    with pytest.raises(FileNotFoundError, match="No file matches"):
        read_states(tmp_path / "none*.nc", ICE, grid)
    with pytest.raises(ValueError, match=r"restart.nc .* not those of the grid"):
        read_states(write_restart(), ICE, read_grid(write_restart("other.nc", spherical=True)))
    with pytest.raises(ValueError, match="temperature is not one of"):
        read_states(write_restart(), ("temperature",), grid)
    with pytest.raises(ValueError, match=r"No state is left .* 2010 to 2010"):
        read_states(write_restart(), ICE, grid, first_year=2011)
    broken = np.where(sea(), 0.5, 0.0)
    broken[1, 1] = FILL
    with pytest.raises(ValueError, match=r"snow .* missing or NaN at 1 wet cells .* j=1, i=1"):
        read_states(write_restart(hsnow=broken), ICE, grid)


def test_files_are_told_apart_by_their_content(write_restart, write_trajectories, tmp_path):
    restart, trajectories = write_restart(), write_trajectories()
    with netCDF4.Dataset(tmp_path / "mesh_mask.nc", "w") as file:
        file.createDimension("x", 1)
    assert is_dg(restart) and not is_dg(trajectories) and not is_dg(tmp_path / "mesh_mask.nc")
    assert holds_nextsim(restart) and holds_nextsim(str(tmp_path / "traj*.nc"))
    assert not holds_nextsim(tmp_path / "mesh_mask.nc") and not holds_nextsim(tmp_path / "missing.nc")
    grid = models.read_grid(restart)
    assert len(models.read_states(str(trajectories), ICE, grid)) == 6
    with pytest.raises(ValueError, match="tmask nor bottom_level"):
        models.read_grid(tmp_path / "mesh_mask.nc")


def test_generated_states_keep_damage_through_a_file(grid, tmp_path):
    fields = {name: x[None] for name, x in state().items()}
    nemo.write_states(tmp_path / "states.nc", fields, grid, months=[1])
    back = models.read_states(tmp_path / "states.nc", ICE, grid)
    for name in ICE:
        np.testing.assert_array_equal(back.fields[name], fields[name].astype(np.float32))
    assert set(nemo.read_member(tmp_path / "states.nc", 0)) == set(ICE)


def test_a_start_file_has_all_that_the_model_requires(grid, write_restart, tmp_path):
    path = write_start(tmp_path / "start.nc", state(), grid, like=write_restart())
    with netCDF4.Dataset(path) as file:
        assert file["structure"].type == "parametric_rectangular"
        needed = {"xdim", "ydim", "xvertex", "yvertex", "x_cg", "y_cg", "dg_comp", "dgstress_comp", "ncoords"}
        assert set(file["data"].dimensions) == needed
        assert file["data/coords"].dimensions == ("yvertex", "xvertex", "ncoords")
        surface = [v for v in file["data"].variables.values() if v.name != "coords"]
        assert all(v.dimensions == ("ydim", "xdim") and v.dtype == "f8" for v in surface)
    content = read_back(path)
    assert set(content) == {"mask", "coords", "grid_azimuth", "x", "y", "cice", "hice", "hsnow", "damage", "u", "v",
                            "tsurf", "sst", "sss"}  # fmt: skip
    for name, x in content.items():
        assert np.isfinite(x).all() and (np.abs(x) < 1e30).all(), name
    for name in ("cice", "hice", "hsnow", "u", "v", "tsurf", "sst"):
        assert (content[name][~sea()] == 0).all(), name
    np.testing.assert_array_equal(content["damage"][sea()], 1.0 - state()["damage"][0, sea()].astype(np.float64))
    assert (read_grid(path).tmask == grid.tmask).all()


def test_impossible_ice_is_made_possible(grid, write_restart, tmp_path):
    fields = {name: np.where(sea(), 0.5, np.nan)[None] for name in ICE}
    cases = ((1, 0, 0.0, 0.3), (1, 1, 0.3, 0.0), (1, 2, 0.5, 0.004), (1, 3, 1e-13, 1e-15))  # j, i, concentration, m
    for j, i, concentration, thickness in cases:
        fields["concentration"][0, j, i], fields["thickness"][0, j, i] = concentration, thickness
    fields["damage"][0, 2, 0], fields["damage"][0, 2, 1] = 1.0, 0.0
    content = read_back(write_start(tmp_path / "start.nc", fields, grid, like=write_restart()))
    for j, i, *_ in cases:
        assert content["cice"][j, i] == content["hice"][j, i] == content["hsnow"][j, i] == 0.0
    assert content["damage"][2, 0] == 1e-12 and content["damage"][2, 1] == 1.0
    assert content["cice"][2, 4] == 0.5


def test_without_damage_and_velocity_ice_is_intact_and_at_rest(grid, write_restart, tmp_path):
    fields = {name: state()[name] for name in ("concentration", "thickness", "snow")}
    content = read_back(write_start(tmp_path / "start.nc", fields, grid, like=write_restart()))
    assert (content["damage"] == 1).all() and (content["u"] == 0).all() and (content["v"] == 0).all()
    with pytest.raises(ValueError, match="lacks snow"):
        write_start(tmp_path / "start.nc", {k: fields[k] for k in ("concentration", "thickness")}, grid,
                    like=write_restart())  # fmt: skip


def surface(usual: float, value: float) -> np.ndarray:
    """A field of the sea surface with one strange value in the sea."""
    x = np.full((NJ, NI), usual)
    x[1, 1] = value
    return x


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sst": surface(-1.7, np.nan)}, r"sst of .* is nan at j=1, i=1, the first of 1 cells"),
        ({"sss": surface(32.0, 0.0)}, r"sss of .* is 0 at j=1, i=1"),
        ({"tsurf": None}, "no variable tsurf"),
        ({"mask": np.ones((NJ, NI))}, "24 cells of sea"),
    ],
)
def test_an_example_in_which_the_model_would_fail_is_refused(grid, write_restart, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_start(tmp_path / "start.nc", state(), grid, like=write_restart(**change))
    assert not (tmp_path / "start.nc").exists()


def test_a_state_with_nan_in_the_sea_is_refused(grid, write_restart, tmp_path):
    fields = state()
    fields["ice_u"][0, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"ice_u of the state .* j=1, i=2"):
        write_start(tmp_path / "start.nc", fields, grid, like=write_restart())


def test_real_trajectories_hold_what_the_models_restart_holds(require):
    """Seed 103 at day 10 is in both; trajectories are rounded to the steps that the file names."""
    grid = models.read_grid(require("nextsim/dg_init.nc"))
    assert grid.shape == (1, 64, 64) and int(grid.tmask.sum()) == 3182
    restart = models.read_states(require("nextsim/dg_restart_20100120T00.nc"), ICE, grid)
    all_states = models.read_states(require("nextsim/trajectories.nc"), ICE, grid)
    assert len(all_states) == 8 * 77
    same = all_states.select(np.array([77 + (240 - 24) // 6]))
    np.testing.assert_allclose(same.season, restart.season, atol=1e-9)
    steps = (2**-10, 2**-8, 2**-12, 2**-8, 2**-10, 2**-10)
    for name, step in zip(ICE, steps, strict=True):
        np.testing.assert_allclose(same.fields[name], restart.fields[name], rtol=0, atol=0.5 * step + 1e-7)


def test_the_models_own_restart_survives_a_start_file(require, tmp_path):
    path = require("nextsim/dg_restart_20100120T00.nc")
    grid = models.read_grid(path)
    fields = {name: x[0] for name, x in models.read_states(path, ICE, grid).fields.items()}
    content = read_back(write_start(tmp_path / "start.nc", fields, grid, like=path))
    with netCDF4.Dataset(path) as file:
        file["data"].set_auto_mask(False)
        wet = file["data/mask"][:] == 1
        for name in ("cice", "hice", "hsnow", "u", "v", "sst", "sss", "tsurf"):
            x = file["data"][name][:]
            np.testing.assert_array_equal(content[name][wet], (x[..., 0] if x.ndim == 3 else x)[wet])
        # 1 - (1 - d) loses the last bits of a small d
        np.testing.assert_allclose(content["damage"][wet], file["data/damage"][:][wet], rtol=0, atol=1.2e-16)
