"""A row has the same bits wherever in a batch it lies."""

from collections.abc import Iterator

import pytest
import torch

from halocline.flow.networks import UNet, UNetConfig
from halocline.flow.networks.aligned import AlignedLinear


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Part of what fixes the bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@torch.no_grad()
@pytest.mark.parametrize("inputs", [7, 16, 33, 34, 35, 36, 48])
def test_equal_rows_are_equal_to_the_last_bit_in_any_batch(inputs: int) -> None:
    torch.manual_seed(0)
    row = torch.randn(1, inputs)
    for outputs in (8, 24, 128):
        layer = AlignedLinear(inputs, outputs)
        for rows in (2, 3, 4, 6, 8):
            found = layer(row.expand(rows, inputs).contiguous())
            assert torch.equal(found, found[:1].expand_as(found)), (outputs, rows)


@torch.no_grad()
def test_it_is_the_linear_layer_of_its_parameters() -> None:
    torch.manual_seed(0)
    layer, x = AlignedLinear(35, 24).double(), torch.randn(2, 5, 35, dtype=torch.float64)
    expected = torch.einsum("...i,oi->...o", x, layer.weight) + layer.bias
    assert torch.allclose(layer(x), expected, rtol=0, atol=1e-13)
    assert set(layer.state_dict()) == {"weight", "bias"}


@torch.no_grad()
@pytest.mark.parametrize("rows", [2, 3, 4])
@pytest.mark.parametrize("conditions", [1, 2, 3])
def test_equal_windows_are_equal_in_batches_of_any_size(rows: int, conditions: int) -> None:
    torch.manual_seed(0)
    net = UNet(UNetConfig(width=32, multipliers=(1, 2), blocks=1, embedding=32, cell_features=0), 3, 2, conditions, 9)
    for p in net.parameters():
        p.add_(0.1 * torch.randn_like(p))
    one = {
        "x": torch.randn(1, 3, 6, 10), "t": torch.rand(1), "static": torch.randn(1, 2, 6, 10),
        "conditions": torch.randn(1, conditions), "cells": torch.randint(-1, 9, (1, 6, 10)),
    }  # fmt: skip
    found = net.eval()(**{name: x.expand(rows, *x.shape[1:]).contiguous() for name, x in one.items()})
    assert torch.equal(found, found[:1].expand_as(found))
