"""Changes of stretched variables, compressed, and back."""

import math

import numpy as np
import pytest
import torch

from halocline.run.increments import Increments
from halocline.run.learned_changes import LearnedChanges
from halocline.state.stretching import DISTANCE, Stretching

NAMES = ("concentration", "thickness", "damage")
UNIT = torch.tensor([0.3, 0.02, 0.6]).double()[:, None, None]


def changes(k: float) -> LearnedChanges:
    increments = Increments(torch.tensor([6.0]).double(), UNIT[None, :, 0, 0], *(torch.zeros(2, 3),) * 3)
    return LearnedChanges(Stretching.build(NAMES, DISTANCE), k, increments, 0 * UNIT, UNIT)


def two_states() -> tuple[torch.Tensor, torch.Tensor]:
    x, after = np.random.default_rng(0).uniform(0, 1, (2, 4, 3, 5, 7))
    return torch.as_tensor(x), torch.as_tensor(after)


@pytest.mark.parametrize("k", [0.0, 0.5, 3.0])
def test_what_is_learned_of_two_states_leads_from_one_to_the_other(k: float) -> None:
    (x, after), learned = two_states(), changes(k)
    assert torch.allclose(learned.apply(x, learned.change(x, after, UNIT), UNIT), after, rtol=0, atol=1e-12)


def test_a_usual_change_counts_1_and_a_large_one_its_logarithm() -> None:
    learned = changes(2.0)
    x = torch.zeros(3, 1, 1).double()
    for z, expected in ((0.0, 0.0), (1.0, 1.0), (-1.0, -1.0), (1e6, math.log(4e6) / math.asinh(2.0))):
        assert float(learned.change(x, UNIT * z, UNIT)[1]) == pytest.approx(expected, abs=1e-9)


def test_a_bound_that_is_none_is_no_bound_of_the_change() -> None:
    x, _ = two_states()
    for k in (0.0, 2.0):
        for bound in (-math.inf, math.inf):
            assert torch.equal(changes(k).change(x, 0 * UNIT + bound, UNIT), torch.full_like(x, bound))


def test_bits_do_not_depend_on_where_in_a_tensor_a_value_lies() -> None:
    (x, after), learned = two_states(), changes(2.0)
    change = learned.change(x, after, UNIT)
    whole = learned.apply(x, change, UNIT)
    for n in range(1, 7):
        for first in range(7 - n):
            part = slice(first, first + n)
            cut = [a[..., part].contiguous() for a in (x, after)]
            again = learned.change(*cut, UNIT)
            assert torch.equal(again, change[..., part])
            assert torch.equal(learned.apply(cut[0], again, UNIT), whole[..., part])
