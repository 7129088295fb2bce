"""Diagnostics of the sea ice: closed forms, land, missing fields, broken cells, bits on every layout."""

import numpy as np
import pytest
import torch
from setting import broken_grid, cut, split

from halocline.mesh.grid import box_grid
from halocline.physics.ice import (
    ICE,
    ICE_DIAGNOSTICS,
    ICE_JUDGED,
    ICE_ONE_SIDED,
    ICE_RESOLUTION,
    diagnose_ice,
)
from halocline.physics.verdict import Thresholds, judge

NAMES = ("concentration", "thickness", "snow", "damage", "ice_u", "ice_v")


@pytest.fixture
def plane():
    """6 x 9 cells of 10 km, the first column land: 48 cells of 1e8 m2."""
    wet = np.ones((6, 9), bool)
    wet[:, 0] = False
    grid = box_grid(1, 6, 9, wet=wet, e1=1.0e4, e2=1.0e4, latitude=75.0)
    return grid, *split(grid)


def uniform(grid, layout, **values: float) -> dict[str, torch.Tensor]:
    return {name: cut(np.full((1, 1, grid.nj, grid.ni), value), layout) for name, value in values.items()}


def random_fields(grid, layout, land: float = 0.0, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    shape = (2, 1, grid.nj, grid.ni)
    draws = {name: rng.uniform(0.0, 1.0, shape) for name in NAMES}
    masks = {"ice_u": grid.umask[:1], "ice_v": grid.vmask[:1]}
    return {name: cut(np.where(masks.get(name, grid.tmask[:1]), x, land), layout) for name, x in draws.items()}


def test_uniform_ice_has_areas_volumes_and_means_in_closed_form(plane):
    grid, geometry, layout = plane
    fields = uniform(grid, layout, concentration=0.8, thickness=1.6, snow=0.1, damage=0.25, ice_u=0.03, ice_v=0.04)
    result = {name: float(value[0]) for name, value in diagnose_ice(fields, geometry, layout).items()}
    sea = 48 * 1.0e8
    assert result["ice_area"] == pytest.approx(0.8 * sea, rel=1e-14)
    assert result["ice_extent"] == sea
    assert result["ice_volume"] == pytest.approx(1.6 * sea, rel=1e-14)
    assert result["snow_volume"] == pytest.approx(0.1 * sea, rel=1e-14)
    assert result["ice_thickness_mean"] == pytest.approx(2.0, rel=1e-14)  # over ice, not over cells
    assert result["ice_thickness_max"] == 1.6
    assert result["ice_damage_mean"] == pytest.approx(0.25, rel=1e-14)
    assert result["ice_nonfinite_cells"] == 0
    assert result["ice_speed_max"] == pytest.approx(0.05, rel=1e-14)


def test_means_over_ice_are_weighted_with_its_area(plane):
    grid, geometry, layout = plane
    half = np.arange(grid.ni) < 5  # 4 of 8 wet columns
    fields = {
        "concentration": cut(np.where(half, 0.9, 0.1) * np.ones((1, 1, grid.nj, 1)), layout),
        "damage": cut(np.where(half, 0.0, 1.0) * np.ones((1, 1, grid.nj, 1)), layout),
    }
    result = diagnose_ice(fields, geometry, layout)
    assert result["ice_damage_mean"].item() == pytest.approx(0.1, rel=1e-14)
    assert result["ice_extent"].item() == 24 * 1.0e8  # 0.1 is below 0.15
    assert result["damage_on_zero"].item() == result["damage_on_one"].item() == 0.5


def test_cells_on_a_bound_are_counted_within_rounding(plane):
    grid, geometry, layout = plane
    values = np.full((1, 1, grid.nj, grid.ni), 0.5)
    values[..., 1], values[..., 2], values[..., 3], values[..., 4] = 1.0, 1.0 - 1e-7, 0.0, 1.0 - 1e-3
    result = diagnose_ice({"concentration": cut(values, layout)}, geometry, layout)
    assert result["concentration_on_one"].item() == 2 / 8
    assert result["concentration_on_zero"].item() == 1 / 8


def test_a_sea_without_ice_has_means_of_zero(plane):
    grid, geometry, layout = plane
    result = diagnose_ice(uniform(grid, layout, **dict.fromkeys(NAMES, 0.0)), geometry, layout)
    for name in ("ice_area", "ice_thickness_mean", "ice_damage_mean", "ice_speed_mean"):
        assert result[name].item() == 0.0, name


def test_every_diagnostic_is_computed_and_only_what_fields_allow(plane):
    grid, geometry, layout = plane
    assert list(diagnose_ice(random_fields(grid, layout), geometry, layout)) == list(ICE_DIAGNOSTICS)
    alone = diagnose_ice(uniform(grid, layout, thickness=1.0), geometry, layout)
    assert set(alone) == {"ice_nonfinite_cells", "ice_volume", "ice_thickness_max"}
    assert set(ICE_JUDGED) <= set(ICE_DIAGNOSTICS) and set(NAMES) == ICE


def test_land_does_not_count(plane):
    grid, geometry, layout = plane
    plain = diagnose_ice(random_fields(grid, layout), geometry, layout)
    for land in (np.nan, 1.7e38, -7.0):
        for name, value in diagnose_ice(random_fields(grid, layout, land=land), geometry, layout).items():
            torch.testing.assert_close(value, plain[name], rtol=0, atol=0)


def test_diagnostics_do_not_depend_on_members_beside():
    grid = broken_grid(periodic_i=True)
    geometry, layout = split(grid)
    fields = random_fields(grid, layout)
    both = diagnose_ice(fields, geometry, layout)
    second = diagnose_ice({name: x[1:] for name, x in fields.items()}, geometry, layout)
    for name, value in second.items():
        torch.testing.assert_close(value[0], both[name][1], rtol=0, atol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_cell_is_counted_and_rejected(plane, value):
    grid, geometry, layout = plane
    sound = diagnose_ice(random_fields(grid, layout), geometry, layout)
    samples = {name: sound[name].numpy() for name in ICE_JUDGED}
    thresholds = Thresholds.from_samples(samples, resolution=ICE_RESOLUTION, one_sided=ICE_ONE_SIDED)
    fields = random_fields(grid, layout)
    fields["thickness"][0, 0, 0, 1, 2] = value
    broken = diagnose_ice(fields, geometry, layout)
    assert broken["ice_nonfinite_cells"].tolist() == [1.0, 0.0]
    assert judge({name: broken[name][0].numpy() for name in ICE_JUDGED}, thresholds).status == "reject"
    assert judge({name: broken[name][1].numpy() for name in ICE_JUDGED}, thresholds).status == "ok"


def test_absurd_thickness_in_one_cell_is_rejected(plane):
    """A restart with open water has been seen to grow 4e6 m of ice in a few cells."""
    grid, geometry, layout = plane
    fields = random_fields(grid, layout)
    sound = diagnose_ice(fields, geometry, layout)
    thresholds = Thresholds.from_samples(
        {name: sound[name].numpy() for name in ICE_JUDGED}, resolution=ICE_RESOLUTION, one_sided=ICE_ONE_SIDED
    )
    fields["thickness"][0, 0, 0, 2, 2] = 50.0
    grown = diagnose_ice(fields, geometry, layout)
    verdict = judge({name: grown[name][0].numpy() for name in ICE_JUDGED}, thresholds)
    assert verdict.status == "reject"


@pytest.mark.parametrize(("fields", "sentence"), [({}, "must include"), ({"snow": (1, 1, 1, 2, 2)}, "must have shape")])
def test_unusable_fields_are_refused(plane, fields, sentence):
    _, geometry, layout = plane
    with pytest.raises(ValueError, match=sentence):
        diagnose_ice({name: torch.zeros(shape) for name, shape in fields.items()}, geometry, layout)
