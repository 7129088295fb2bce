"""The transformer on haloed tiles."""

import pytest
import torch
from torch import Tensor, nn

from halocline.flow.networks import Transformer, TransformerConfig
from halocline.flow.networks.blocks import Attention, Trunk, normalise

CELLS, CHANNELS, STATIC, TOLD = 35, 3, 4, 5
SMALL = {"width": 16, "heads": 2, "blocks": 4, "embedding": 8}


def network(width: int = 16, **options) -> Transformer:
    """A network without the zeros of an untrained one, which would hide every dependence."""
    torch.manual_seed(0)
    net = Transformer(TransformerConfig(**{**SMALL, "width": width, **options}), CHANNELS, STATIC, TOLD, CELLS)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.eval()


def inputs(count: int = 4, nj: int = 6, ni: int = 10) -> dict[str, Tensor]:
    torch.manual_seed(1)
    static = torch.randn(count, STATIC, nj, ni)
    static[:, 0] = 1.0
    return {
        "x": torch.randn(count, CHANNELS, nj, ni),
        "t": torch.rand(count),
        "static": static,
        "conditions": torch.randn(count, TOLD),
        "cells": torch.randint(-1, CELLS, (count, nj, ni)),
    }


@torch.no_grad()
def test_untrained_transformer_returns_zero():
    assert not Transformer(TransformerConfig(**SMALL), CHANNELS, STATIC, TOLD, CELLS)(**inputs()).any()


@torch.no_grad()
@pytest.mark.parametrize("name", ["x", "t", "static", "conditions", "cells"])
def test_every_input_of_the_transformer_matters(name):
    net, given = network(cell_features=2), inputs()
    changed = {**given, name: given[name].roll(1, dims=0)}
    assert not torch.equal(net(**given), net(**changed))


@torch.no_grad()
@pytest.mark.parametrize("nj, ni", [(2, 2), (6, 10), (14, 4)])
def test_window_may_be_any_multiple_of_two_cells(nj, ni):
    assert network()(**inputs(nj=nj, ni=ni)).shape == (4, CHANNELS, nj, ni)


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("nj, ni", [(6, 10), (18, 14)])
def test_window_does_not_depend_on_its_neighbours_in_the_batch(precision, nj, ni):
    net, given = network(width=64), inputs(nj=nj, ni=ni)
    order = torch.tensor([2, 0, 3, 1])
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        straight = net(**given)
        permuted = net(**{k: v[order] for k, v in given.items()})
        padded = net(**{k: v[[0, 1, 1, 1]] for k, v in given.items()})
    assert torch.equal(straight[order], permuted)  # to the last bit: forecasts must not depend on the number of ranks
    assert torch.equal(straight[:2], padded[:2])


@torch.no_grad()
def test_every_token_sees_the_whole_window_and_rows_are_not_columns():
    net, given = network(), inputs(count=2)
    touched = {**given, "x": given["x"].clone()}
    touched["x"][:, :, 0, 0] += 1.0
    assert (net(**given) != net(**touched)).flatten(1, 1).any(dim=1).all()  # also in the far corner
    turned = {k: v.transpose(-1, -2) if v.dim() > 2 else v for k, v in given.items()}
    assert not torch.allclose(net(**turned).transpose(-1, -2), net(**given), atol=1e-3)


@torch.no_grad()
def test_attention_depends_on_differences_of_positions_only():
    torch.manual_seed(2)
    attention = Attention(32, 2, (8.0, 128.0)).double()
    x, where = torch.randn(2, 12, 32).double(), 40 * torch.rand(1, 12, 2).double()
    here = attention(x, where)
    torch.testing.assert_close(attention(x, where + torch.tensor([17.0, -5.0])), here, rtol=0, atol=1e-12)
    for other in (1.1 * where, where.flip(-1)):
        assert (attention(x, other) - here).abs().max() > 1e-3


