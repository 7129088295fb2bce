"""Where the time of a gradient goes in fp32 and in bf16, on one core. Prints JSON.

The U-Net of jobs/configs/gyre.yaml and its batch on one of two ranks, forward and backward under autocast, without
optimiser and loader. Operators are told apart by torch's profiler: convolutions, which AMX makes faster, and the rest
(normalisation, activations, sums, copies between types), which memory bounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from timing import alternate, median
from torch.profiler import ProfilerActivity, profile

from halocline.flow.networks import UNet, UNetConfig

BATCH, CHANNELS, STATIC, CONDITIONS, NJ, NI = 8, 121, 22, 4, 24, 32
GROUPS = {"convolutions": ("convolution",), "copies": ("copy_",)}  # parts of the names of operators


def inputs() -> dict[str, torch.Tensor]:
    """Draws a batch."""
    return {
        "x": torch.randn(BATCH, CHANNELS, NJ, NI),
        "t": torch.rand(BATCH),
        "static": torch.randn(BATCH, STATIC, NJ, NI),
        "conditions": torch.randn(BATCH, CONDITIONS),
        "cells": torch.randint(0, NJ * NI, (BATCH, NJ, NI)),
    }


def gradient(network: UNet, batch: dict[str, torch.Tensor], precision: str) -> Callable[[], None]:
    """Returns a call that computes the gradient of a loss in one precision."""

    def call() -> None:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = network(**batch)
        out.float().square().mean().backward()

    return call


def shares(call: Callable[[], None], repeat: int = 5) -> dict[str, float]:
    """Seconds per call by group of operators."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(repeat):
            call()
    groups = dict.fromkeys([*GROUPS, "rest"], 0.0)
    for event in seen.key_averages():
        name = next((group for group, parts in GROUPS.items() if any(part in event.key for part in parts)), "rest")
        groups[name] += event.self_cpu_time_total * 1e-6 / repeat
    return groups


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = UNet(UNetConfig(), CHANNELS, STATIC, CONDITIONS, NJ * NI).to(memory_format=torch.channels_last)
    for parameter in network.parameters():  # some start as zero
        torch.nn.init.normal_(parameter, std=0.05)
    batch = inputs()
    calls = {precision: gradient(network, batch, precision) for precision in ("fp32", "bf16")}
    times = alternate(calls, rounds=9)
    print(json.dumps({p: {"whole": median(times[p]), **shares(calls[p])} for p in calls}))


if __name__ == "__main__":
    main()
