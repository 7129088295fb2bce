"""Long waves of noise grow by the factor and are remembered, short ones are not, and no layout shows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from halocline.flow.noise import Noise
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run.long_waves import LongWaves, factors

N, WIDTH, LEAD = 64, 2, 6.0
TORUS = box_grid(1, N, N, periodic_i=True, periodic_j=True)


def long_waves(
    factor: float, memory: float, tile: int = 16, halo: int = WIDTH, short: float = 1.0
) -> tuple[LongWaves, Layout]:
    """On a torus."""
    layout = Layout.build(Lattice.from_grid(TORUS, (tile, tile), halo), Serial())
    mask = torch.as_tensor(layout.cut(TORUS.mask("T")[:1]))
    long, other = (factors(f, ["damage"]) for f in (factor, short))
    return LongWaves(long, other, memory, HaloPlan.build(layout, ("T",), (1,)), halo, mask), layout


def amplified(field: np.ndarray, factor: float, tile: int = 16, halo: int = WIDTH, short: float = 1.0) -> np.ndarray:
    """A field, cut into tiles and put together again."""
    change, layout = long_waves(factor, 0.0, tile, halo, short)
    z = torch.as_tensor(layout.cut(field[None])).float()[None]
    return np.asarray(layout.collect(change(lambda step: z, 0, LEAD, 0)))[0, 0]


def drawn(layout: Layout, members: range = range(1)) -> Callable[[int], Tensor]:
    noise = Noise.build(layout, ("T",), (1,))
    return lambda step: noise.draw(3, members, step, 0)


def wave(waves: int) -> np.ndarray:
    return np.broadcast_to(np.sin(2 * np.pi * waves * (np.arange(N) + 0.25) / N), (N, N))


@pytest.mark.parametrize("halo", [2, 4, 7])  # beyond four cells a wider halo makes no difference
@pytest.mark.parametrize("waves", [1, 4, 13, 32])
def test_each_wave_grows_by_the_response_of_the_smoothing(waves: int, halo: int) -> None:
    k, r = 2 * np.pi * waves / N, min(halo, 4)
    response = (sum(np.cos(k * d) for d in range(-r, r + 1)) / (2 * r + 1)) ** 2
    assert np.allclose(amplified(wave(waves), 1.6, halo=halo), (1 + 0.6 * response) * wave(waves), atol=1e-6)
    narrow = ((1 + 2 * np.cos(k)) / 3) ** 2
    expected = (1 - 0.3 * (1 - narrow) + 0.6 * response) * wave(waves)
    assert np.allclose(amplified(wave(waves), 1.6, halo=halo, short=0.7), expected, atol=1e-6)
    assert response > 0.9 if waves == 1 else response < 0.9


def test_tiles_make_no_difference_and_factor_one_none_at_all() -> None:
    field = np.random.default_rng(0).standard_normal((N, N)).astype(np.float32)
    assert np.array_equal(amplified(field, 1.4, 16), amplified(field, 1.4, 32))
    assert np.array_equal(amplified(field, 1.0), field)
    assert np.array_equal(amplified(field, 1.0, 16, short=0.6), amplified(field, 1.0, 32, short=0.6))
    assert np.array_equal(amplified(field, 1.3, 16, short=0.6), amplified(field, 1.3, 32, short=0.6))


def test_each_variable_has_its_factors_and_one_that_is_not_named_has_one() -> None:
    names = ("concentration", "damage", "ice_u")
    found = factors({"ice_u": 1.2, "damage": 0.7}, names)
    assert found.shape == (3, 1, 1) and found.flatten().tolist() == pytest.approx([1, 0.7, 1.2])
    assert factors(0.9, names).flatten().tolist() == pytest.approx([0.9] * 3)


def test_memory_correlates_long_waves_in_time_and_leaves_their_variance() -> None:
    memory, steps, members = 24.0, 6, range(400)
    change, layout = long_waves(1.0, memory)
    draw = drawn(layout, members)
    made = [np.asarray(layout.collect(change(draw, n, LEAD, members)))[:, 0] for n in range(steps)]
    plain = [np.asarray(layout.collect(draw(n)))[:, 0] for n in range(steps)]
    for waves, remembered in ((1, True), (13, False)):  # amplitude in each member and step
        new, old = (np.stack([(x * wave(waves)).mean(axis=(1, 2)) for x in xs]) for xs in (made, plain))
        assert np.allclose(new.std(axis=1) / old.std(axis=1).mean(), 1, atol=0.12)  # 400 members: 3.5 % each
        for lag in (1, 3):
            expected = np.exp(-lag * LEAD / memory) if remembered else 0
            found = (new[lag:] * new[:-lag]).mean() / (new**2).mean()
            assert abs(found - expected) < 0.1  # three deviations of what 400 members and so few steps give


def test_what_is_remembered_does_not_depend_on_who_made_the_steps_before() -> None:
    straight, layout = long_waves(1.5, 48.0)
    draw = drawn(layout, range(2))
    expected = [straight(draw, n, LEAD, "both") for n in range(5)]
    resumed = long_waves(1.5, 48.0)[0]
    assert torch.equal(resumed(draw, 3, LEAD, "both"), expected[3])
    assert torch.equal(resumed(draw, 4, LEAD, "both"), expected[4])
    second = drawn(layout, range(1, 2))
    assert torch.equal(resumed(second, 4, LEAD, "second"), expected[4][1:])  # others' memory is not taken
    assert torch.equal(resumed(draw, 1, LEAD, "both"), expected[1])
    assert not torch.equal(resumed(draw, 1, 2 * LEAD, "both"), expected[1])
