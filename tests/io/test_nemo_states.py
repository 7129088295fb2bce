import shutil

import netCDF4
import numpy as np
import pytest

from halocline.io.nemo import read_grid, read_restart, read_states, write_restart
from halocline.mesh.grid import box_grid
from halocline.state.variables import VARIABLES

OCEAN = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize(("kind", "fill"), [("f8", 1e20), ("f4", 1e20), ("f8", None)])
def test_output_is_read_as_written_with_nan_on_land(grid, fields, write_output, kind, fill):
    states = read_states(write_output("o.nc", fields, kind, fill), OCEAN, grid)
    for name in OCEAN:
        assert states.fields[name].dtype == np.dtype(kind)
        assert same(states.fields[name], fields[name].astype(kind)), name
    assert states.year.tolist() == [1, 2, 2]
    assert states.month.tolist() == [12, 1, 2]
    np.testing.assert_allclose(states.season, [0, 1 / 12, 2 / 12], atol=1e-12)
    np.testing.assert_allclose(states.time, [360, 390, 420])


def test_variables_and_times_may_lie_in_several_files(grid, make_fields, write_output, tmp_path):
    whole = make_fields(grid, states=4)
    groups = {"T": ("temperature", "salinity", "sea_level"), "U": ("velocity_u",), "V": ("velocity_v",)}
    for point, names in groups.items():
        for part, times in enumerate((slice(0, 3), slice(3, 4))):
            chosen = {name: whole[name][times] for name in names}
            write_output(f"part{part}_grid_{point}.nc", chosen)
    states = read_states(tmp_path / "part*.nc", OCEAN, grid)
    assert all(same(states.fields[name], whole[name]) for name in OCEAN)
    (tmp_path / "part1_grid_V.nc").unlink()
    with pytest.raises(ValueError, match="velocity_v has 3 states and temperature has 4"):
        read_states(tmp_path / "part*.nc", OCEAN, grid)


def test_years_and_times_are_chosen(grid, fields, write_output):
    path = write_output("o.nc", fields)
    assert read_states(path, OCEAN, grid, first_year=2).month.tolist() == [1, 2]
    assert read_states(path, OCEAN, grid, last_year=1).month.tolist() == [12]
    states = read_states(path, OCEAN, grid, time=slice(None, None, 2))
    assert same(states.fields["salinity"], fields["salinity"][::2])
    with pytest.raises(ValueError, match="No state is left of 3 of years 1 to 2"):
        read_states(path, OCEAN, grid, first_year=3)


def test_selection_keeps_everything_together(grid, fields, write_output):
    path = write_output("o.nc", fields)
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("rn_avt0", "f8", ("time_counter",))[:] = [1.0, 2.0, 3.0]
    states = read_states(path, OCEAN, grid, parameters=("rn_avt0",))
    part = states.select(states.parameters["rn_avt0"] > 1.5)
    assert len(part) == 2
    assert part.month.tolist() == [1, 2] and part.parameters["rn_avt0"].tolist() == [2.0, 3.0]
    assert same(part.fields["sea_level"], fields["sea_level"][1:])


def test_parameter_may_be_one_number_of_the_file(grid, fields, write_output):
    path = write_output("o.nc", fields)
    with netCDF4.Dataset(path, "a") as file:
        file.rn_avt0 = 1.2e-5
    states = read_states(path, OCEAN, grid, parameters=("rn_avt0",), first_year=2)
    assert states.parameters["rn_avt0"].tolist() == [1.2e-5, 1.2e-5]
    with pytest.raises(ValueError, match=r"Parameter rn_avm0 of .*expected one value"):
        read_states(path, OCEAN, grid, parameters=("rn_avm0",))


def test_products_with_layer_thickness_are_divided_by_it(grid, fields, write_output):
    e3t = np.broadcast_to(grid.e3t, fields["temperature"].shape)
    products = {name: fields[name] * (e3t if "t" in name[:2] else 1.0) for name in OCEAN}
    products["salinity"] = fields["salinity"] * e3t
    path = write_output("o.nc", products)
    with pytest.raises(ValueError, match="not an average times layer thickness"):
        read_states(path, OCEAN, grid)
    with netCDF4.Dataset(path, "a") as file:
        axes = ("time_counter", "deptht", "y", "x")
        variable = file.createVariable("vovvle3t", "f8", axes, fill_value=1e20)
        variable[:] = np.where(grid.tmask, e3t, 1e20)
    states = read_states(path, OCEAN, grid)
    for name in OCEAN:
        # One product and one quotient.
        np.testing.assert_allclose(states.fields[name], fields[name], rtol=4e-16)


