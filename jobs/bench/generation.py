"""Time of sampling on this number of ranks, and the share of the halo exchange in a step. Prints JSON on rank 0.

An untrained generator on a closed basin of 4 × 2 tiles; two members, so that both one and two ranks fill their batches.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from halocline.flow.networks import UNetConfig
from halocline.mesh.communicator import world
from halocline.mesh.grid import box_grid
from halocline.mesh.layout import Layout
from halocline.run.config import DataConfig, LatticeConfig, RunConfig, SamplingConfig
from halocline.run.generator import Generator, Parameters
from halocline.run.sample import build_sampler, keyed_noise
from halocline.state.state import Channels, Standardisation

NJ, NI, NK, TILE, HALO, MEMBERS = 96, 48, 20, 24, 4, 2


def build() -> Generator:
    """Builds an untrained generator."""
    grid = box_grid(NK, NJ, NI)
    config = RunConfig(
        data=DataConfig(grid="", states=()),
        lattice=LatticeConfig((TILE, TILE), HALO),
        output="",
        network=UNetConfig(),
        sampling=SamplingConfig(sampler="euler", tile_batch=4),
    )
    channels = Channels.build(config.data.variables, grid)
    noise = torch.randn(2, channels.count, NJ, NI, dtype=torch.float64)
    standardisation = Standardisation.fit(channels, noise, grid, centre="level")
    return Generator.build(config, grid, standardisation, Parameters.fit((), torch.zeros(2, 0)))


def main(steps: int) -> None:
    torch.set_num_threads(1)
    comm = world()
    generator = build()
    layout = Layout.build(generator.lattice, comm)
    members = tuple(range(MEMBERS))
    denoiser = generator.tiled(layout, torch.zeros(MEMBERS), torch.zeros(MEMBERS, 0))
    noise = keyed_noise(generator, layout, members, 0, denoiser.mask)
    sampler = build_sampler(generator, denoiser, noise, lambda *_: None)
    x = noise(0)
    times = []
    for index in range(steps + 1):  # the first warms up
        comm.barrier()
        start = time.perf_counter()
        x = sampler.step(x, 0.5, 0.45, index)
        comm.barrier()
        times.append(time.perf_counter() - start)
    exchange = []
    for _ in range(50):
        comm.barrier()
        start = time.perf_counter()
        denoiser.halo.fill(x)
        exchange.append(time.perf_counter() - start)
    if comm.is_root:
        result = {"step": min(times[1:]), "exchange": sorted(exchange)[len(exchange) // 2]}
        print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
