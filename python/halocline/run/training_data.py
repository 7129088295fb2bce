"""Training data: model output on the grid, standardised, cut into tile windows.

The whole set is held in memory on every rank. Which window a sample is, and at which time and with which noise
it is seen, are functions of (seed, step, sample index) alone, so that any number of ranks trains on the same
global batches and a resumed run continues the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from halocline.flow.conditions import CellConditions, sample_conditions
from halocline.flow.times import stratified_times
from halocline.io.models import read_grid, read_states
from halocline.io.nemo import States
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.layout import Layout
from halocline.run.config import RunConfig
from halocline.run.generator import Generator, Parameters

__all__ = ["Batch", "TrainingData", "load_states"]


@dataclass(frozen=True)
class Batch:
    """Samples of one step that fall to this rank; `wet_count` counts those of all ranks.

    Attributes:
        x0, z: Clean windows and noise, shape (sample, channel, window j, window i).
        t: Path time, shape (sample), float64.
        wet: Mask of the windows, same shape as `x0`, bool.
        wet_count: Wet owned values in the batch of all ranks.
        conditions: Keyword arguments of the network.
    """

    x0: Tensor
    z: Tensor
    t: Tensor
    wet: Tensor
    wet_count: float
    conditions: dict[str, Tensor]


def load_states(config: RunConfig) -> tuple[Grid, States]:
    """Reads the grid and the states that a configuration names.

    Raises:
        FileNotFoundError, ValueError: See `read_grid` and `read_states`.

    Collective: no; every rank reads.
    """
    data = config.data
    grid = read_grid(data.grid)
    states = read_states(
        data.states,
        data.variables,
        grid,
        first_year=data.first_year,
        last_year=data.last_year,
        parameters=data.parameters,
    )
    return grid, states


class TrainingData:
    """All windows of all states.

    Arguments:
        generator: Gives lattice, channels, standardisation, halo.
        fields: Standardised states, shape (state, channel, nj, ni), zero on land.
        season: Fraction of the year, shape (state).
        parameters: Physical parameters, shape (state, parameter).
    """

    def __init__(
        self, generator: Generator, fields: np.ndarray, season: Tensor, parameters: Tensor
    ) -> None:
        layout = Layout.build(generator.lattice, Serial())
        channels = generator.channels
        plan = HaloPlan.build(layout, channels.points, channels.signs)
        owned = torch.as_tensor(layout.cut(fields)).transpose(0, 1).float()
        halo = generator.lattice.halo
        self.owned = slice(halo, -halo) if halo else slice(None)
        self.windows = plan.fill(owned.contiguous())
        wet = torch.as_tensor(layout.cut(channels.mask(generator.grid))).float()
        self.wet = plan.fill(wet.unsqueeze(0))[0].abs() > 0  # a fold may have changed signs
        self.wet_counts = self.wet[..., self.owned, self.owned].sum((1, 2, 3)).double()
        self.cells = CellConditions.build(generator.grid, layout)
        self.conditions = sample_conditions(season, generator.parameters.standardise(parameters))
        self._order = lru_cache(maxsize=2)(epoch_order)  # a batch may reach into the next epoch

    def __len__(self) -> int:
        return int(self.windows.shape[0] * self.windows.shape[1])

    def batch(self, seed: int, step: int, size: int, rank: int, ranks: int) -> Batch:
        """Draws this rank's part of the batch of one step.

        Arguments:
            seed: Of the training.
            step: Optimiser step, from 0.
            size: Samples over all ranks.
            rank, ranks: Part wanted; samples are dealt in turn.

        Collective: no.
        """
        first = step * size
        chosen = [self._choose(seed, first + n) for n in range(size)]
        tiles = self.windows.shape[1]
        total = float(sum(self.wet_counts[n % tiles] for n in chosen))
        mine = list(range(rank, size, ranks))
        index = torch.tensor([chosen[n] for n in mine], dtype=torch.long)
        state, tile = index // tiles, index % tiles
        x0 = self.windows[state, tile]
        return Batch(
            x0=x0,
            z=draw_noise(seed, [first + n for n in mine], x0.shape[1:]),
            t=stratified_times(seed, step, size, mine),
            wet=self.wet[tile],
            wet_count=total,
            conditions={
                "static": self.cells.static[tile],
                "conditions": self.conditions[state],
                "cells": self.cells.cells[tile],
            },
        )

    def _choose(self, seed: int, sample: int) -> int:
        """Walks through all windows in a new order each epoch."""
        epoch, place = divmod(sample, len(self))
        return int(self._order(seed, epoch, len(self))[place])


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Draws the order of `count` windows in one epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def draw_noise(seed: int, samples: list[int], shape: torch.Size) -> Tensor:
    """Draws white noise for each sample from a generator of its own, shape (sample, *shape)."""
    # Knuth's multiplier keeps neighbouring samples' seeds apart; the noise that *samples* states is
    # another one, keyed on cells (flow/noise.py).
    generators = (
        torch.Generator().manual_seed((seed << 32) + (n * 2654435761) % 2**32) for n in samples
    )
    noise = [torch.randn(shape, generator=g) for g in generators]
    return torch.stack(noise) if noise else torch.empty(0, *shape)


def parameter_table(states: States, names: tuple[str, ...]) -> Tensor:
    """Stacks the physical parameters of all states, shape (state, parameter)."""
    count = len(states.season)
    columns = [torch.as_tensor(np.asarray(states.parameters[name])).double() for name in names]
    return torch.stack(columns, dim=1) if columns else torch.zeros(count, 0)


def fit_parameters(states: States, config: RunConfig) -> Parameters:
    """Standardises the physical parameters that the configuration names."""
    names = config.data.parameters
    return Parameters.fit(names, parameter_table(states, names))
