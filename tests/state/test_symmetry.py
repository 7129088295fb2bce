"""Turned windows, held against operators that know nothing of symmetries, on turned grids."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halocline.mesh.grid import Grid, box_grid
from halocline.physics.operators import divergence, geostrophic_velocity
from halocline.physics.seawater import SimplifiedEOS
from halocline.state.state import Channels
from halocline.state.symmetry import ChannelSymmetry, allowed

NK, NJ, NI = 3, 9, 11
NUMBERS = range(8)
TURNS = {  # what becomes of unit steps along i and j, columns of a matrix
    number: np.array([[0, 1], [1, 0]] if number & 4 else np.eye(2)) @ np.diag([1 - 2 * (number & 1), 1 - (number & 2)])
    for number in NUMBERS
}
PAIRS = {  # names of what transposition exchanges
    "e1t": "e2t", "e1u": "e2v", "e2u": "e1v", "e1f": "e2f", "e3u": "e3v", "umask": "vmask",
}  # fmt: skip
ALONE = ("ff_t", "ff_f", "e3t", "e3w", "gdept", "gdepw", "tmask", "fmask")


def mirrors(number: int) -> int:
    """-1 where the picture is a mirror image."""
    return round(np.linalg.det(TURNS[number]))


Field = tuple[np.ndarray, str, int]


def turn(number: int, *fields: Field, partners: tuple[int, ...] | None = None) -> list[np.ndarray]:
    """Turns fields (values, point, sign) of the whole of a doubly periodic grid."""
    values, points, signs = zip(*fields, strict=True)
    wide = np.pad(np.stack(values, axis=-3), [(0, 0)] * (values[0].ndim - 2) + [(0, 0), (1, 1), (1, 1)], mode="wrap")
    symmetry = ChannelSymmetry.build(points, signs, partners or range(len(fields)))
    return list(np.moveaxis(symmetry.apply(torch.as_tensor(wide), number).numpy(), -3, 0))


def turn_pair(number: int, u: np.ndarray, v: np.ndarray, sign: int = -1) -> list[np.ndarray]:
    return turn(number, (u, "U", sign), (v, "V", sign), partners=(1, 0))


def turn_one(number: int, x: np.ndarray, point: str = "T") -> np.ndarray:
    return turn(number, (x, point, 1))[0]


def rough(seed: int = 3) -> Grid:
    """A doubly periodic sea, broken by land, whose cells all differ."""
    rng = np.random.default_rng(seed)
    grid = box_grid(NK, NJ, NI, levels=rng.integers(0, NK + 1, (NJ, NI)), periodic_i=True, periodic_j=True)
    names = ("e1t", "e2t", "e1u", "e2u", "e1v", "e2v", "e1f", "e2f", "e3t", "e3u", "e3v", "e3w", "gdept")
    return replace(grid, **{n: getattr(grid, n) * rng.uniform(0.8, 1.2, getattr(grid, n).shape) for n in names})


def turn_grid(grid: Grid, number: int) -> Grid:
    """The same sea, turned; in a mirror image the Earth spins the other way."""
    made = {}
    for first, second in PAIRS.items():
        points = tuple(name[0 if "mask" in name else 2].upper() for name in (first, second))
        values = (getattr(grid, name).astype(float) for name in (first, second))
        fields = [(x, point, 1) for x, point in zip(values, points, strict=True)]
        made[first], made[second] = turn(number, *fields, partners=(1, 0))
    for name in ALONE:
        made[name] = turn_one(number, getattr(grid, name).astype(float), "F" if name in ("ff_f", "fmask") else "T")
    made |= {name: mirrors(number) * made[name] for name in ("ff_t", "ff_f")}
    nj, ni = made["e1t"].shape
    plane = {f"{name}{p}": np.zeros((nj, ni)) for name in ("glam", "gphi") for p in "tuvf"}
    return Grid(**made, **plane, gdept_1d=grid.gdept_1d, periodic_i=True, periodic_j=True)


def flow(grid: Grid, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    u, v = np.random.default_rng(seed).standard_normal((2, *grid.shape))
    return u * grid.umask, v * grid.vmask


def vorticity(u: np.ndarray, v: np.ndarray, grid: Grid) -> np.ndarray:
    along_i, along_j = grid.e1u * u, grid.e2v * v
    turned = np.roll(along_j, -1, axis=-1) - along_j - np.roll(along_i, -1, axis=-2) + along_i
    return turned / (grid.e1f * grid.e2f)


@pytest.mark.parametrize("number", NUMBERS)
def test_turned_flow_has_the_turned_divergence_on_the_turned_grid(number):
    grid = rough()
    u, v = flow(grid)
    expected = turn_one(number, divergence(u, v, grid).numpy())
    found = divergence(*turn_pair(number, u, v), turn_grid(grid, number)).numpy()
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("number", NUMBERS)
def test_turned_flow_has_the_turned_vorticity_of_other_sign_in_a_mirror(number):
    grid = rough()
    u, v = flow(grid)
    expected = mirrors(number) * turn_one(number, vorticity(u, v, grid), "F")
    found = vorticity(*turn_pair(number, u, v), turn_grid(grid, number))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("number", NUMBERS)
def test_turned_flow_is_in_geostrophic_balance_on_an_earth_that_spins_the_other_way_in_a_mirror(number):
    grid, eos = rough(), SimplifiedEOS()
    T, S, eta = np.random.default_rng(5).standard_normal((3, *grid.shape))
    T, S, eta = 10 + T, 35 + S, eta[0]
    u, v = (x.numpy() for x in geostrophic_velocity(T, S, eta, grid, eos))
    scalars = [turn_one(number, x) for x in (T, S, eta)]
    found = geostrophic_velocity(*scalars, turn_grid(grid, number), eos)
    for x, expected in zip(found, turn_pair(number, u, v), strict=True):
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(x.numpy(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("number", NUMBERS)
def test_masks_of_faces_and_corners_move_with_them(number):
    grid = rough()
    levels = turn_one(number, grid.tmask.sum(axis=0).astype(float)).astype(int)
    again = box_grid(NK, *levels.shape, levels=levels, periodic_i=True, periodic_j=True)  # finds its faces by itself
    found = turn_pair(number, grid.umask.astype(float), grid.vmask.astype(float), sign=1)
    assert np.array_equal(found[0], again.umask) and np.array_equal(found[1], again.vmask)
    assert np.array_equal(turn_one(number, grid.fmask.astype(float), "F"), again.fmask)


@pytest.mark.parametrize("number", NUMBERS)
def test_turned_window_is_a_window_of_the_turned_field(number):
    """Of 4 x 6 cells from row 2 and column 3; an inner one, so that no edge matters."""
    j, i, wj, wi = 2, 3, 4, 6
    points, signs, partners = ("U", "V", "T", "F", "W"), (-1, -1, 1, 1, 1), (1, 0, 2, 3, 4)
    x = np.random.default_rng(6).standard_normal((5, NJ, NI))
    whole = np.stack(turn(number, *zip(x, points, signs, strict=True), partners=partners))
    first_j = NJ - j - wj if number & 2 else j
    first_i = NI - i - wi if number & 1 else i
    window = x[None, :, j - 1 : j + wj + 1, i - 1 : i + wi + 1].copy()
    found = ChannelSymmetry.build(points, signs, partners).apply(torch.as_tensor(window), number).numpy()
    if number & 4:
        first_j, first_i, wj, wi = first_i, first_j, wi, wj
    assert np.array_equal(found[0], whole[:, first_j : first_j + wj, first_i : first_i + wi])


@pytest.mark.parametrize("points", ["UVTF", "TTTF", "FFTW"])
def test_symmetries_form_the_group_of_the_square(points):
    """Vectors at faces, centres and corners; a margin for each of two turns."""
    symmetry = ChannelSymmetry.build(points, (-1, -1, 1, 1), (1, 0, 2, 3))
    x = torch.randn(2, 4, 7 + 4, 6 + 4, dtype=torch.float64)
    inner = x[..., 1:-1, 1:-1]
    assert torch.equal(symmetry.apply(inner, 0), inner[..., 1:-1, 1:-1])
    for first in NUMBERS:
        inverses = 0
        for second in NUMBERS:
            both = next(n for n in NUMBERS if np.array_equal(TURNS[n], TURNS[second] @ TURNS[first]))
            assert torch.equal(symmetry.apply(symmetry.apply(x, first), second), symmetry.apply(inner, both))
            inverses += both == 0
        assert inverses == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_vectors_at_cell_centres_turn_like_arrows(number):
    u, v = np.random.default_rng(7).standard_normal((2, NJ, NI))
    found = turn(number, (u, "T", -1), (v, "T", -1), partners=(1, 0))
    placed = np.stack([turn_one(number, x) for x in (u, v)])
    np.testing.assert_array_equal(np.stack(found), np.einsum("ab,bji->aji", TURNS[number], placed))


@pytest.mark.parametrize("number", NUMBERS)
def test_stress_turns_like_the_products_of_two_arrows(number):
    names = ("stress_xx", "damage", "stress_xy", "stress_yy")
    symmetry = ChannelSymmetry.for_channels(Channels.build(names, box_grid(1, NJ, NI)))
    arrow = np.array([0.3, -1.7])  # along i and j
    x = np.stack([np.full((NJ, NI), v) for v in (arrow[0] ** 2, 0.5, arrow[0] * arrow[1], arrow[1] ** 2)])
    turned = symmetry.apply(torch.as_tensor(x), number).numpy()
    i, j = TURNS[number] @ arrow
    np.testing.assert_allclose(turned[:, 0, 0], [i * i, 0.5, i * j, j * j], rtol=1e-15)


def test_velocities_of_a_state_are_partners_level_by_level():
    channels = Channels.build(("temperature", "velocity_v", "ice_u", "velocity_u", "ice_v"), box_grid(2, 5, 5))
    symmetry = ChannelSymmetry.for_channels(channels)
    assert symmetry.partners == (0, 1, 5, 6, 7, 2, 3, 4)
    assert symmetry.along == ("", "", "j", "j", "i", "i", "i", "j")
    assert allowed("all", (8, 8), channels) == tuple(NUMBERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8, torch.int64])
def test_type_stays(dtype):
    x = (torch.arange(50).reshape(2, 5, 5) % 5).to(dtype)
    found = ChannelSymmetry.build("UV", (-1, -1), (1, 0)).apply(x, 7)
    assert found.dtype == dtype and torch.equal(found[1], -x[0, 1:4, 0:3].flip(-2, -1).T)


def lonely() -> Channels:
    """Level 1 has two wet cells, one beside the other: an open U face and no V face."""
    levels = np.ones((5, 5), int)
    levels[2, 2:4] = 2
    return Channels.build(("velocity_u", "velocity_v"), box_grid(2, 5, 5, levels=levels))


def test_turns_are_the_rotations_and_need_square_tiles_and_both_components():
    """Those of determinant 1: no mirror image, so that vorticity and Coriolis parameter keep their sign."""
    both = Channels.build(("ice_u", "ice_v"), box_grid(1, 5, 5))
    assert allowed("turns", (8, 8), both) == tuple(n for n in NUMBERS if np.linalg.det(TURNS[n]) > 0)
    with pytest.raises(ValueError, match=r"symmetries is turns, and lattice\.tile 8 x 6, expected a square"):
        allowed("turns", (8, 6), both)
    with pytest.raises(ValueError, match="symmetries is turns, but velocity_u level 1 has no other component"):
        allowed("turns", (8, 8), lonely())


def test_flips_do_without_the_other_component_and_quarter_turns_are_refused_at_once():
    channels = lonely()
    assert allowed("none", (8, 6), channels) == (0,)
    assert allowed("flips", (8, 6), channels) == (0, 1, 2, 3)
    with pytest.raises(ValueError, match="velocity_u level 1 has no other component at that level"):
        allowed("all", (8, 8), channels)
    symmetry, x = ChannelSymmetry.for_channels(channels), torch.zeros(3, 5, 5)
    assert symmetry.apply(x, 3).shape == (3, 3, 3)
    with pytest.raises(ValueError, match=r"Channel 1 has no partner .* choose training\.symmetries=flips"):
        symmetry.apply(x, 4)


def test_impossible_wishes_are_refused():
    channels = lonely()
    with pytest.raises(ValueError, match=r"lattice\.tile 8 x 6, expected a square"):
        allowed("all", (8, 6), channels)
    with pytest.raises(ValueError, match="is 'some', expected one of none, turns, flips, all"):
        allowed("some", (8, 8), channels)
    with pytest.raises(ValueError, match="number is 8, expected one of 0 to 7"):
        ChannelSymmetry.build("T", (1,), (0,)).apply(torch.zeros(1, 3, 3), 8)


@pytest.mark.parametrize(
    ("points", "signs", "partners", "sentence"),
    [
        ("UV", (-1, -1), (0, 0), "expected one at V points that names it in turn"),
        ("UU", (1, 1), (1, 0), "expected one at V points"),
        ("TT", (-1, 1), (0, 1), "Channel 0 is a component of a vector at T points without the other"),
    ],
)
def test_wrong_partners_are_refused(points, signs, partners, sentence):
    with pytest.raises(ValueError, match=sentence):
        ChannelSymmetry.build(points, signs, partners)
