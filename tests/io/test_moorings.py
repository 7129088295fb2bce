"""Moorings of classic neXtSIM: fill values, sign of damage and grid; and the stress that its restart holds."""

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from halocline.constants import EARTH_RADIUS
from halocline.io.models import read_states
from halocline.io.nextsim import holds_nextsim
from halocline.io.nextsim_classic import read_records, replace_ice, write_records
from halocline.io.nextsim_moorings import read_moorings_grid

ICE = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")
NJ, NI, FILL = 4, 6, -1.0e14
UNITS = {"sic": "1", "sit": "m", "snt": "m", "damage": "1", "siu": "m s-1", "siv": "m s-1"}


def sea() -> np.ndarray:
    mask = np.ones((NJ, NI), bool)
    mask[0], mask[2, 3] = False, False
    return mask


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes Moorings; a keyword gives a variable another unit, `damage_is` another standard_name."""

    def make(name: str = "Moorings.nc", damage_is: str = "sea_ice_damage", shift: float = 0.0, **unit: str) -> Path:
        longitude, latitude = np.meshgrid(0.5 * np.arange(NI), 70.0 + 0.25 * np.arange(NJ))
        with netCDF4.Dataset(tmp_path / name, "w") as file:
            for axis, size in (("time", None), ("y", NJ), ("x", NI)):
                file.createDimension(axis, size)
            time = file.createVariable("time", "f8", ("time",))
            time.setncatts({"units": "days since 1900-01-01 00:00:00", "calendar": "standard"})
            time[:] = 42290.125 + 0.25 * np.arange(3)
            file.createVariable("latitude", "f4", ("y", "x"))[:] = latitude + shift
            file.createVariable("longitude", "f4", ("y", "x"))[:] = longitude
            for k, (key, usual) in enumerate(UNITS.items()):
                x = file.createVariable(key, "f4", ("time", "y", "x"), fill_value=FILL)
                x.units = unit.get(key, usual)
                if key == "damage":
                    x.standard_name = damage_is
                x[:] = np.where(sea(), 0.1 * k + 0.01 * np.arange(3)[:, None, None], FILL)
        return tmp_path / name

    return make


def test_moorings_are_states_with_damage_zero_where_intact(write):
    path = write()
    grid = read_moorings_grid(path)
    assert holds_nextsim(path) and (grid.tmask[0] == sea()).all()
    states = read_states(path, ICE, grid)
    assert len(states) == 3 and (states.year[0], states.month[0]) == (2015, 10)
    for name, k in zip(ICE, (0, 1, 2, 3, 4, 5), strict=True):
        np.testing.assert_allclose(states.fields[name][2, 0][sea()], 0.1 * k + 0.02, rtol=1e-6)
        assert np.isnan(states.fields[name][:, 0, ~sea()]).all()


def test_the_grid_of_moorings_has_the_distances_of_its_centres(write):
    grid = read_moorings_grid(write())
    np.testing.assert_allclose(grid.e2t, EARTH_RADIUS * np.deg2rad(0.25), rtol=1e-4)  # of float32 degrees
    chord = EARTH_RADIUS * np.deg2rad(0.5) * np.cos(np.deg2rad(70.0 + 0.25 * np.arange(NJ)))
    np.testing.assert_allclose(grid.e1t, np.broadcast_to(chord[:, None], (NJ, NI)), rtol=1e-4)


def test_what_is_ambiguous_is_refused(write):
    grid = read_moorings_grid(write())
    with pytest.raises(ValueError, match=r"damage of .* may be 0 or 1 where the ice is intact"):
        read_states(write("other.nc", damage_is="damage"), ICE, grid)
    with pytest.raises(ValueError, match=r"Unit of thickness .* is 'cm', expected m"):
        read_states(write(sit="cm"), ICE, grid)
    with pytest.raises(ValueError, match=r"Unit of snow .* is missing"):
        read_states(write(snt=""), ICE, grid)
    with pytest.raises(ValueError, match=r"latitude of .* is not that of the grid"):
        read_states(write("elsewhere.nc", shift=0.5), ICE, grid)
    with pytest.raises(ValueError, match="lacks tas or tus"):
        read_states(write(), ("air_temperature",), grid)


def test_vectors_that_point_east_and_north_are_refused(write):
    path = write()
    grid = read_moorings_grid(path)
    with netCDF4.Dataset(path, "a") as file:
        file.source = "neXtSIM model fields"
        file.createVariable("Polar_Stereographic_Grid", "i4").false_easting = np.float32(1.0)
    assert len(read_states(path, ICE, grid)) == 3
    with netCDF4.Dataset(path, "a") as file:
        file["Polar_Stereographic_Grid"].false_easting = np.float32(0.0)
    with pytest.raises(ValueError, match=r"ice_u \(siu of .*\) has a false_easting of 0: it points east and north"):
        read_states(path, ICE, grid)
    assert len(read_states(path, ICE[:4], grid)) == 3  # scalars have no axes
    with netCDF4.Dataset(path, "a") as file:
        file.source = "something else"  # whose false easting is what CF says, metres
    assert len(read_states(path, ICE, grid)) == 3
    with netCDF4.Dataset(path, "a") as file:
        file["siv"].standard_name = "northward_sea_ice_velocity"
    with pytest.raises(ValueError, match=r"ice_v .* has northward_sea_ice_velocity"):
        read_states(path, ICE, grid)


def test_the_models_own_moorings(require):
    path = require("nextsim/classic/Moorings.nc")
    grid = read_moorings_grid(path)
    assert grid.shape == (1, 40, 40) and int(grid.tmask.sum()) == 1600 - 79
    # 16 km on a stereographic plane that is true at 60 degrees; it is one of an ellipsoid, the grid's earth a sphere
    width = 16e3 * (1 + np.sin(np.deg2rad(grid.gphit))) / (1 + np.sin(np.deg2rad(60.0)))
    np.testing.assert_allclose(grid.e1t, width, rtol=5e-3)
    states = read_states(path, ICE, grid)
    assert len(states) == 6
    low, high = np.nanmin(states.fields["damage"]), np.nanmax(states.fields["damage"])
    assert low == 0.0 and 0.99 < high <= 1.0  # the restart of the same run: 0 to 0.9988, after the wind has broken it
    assert np.nanmax(states.fields["thickness"]) < 3.0


def test_the_stress_of_a_classic_restart_survives_a_change_of_its_ice(require, tmp_path):
    records = read_records(require("nextsim/classic/field_final.bin").with_suffix(""))
    changed = replace_ice(records, {"concentration": 0.9 * records["M_conc"]})
    write_records(tmp_path / "field_new", changed)
    back = read_records(tmp_path / "field_new")
    for k in range(3):
        assert np.abs(records[f"M_sigma_{k}"]).max() > 1e5  # Pa
        np.testing.assert_array_equal(back[f"M_sigma_{k}"], records[f"M_sigma_{k}"])
    assert not np.array_equal(back["M_conc"], records["M_conc"])
