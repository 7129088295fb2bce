"""What a training reads from its store: the windows of each scale, and what is known of each record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.flow.conditions import sample_conditions
from halocline.io.training_store import Records, TrainingStore
from halocline.run.cutting import WindowCutter
from halocline.run.generator import Generator, Parameters
from halocline.run.windows import CellMap, Windows
from halocline.state.coarsening import Coarsening

__all__ = ["ScaleWindows", "check_store", "record_conditions", "reference_weights"]


@dataclass(frozen=True, eq=False)
class ScaleWindows:
    """The windows of one scale, and what cuts them."""

    windows: Windows
    cutter: WindowCutter

    @classmethod
    def build(cls, scale: int, store: TrainingStore, generator: Generator) -> ScaleWindows:
        """Works out the windows of a coarsening factor.

        Raises:
            ValueError: No window there owns enough water, or the grid cannot be coarsened so.
        """
        grid, channels, lattice = store.grid_at(scale), generator.channels, generator.lattice
        stored = generator.stored
        training, standardisation = generator.config.training, generator.standardisation
        cells = CellMap.build(grid, lattice.tile)
        if training.windows == "free":
            windows = Windows.anywhere(cells, channels, grid, training.least_wet)
        else:
            windows = Windows.of_tiles(cells, channels, grid)
        climatology = generator.climatology
        reference = standardisation.reference[None] if climatology is None else climatology.components
        if scale != 1:
            coarsen = Coarsening.build(store.grid, scale, stored)
            reference = torch.stack([coarsen.apply(part.double()) for part in reference])
        factor = standardisation.scale.numpy()
        cutter = WindowCutter(grid, cells, stored, reference.numpy(), factor, lattice.halo, store.chunk)
        return cls(windows, cutter)


def check_store(store: TrainingStore, generator: Generator) -> None:
    """Refuses a store that is not of this generator.

    Raises:
        ValueError: It has other channels, another grid, lacks a scale, or holds nothing to train on.
    """
    if store.channels != generator.stored or store.grid.shape != generator.grid.shape:
        raise ValueError(
            f"Training store has {store.channels.count} channels on a grid of {store.grid.shape} cells, expected "
            f"{generator.stored.count} on {generator.grid.shape}: use the store of this grid and these variables."
        )
    config = generator.config
    for key, scales in (("training.scales", config.training.scales), ("coarse.factor", (config.coarse.factor,))):
        if missing := sorted(set(scales) - set(store.scales)):
            raise ValueError(
                f"Training store has scales {list(store.scales)}, but {key} names {missing}, too: make the store with "
                "these scales."
            )
    if np.asarray(store.records.held_out, bool).all():
        raise ValueError(
            f"Training store has {len(store.records.held_out)} states, none of which is for training: add states or "
            "hold out fewer with data.held_out_years."
        )


def record_conditions(records: Records, parameters: Parameters) -> Tensor:
    """Joins season and physical parameters of all records, shape (record, condition)."""
    season = torch.as_tensor(np.asarray(records.season))
    return sample_conditions(season, parameters.standardise(parameters_of(records, parameters.names)))


def reference_weights(records: Records, generator: Generator) -> list[list[float]]:
    """Returns how much of each component of the reference belongs to each record; see `Climatology`."""
    season = torch.as_tensor(np.asarray(records.season))
    return generator.weights(season, parameters_of(records, generator.parameters.names))


def parameters_of(records: Records, names: tuple[str, ...]) -> Tensor:
    """Physical parameters of all records, shape (record, parameter)."""
    columns = [torch.as_tensor(np.asarray(records.parameters[name])).double() for name in names]
    return torch.stack(columns, dim=1) if columns else torch.zeros(len(records.season), 0)
