"""How fast the network's convolutions run, against a matrix product on the same core. Prints JSON."""

from __future__ import annotations

import json

import torch
from timing import alternate, best
from torch import nn

from halocline.flow.networks import UNet, UNetConfig

BATCH, SIDE = 8, 32
SIZE = 1024  # of the matrix product


def record_inputs(network: UNet) -> list[tuple[nn.Module, torch.Tensor]]:
    """Runs the network once and returns each convolution with its input."""
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda m, args, out: seen.append((m, args[0].detach())))
    network(
        x=torch.randn(BATCH, 121, SIDE, SIDE),
        t=torch.rand(BATCH),
        static=torch.randn(BATCH, 22, SIDE, SIDE),
        conditions=torch.randn(BATCH, 4),
        cells=torch.randint(0, SIDE * SIDE, (BATCH, SIDE, SIDE)),
    )
    for module, _ in seen:
        module._forward_hooks.clear()
    return seen


def operations(module: nn.Module, x: torch.Tensor) -> int:
    """Floating-point operations of a convolution."""
    y = module(x)
    per_cell = 2 * module.in_channels * module.out_channels * module.kernel_size[0] * module.kernel_size[1]
    cells = x if isinstance(module, nn.ConvTranspose2d) else y
    return per_cell * cells.shape[0] * cells.shape[2] * cells.shape[3]


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(), 121, 22, 4, SIDE * SIDE).to(memory_format=torch.channels_last).eval()
    layers = record_inputs(network)
    total = sum(operations(m, x) for m, x in layers)
    a, b = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    times = alternate({"convolutions": lambda: [m(x) for m, x in layers], "product": lambda: a @ b}, rounds=15)
    rates = {"convolutions": total / best(times["convolutions"]), "product": 2 * SIZE**3 / best(times["product"])}
    print(json.dumps({name: rate / 1e9 for name, rate in rates.items()}))


if __name__ == "__main__":
    main()
