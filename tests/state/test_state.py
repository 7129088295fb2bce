import numpy as np
import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.state.state import Channels, Standardisation

NAMES = ("temperature", "velocity_u", "sea_level")
TIMES = 6


@pytest.fixture
def grid() -> Grid:
    """Level 3 is dry; level 2 has one T cell and so no U point."""
    levels = np.full((7, 5), 2)
    levels[:, 0] = 0
    levels[4, 3] = 3
    return box_grid(4, 7, 5, levels=levels, e1=3.0e4)


@pytest.fixture
def channels(grid: Grid) -> Channels:
    return Channels.build(NAMES, grid)


@pytest.fixture
def states(grid: Grid, channels: Channels) -> np.ndarray:
    """Levels of different mean and scale; NaN on land."""
    rng = np.random.default_rng(1)
    mean, scale = np.arange(channels.count), 10.0 ** -np.arange(channels.count)
    x = rng.standard_normal((TIMES, channels.count, grid.nj, grid.ni))
    x = x * scale[:, None, None] + mean[:, None, None]
    return np.where(channels.mask(grid), x, np.nan)


def test_channels_are_the_levels_with_a_wet_cell_at_their_point(channels, grid):
    assert [(c.variable.name, c.level) for c in channels.channels] == [
        ("temperature", 0), ("temperature", 1), ("temperature", 2),
        ("velocity_u", 0), ("velocity_u", 1),
        ("sea_level", 0),
    ]  # fmt: skip
    assert channels.points == ("T", "T", "T", "U", "U", "T")
    assert channels.signs == (1, 1, 1, -1, -1, 1)
    assert (channels.mask(grid)[3] == grid.umask[0]).all()


def test_split_undoes_join_and_fills_dry_levels_with_zero(channels, grid):
    x = torch.randn(2, 3, channels.count, grid.nj, grid.ni, dtype=torch.float64)
    fields = channels.split(x)
    assert {name: f.shape[-3] for name, f in fields.items()} == {
        "temperature": 4, "velocity_u": 4, "sea_level": 1,
    }  # fmt: skip
    assert torch.equal(channels.join(fields), x)
    assert not fields["temperature"][..., 3, :, :].any()
    assert not fields["velocity_u"][..., 2:, :, :].any()


def test_split_and_join_pass_gradients(channels):
    x = torch.randn(2, channels.count, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: channels.join(channels.split(x)) ** 2, x)


@pytest.mark.parametrize("centre", ["cell", "level"])
def test_forward_has_unit_scale_on_wet_cells_and_zero_on_land(centre, channels, grid, states):
    standard = Standardisation.fit(channels, states, grid, centre=centre, floor=1e-9)
    x = standard.forward(states).numpy()
    mask = channels.mask(grid)
    assert (x[:, ~mask] == 0).all()
    for channel, wet in enumerate(mask):
        # Equal areas: the weighted mean square is the plain one, to rounding of float64 sums, 1e5 times larger (below).
        np.testing.assert_allclose(np.mean(x[:, channel, wet] ** 2), 1.0, rtol=1e-11)
    means = x.mean(axis=0) if centre == "cell" else x.sum(axis=(0, 2, 3))
    # Scales span 1 to 1e-5 about means up to 5: rounding of 1e-15 is seen 1e5 times larger.
    np.testing.assert_allclose(means, 0.0, atol=1e-8)


def test_inverse_undoes_forward(channels, grid, states):
    standard = Standardisation.fit(channels, states, grid)
    back = standard.inverse(standard.forward(states)).numpy()
    mask = channels.mask(grid)
    # Two roundings of float64 near values of order 5.
    np.testing.assert_allclose(back[:, mask], states[:, mask], rtol=0, atol=1e-14)
    assert (back[:, ~mask] == 0).all()


def test_level_reference_weighs_cells_by_area(grid):
    channels = Channels.build(("sea_level",), grid)
    uneven = box_grid(4, 7, 5, levels=grid.tmask.sum(axis=0))
    area = np.linspace(1.0, 2.0, 35).reshape(7, 5)
    object.__setattr__(uneven, "e1t", area)
    object.__setattr__(uneven, "e2t", np.ones_like(area))
    x = np.random.default_rng(2).standard_normal((TIMES, 1, 7, 5))
    standard = Standardisation.fit(channels, x, uneven, centre="level")
    wet = grid.tmask[0]
    expected = np.average(x[:, 0, wet].mean(axis=0), weights=area[wet])
    np.testing.assert_allclose(standard.reference[0].numpy()[wet], expected, rtol=1e-12)
    expected = np.average(((x[:, 0, wet] - expected) ** 2).mean(axis=0), weights=area[wet]) ** 0.5
    np.testing.assert_allclose(standard.scale[0], expected, rtol=1e-12)


