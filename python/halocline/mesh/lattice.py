"""The tile lattice: one fixed cover of the global grid by equal rectangles, whatever the number of ranks.

Tiles are anchored at cell (0, 0). Where the grid is not divisible, the last row and column of tiles reach beyond it:
those positions are padding, never owned, and show the wrapped or folded grid where there is one, else zero. Tiles
without a wet cell are dropped. This module is arithmetic only: no MPI, and nothing that depends on a rank.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from halocline.mesh.fold import Edges
from halocline.mesh.grid import Grid


@dataclass(frozen=True, eq=False)
class Lattice:
    """Knows the tiles of a grid, the cells each owns, and where the cells of its window come from.

    Built by `build` or `from_grid`. A *window* is a tile with its halo, (wj, wi) = (tile_j + 2 halo, tile_i + 2 halo).

    Arguments:
        edges: Size of the grid and what lies beyond it.
        tile_j, tile_i: Size of a tile's owned part.
        halo: Width of the halo.
        tiles: Kept tiles as (J, I), row after row, shape (tile, 2).
        weights: Wet cells of each tile, shape (tile).
    """

    edges: Edges
    tile_j: int
    tile_i: int
    halo: int
    tiles: np.ndarray
    weights: np.ndarray

    @classmethod
    def build(
        cls,
        wet: np.ndarray,
        tile: tuple[int, int],
        halo: int,
        periodic_i: bool = False,
        periodic_j: bool = False,
        fold: str = "",
    ) -> "Lattice":
        """Covers a grid by tiles and drops the dry ones.

        Arguments:
            wet: True where any level is sea, shape (nj, ni).
            tile: Owned size (tile_j, tile_i).
            halo: Width of the halo.
            periodic_i, periodic_j, fold: Edges of the grid; see `Edges`.

        Raises:
            ValueError: A size is not positive, the halo exceeds what a neighbour owns, or no cell is wet.
        """
        wet = np.asarray(wet, bool)
        if wet.ndim != 2:
            raise ValueError(f"Mask wet has {wet.ndim} dimensions, expected (nj, ni): use the wet property of a grid.")
        edges = Edges(wet.shape[0], wet.shape[1], periodic_i, periodic_j, fold)
        tile_j, tile_i = (int(size) for size in tile)
        if min(tile_j, tile_i) < 1 or halo < 0:
            raise ValueError(
                f"Tile {tile_j} x {tile_i} with halo {halo} is impossible: "
                "choose a tile of at least 1 x 1 and a halo of at least 0."
            )
        _check_reach(edges, tile_j, tile_i, halo)
        rows, columns = -(-edges.nj // tile_j), -(-edges.ni // tile_i)
        padded = np.zeros((rows * tile_j, columns * tile_i), np.int64)
        padded[: edges.nj, : edges.ni] = wet
        weights = padded.reshape(rows, tile_j, columns, tile_i).sum(axis=(1, 3))
        if not weights.any():
            raise ValueError(f"Grid of {edges.nj} x {edges.ni} cells has no wet cell: check its mask.")
        return cls(edges, tile_j, tile_i, int(halo), np.argwhere(weights > 0), weights[weights > 0])

    @classmethod
    def from_grid(cls, grid: Grid, tile: tuple[int, int], halo: int) -> "Lattice":
        """Covers a grid by tiles; see `build`."""
        return cls.build(grid.wet, tile, halo, grid.periodic_i, grid.periodic_j, grid.fold)

    @property
    def nj(self) -> int:
        """Rows of the grid."""
        return self.edges.nj

    @property
    def ni(self) -> int:
        """Columns of the grid."""
        return self.edges.ni

    @property
    def periodic_i(self) -> bool:
        """Whether the last column is followed by the first."""
        return self.edges.periodic_i

    @property
    def periodic_j(self) -> bool:
        """Whether the last row is followed by the first."""
        return self.edges.periodic_j

    @property
    def fold(self) -> str:
        """Pivot of the north fold, "" if none."""
        return self.edges.fold

    @property
    def count(self) -> int:
        """Number of kept tiles."""
        return len(self.tiles)

    @property
    def tile(self) -> tuple[int, int]:
        """Size of a tile's owned part."""
        return self.tile_j, self.tile_i

    @property
    def window(self) -> tuple[int, int]:
        """Size of a tile with its halo."""
        return self.tile_j + 2 * self.halo, self.tile_i + 2 * self.halo

    @cached_property
    def index(self) -> np.ndarray:
        """Number of the tile at (J, I), -1 where it was dropped."""
        index = np.full((-(-self.nj // self.tile_j), -(-self.ni // self.tile_i)), -1)
        index[self.tiles[:, 0], self.tiles[:, 1]] = np.arange(self.count)
        return index

    def locate(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the tile of each cell and its place there.

        Arguments:
            cell: Flat cell indices j * ni + i.

        Returns:
            Number of the tile (-1 if dropped), and flat position among its owned cells.
        """
        j, i = np.divmod(cell, self.ni)
        tile = self.index[j // self.tile_j, i // self.tile_i]
        return tile, (j % self.tile_j) * self.tile_i + i % self.tile_i

    def source(self, point: str = "T", tiles: np.ndarray | None = None) -> np.ndarray:
        """Names the cell whose value each window position shows.

        On a folded grid this projects: an owned cell that repeats another shows that other.

        Arguments:
            point: Point of the C-grid.
            tiles: Numbers of the tiles asked for; all if absent.

        Returns:
            Flat indices j * ni + i, shape (tile, wj, wi); -1 outside the grid and where the tile was dropped.
        """
        return self._windows(point, tiles)[0]

    def flips(self, point: str = "T", tiles: np.ndarray | None = None) -> np.ndarray:
        """Tells where the value has crossed the fold, so that vector components change sign; shaped like `source`."""
        return self._windows(point, tiles)[1]

    def _windows(self, point: str, tiles: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.tiles if tiles is None else self.tiles[tiles]
        j = chosen[:, 0, None] * self.tile_j - self.halo + np.arange(self.window[0])
        i = chosen[:, 1, None] * self.tile_i - self.halo + np.arange(self.window[1])
        cell, crossed = self.edges.canonical(point, j[:, :, None], i[:, None, :])
        kept = (cell >= 0) & (self.locate(np.maximum(cell, 0))[0] >= 0)
        return np.where(kept, cell, -1), crossed & kept

    def cells(self, tiles: np.ndarray | None = None) -> np.ndarray:
        """Numbers the owned cells, j * ni + i, shape (tile, tile_j, tile_i); -1 outside the grid."""
        chosen = self.tiles if tiles is None else self.tiles[tiles]
        j = (chosen[:, 0, None] * self.tile_j + np.arange(self.tile_j))[:, :, None]
        i = (chosen[:, 1, None] * self.tile_i + np.arange(self.tile_i))[:, None, :]
        return np.where((j < self.nj) & (i < self.ni), j * self.ni + i, -1)

    @property
    def owned_mask(self) -> np.ndarray:
        """True where an owned position lies inside the grid, shape (tile, tile_j, tile_i)."""
        return self.cells() >= 0

    def canonical_mask(self, point: str = "T", tiles: np.ndarray | None = None) -> np.ndarray:
        """True where an owned position holds its own value and repeats no other, shape (tile, tile_j, tile_i).

        Integrals and noise count these once; on a grid without fold it equals `owned_mask`.
        """
        cells = self.cells(tiles)
        canonical, _ = self.edges.canonical(point, cells // self.ni, cells % self.ni)
        return (cells >= 0) & (canonical == cells)

    def owners(self, size: int) -> np.ndarray:
        """Deals the tiles to ranks: contiguous pieces of a Hilbert curve with the least possible heaviest piece.

        Arguments:
            size: Number of ranks.

        Returns:
            Rank of each tile, shape (tile); every rank has at least one.

        Raises:
            ValueError: There are more ranks than tiles.
        """
        if not 1 <= size <= self.count:
            raise ValueError(
                f"{size} ranks for {self.count} tiles: start at most {self.count} ranks or choose smaller tiles."
            )
        order = np.argsort(_hilbert(self.tiles), kind="stable")
        owners = np.empty(self.count, np.int64)
        owners[order] = np.repeat(np.arange(size), _pieces(self.weights[order], size))
        return owners


def _check_reach(edges: Edges, tile_j: int, tile_i: int, halo: int) -> None:
    """Refuses a halo that reaches beyond the neighbouring tile."""
    rows, columns = -(-edges.nj // tile_j), -(-edges.ni // tile_i)
    last_rows, last_columns = edges.nj - (rows - 1) * tile_j, edges.ni - (columns - 1) * tile_i
    if halo > last_rows and (rows > 1 or edges.periodic_j or edges.fold):
        kind, owned, place = "rows", last_rows, (rows - 1, 0)
    elif halo > last_columns and (columns > 1 or edges.periodic_i):
        kind, owned, place = "columns", last_columns, (0, columns - 1)
    else:
        return
    raise ValueError(
        f"Halo width {halo} exceeds the {owned} owned {kind} of tile {place}: choose tiles of at least {halo} {kind}, "
        "also where the grid ends."
    )


def _hilbert(tiles: np.ndarray) -> np.ndarray:
    """Distance of (J, I) along a Hilbert curve through the smallest square of 2^n tiles that holds them all."""
    y, x = tiles[:, 0].copy(), tiles[:, 1].copy()
    distance = np.zeros(len(tiles), np.int64)
    side = 1 << int(max(tiles.max(), 0)).bit_length()
    while side > 1:
        side //= 2
        right, upper = (x & side) > 0, (y & side) > 0
        distance += side * side * ((3 * right) ^ upper)
        mirror = ~upper & right
        x[mirror], y[mirror] = side - 1 - (x[mirror] & (side - 1)), side - 1 - (y[mirror] & (side - 1))
        x, y = np.where(upper, x, y), np.where(upper, y, x)
    return distance


def _pieces(weights: np.ndarray, size: int) -> list[int]:
    """Cuts a row of weights into `size` non-empty pieces whose heaviest is as light as possible; returns lengths."""
    low, high = int(max(weights.max(), -(-weights.sum() // size))), int(weights.sum())
    while low < high:
        capacity = (low + high) // 2
        if len(_fill(weights, capacity, size)) > size:
            low = capacity + 1
        else:
            high = capacity
    return _fill(weights, low, size)


def _fill(weights: np.ndarray, capacity: int, size: int) -> list[int]:
    """Fills pieces up to a capacity one after another, early enough to leave one tile for each piece to come."""
    total = np.concatenate([[0], np.cumsum(weights)])
    lengths: list[int] = []
    start = 0
    while start < len(weights):
        end = int(np.searchsorted(total, total[start] + capacity, side="right")) - 1
        end = max(start + 1, min(end, len(weights) - (size - len(lengths) - 1)))
        lengths.append(end - start)
        start = end
    return lengths
