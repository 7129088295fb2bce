"""Memory: what is estimated before a training, and what is measured."""

from pathlib import Path

import pytest
from case import alone
from torch import nn, ones

from halocline.run.config import TrainingConfig
from halocline.run.memory import activations, estimate, peak, resident, table

MIB = 2**20

FORWARD = """
import torch
from halocline.flow.networks import UNet, UNetConfig
from halocline.run.memory import activations, resident

torch.set_num_threads(1)
network = UNet(UNetConfig(width=16), 12, 8, 4, 64 * 64)


def inputs(n):
    cells = torch.arange(64 * 64).reshape(1, 64, 64).repeat(n, 1, 1)
    conditions = {"static": torch.ones(n, 8, 64, 64), "conditions": torch.ones(n, 4), "cells": cells}
    return (torch.ones(n, 12, 64, 64), torch.ones(n)), conditions


one, two = (activations(network, *inputs(n)) for n in (1, 2))
arguments, conditions = inputs(12)
before = resident()
out = network(*arguments, **conditions)
print((resident() - before) / (one + 11 * (two - one)))
"""


def test_activations_count_what_is_kept_once_and_leave_the_weights_out():
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
    kept = 64 + 128  # the input, and the hidden layer, which two functions need
    assert activations(network, (ones(10, 64),), {}) == 10 * kept * 4


def test_activations_of_two_windows_tell_what_a_batch_adds_to_the_memory(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed goes back to the system
    result = alone("-c", FORWARD)
    assert result.status == 0, result.err
    assert float(result.out) == pytest.approx(1, abs=0.15)  # the library keeps buffers of its own


ARRAY = """
import numpy as np
from halocline.run.memory import peak, resident

before = resident()
array = np.ones(64 * 2**20, np.uint8)
held, highest = resident(), peak()
del array
print(before, held, highest, resident(), peak())
"""


def test_resident_memory_follows_an_array_and_the_peak_remembers_it():
    # Apart: whether a process gives memory back depends on what it has done before.
    before, held, highest, after, last = map(int, alone("-c", ARRAY).out.split())
    assert held - before > 50 * MIB
    assert after - before < 14 * MIB
    assert last >= highest > before + 50 * MIB


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_more_ranks_and_higher_stages_never_take_more_memory(precision: str):
    def total(ranks: int, zero: int) -> int:
        return estimate(10**7, ranks, zero, precision, accumulate=2).total

    for ranks in (2, 3, 8):
        stages = [total(ranks, zero) for zero in range(4)]
        # Stage 2 adds up gradients of micro-batches in 32 bits, stage 1 in those of the weights.
        assert stages[0] > stages[1] > stages[3] and stages[1] + 10**7 > stages[2] > stages[3]
        assert all(total(2 * ranks, zero) < total(ranks, zero) for zero in range(4))


def test_optimiser_halves_from_one_rank_to_two_at_stage_1_and_weights_at_stage_3():
    for precision in ("fp32", "bf16"):
        one, two = (estimate(10**7, ranks, 1, precision) for ranks in (1, 2))
        assert (two.optimiser, two.weights) == (one.optimiser / 2, one.weights)
        one, two = (estimate(10**7, ranks, 3, precision) for ranks in (1, 2))
        assert (two.optimiser, two.weights) == (one.optimiser / 2, one.weights / 2)


def test_table_has_a_row_for_each_stage_and_marks_the_one_that_is_configured():
    training = TrainingConfig(zero=1, precision="bf16")
    title, head, *rows = table(MIB, 2, training, 3 * MIB).splitlines()
    assert title == "memory per rank in MiB, bf16, estimated; up to 8.0 MiB more for moments"
    assert head.split() == ["ZeRO", "weights", "gradients", "master", "optimiser", "averages", "activations", "total"]
    assert rows[1].split() == ["*", "1", "2.0", "1.0", "2.0", "4.0", "2.0", "3.0", "14.0"]
    assert [row.split()[0] for row in rows] == ["0", "*", "2", "3"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is told by /proc")
def test_resident_memory_is_at_most_its_peak():
    assert resident() <= peak() + MIB  # the kernel adds pages up in batches of each thread
