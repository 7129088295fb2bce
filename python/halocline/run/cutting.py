"""Cutting of windows: from chunks and fields of a grid to what a network sees.

Values come from chunks, rectangles of the grid that are read and decoded as a whole: a window asks for those it
touches, one after another, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch

from halocline.flow.conditions import MASK_POINTS, static_fields
from halocline.mesh.grid import Grid
from halocline.run.windows import CellMap, Origin
from halocline.state.state import Channels
from halocline.state.symmetry import TRANSPOSE, ChannelSymmetry

__all__ = ["Turning", "WindowCutter", "by_chunk"]

ReadChunk = Callable[[int, int], np.ndarray]
"""Returns chunk (J, I), shape (channel, rows, columns)."""
Places = dict[str, tuple[np.ndarray, np.ndarray]]
"""By point of the C-grid: flat places in a chunk, and in the window."""


@dataclass(frozen=True)
class _Run:
    """Channels that follow each other and share point and sign."""

    channels: slice
    point: str
    sign: int


def _runs(channels: Channels) -> tuple[_Run, ...]:
    runs, first = [], 0
    for (point, sign), group in groupby(zip(channels.points, channels.signs, strict=True)):
        count = len(list(group))
        runs.append(_Run(slice(first, first + count), point, sign))
        first += count
    return tuple(runs)


def _take(fields: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Takes cells of fields, shape (field, nj * ni), to shape (field, cell); any value where the cell is -1."""
    return np.take(fields, cell, axis=1, mode="clip")


