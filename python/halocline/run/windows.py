"""The windows that a network is trained on: which there are, and which cells each shows.

A window has the size of a tile with its halo. It is named by its *origin*, the row and column of its first owned cell:
that of a tile, or any other. Positions beyond the edges of the grid show what they show in a tile's window
(`Lattice.source`): wrapped or folded cells, or nothing; the tiles without water that a lattice drops are nothing here,
too. All this holds at each scale, on the grid coarsened by its factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halocline.mesh.fold import Edges
from halocline.mesh.grid import Grid
from halocline.state.state import Channels

__all__ = ["CellMap", "Origin", "Windows"]

Origin = tuple[int, int]
"""Row and column of the first owned cell of a window."""


@dataclass(frozen=True, eq=False)
class CellMap:
    """Knows which cell of a grid a position shows.

    Attributes:
        edges: Size of the grid and what lies beyond it.
        tile: Owned cells of a window (j, i).
        watery: Tiles anchored at cell (0, 0) that have a wet cell, shape (J, I).
    """

    edges: Edges
    tile: tuple[int, int]
    watery: np.ndarray

    @classmethod
    def build(cls, grid: Grid, tile: tuple[int, int]) -> CellMap:
        """Finds the tiles with water."""
        rows, columns = (-(-size // length) for size, length in zip((grid.nj, grid.ni), tile, strict=True))
        padded = np.zeros((rows * tile[0], columns * tile[1]), bool)
        padded[: grid.nj, : grid.ni] = grid.wet
        watery = padded.reshape(rows, tile[0], columns, tile[1]).any(axis=(1, 3))
        return cls(grid.edges, tile, np.asarray(watery))

    def source(self, point: str, j: np.ndarray, i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Names the cells that a rectangle of positions shows; see `Lattice.source`.

        Arguments:
            point: Point of the C-grid.
            j, i: Rows and columns, also beyond the edges, shapes (row) and (column).

        Returns:
            Flat indices j * ni + i or -1, and whether the value has crossed the fold, shape (row, column).
        """
        cell, crossed = self.edges.canonical(point, j[:, None], i)
        row, column = np.divmod(np.maximum(cell, 0), self.edges.ni)
        shown = (cell >= 0) & self.watery[row // self.tile[0], column // self.tile[1]]
        return np.where(shown, cell, -1), crossed & shown

    @property
    def origins(self) -> tuple[int, int]:
        """Rows and columns of origins, from 0: anywhere on a closed circle, else from the first tile to the last."""
        free = (self.edges.periodic_j, self.edges.periodic_i)
        sizes = (self.edges.nj, self.edges.ni)
        last = [(count - 1) * length for count, length in zip(self.watery.shape, self.tile, strict=True)]
        return tuple(n if cyclic else m + 1 for n, m, cyclic in zip(sizes, last, free, strict=True))  # type: ignore[return-value]

    def owned_sums(self, point: str, values: np.ndarray, shift: Origin = (0, 0)) -> np.ndarray:
        """Adds whole numbers over the owned cells of the window at each origin.

        Arguments:
            point: Point of the C-grid where the values live.
            values: Shape (nj, ni).
            shift: Rows and columns by which the cells that are added lie before the owned ones.

        Returns:
            Shape `origins`.
        """
        j, i = (np.arange(n + m - 1) - s for n, m, s in zip(self.origins, self.tile, shift, strict=True))
        cell, _ = self.source(point, j, i)
        total = np.zeros((len(j) + 1, len(i) + 1), np.int64)
        total[1:, 1:] = np.where(cell >= 0, values.ravel()[cell], 0).cumsum(axis=0).cumsum(axis=1)
        tj, ti = self.tile
        return total[tj:, ti:] - total[:-tj, ti:] - total[tj:, :-ti] + total[:-tj, :-ti]


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one scale that training draws from.

    Attributes:
        origins: Row and column of each, shape (window, 2).
        wet_values: Wet owned values of each, over all channels, as it stands and where it is flipped along i (1), j (2)
            or both (3), for then the faces on its other side are its own; shape (4, window).
        index: Number of the window of tile (J, I), -1 where there is none; empty for free windows.
    """

    origins: np.ndarray
    wet_values: np.ndarray
    index: np.ndarray

    @classmethod
    def of_tiles(cls, cells: CellMap, channels: Channels, grid: Grid) -> Windows:
        """Lists the windows of the tiles with water, row after row, as a lattice does."""
        index = np.where(cells.watery, np.cumsum(cells.watery).reshape(cells.watery.shape) - 1, -1)
        origins = np.argwhere(cells.watery) * cells.tile
        return cls(origins, _wet_values(cells, channels, grid, origins), index)

    @classmethod
    def anywhere(cls, cells: CellMap, channels: Channels, grid: Grid, least_wet: float) -> Windows:
        """Lists the windows that own enough water, row after row.

        Arguments:
            cells: Of the grid.
            channels: Variables by level.
            grid: Gives the masks.
            least_wet: Cells with water, as a fraction of a tile's cells.

        Raises:
            ValueError: There is no such window.
        """
        wet = cells.owned_sums("T", grid.wet)
        enough = wet >= max(1.0, least_wet * cells.tile[0] * cells.tile[1])
        if not enough.any():
            raise ValueError(
                f"No window of {cells.tile[0]} x {cells.tile[1]} cells on the grid of {grid.nj} x {grid.ni} owns "
                f"{least_wet:g} of wet cells, at most {wet.max() / np.prod(cells.tile):.2g}: lower training.least_wet "
                "or leave coarse factors out of training.scales."
            )
        origins = np.argwhere(enough)
        return cls(origins, _wet_values(cells, channels, grid, origins), np.empty((0, 0), int))

    def __len__(self) -> int:
        return len(self.origins)

    def origin(self, window: int) -> Origin:
        """Returns the origin of a window by its number."""
        j, i = self.origins[window].tolist()
        return j, i


def _wet_values(cells: CellMap, channels: Channels, grid: Grid, origins: np.ndarray) -> np.ndarray:
    """Counts wet owned values; see `Windows.wet_values`."""
    mask, points = channels.mask(grid), np.array(channels.points)
    counts = {point: mask[points == point].sum(axis=0) for point in np.unique(points).tolist()}
    result = np.zeros((4, len(origins)), np.int64)
    for flips in range(4):
        for point, count in counts.items():
            shift = (flips // 2 * (point in "VF"), flips % 2 * (point in "UF"))
            result[flips] += cells.owned_sums(point, count, shift)[origins[:, 0], origins[:, 1]]
    return result
