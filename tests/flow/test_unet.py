"""The network on haloed tiles."""

import pytest
import torch

from halocline.flow.networks import UNet, UNetConfig
from halocline.flow.networks.unet import window_problem

CELLS = 5 * 7


def network(**options) -> UNet:
    torch.manual_seed(0)
    net = UNet(UNetConfig(width=8, multipliers=(1, 2), blocks=1, embedding=16, **options), 3, 2, 4, CELLS)
    with torch.no_grad():
        for p in net.parameters():  # zero-initialised layers would hide every dependence
            p.add_(0.1 * torch.randn_like(p))
    return net.eval()


def inputs(count: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "x": torch.randn(count, 3, 6, 10),
        "t": torch.rand(count),
        "static": torch.randn(count, 2, 6, 10),
        "conditions": torch.randn(count, 4),
        "cells": torch.randint(-1, CELLS, (count, 6, 10)),
    }


@torch.no_grad()
def test_untrained_network_returns_zero():
    net = UNet(UNetConfig(width=8, multipliers=(1, 2)), 3, 2, 4, CELLS)
    assert not net(**inputs()).any()


@torch.no_grad()
@pytest.mark.parametrize("name", ["x", "t", "static", "conditions", "cells"])
def test_every_input_matters(name):
    net, given = network(), inputs()
    changed = dict(given)
    changed[name] = given[name].roll(1, dims=0)
    assert not torch.equal(net(**given), net(**changed))


@torch.no_grad()
def test_window_does_not_depend_on_its_place_or_its_neighbours_in_the_batch():
    net, given = network(), inputs()
    order = torch.tensor([2, 0, 3, 1])
    straight = net(**given)
    permuted = net(**{k: v[order] for k, v in given.items()})
    assert torch.equal(straight[order], permuted)
    padded = net(**{k: v[[0, 1, 1, 1]] for k, v in given.items()})
    assert torch.equal(straight[:2], padded[:2])


@torch.no_grad()
def test_learned_features_are_zero_outside_the_grid():
    net, given = network(cell_features=2), inputs()
    outside = {**given, "cells": torch.full_like(given["cells"], -1)}
    before = net(**outside)
    net.cell_features.add_(1.0)
    assert torch.equal(net(**outside), before)


def test_window_that_cannot_be_halved_is_named():
    assert window_problem(4, (24, 32), 0) == ""
    assert "22 x 36 cells (tile 14 x 28 and 2 x halo 4) is not a multiple of 4" in window_problem(4, (14, 28), 4)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"multipliers": []}, {"cell_features": -1}])
def test_wrong_size_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UNetConfig(**wrong)