@pytest.mark.parametrize("unit", ["K", "kelvin", "m"])
def test_other_units_are_named(grid, fields, write_output, unit):
    path = write_output("o.nc", fields, temperature=unit)
    with pytest.raises(ValueError, match=f"Unit of temperature .votemper.* is '{unit}', expected degC"):
        read_states(path, OCEAN, grid)


@pytest.mark.parametrize("unit", ["degree_C", "Celsius", "", "C"])
@pytest.mark.parametrize("salt", ["PSU", "g kg-1", "1e-3"])
def test_other_spellings_of_a_unit_are_accepted(grid, fields, write_output, unit, salt):
    path = write_output("o.nc", fields, temperature=unit, salinity=salt, velocity_u="m s-1")
    assert len(read_states(path, OCEAN, grid)) == 3


def test_kelvin_without_a_unit_is_noticed(grid, fields, write_output):
    fields["temperature"] += 273.15
    with pytest.raises(ValueError, match=r"is 28\d.* degC at time index 0, .*check the unit"):
        read_states(write_output("o.nc", fields, temperature=""), OCEAN, grid)


def test_other_grid_is_noticed_by_its_size(fields, write_output):
    other = box_grid(4, 5, 7)
    with pytest.raises(ValueError, match=r"= \(4, 7, 5\), expected \(4, 5, 7\) of the grid"):
        read_states(write_output("o.nc", fields), OCEAN, other)


def test_data_on_land_are_counted_and_located(grid, fields, write_output):
    fields["velocity_u"][1, 0, 2, 0] = 0.1
    fields["velocity_u"][2, 0, 2, 0] = 0.1
    fields["velocity_u"][2, 3, 6, 4] = 0.1
    with pytest.raises(
        ValueError, match=r"velocity_u .*on 2 land cells of umask, .* index 1, level 0, j=2, i=0"
    ):
        read_states(write_output("o.nc", fields), OCEAN, grid)


@pytest.mark.parametrize("value", [np.nan, 1e20])
def test_wet_cells_without_value_are_counted_and_located(grid, fields, write_output, value):
    path = write_output("o.nc", fields)
    with netCDF4.Dataset(path, "a") as file:
        file.set_auto_mask(False)
        file["votemper"][2, 1, 4, 3] = value
    with pytest.raises(
        ValueError,
        match=r"temperature \(votemper .*missing or NaN at 1 wet cells .* index 2, level 1, j=4, i=3",
    ):
        read_states(path, OCEAN, grid, time=slice(1, None))


def test_file_with_zero_land_of_another_grid_is_noticed(grid, fields, write_output):
    fields["salinity"][:, 2, 1, 1] = np.nan
    path = write_output("o.nc", fields, fill=None)
    with pytest.raises(ValueError, match=r"salinity .* is 0, as on land, at 1 wet cells"):
        read_states(path, OCEAN, grid)


def test_damaged_and_missing_files_are_named(grid, fields, write_output, tmp_path):
    path = write_output("o.nc", fields)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"o.nc cannot be read .*restore it"):
        read_states(path, OCEAN, grid)
    with pytest.raises(FileNotFoundError, match=r"p.nc does not exist"):
        read_states(tmp_path / "p.nc", OCEAN, grid)
    with pytest.raises(FileNotFoundError, match=r"No file matches .*p\*.nc"):
        read_states(tmp_path / "p*.nc", OCEAN, grid)
    with pytest.raises(ValueError, match="No file of states was given"):
        read_states([], OCEAN, grid)


