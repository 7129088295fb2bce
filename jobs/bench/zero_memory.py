"""What a rank keeps in memory at a stage of ZeRO, `zero_memory.py STAGE`. Prints JSON on rank 0: the largest of ranks.

A U-Net of `WIDTH` features, windows so small that its activations hardly count, bf16 beside master weights of 32 bits.
Everything is counted from tensors that live in the process: weights, optimiser and averages as the engine names them,
gradients (with what DeepSpeed packs them into) as all that a backward pass leaves beside those. The peak is that of the
resident memory above what Python and its libraries hold before there is a network, where memory that is freed goes back
to the system at once.
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from halocline.flow.networks import UNet, UNetConfig
from halocline.mesh.communicator import world
from halocline.run.config import TrainingConfig
from halocline.run.engine import Engine, join, leave

WIDTH, CHANNELS, STATIC, CONDITIONS, SIDE = 184, 121, 22, 4, 8
STATUS = Path("/proc/self/status")
M_MMAP_THRESHOLD, THRESHOLD = -3, 131072  # of glibc: larger blocks are mapped, and unmapped when freed


def build() -> UNet:
    """Builds a network of more than 20 million weights."""
    torch.manual_seed(0)
    return UNet(UNetConfig(width=WIDTH), CHANNELS, STATIC, CONDITIONS, SIDE * SIDE)


def forward(network: nn.Module) -> Tensor:
    """A loss on one window."""
    out = network(
        torch.ones(1, CHANNELS, SIDE, SIDE),
        torch.full((1,), 0.5),
        static=torch.ones(1, STATIC, SIDE, SIDE),
        conditions=torch.ones(1, CONDITIONS),
        cells=torch.arange(SIDE * SIDE).reshape(1, SIDE, SIDE),
    )
    return (out.float() - 1).square().mean()


def living() -> int:
    """Bytes of all tensors of this process; memory that several share counts once."""
    gc.collect()
    found: dict[int, int] = {}
    for item in gc.get_objects():
        if issubclass(type(item), Tensor):
            both = (item, item.grad) if item.is_leaf else (item,)
            for x in both:
                if x is not None and x.layout == torch.strided:
                    found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    return sum(found.values())


def resident(entry: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at its highest."""
    return int(re.search(rf"{entry}:\s+(\d+) kB", STATUS.read_text()).group(1)) * 1024  # type: ignore[union-attr]


def main(stage: int) -> None:
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD)
    comm = world()
    join(comm, torch.device("cpu"))
    before, start = living(), resident("VmRSS")
    network = build()
    parameters = sum(p.numel() for p in network.parameters())
    engine = Engine.start(network, TrainingConfig(zero=stage), comm, torch.device("cpu"))
    for _ in range(2):
        engine.backward(forward(engine.network) / comm.size)
        gradients = living() - before
        engine.step(1e-4)
        engine.shards.average(0.9)
    result = {"parameters": parameters, **engine.tensors()}
    result["gradients"] = gradients - sum(engine.tensors().values())
    result["peak"] = resident("VmHWM") - start
    largest = np.max(comm.allgather(list(result.values())), axis=0)
    if comm.is_root:
        print(json.dumps(dict(zip(result, largest.tolist(), strict=True))))
    engine.close()
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]))
