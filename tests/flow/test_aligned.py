"""A row has the same bits wherever in a batch it lies, and so has a window."""

from collections.abc import Iterator

import pytest
import torch

from halocline.flow.networks import TransformerConfig, UNet, UNetConfig
from halocline.flow.networks.aligned import AlignedLinear
from halocline.flow.networks.silu import silu
from halocline.flow.networks.transformer import Transformer


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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("elements", [1, 7, 27, 48, 64, 99, 1352])
def test_silu_is_the_same_in_any_row(elements: int, dtype: torch.dtype) -> None:
    x = 4 * torch.randn(1, elements, generator=torch.Generator().manual_seed(elements))
    for rows in (2, 3, 5):
        found = silu(x.to(dtype).expand(rows, elements).contiguous())
        assert torch.equal(found, found[:1].expand_as(found)), rows
    exact = x.double() / (1 + torch.exp(-x.double()))
    assert torch.allclose(silu(x), exact.float(), rtol=0, atol=1e-6)
    assert torch.allclose(silu(x.double()), exact, rtol=0, atol=1e-14)


def test_silu_has_the_slope_of_the_function_far_from_zero_too() -> None:
    x = torch.tensor([[-200.0, -30.0, -1.3, 0.0, 0.7, 30.0, 200.0]], dtype=torch.float64, requires_grad=True)
    silu(x).sum().backward()
    at = x.detach()
    assert torch.allclose(x.grad, torch.sigmoid(at) * (1 + at * torch.sigmoid(-at)), rtol=0, atol=1e-12)


def network(kind: str, width: int, conditions: int) -> UNet | Transformer:
    """For 3 channels and 2 of conditions."""
    if kind == "unet":
        config = UNetConfig(width=width, multipliers=(1, 2), blocks=1, embedding=width, cell_features=0)
        return UNet(config, 3, 2, conditions, 9)
    size = TransformerConfig(width=4 * width, blocks=1, heads=1, embedding=width, wavelengths=(4.0, 16.0))
    return Transformer(size, 3, 2, conditions, 9)


@torch.no_grad()
@pytest.mark.parametrize("rows", [2, 3, 4])
@pytest.mark.parametrize("conditions", [1, 2, 3])
@pytest.mark.parametrize("width", [9, 32])  # 9: samples fill registers nowhere
@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_equal_windows_are_equal_in_batches_of_any_size(kind: str, width: int, conditions: int, rows: int) -> None:
    torch.manual_seed(0)
    net = network(kind, width, conditions)
    for p in net.parameters():
        p.add_(0.1 * torch.randn_like(p))
    one = {
        "x": torch.randn(1, 3, 6, 10), "t": torch.rand(1), "static": torch.randn(1, 2, 6, 10),
        "conditions": torch.randn(1, conditions), "cells": torch.randint(-1, 9, (1, 6, 10)),
    }  # fmt: skip
    found = net.eval()(**{name: x.expand(rows, *x.shape[1:]).contiguous() for name, x in one.items()})
    assert torch.equal(found, found[:1].expand_as(found))
