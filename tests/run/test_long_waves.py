"""Amplified long waves: long ones grow by the factor, short ones do not, and no layout shows."""

import numpy as np
import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run.long_waves import amplify_long_waves

N, WIDTH = 64, 2


def amplified(field: np.ndarray, factor: float, tile: int) -> np.ndarray:
    """A field on a torus, cut into tiles and put together again."""
    grid = box_grid(1, N, N, periodic_i=True, periodic_j=True)
    layout = Layout.build(Lattice.from_grid(grid, (tile, tile), WIDTH), Serial())
    z = torch.as_tensor(layout.cut(field[None])).float()[None]
    mask = torch.as_tensor(layout.cut(grid.mask("T")[:1]))
    result = amplify_long_waves(z, factor, HaloPlan.build(layout, ("T",), (1,)), WIDTH, mask)
    return np.asarray(layout.collect(result))[0, 0]


@pytest.mark.parametrize("waves", [1, 4, 13, 32])
def test_each_wave_grows_by_the_response_of_the_smoothing(waves: int) -> None:
    phase = 2 * np.pi * waves * (np.arange(N) + 0.25) / N
    wave = np.broadcast_to(np.sin(phase), (N, N))
    k = 2 * np.pi * waves / N
    response = (sum(np.cos(k * d) for d in range(-WIDTH, WIDTH + 1)) / (2 * WIDTH + 1)) ** 2
    grown = amplified(wave, 1.6, 16)
    assert np.allclose(grown, (1 + 0.6 * response) * wave, atol=1e-6)
    assert response > 0.97 if waves == 1 else response < 0.9


def test_tiles_make_no_difference_and_factor_one_none_at_all() -> None:
    field = np.random.default_rng(0).standard_normal((N, N)).astype(np.float32)
    assert np.array_equal(amplified(field, 1.4, 16), amplified(field, 1.4, 32))
    assert np.array_equal(amplified(field, 1.0, 16), field)
