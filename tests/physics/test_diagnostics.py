"""All diagnostics together: completeness, land, broken cells, and NEMO's own figures."""

import numpy as np
import pytest
import torch
from setting import LINEAR, broken_grid, cut, split

from halocline.constants import RCP, RHO0
from halocline.mesh.grid import Grid, box_grid
from halocline.physics.diagnostics import (
    DIAGNOSTICS,
    DiagnosticOptions,
    diagnose,
    diagnose_drift,
    of_member,
)
from halocline.physics.geometry import Geometry
from halocline.physics.seawater import DINO_SEOS, EOS80, EquationOfState
from halocline.physics.verdict import Thresholds, judge


def random_fields(grid: Grid, layout, seed: int = 0, land: float = 0.0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    three = (2, *grid.shape)
    fields = {
        "temperature": np.where(grid.tmask, rng.normal(10.0, 2.0, three), land),
        "salinity": np.where(grid.tmask, rng.normal(35.0, 0.5, three), land),
        "velocity_u": np.where(grid.umask, rng.normal(0.0, 0.1, three), land),
        "velocity_v": np.where(grid.vmask, rng.normal(0.0, 0.1, three), land),
        "sea_level": np.where(grid.wet, rng.normal(0.0, 0.3, (2, 1, grid.nj, grid.ni)), land),
    }
    return {name: cut(x, layout) for name, x in fields.items()}


@pytest.fixture
def ocean():
    grid = broken_grid(periodic_i=True)
    geometry, layout = split(grid)
    return grid, geometry, layout, random_fields(grid, layout)


def test_every_diagnostic_of_the_table_is_computed(ocean):
    _, geometry, layout, fields = ocean
    result = diagnose(fields, geometry, layout, LINEAR)
    assert list(result) == list(DIAGNOSTICS)
    sizes = {"k": 5, "w": 4, "j": 8, "i": 11}
    for name, value in result.items():
        assert value.shape == (2, *(sizes[dim] for dim in DIAGNOSTICS[name].dims)), name
        assert value.dtype == torch.float64, name


@pytest.mark.parametrize("free_surface", ["nonlinear", "top_layer"])
def test_diagnostics_do_not_look_at_land(ocean, free_surface):
    grid, geometry, layout, fields = ocean
    plain = diagnose(fields, geometry, layout, LINEAR)
    options = DiagnosticOptions(free_surface=free_surface)
    stretched = diagnose(fields, geometry, layout, LINEAR, options)
    for land in (np.nan, 1e20, -7.0):
        other = random_fields(grid, layout, land=land)
        for name, value in diagnose(other, geometry, layout, LINEAR).items():
            torch.testing.assert_close(value, plain[name], rtol=0, atol=0, equal_nan=True)
        for name, value in diagnose(other, geometry, layout, LINEAR, options).items():
            torch.testing.assert_close(value, stretched[name], rtol=0, atol=0, equal_nan=True)


def test_members_are_diagnosed_alone(ocean):
    _, geometry, layout, fields = ocean
    both = diagnose(fields, geometry, layout, LINEAR)
    second = diagnose({name: x[1:] for name, x in fields.items()}, geometry, layout, LINEAR)
    for name, value in second.items():
        torch.testing.assert_close(value[0], both[name][1], rtol=0, atol=0, equal_nan=True)


def test_nonlinear_free_surface_adds_water_to_heat_and_salt(ocean):
    _, geometry, layout, fields = ocean
    fields = {
        "temperature": torch.full_like(fields["temperature"], 5.0),
        "salinity": torch.full_like(fields["salinity"], 35.0),
        "sea_level": torch.full_like(fields["sea_level"], 2.0),
    }
    rest = diagnose(fields, geometry, layout, LINEAR)
    high = diagnose(fields, geometry, layout, LINEAR, DiagnosticOptions("nonlinear"))
    volume = geometry.volume_t.sum()
    factor = (volume + 2.0 * geometry.area_t.sum()) / volume
    for name in ("heat_content", "heat_content_per_area", "salt_content"):
        torch.testing.assert_close(high[name], factor * rest[name], rtol=1e-12, atol=0)
    torch.testing.assert_close(high["temperature_volume_mean"], rest["temperature_volume_mean"])


def test_top_layer_takes_up_the_sea_level():
    """A cyclic basin, flat and with one column of land, cells of 2 km x 3 km, layers of 10 m and 90 m."""
    wet = np.ones((3, 4), bool)
    wet[1, 2] = False
    grid = box_grid(2, 3, 4, thickness=np.array([10.0, 90.0]), wet=wet, e1=2e3, e2=3e3, periodic_i=True)
    geometry, layout = split(grid, (2, 3))
    eta = np.where(wet, np.linspace(-1.0, 2.0, 12).reshape(3, 4), np.nan)
    fields = {
        "temperature": cut(np.broadcast_to(np.array([20.0, 2.0])[:, None, None], (1, *grid.shape)), layout),
        "velocity_u": cut(np.full((1, *grid.shape), 0.5), layout),
        "velocity_v": cut(np.zeros((1, *grid.shape)), layout),
        "sea_level": cut(eta[None, None], layout),
    }
    rest, high = (
        diagnose(fields, geometry, layout, LINEAR, DiagnosticOptions(kind)) for kind in ("linear", "top_layer")
    )
    upper, lower = 11 * 10.0 + np.nansum(eta), 11 * 90.0
    heat = RHO0 * RCP * 2e3 * 3e3 * (20.0 * upper + 2.0 * lower)
    # A dozen terms summed in another order.
    np.testing.assert_allclose(high["heat_content"], [heat], rtol=1e-13)
    mean = (20.0 * upper + 2.0 * lower) / (upper + lower)
    np.testing.assert_allclose(high["temperature_volume_mean"], [mean], rtol=1e-13)
    assert not torch.isclose(high["temperature_volume_mean"], rest["temperature_volume_mean"], rtol=1e-5)
    # Faces are those at rest: two rows of 3 km x 100 m at 0.5 m/s are open all the way, the third at half its columns.
    np.testing.assert_allclose(high["channel_transport"], [(2 + 0.5) * 3e3 * 100.0 * 0.5 / 1e6], rtol=1e-13)
    for name in ("barotropic_streamfunction", "overturning_streamfunction"):
        assert torch.equal(high[name], rest[name]), name


@pytest.mark.parametrize("free_surface", ["linear", "nonlinear", "top_layer"])
def test_a_diagnostic_wanted_alone_has_the_bits_that_it_has_among_all(ocean, free_surface):
    _, geometry, layout, fields = ocean
    options = DiagnosticOptions(free_surface)
    whole = diagnose(fields, geometry, layout, EOS80, options)
    for name, value in whole.items():
        alone = diagnose(fields, geometry, layout, EOS80, options, {name})
        assert list(alone) == [name]
        torch.testing.assert_close(alone[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
    assert diagnose(fields, geometry, layout, EOS80, options, ()) == {}


@pytest.mark.parametrize("free_surface", ["linear", "nonlinear", "top_layer"])
@pytest.mark.parametrize("cells", [1, 120])
def test_bits_do_not_depend_on_the_blocks_in_which_diagnostics_are_computed(ocean, free_surface, cells, monkeypatch):
    grid, geometry, layout, fields = ocean
    options = DiagnosticOptions(free_surface)
    whole = diagnose(fields, geometry, layout, EOS80, options)
    monkeypatch.setattr("halocline.physics.geometry.BLOCK", cells)
    monkeypatch.setattr("halocline.physics.blocks.BLOCK", cells)
    other = Geometry.build(grid, layout)
    assert len(other.blocks) > len(geometry.blocks) == 1
    for name, value in diagnose(fields, other, layout, EOS80, options).items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_all_diagnostics_but_the_spread_are_told_in_one_message(ocean, monkeypatch):
    _, geometry, layout, fields = ocean
    messages = []
    gather = type(layout).gather
    monkeypatch.setattr(type(layout), "gather", lambda self, x: messages.append(tuple(x.shape)) or gather(self, x))
    names = [name for name in DIAGNOSTICS if not name.endswith("_std")]
    diagnose(fields, geometry, layout, EOS80, names=names)  # the first one also chooses the boxes
    for wanted, count in ((names, 1), (DIAGNOSTICS, 2), (["kinetic_energy"], 1)):
        messages.clear()
        diagnose(fields, geometry, layout, EOS80, names=wanted)
        assert len(messages) == count, wanted


def test_missing_fields_leave_out_their_diagnostics(ocean):
    _, geometry, layout, fields = ocean
    result = diagnose({"temperature": fields["temperature"]}, geometry, layout, LINEAR)
    assert "heat_content" in result and "salt_content" not in result
    assert "unstable_fraction" not in result and "kinetic_energy" not in result


def test_missing_dry_levels_are_completed(ocean):
    _, geometry, layout, _ = ocean
    grid = broken_grid()
    grid = Grid(**{**vars(grid), "tmask": grid.tmask & (np.arange(5) < 3)[:, None, None]})
    geometry, layout = split(grid)
    fields = random_fields(grid, layout)
    whole = diagnose(fields, geometry, layout, LINEAR)
    fields["temperature"] = fields["temperature"][:, :, :3]
    for name, value in diagnose(fields, geometry, layout, LINEAR).items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["temperature", "velocity_v", "sea_level"])
def test_one_broken_wet_cell_is_counted_and_rejected(ocean, name):
    _, geometry, layout, fields = ocean
    healthy = diagnose(fields, geometry, layout, LINEAR)
    scalars = {key: value for key, value in healthy.items() if value.ndim == 1}
    thresholds = Thresholds.from_samples(scalars)
    mask = {"temperature": geometry.tmask, "velocity_v": geometry.vmask}
    tile, k, j, i = np.argwhere(mask.get(name, geometry.wet[:, None]).numpy())[-1]
    fields[name][1, tile, k, j, i] = np.nan
    result = diagnose(fields, geometry, layout, LINEAR)
    assert result["nonfinite_cells"].tolist() == [0.0, 1.0]
    assert judge(of_member(result, 0), thresholds).status == "ok"
    assert judge(of_member(result, 1), thresholds).status == "reject"


def test_wrong_shapes_are_refused(ocean):
    _, geometry, layout, fields = ocean
    for wrong in (fields["temperature"][:, :-1], fields["temperature"][..., 1:], torch.zeros(3)):
        with pytest.raises(ValueError, match="Field 'temperature' must have shape"):
            diagnose({"temperature": wrong}, geometry, layout, LINEAR)
    with pytest.raises(ValueError, match=r"must include one of temperature.*got concentration"):
        diagnose({"concentration": fields["sea_level"]}, geometry, layout, LINEAR)


def test_drift_is_taken_of_every_shared_diagnostic(ocean):
    _, geometry, layout, fields = ocean
    first = diagnose(fields, geometry, layout, LINEAR)
    fields["temperature"] = fields["temperature"] + 0.5
    result = diagnose_drift(first, diagnose(fields, geometry, layout, LINEAR), 10.0)
    torch.testing.assert_close(result["temperature_volume_mean_drift"], torch.full((2,), 0.05, dtype=torch.float64))
    torch.testing.assert_close(result["salt_content_drift"], torch.zeros(2, dtype=torch.float64))


def diagnose_nemo(
    grid: Grid, state: dict[str, np.ndarray], eos: EquationOfState, options: DiagnosticOptions
) -> dict[str, np.ndarray]:
    geometry, layout = split(grid, (8, 9))
    state = {**state, "sea_level": state["sea_level"][:, None]}
    fields = {name: cut(x, layout) for name, x in state.items()}
    result = diagnose(fields, geometry, layout, eos, options)
    return {name: value.numpy() for name, value in result.items()}


def test_gyre_has_the_figures_of_its_readme(gyre_grid, states):
    state = states("nemo_gyre", slice(None))
    chosen = [0, 9, 19, 39, 59, 131]  # ends of years 1, 10, 20, 40, 60, 66
    state = {name: x[chosen] for name, x in state.items()}
    result = diagnose_nemo(gyre_grid, state, EOS80, DiagnosticOptions())
    # Tolerances are half a unit of the last digit quoted.
    T = [6.624, 6.408, 6.313, 6.251, 6.233, 6.231]
    np.testing.assert_allclose(result["temperature_volume_mean"], T, rtol=0, atol=5e-4)
    np.testing.assert_allclose(result["salinity_volume_mean"], 35.3153, rtol=0, atol=7e-5)
    np.testing.assert_allclose(result["kinetic_energy"][0], 1.2e-4, rtol=0, atol=0.05e-4)
    np.testing.assert_allclose(result["kinetic_energy"][4], 2.25e-4, rtol=0, atol=0.005e-4)
    # A real state is stable but for the rounding of the file.
    assert result["unstable_fraction"].max() < 5e-5
    assert result["unstable_fraction_strict"].max() < 5e-3
    # A linear free surface with no net fresh water: the mean stays at zero.
    np.testing.assert_allclose(result["sea_level_mean"], 0.0, atol=1e-6)


def test_dino_has_the_figures_of_its_readme(dino_grid, states):
    state = states("nemo_dino", slice(None))
    chosen = [0, 2, 4, 27]  # ends of months 3, 12, 28, 51
    state = {name: x[chosen] for name, x in state.items()}
    result = diagnose_nemo(dino_grid, state, DINO_SEOS, DiagnosticOptions("nonlinear"))
    T = [5.787, 5.840, 5.886, 5.925]
    np.testing.assert_allclose(result["temperature_volume_mean"], T, rtol=0, atol=5e-4)
    np.testing.assert_allclose(result["kinetic_energy"], [4.4e-4, 2.6e-4, 2.2e-4, 2.3e-4], rtol=0, atol=0.05e-4)
    # Half a Sverdrup, and the swell of the free surface along the section.
    np.testing.assert_allclose(result["channel_transport"][[0, 2, 3]], [54, 71, 81], atol=1.0)
    np.testing.assert_allclose(result["sea_level_min"], [-0.76, -0.90, -1.05, -1.20], rtol=0, atol=5e-3)
    assert result["unstable_fraction"].max() < 1e-4
    assert result["unstable_fraction_strict"].max() < 2e-3


def test_a_state_of_another_year_passes_the_thresholds_of_the_rest(gyre_grid, states):
    state = states("nemo_gyre", slice(84, 132))  # four years, the last one judged
    result = diagnose_nemo(gyre_grid, state, EOS80, DiagnosticOptions())
    maps = ("barotropic_streamfunction", "overturning_streamfunction")
    result = {name: value for name, value in result.items() if name not in maps}
    thresholds = Thresholds.from_samples({name: value[:36] for name, value in result.items()})
    verdicts = [judge({name: value[n] for name, value in result.items()}, thresholds) for n in range(36, 48)]
    assert {verdict.status for verdict in verdicts} == {"ok"}, [v.reason for v in verdicts]
    colder = {name: value[36] for name, value in result.items()}
    colder["temperature_volume_mean"] = colder["temperature_volume_mean"] - 1.0
    assert judge(colder, thresholds).status == "reject"