def test_repeated_cells_of_a_folded_row_count_once():
    folded = box_grid(1, 5, 6, periodic_i=True, fold="T")
    channels = Channels.build(("sea_level",), folded)
    x = np.random.default_rng(3).standard_normal((2, 1, 5, 6))
    canonical = folded.edges.canonical("T", np.arange(5)[:, None], np.arange(6))[0]
    once = canonical == np.arange(30).reshape(5, 6)
    assert not once.all()
    standard = Standardisation.fit(channels, x, folded, centre="level")
    np.testing.assert_allclose(standard.reference[0, 0, 0], x[:, 0, once].mean(), rtol=1e-12)


def test_floor_is_relative_to_the_largest_scale_of_the_variable(channels, grid, states):
    states[:, 1] = 3.3  # a constant level of temperature
    standard = Standardisation.fit(channels, states, grid, floor=0.5)
    assert standard.scale[1] == 0.5 * standard.scale[0]
    assert standard.scale[4] == 0.5 * standard.scale[3]
    assert standard.scale[3] < standard.scale[1]  # another variable has its own floor


def test_constant_variable_is_scaled_by_one(channels, grid, states):
    states[:, 5] = 0.1
    standard = Standardisation.fit(channels, states, grid)
    assert standard.scale[5] == 1.0
    # The mean of six times 0.1 is 0.1 to rounding; divided by 1 it stays there.
    np.testing.assert_allclose(standard.forward(states)[:, 5], 0.0, atol=1e-15)


def test_cut_standardises_tiles_as_the_whole_field(channels, grid, states):
    standard = Standardisation.fit(channels, states, grid)
    layout = Layout.build(Lattice.from_grid(grid, (3, 2), 1), Serial())
    whole = standard.forward(np.nan_to_num(states)).numpy()
    tiles = torch.as_tensor(layout.cut(np.nan_to_num(states))).transpose(0, 1)
    cut = standard.cut(layout)
    assert torch.equal(cut.forward(tiles).transpose(0, 1), torch.as_tensor(layout.cut(whole)))
    back = layout.cut(standard.inverse(whole).numpy())
    assert torch.equal(cut.inverse(cut.forward(tiles)).transpose(0, 1), torch.as_tensor(back))


def test_gradient_does_not_leak_nan_from_land(channels, grid, states):
    standard = Standardisation.fit(channels, states, grid)
    x = torch.tensor(states, requires_grad=True)
    standard.forward(x).square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_float32_states_stay_float32_and_are_computed_in_float64(channels, grid, states):
    states[:, 0] += 1.0e4  # float32 resolves 1e-3 here, the anomaly of order 1 must not lose more
    standard = Standardisation.fit(channels, states, grid)
    x = standard.forward(states.astype(np.float32))
    assert x.dtype == torch.float32
    exact = standard.forward(states.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(x, exact, rtol=6e-8)  # one rounding to float32


def test_dictionary_restores_the_same_standardisation(channels, grid, states):
    standard = Standardisation.fit(channels, states, grid)
    copy = Standardisation.from_dict(standard.to_dict())
    assert torch.equal(copy.forward(states), standard.forward(states))
    with pytest.raises(ValueError, match="lacks scale"):
        Standardisation.from_dict({"reference": standard.reference, "mask": standard.mask})


def test_wet_nan_is_named_by_variable_level_cell_and_time(channels, grid, states):
    states[4, 2, 4, 3] = np.nan
    with pytest.raises(ValueError, match="temperature level 2 is nan at j=4, i=3, time index 4"):
        Standardisation.fit(channels, states, grid)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"centre": "row"}, "centre is 'row', expected cell or level"),
        ({"floor": 0.0}, "floor is 0.0"),
    ],
)
def test_wrong_options_are_named(change, sentence, channels, grid, states):
    with pytest.raises(ValueError, match=sentence):
        Standardisation.fit(channels, states, grid, **change)


def test_wrong_states_and_fields_are_named(channels, grid, states):
    with pytest.raises(ValueError, match=r"shape \(6, 5, 7, 5\), expected \(time, 6, 7, 5\)"):
        Standardisation.fit(channels, states[:, 1:], grid)
    with pytest.raises(ValueError, match="has 5 channels, expected 6"):
        channels.split(torch.zeros(5, 7, 5))
    with pytest.raises(ValueError, match="Field velocity_u is missing, got temperature"):
        channels.join({"temperature": torch.zeros(4, 7, 5)})
    with pytest.raises(ValueError, match=r"Field temperature has shape \(3, 7, 5\), expected \(..., 4,"):
        channels.join({"temperature": torch.zeros(3, 7, 5)})


def test_wrong_variables_are_named(grid):
    with pytest.raises(ValueError, match="one or more different names"):
        Channels.build(("salinity", "salinity"), grid)
    with pytest.raises(ValueError, match="'heat' is unknown"):
        Channels.build(("heat",), grid)
    column = box_grid(2, 1, 1)
    with pytest.raises(ValueError, match="velocity_u has no wet U point"):
        Channels.build(("velocity_u",), column)
