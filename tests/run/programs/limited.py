"""Trains on a store that is larger than the memory it may take: ``limited.py FOLDER``."""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch
import zarr

from halocline.flow.networks import UNetConfig
from halocline.io.store import save_grid
from halocline.io.training_store import TrainingStore, create_arrays, resize_arrays, save_table, write_manifest
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.run.config import DataConfig, LatticeConfig, RunConfig, TrainingConfig
from halocline.run.engine import join
from halocline.run.loader import WindowLoader
from halocline.run.train import prepare
from halocline.run.trainer import Trainer
from halocline.state.state import Channels

RECORDS, NK, SIDE, TILE = 150, 8, 176, 88
LEFT = 350 * 2**20  # bytes
VARIABLES = ("temperature", "salinity", "velocity_u", "velocity_v")


def build(folder: Path) -> tuple[RunConfig, TrainingStore]:
    """A store whose states repeat each other, so that it is small on disk and large in memory."""
    path = folder / "data.zarr"
    path.mkdir()
    grid = box_grid(NK, SIDE, SIDE)
    channels = Channels.build(VARIABLES, grid)
    save_grid(grid, path / "grid.nc")
    create_arrays(path, {1: (SIDE, SIDE)}, channels.count, (TILE, TILE))
    resize_arrays(path, RECORDS)
    array = zarr.open_group(path / "states", mode="r+")["scale_1"]
    sea = channels.mask(grid)
    for record in range(RECORDS):
        array[record] = np.where(sea, np.float32(10 + np.sin(record)), 0)
    names = ("year", "month", "season", "time", "trajectory")
    records = {name: [1] * RECORDS for name in names} | {"held_out": [False] * RECORDS}
    manifest = {
        "variables": VARIABLES, "scales": [1], "chunk": [TILE, TILE], "grid": grid.fingerprint(), "count": RECORDS,
        "records": records, "parameters": {},
    }  # fmt: skip
    write_manifest(path, manifest)
    one, zero = np.ones(channels.count), np.zeros((channels.count, SIDE, SIDE))
    table = {
        "mean": zero + 10, "variance": zero + 1, "minimum": one, "maximum": one, "increment_mean": one,
        "increment_deviation": one, "lead": 1.0, "held_out": np.zeros(RECORDS, bool),
    }  # fmt: skip
    save_table(path / "statistics.npz", table)
    save_table(path / "diagnostics.npz", {"kinetic_energy": np.ones(RECORDS)})
    training = TrainingConfig(steps=6, batch=4, precision="fp32", cache=64, validate_steps=0)
    network = UNetConfig(width=4, multipliers=(1,), blocks=1, embedding=8, cell_features=0)
    data = DataConfig("", (), VARIABLES)
    config = RunConfig(data, LatticeConfig((TILE, TILE), 0), str(folder), network=network, training=training)
    return config, TrainingStore.open(path)


def in_use() -> int:
    """Bytes that RLIMIT_DATA counts."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmData:")[1].split()[0]) * 1024


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    config, store = build(folder)
    join(Serial(), torch.device("cpu"))
    generator = prepare(config, store)
    limit = in_use() + LEFT
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        np.ones((RECORDS, store.channels.count, SIDE, SIDE), np.float32)
    except MemoryError as error:
        print("the whole store does not fit:", type(error).__mro__[1].__name__)
    loader = WindowLoader(store, generator, 0, 1)
    trainer = Trainer(generator, store, folder, Serial(), torch.device("cpu"))
    trainer.run(loader)
    print("trained to step", trainer.step, json.dumps({"read": loader.read_bytes}))
    loader.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