def test_missing_variable_and_date_are_named(grid, fields, write_output, tmp_path):
    path = write_output("o.nc", {"temperature": fields["temperature"]})
    with pytest.raises(ValueError, match="Variable salinity is in none of the files"):
        read_states(path, ("temperature", "salinity"), grid)
    with pytest.raises(ValueError, match="holds none of the wanted variables, expected vosaline or sn"):
        read_states(path, ("salinity",), grid)
    with netCDF4.Dataset(path, "a") as file:
        file["time_counter"].delncattr("units")
    with pytest.raises(ValueError, match="does not say when its states are"):
        read_states(path, ("temperature",), grid)


def test_many_restarts_make_one_series(grid, make_fields, tmp_path):
    example = tmp_path / "example.nc"
    fields = make_fields(grid, states=2)
    first = {name: x[0] for name, x in fields.items()}
    write_restart(example, first, grid)
    with netCDF4.Dataset(example, "a") as file:
        for name, value in (("kt", 60480), ("ndastp", 71230), ("adatrj", 2520), ("ntime", 0), ("rdt", 3600)):
            file.createVariable(name, "f8", ())[...] = value
    for n, month in enumerate((3, 9)):
        state = {name: x[n] for name, x in fields.items()}
        write_restart(tmp_path / f"r{n}.nc", state, grid, like=example, month=month, per_rank=2)
    states = read_states([tmp_path / "r0_000*.nc", tmp_path / "r1_0001.nc"], OCEAN, grid)
    assert all(same(states.fields[name], fields[name]) for name in OCEAN)
    assert states.year.tolist() == [7, 7] and states.month.tolist() == [3, 9]


@pytest.mark.parametrize("case", ["nemo_gyre", "nemo_dino"])
def test_real_states_fit_their_grid(require, case):
    grid = read_grid(require(f"{case}/mesh_mask.nc"))
    states = read_states(require(f"{case}/states.nc"), OCEAN, grid)
    for name in OCEAN:
        row = VARIABLES[name]
        with netCDF4.Dataset(require(f"{case}/states.nc")) as file:
            raw = file[row.nemo_output][-1].filled(np.nan)
        assert same(states.fields[name][-1], raw if row.is_3d else raw[None]), name
    with netCDF4.Dataset(require(f"{case}/states.nc")) as file:
        assert states.year.tolist() == file["year"][:].tolist()
        assert states.month.tolist() == file["month"][:].tolist()


def test_real_restart_and_output_agree_on_state_and_date(require):
    grid = read_grid(require("nemo_gyre/mesh_mask.nc"))
    output = read_states(require("nemo_gyre/states.nc"), OCEAN, grid, time=slice(59, 60))
    restart = read_states(require("nemo_gyre/restarts/GYRE_00129600_restart.nc"), OCEAN, grid)
    digits = {"temperature": 4.9e-4, "salinity": 3.2e-5, "velocity_u": 3.1e-5,
              "velocity_v": 3.1e-5, "sea_level": 3.8e-6}  # fmt: skip
    for name, error in digits.items():  # rounding, to the two digits of the file's description
        gap = np.nanmax(np.abs(output.fields[name] - restart.fields[name]))
        assert 0 < gap <= 1.02 * error, name
    for key in ("year", "month", "season", "time"):
        assert getattr(output, key) == getattr(restart, key), key


def test_real_parameters_are_read_per_state(require):
    grid = read_grid(require("nemo_gyre/mesh_mask.nc"))
    path = require("nemo_gyre/diffusivity.nc")
    states = read_states(path, ("salinity",), grid, parameters=("rn_avt0",))
    assert len(states) == 60
    assert np.unique(states.parameters["rn_avt0"]).tolist() == [3e-6, 6e-6, 1.2e-5, 2.4e-5, 4.8e-5]


def test_real_grids_do_not_accept_each_other(require):
    grid = read_grid(require("nemo_dino/mesh_mask.nc"))
    with pytest.raises(ValueError, match=r"= \(31, 22, 32\), expected \(36, 101, 27\)"):
        read_states(require("nemo_gyre/states.nc"), OCEAN, grid)


def test_real_truncated_restart_is_not_read_as_zeros(require, tmp_path):
    path = tmp_path / "r.nc"
    shutil.copy(require("nemo_gyre/restarts/GYRE_00129600_restart.nc"), path)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(800_000)
    with pytest.raises(OSError, match="truncated, at least 666328 bytes are missing"):
        read_restart(path)
