"""What windows of a training are told of the coarse states of their records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from halocline.io.training_store import TrainingStore
from halocline.run.context import TRAINING, CoarseContext, take
from halocline.run.cutting import WindowCutter, by_chunk
from halocline.run.generator import Generator
from halocline.run.scale_windows import reference_weights
from halocline.run.windows import Windows

__all__ = ["CoarseWindows", "coarse_records"]

PLACES = 64  # windows whose coarse cells are kept


class CoarseWindows:
    """Reads the coarse cells that windows lie in, and adds noise; see `run.context`.

    The noise of a coarse cell is a function of (seed, sample): wherever the window lies, and whoever reads it.

    Arguments:
        context: Of the generator.
        windows, cutter: Of the fine states.
        chunk: Cells of a chunk (j, i).
        read: From (record, J, I) to a chunk of the coarse states, shape (channel, rows, columns), physical units.
        weights: Of the components of the reference, for each record.
        seed: Of the training.
        held: Windows whose coarse states are kept.
    """

    def __init__(
        self,
        context: CoarseContext,
        windows: Windows,
        cutter: WindowCutter,
        chunk: tuple[int, int],
        read: Callable[[int, int, int], np.ndarray],
        weights: Sequence[Sequence[float]],
        seed: int,
        held: int,
    ) -> None:
        self._context, self._windows, self._cutter = context, windows, cutter
        self._chunk, self._read, self._weights, self._seed = chunk, read, weights, seed
        self._places = lru_cache(maxsize=PLACES)(self._find_places)
        self._values = lru_cache(maxsize=held)(self._read_values)

    def __call__(self, sample: int, record: int, window: int) -> np.ndarray:
        """Returns what a sample is told, shape (channel, wj, wi), float32.

        Arguments:
            sample: Its number in the training.
            record: Of the store.
            window: Its number among the windows.

        Raises:
            ValueError, OSError: A chunk cannot be read.

        Collective: no.
        """
        cells, places = self._places(window)
        return take(self._values(record, window) + self._context.draw(self._seed, TRAINING, sample, cells), places)

    def _find_places(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the coarse cells that a window shows, shape (cell), and which of them each position shows."""
        shown = self._context.cells(self._cutter.index(self._windows.origin(window)))
        cells = np.unique(shown[shown >= 0])
        return cells, np.where(shown >= 0, np.searchsorted(cells, shown), -1)

    def _read_values(self, record: int, window: int) -> np.ndarray:
        """Standardised values of the coarse cells of a window, shape (channel, cell)."""
        cells, weights = self._places(window)[0], self._weights[record]
        return read_cells(self._context, cells, self._chunk, partial(self._read, record), weights)


def read_cells(
    context: CoarseContext,
    cells: np.ndarray,
    chunk: tuple[int, int],
    read: Callable[[int, int], np.ndarray],
    weights: Sequence[float],
) -> np.ndarray:
    """Reads and standardises coarse cells of a record, shape (channel, cell).

    Arguments:
        context: Of the generator.
        cells: Numbers of the cells, shape (cell).
        chunk: Cells of a chunk (j, i).
        read: From (J, I) to a chunk, shape (channel, rows, columns), physical units.
        weights: Of the components of the reference.
    """
    index = list(context.index)
    x = np.zeros((len(index), len(cells)), np.float32)
    for (J, I), places in by_chunk({"T": cells}, context.grid.ni, chunk):
        there, here = places["T"]
        values = read(J, I)
        x[:, here] = values.reshape(len(values), -1)[index][:, there]
    return context.standardise(x, cells, weights)


def coarse_records(generator: Generator, store: TrainingStore, records: Sequence[int]) -> Tensor:
    """Reads whole coarse states of records as a network is told them, without noise.

    Returns:
        Shape (record, channel, NJ, NI), float32.

    Raises:
        ValueError: A chunk is missing or damaged.

    Collective: no.
    """
    context, weights = generator.coarse_context(), reference_weights(store.records, generator)
    cells = np.arange(context.grid.nj * context.grid.ni)
    found = [
        read_cells(context, cells, store.chunk, partial(store.block, context.factor, record), weights[record])
        for record in records
    ]
    return torch.from_numpy(np.stack(found)).unflatten(2, (context.grid.nj, context.grid.ni))
