"""Changes of stretched variables, and back."""

import math

import numpy as np
import torch

from halocline.run.increments import Increments
from halocline.run.learned_changes import LearnedChanges
from halocline.state.stretching import DISTANCE, Stretching

NAMES = ("concentration", "thickness", "damage")
UNIT = torch.tensor([0.02, 0.02, 0.6], dtype=torch.float64)[:, None, None]


def changes() -> LearnedChanges:
    increments = Increments(torch.tensor([6.0], dtype=torch.float64), UNIT[None, :, 0, 0], *(torch.zeros(2, 3),) * 4)
    return LearnedChanges(Stretching.build(NAMES, DISTANCE), increments, 0 * UNIT, UNIT)


def two_states() -> tuple[torch.Tensor, torch.Tensor]:
    x, after = np.random.default_rng(0).uniform(0, 1, (2, 4, 3, 5, 7))
    return torch.as_tensor(x), torch.as_tensor(after)


def test_what_is_learned_of_two_states_leads_from_one_to_the_other() -> None:
    (x, after), learned = two_states(), changes()
    assert torch.allclose(learned.apply(x, learned.change(x, after, UNIT), UNIT), after, rtol=0, atol=1e-12)


def test_a_change_is_one_of_what_damage_lacks_and_of_the_others_themselves() -> None:
    x = torch.tensor([0.5, 1.0, 0.9], dtype=torch.float64)[:, None, None]
    after = torch.tensor([0.52, 0.98, 0.95], dtype=torch.float64)[:, None, None]
    found = changes().change(x, after, UNIT).flatten()
    expected = torch.tensor([1.0, -1.0, math.log(0.12 / 0.07) / 0.6], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_a_bound_that_is_none_is_no_bound_of_the_change() -> None:
    x, _ = two_states()
    for bound in (-math.inf, math.inf):
        assert torch.equal(changes().change(x, 0 * UNIT + bound, UNIT), torch.full_like(x, bound))


def test_bits_do_not_depend_on_where_in_a_tensor_a_value_lies() -> None:
    (x, after), learned = two_states(), changes()
    change = learned.change(x, after, UNIT)
    whole = learned.apply(x, change, UNIT)
    for n in range(1, 7):
        for first in range(7 - n):
            part = slice(first, first + n)
            cut = [a[..., part].contiguous() for a in (x, after)]
            again = learned.change(*cut, UNIT)
            assert torch.equal(again, change[..., part])
            assert torch.equal(learned.apply(cut[0], again, UNIT), whole[..., part])
