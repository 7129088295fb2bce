"""Stretching of variables that crowd below a bound."""

import math

import numpy as np
import pytest
import torch

from halocline.state.stretching import DISTANCE, Stretching

NAMES = ("concentration", "thickness", "damage")


def states() -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(0).uniform(0, 1, (2, 3, 5, 7)))


def test_stretched_channels_are_minus_the_logarithm_of_what_they_lack_and_the_others_stay() -> None:
    x = states()
    y = Stretching.build(NAMES, ("damage",))(x)
    assert torch.equal(y[:, :2], x[:, :2])
    expected = -np.log1p(DISTANCE["damage"] - x[:, 2].numpy())
    assert np.allclose(y[:, 2].numpy(), expected, rtol=0, atol=1e-14)


def test_stretching_is_undone() -> None:
    x, stretching = states(), Stretching.build(NAMES, DISTANCE)
    assert torch.allclose(stretching.inverse(stretching(x)), x, rtol=0, atol=1e-15)
    edges = torch.tensor([0.0, 1.0]).double()[:, None, None, None].expand(2, 3, 1, 1)
    assert torch.allclose(stretching.inverse(stretching(edges)), edges, rtol=0, atol=1e-15)


def test_no_bound_stays_no_bound() -> None:
    stretching = Stretching.build(NAMES, DISTANCE)
    none = torch.full((3, 1, 1), math.inf, dtype=torch.float64)
    assert torch.equal(stretching(none), none) and torch.equal(stretching(-none), -none)


def test_nothing_stretched_is_nothing_changed() -> None:
    x, stretching = states(), Stretching.build(NAMES, ())
    assert stretching(x) is x and stretching.inverse(x) is x


def test_a_factor_on_what_is_lacking_is_a_shift() -> None:
    # Damage d' = 1 - a (1 - d): the same step of y wherever d is far enough from 1.
    x = torch.linspace(0.0, 0.5, 6, dtype=torch.float64)[:, None, None]
    stretching = Stretching.build(["damage"] * 6, ("damage",))
    step = stretching(1 - 0.5 * (1 - x)) - stretching(x)
    assert step.flatten().tolist() == pytest.approx([math.log(2)] * 6, abs=0.04)
