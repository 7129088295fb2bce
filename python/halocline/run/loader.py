"""Batches of training, read from the store window by window.

Which window a sample is, at which scale and in which attitude, at which time and with which noise it is seen, are
functions of (seed, sample) alone, where step s of a batch of B has samples s B to (s + 1) B - 1. So any number of ranks
trains on the same global batches, and a resumed run goes on with the sequence. Ranks deal the samples of a step in
turn, and each splits its own into micro-batches in the same way.

A rank holds a bounded number of decoded chunks and the batches that it has prefetched, whatever the size of the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from halocline.flow.conditions import extra_conditions
from halocline.flow.times import stratified_times
from halocline.io.training_store import TrainingStore
from halocline.run.chunks import ChunkCache
from halocline.run.coarse_windows import CoarseWindows
from halocline.run.cutting import Turning
from halocline.run.generator import Generator
from halocline.run.prefetch import Prefetch
from halocline.run.scale_windows import ScaleWindows, check_store, record_conditions, reference_weights
from halocline.state.symmetry import allowed

__all__ = ["Batch", "Sample", "WindowLoader", "draw_noise", "epoch_order"]

MIB = 2**20
APART = (0, 0, 0, 1)  # where the counter of a sample's draws begins, beyond that of any epoch's order

SURROUNDINGS = 64  # windows whose masks and conditions are kept


@dataclass(frozen=True)
class Batch:
    """Samples of one micro-batch of this rank; `wet_count` counts those of the global batch.

    Attributes:
        x0, z: Clean windows and noise, shape (sample, channel, window j, window i).
        t: Path time, shape (sample), float64.
        wet: Mask of the windows, same shape as `x0`, bool.
        wet_count: Wet owned values in the batch of all ranks.
        conditions: Keyword arguments of the network.
        bounds: -1 and 1 where `x0` lies on its lower and upper bound, else 0; None where that is not told apart.
    """

    x0: Tensor
    z: Tensor
    t: Tensor
    wet: Tensor
    wet_count: float
    conditions: dict[str, Tensor]
    bounds: Tensor | None = None


@dataclass(frozen=True)
class Sample:
    """What is drawn for a sample: state, coarsening factor, number among `Windows`, and symmetry."""

    record: int
    scale: int
    window: int
    symmetry: int


class WindowLoader:
    """Reads the batches of a training; see the module.

    Arguments:
        store: Training store; records that are held out are not drawn.
        generator: Gives lattice, channels, standardisation, parameters, and the configuration.
        rank, ranks: Part wanted.

    Raises:
        ValueError: The store lacks a scale, has other channels, a grid of another size, or no record to train on; a
            scale has no window with enough water; or the tile does not allow the symmetries.

    Attributes:
        windows: Samples of an epoch: tiles with water times states. In an epoch each is drawn once: on "lattice" its
            window, or at a coarse scale the window that contains it; with "free" its state.

    Collective: no; every rank opens and reads the store by itself.
    """

    def __init__(self, store: TrainingStore, generator: Generator, rank: int, ranks: int) -> None:
        check_store(store, generator)
        self._training, self._seed = generator.config.training, generator.config.training.seed
        self._rank, self._ranks = rank, ranks
        self._records = self._drawn(store)
        self._tiles = generator.lattice.tiles
        self._scales = {scale: ScaleWindows.build(scale, store, generator) for scale in self._training.scales}
        channels, window = generator.stored, generator.lattice.window
        self._symmetries = allowed(self._training.symmetries, generator.lattice.tile, channels)
        statics = next(iter(self._scales.values())).cutter.static_count
        self._turning = Turning(channels, generator.standardisation.scale.numpy(), statics)
        state = (channels.count, *window)
        self._shapes = ((state, np.float32), (state, np.bool_), ((statics, *window), np.float32), (window, np.int64))
        self._conditions = record_conditions(store.records, generator.parameters)
        self._weights = reference_weights(store.records, generator)
        # Half of the memory is for chunks, half for windows as they are drawn: small sets are cut and scaled only once.
        half = self._training.cache * MIB // 2
        self._cache = ChunkCache(store, half)
        held = half // (4 * int(np.prod(self._shapes[0][0])))
        self._states = lru_cache(maxsize=held)(self._cut_states)
        self._coarse = self._coarse_windows(store, generator, held)
        self._surroundings = lru_cache(maxsize=SURROUNDINGS)(self._cut_surroundings)
        self._order = lru_cache(maxsize=2)(epoch_order)  # a batch may reach into the next epoch
        self._prefetch = Prefetch(self.draw, self._training.prefetch)
        self.windows = len(self._records) * len(self._tiles)

    def _drawn(self, store: TrainingStore) -> np.ndarray:
        """Numbers of the records that samples are drawn from."""
        return np.flatnonzero(~np.asarray(store.records.held_out, bool))

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which each window is drawn once."""
        return self.windows / self._training.batch

    @property
    def waited(self) -> float:
        """Seconds spent waiting in `batch` so far."""
        return self._prefetch.waited

    @property
    def read_bytes(self) -> int:
        """Decoded bytes read from the store so far."""
        return self._cache.read_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of decoded chunks held for later."""
        return self._cache.held

    def batch(self, step: int) -> list[Batch]:
        """Returns this rank's micro-batches of a step, and reads those of the next ones meanwhile.

        Arguments:
            step: From 0; any step, but one that does not follow the last waits for its own reading.

        Raises:
            ValueError, OSError: What the store said to a chunk that it could not read.
            RuntimeError: The loader is closed.

        Collective: no.
        """
        return self._prefetch.take(step)

    def draw(self, step: int) -> list[Batch]:
        """The same, read at once by the caller's thread. Collective: no."""
        size = self._training.batch
        samples = [self.sample(step * size + n) for n in range(size)]
        total = float(sum(self._scales[s.scale].windows.wet_values[s.symmetry % 4, s.window] for s in samples))
        mine = range(self._rank, size, self._ranks)
        parts = [mine[first :: self._training.accumulate] for first in range(self._training.accumulate)]
        return [self._collect(step, part, samples, total) for part in parts]

    def close(self) -> None:
        """Ends the reading; a second call does nothing. Collective: no."""
        self._prefetch.close()

    def sample(self, n: int) -> Sample:
        """Draws what the n-th sample of the training is. Collective: no."""
        epoch, place = divmod(n, self.windows)
        record, tile = divmod(int(self._order(self._seed, epoch, self.windows)[place]), len(self._tiles))
        draws = np.random.Generator(np.random.Philox(key=[self._seed, n], counter=APART))
        scale = self._training.scales[draws.integers(len(self._scales))]
        symmetry = self._symmetries[draws.integers(len(self._symmetries))]
        windows = self._scales[scale].windows
        if self._training.windows == "free":
            window = int(draws.integers(len(windows)))
        else:
            J, I = self._tiles[tile] // scale
            window = int(windows.index[J, I])
        return Sample(int(self._records[record]), scale, window, symmetry)

    def _coarse_windows(self, store: TrainingStore, generator: Generator, held: int) -> CoarseWindows | None:
        """What windows are told of coarse states, if anything."""
        factor = generator.config.coarse.factor
        if factor == 1:
            return None
        context, fine = generator.coarse_context(), self._scales[1]
        read = partial(self._cache.chunk, factor)
        return CoarseWindows(context, fine.windows, fine.cutter, store.chunk, read, self._weights, self._seed, held)

    def _collect(self, step: int, part: Sequence[int], samples: Sequence[Sample], total: float) -> Batch:
        """Reads samples of a step; `part` are their places in its batch."""
        chosen = [samples[n] for n in part]
        scales, symmetries = (torch.tensor([getattr(s, name) for s in chosen]) for name in ("scale", "symmetry"))
        extra = extra_conditions(self._training, scales, symmetries)
        records = self._conditions[[s.record for s in chosen]]
        x0, wet, static, cells = self._windows(chosen)
        numbers = [step * self._training.batch + n for n in part]
        if self._coarse is not None:
            told = [self._coarse(n, s.record, s.window) for n, s in zip(numbers, chosen, strict=True)]
            static = torch.cat([static, torch.from_numpy(np.stack(told))], dim=1)
        return Batch(
            x0=x0,
            z=draw_noise(self._seed, numbers, x0.shape[1:]),
            t=stratified_times(self._seed, step, self._training.batch, part, shift=self._training.time_shift),
            wet=wet,
            wet_count=total,
            conditions={"static": static, "conditions": torch.cat([records, extra], dim=1), "cells": cells},
        )

    def _windows(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cuts states, masks, conditions per cell and numbers of cells, each stacked over samples."""
        stacks = [np.empty((len(samples), *shape), dtype) for shape, dtype in self._shapes]
        for n, sample in enumerate(samples):
            for stack, values in zip(stacks, self._window(sample), strict=True):
                stack[n] = values
        x0, wet, static, cells = (torch.from_numpy(stack) for stack in stacks)
        return x0, wet, static, cells

    def _window(self, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return (self._states(sample), *self._surroundings(sample.scale, sample.window, sample.symmetry))

    def _cut_states(self, sample: Sample) -> np.ndarray:
        """Cuts and turns the state of a sample."""
        windows, cutter = self._scales[sample.scale].windows, self._scales[sample.scale].cutter
        read = partial(self._cache.chunk, sample.scale, sample.record)
        margin = 1 if sample.symmetry else 0  # turned cells have faces that belonged to their neighbours
        x0 = cutter.states(windows.origin(sample.window), read, margin, self._weights[sample.record])
        return self._turning.states(x0, sample.symmetry) if sample.symmetry else x0

    def _cut_surroundings(self, scale: int, window: int, turn: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cuts and turns what belongs to a place: mask, conditions per cell, numbers of cells."""
        windows, cutter = self._scales[scale].windows, self._scales[scale].cutter
        origin, margin = windows.origin(window), 1 if turn else 0
        wet, static, cells = (cut(origin, margin) for cut in (cutter.wet, cutter.static, cutter.index))
        if turn:
            wet, static = self._turning.wet(wet, turn), self._turning.static(static, turn)
            cells = self._turning.cells(cells, turn)
        if scale != 1:
            cells = np.full_like(cells, -1)  # learned features belong to the cells of the finest grid
        return wet, static, cells


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Draws the order of `count` windows in one epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def draw_noise(seed: int, samples: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Draws white noise for each sample from a generator of its own, shape (sample, *shape)."""
    # Knuth's multiplier keeps neighbouring samples' seeds apart; the noise that *samples* states is
    # another one, keyed on cells (flow/noise.py).
    noise = torch.empty(len(samples), *shape)
    for n, values in zip(samples, noise, strict=True):
        values.normal_(generator=torch.Generator().manual_seed((seed << 32) + (n * 2654435761) % 2**32))
    return noise