@torch.no_grad()
def test_product_of_a_query_and_its_turned_copy_is_the_cosine_of_frequency_times_distance():
    attention = Attention(4, 1, (10.0, 10.0)).double()
    where = torch.tensor([[[0.0, 0.0], [3.0, 2.0]]]).double()
    vector = torch.tensor([1.0, 0.0, 0.0, 0.0]).double().expand(1, 2, 2, 1, 4)
    turned = attention._localise(vector, where)[0]
    angle = (attention.localisation.frequencies[:, 0, 0] * where[0, 1]).sum()
    torch.testing.assert_close((turned[0, 0] * turned[1, 1]).sum(), angle.cos(), rtol=0, atol=1e-12)


@torch.no_grad()
def test_first_frequencies_have_the_wavelengths_asked_for_and_two_directions():
    frequencies = Attention(64, 2, (8.0, 128.0)).localisation.frequencies
    lengths = 2 * torch.pi / frequencies.norm(dim=0)
    torch.testing.assert_close(lengths.min(dim=1).values, torch.full((2,), 8.0))
    torch.testing.assert_close(lengths.max(dim=1).values, torch.full((2,), 128.0))
    first, second = frequencies.chunk(2, dim=-1)
    torch.testing.assert_close((first * second).sum(dim=0), torch.zeros(2, 8), rtol=0, atol=1e-6)


@torch.no_grad()
def test_what_land_holds_does_not_matter_and_land_gets_zero():
    net, given = network(cell_features=2), inputs()
    land = torch.zeros(6, 10, dtype=torch.bool)
    land[:4, :4] = land[5, 7] = True  # whole tokens, and part of one
    given["static"][:, 0, land] = 0.0
    changed = {k: v.clone() for k, v in given.items()}
    changed["x"][..., land] = 7.0
    changed["static"][:, 1:, land] = -7.0
    changed["cells"][:, land] = 0
    result = net(**given)
    assert torch.equal(result, net(**changed))
    assert not result[..., land].any() and result[..., ~land].all()


@torch.no_grad()
def test_tokens_of_land_stay_zero_through_the_trunk():
    net, (tokens, wet) = network(), (torch.randn(1, 6, 16), torch.ones(1, 6, 1))
    tokens[:, 2] = wet[:, 2] = 0.0
    result = net.trunk(tokens, torch.rand(1, 6, 2), wet, torch.randn(1, 8))
    assert not result[:, 2].any() and result[:, 3].any()


def test_gradients_reach_every_parameter_and_survive_land():
    net, given = network(cell_features=2), inputs()
    given["static"][:, 0, :4] = 0.0
    net(**given).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


@torch.no_grad()
def test_long_skips_start_with_equal_shares():
    trunk = Trunk(lambda: Add(1.0), blocks=5, width=16, embedding=8, balance=0.5)
    result = trunk(torch.zeros(1, 2, 16), torch.zeros(1, 2, 2), torch.ones(1, 2, 1), torch.zeros(1, 8))
    # 0, 1, 2 and 3 on the way in; (2 + 3) / 2 + 1 = 3.5; (1 + 3.5) / 2 + 1 = 3.25; half of it with the input.
    torch.testing.assert_close(result, torch.full_like(result, 1.625))


class Add(nn.Module):
    """Adds a number instead of a block."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return x + self.number


def test_normalised_features_have_unit_mean_square_and_zeros_stay_zero():
    x = torch.cat([100 * torch.randn(3, 8), torch.zeros(1, 8)]).requires_grad_()
    y = normalise(x)
    torch.testing.assert_close(y.square().mean(dim=-1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    y.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"heads": 3}, {"blocks": 0}, {"hidden": 0}, {"wavelengths": [8, 2]}, {"cell_features": -1}]
)
def test_wrong_size_of_a_transformer_is_named(wrong):
    with pytest.raises(ValueError, match=f"transformer.{next(iter(wrong))}"):
        TransformerConfig(**{**SMALL, **wrong})
