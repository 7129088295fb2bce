"""Halo exchange between two ranks against a copy of the same bytes through shared memory. Prints JSON on rank 0.

One tile of 64 × 64 cells per rank, halo 4, neighbours along j (rims are contiguous rows) and along i (rims are
strided). The exchange is packing, messages and unpacking; a fill also assembles windows from this rank's own cells,
while the messages travel. The copy takes the same bytes through shared memory: each rank writes them to a window,
meets the other at a barrier, and reads the other's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import torch
from mpi4py import MPI

from halocline.mesh.communicator import world
from halocline.mesh.grid import box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout

TILE, HALO, ROUNDS, REPEAT = 64, 4, 60, 20


def per_call(call: Callable[[], object], comm: MPI.Comm) -> float:
    """Seconds per call on the slower rank, over REPEAT calls."""
    comm.Barrier()
    start = time.perf_counter()
    for _ in range(REPEAT):
        call()
    return comm.allreduce((time.perf_counter() - start) / REPEAT, op=MPI.MAX)


def measure(layout: Layout, channels: int) -> dict[str, float]:
    """Times the exchange and the copy; seconds."""
    mpi = layout.comm.mpi
    plan = HaloPlan.build(layout, ["T"] * channels, [1] * channels)
    x = torch.randn(1, 1, channels, TILE, TILE)
    size = plan.bytes_per_fill(1)
    window = MPI.Win.Allocate_shared(size, 1, comm=mpi)
    mine, other = (np.frombuffer(window.Shared_query(r)[0], np.uint8) for r in (mpi.rank, 1 - mpi.rank))
    fresh, arrived = np.random.default_rng(0).integers(0, 255, size, np.uint8), np.empty(size, np.uint8)

    windows = plan.fill(x)

    def exchange() -> None:
        pending = plan.start(x)
        layout.comm.wait(pending.requests)
        plan.tables.unpack(windows.numpy(), pending.inbox, 1)

    def copy() -> None:
        np.copyto(mine, fresh)
        mpi.Barrier()
        np.copyto(arrived, other)
        mpi.Barrier()

    calls = {"exchange": exchange, "copy": copy}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(per_call(call, mpi))
    window.Free()
    return {"bytes": size, **{name: min(t) for name, t in times.items()}}


def main() -> None:
    torch.set_num_threads(1)
    comm = world()
    results = []
    for direction, shape in (("j", (2 * TILE, TILE)), ("i", (TILE, 2 * TILE))):
        lattice = Lattice.from_grid(box_grid(2, *shape), (TILE, TILE), HALO)
        layout = Layout.build(lattice, comm)
        results += [{"along": direction, **measure(layout, channels)} for channels in (128, 512)]
    if comm.is_root:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