def by_chunk(cells: dict[str, np.ndarray], ni: int, chunk: tuple[int, int]) -> Iterator[tuple[Origin, Places]]:
    """Yields each chunk (J, I) that is shown, and where.

    Arguments:
        cells: By point of the C-grid, numbers j * ni + i of the cells that are shown, or -1, any shape.
        ni: Columns of the grid.
        chunk: Cells of a chunk (j, i); chunks are cut off where the grid ends.
    """
    cj, ci = chunk
    columns = -(-ni // ci)
    found: dict[int, Places] = {}
    for point, cell in cells.items():
        here = np.flatnonzero(cell.ravel() >= 0)
        row, column = np.divmod(cell.ravel()[here], ni)
        number = row // cj * columns + column // ci
        width = np.minimum(ci, ni - column // ci * ci)
        there = row % cj * width + column % ci
        for n in np.unique(number).tolist():
            mine = number == n
            found.setdefault(n, {})[point] = there[mine], here[mine]
    for n, places in sorted(found.items()):
        yield divmod(n, columns), places


class WindowCutter:
    """Cuts standardised states, masks and conditions of any window at one scale.

    Holds fields of the size of the grid, not of the store. All its methods are free of side effects, use numpy only
    (a prefetching thread may call them), and take the window's `origin` and a `margin`: cells around its halo.

    Arguments:
        grid: At this scale.
        cells: Of this grid.
        channels: Variables by level.
        reference: Components of what is subtracted, shape (component, channel, nj, ni) or, for one, without it.
        scale: Of the standardisation, shape (channel), float64.
        halo: Of a window.
        chunk: Cells of a chunk (j, i); chunks are cut off where the grid ends.
    """

    def __init__(
        self,
        grid: Grid,
        cells: CellMap,
        channels: Channels,
        reference: np.ndarray,
        scale: np.ndarray,
        halo: int,
        chunk: tuple[int, int],
    ) -> None:
        self.cells, self.halo, self.chunk = cells, halo, chunk
        self._runs = _runs(channels)
        self._points = tuple(sorted(set(channels.points)))
        flat = grid.nj * grid.ni
        self._reference = reference.reshape(-1, channels.count, flat)
        self._scale = scale
        self._mask = channels.mask(grid).reshape(channels.count, flat)
        self._source = lru_cache(maxsize=64)(self._find_source)  # a window asks for it several times
        self._static = static_fields(grid).astype(np.float32).reshape(-1, flat)

    def states(
        self, origin: Origin, chunk: ReadChunk, margin: int = 0, weights: Sequence[float] = (1.0,)
    ) -> np.ndarray:
        r"""Cuts a standardised state.

        .. math:: x_c = \pm (X_c - \sum_n w_n m_{nc}) / s_c

        in float64, the lower sign for components of vectors that have crossed the fold; rounded to float32.

        Arguments:
            origin: Of the window.
            chunk: Reads a chunk of the state in physical units.
            margin: Cells around the halo.
            weights: w, of the components of what is subtracted.

        Returns:
            Shape (channel, wj + 2 margin, wi + 2 margin), zero on land and where nothing lies.

        Raises:
            ValueError, OSError: A chunk cannot be read.
        """
        sources = {point: self._source(point, origin, margin) for point in self._points}
        count = len(self._scale)
        shape = sources[self._points[0]][0].shape
        x = np.zeros((count, shape[0] * shape[1]), np.float32)
        cells = {point: cell for point, (cell, _) in sources.items()}
        for (J, I), places in by_chunk(cells, self.cells.edges.ni, self.chunk):
            values = chunk(J, I).reshape(count, -1)
            for run in self._runs:
                if run.point in places:
                    there, here = places[run.point]
                    x[run.channels, here] = values[run.channels, there]
        for run in self._runs:
            cell, crossed = (values.ravel() for values in sources[run.point])
            x[run.channels] = self._standardised(run, x[run.channels], cell, crossed, weights)
        return x.reshape(count, *shape)

    def wet(self, origin: Origin, margin: int = 0) -> np.ndarray:
        """Cuts the mask of the channels, shape (channel, wj + 2 margin, wi + 2 margin), bool."""
        sources = {point: self._source(point, origin, margin)[0] for point in self._points}
        parts = [self._cut(self._mask[run.channels], sources[run.point]) for run in self._runs]
        return np.concatenate(parts)

    def static(self, origin: Origin, margin: int = 0) -> np.ndarray:
        """Cuts the conditions per cell, shape (static, wj + 2 margin, wi + 2 margin), float32; see `static_fields`."""
        return self._cut(self._static, self._source("T", origin, margin)[0])

    def index(self, origin: Origin, margin: int = 0) -> np.ndarray:
        """Numbers the cells that a window shows, -1 where nothing lies, shape (wj + 2 margin, wi + 2 margin)."""
        return self._source("T", origin, margin)[0]

    @property
    def static_count(self) -> int:
        """Number of conditions per cell."""
        return len(self._static)

    def _find_source(self, point: str, origin: Origin, margin: int) -> tuple[np.ndarray, np.ndarray]:
        reach = self.halo + margin
        j, i = (np.arange(n - reach, n + m + reach) for n, m in zip(origin, self.cells.tile, strict=True))
        return self.cells.source(point, j, i)

    def _cut(self, fields: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Takes cells of fields, shape (field, nj * ni), to shape (field, *cell.shape); zero where nothing lies."""
        values = _take(fields, cell.ravel()).reshape(len(fields), *cell.shape)
        values[:, cell < 0] = 0
        return values

    def _standardised(
        self, run: _Run, x: np.ndarray, cell: np.ndarray, crossed: np.ndarray, weights: Sequence[float]
    ) -> np.ndarray:
        """Standardises physical values of a run's channels, shape (channel, position)."""
        departure = x.astype(np.float64)
        for weight, reference in zip(weights, self._reference, strict=True):
            if weight:
                departure -= weight * _take(reference[run.channels], cell)
        departure /= self._scale[run.channels, None]
        np.copyto(departure, 0.0, where=~(_take(self._mask[run.channels], cell) & (cell >= 0)))
        if run.sign < 0 and crossed.any():
            departure[:, crossed] *= -1
        return departure.astype(np.float32)


class Turning:
    """Flips and transposes windows; see `state.symmetry` for numbers. Results lose the margin of one cell.

    Arguments:
        channels: Variables by level.
        scale: Of the standardisation, shape (channel).
        statics: Number of conditions per cell, of which the masks at `MASK_POINTS` are the first.
    """

    def __init__(self, channels: Channels, scale: np.ndarray, statics: int) -> None:
        self._scale = scale[:, None, None]
        self._states = ChannelSymmetry.for_channels(channels)
        partners = list(range(statics))
        u, v = MASK_POINTS.index("U"), MASK_POINTS.index("V")
        partners[u], partners[v] = v, u
        masks = ["T"] * len(MASK_POINTS) if channels.unstaggered else MASK_POINTS
        points = (*masks, *["T"] * (statics - len(MASK_POINTS)))
        self._static = ChannelSymmetry.build(points, [1] * statics, partners)
        self._scalar = ChannelSymmetry.build(("T",), (1,), (0,))

    def states(self, x: np.ndarray, number: int) -> np.ndarray:
        """Turns a standardised state, shape (channel, wj + 2, wi + 2) to (channel, wj, wi), float32.

        Departures from the reference are turned in physical units: a component of a vector that becomes the other one
        is divided by the other's scale.
        """
        if not number & TRANSPOSE:
            return self._states.apply(torch.from_numpy(x), number).numpy()
        departures = self._states.apply(torch.from_numpy(x * self._scale), number).numpy()
        return (departures / self._scale).astype(np.float32)

    def wet(self, mask: np.ndarray, number: int) -> np.ndarray:
        """Turns the mask of the channels, shaped like a state."""
        return self._states.apply(torch.from_numpy(mask.astype(np.int8)), number).numpy() != 0

    def static(self, fields: np.ndarray, number: int) -> np.ndarray:
        """Turns conditions per cell, shape (static, wj + 2, wi + 2) to (static, wj, wi)."""
        return self._static.apply(torch.from_numpy(fields), number).numpy()

    def cells(self, cells: np.ndarray, number: int) -> np.ndarray:
        """Turns a field at T points, shape (wj + 2, wi + 2) to (wj, wi)."""
        return self._scalar.apply(torch.from_numpy(cells)[None], number)[0].numpy()
