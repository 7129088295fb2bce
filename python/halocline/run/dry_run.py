"""`halocline train --dry-run`: what a training would read, how long an epoch is, how much memory it needs."""

from __future__ import annotations

import torch
from torch import nn

from halocline.io.models import trajectories
from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.run.config import RunConfig
from halocline.run.data import open_model, store_path
from halocline.run.generator import build_network, check_window, input_counts
from halocline.run.memory import activations, table
from halocline.run.store_sources import held_out
from halocline.state.state import Channels

__all__ = ["dry_run"]


def dry_run(config: RunConfig, comm: Communicator | Serial) -> None:
    """Prints what `halocline train` would do.

    Raises: what the training would raise for this configuration before its first step.

    Collective: yes, one rank looks and prints.
    """
    with comm.together():
        if comm.is_root:
            grid, states, source = look_at_data(config)
            print("\n".join(describe(config, grid, states, source, comm.size)), flush=True)


def look_at_data(config: RunConfig) -> tuple[Grid, int, str]:
    """Returns the grid, the number of states to train on, and where they are, without reading them."""
    path = store_path(config)
    if path.exists():
        store = TrainingStore.open(path)
        kept = int((~store.records.held_out).sum())
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return store.grid, kept, f"store {path} of {size / 2**20:.1f} MiB, {store.count - kept} more states held out"
    grid, found = open_model(config.data)
    years = found.stamps.year
    first, last = config.data.first_year, config.data.last_year
    seen = (years >= (first or years.min())) & (years <= (last or years.max()))
    seen &= ~held_out(config.data, years, trajectories(found.stamps.time))
    where = f"{len(found.files)} files of {found.size / 2**20:.1f} MiB in all, to be made into {path}"
    return grid, int(seen.sum()), where


def describe(config: RunConfig, grid: Grid, states: int, source: str, ranks: int) -> list[str]:
    """Returns the lines to print."""
    training = config.training
    check_window(config)
    lattice = Lattice.from_grid(grid, config.lattice.tile, config.lattice.halo)
    channels = Channels.build(config.data.variables, grid)
    network = build_network(config, grid, lattice, channels.count)
    weights = sum(p.numel() for p in network.parameters())
    windows = states * lattice.count
    micro = -(-training.batch // (ranks * training.accumulate))
    wj, wi = lattice.window
    return [
        f"data: {source}",
        f"grid {grid.ni} x {grid.nj} x {grid.nk}, {lattice.count} tiles of {lattice.tile_i} x {lattice.tile_j} with "
        f"halo {lattice.halo}; {states} states, {channels.count} channels, {windows} windows of "
        f"{channels.count * wj * wi * 4 / 2**20:.2f} MiB",
        f"network of {weights / 1e6:.2f} million weights; {training.steps} steps of {training.batch} windows "
        f"({micro} at once on each of {ranks} ranks), {windows / training.batch:.1f} steps per epoch, "
        f"{training.steps * training.batch / windows:.1f} epochs",
        table(weights, ranks, training, micro * window_activations(config, grid, lattice, network, channels.count)),
    ]


def window_activations(config: RunConfig, grid: Grid, lattice: Lattice, network: nn.Module, channels: int) -> int:
    """Measures what the backward pass keeps of one window, bytes, on a batch of two."""
    wj, wi = lattice.window
    static, conditions = input_counts(config, grid, lattice)
    example = {
        "static": torch.zeros(2, static, wj, wi),
        "conditions": torch.zeros(2, conditions),
        "cells": torch.zeros(2, wj, wi, dtype=torch.long),
    }
    x, t = torch.zeros(2, channels * config.forecast.outputs, wj, wi), torch.full((2,), 0.5)
    half = config.training.precision == "bf16"
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        return activations(network, (x, t), example) // 2
