"""Who owns which tile, and what follows from it: cutting global fields, and sums in lattice order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.communicator import AnyCommunicator
from halocline.mesh.lattice import Lattice


def tile_sums(x: Tensor, cells: int = 2) -> Tensor:
    """Sums over the cells of each tile in float64, with bits that depend on nothing but the tile's own values.

    Halves are added to halves, elementwise, until one value is left: no order is left to the library, so batch size,
    threads and vector width cannot matter. Differentiable.

    Arguments:
        x: Values, shape (..., tile, *cells).
        cells: Number of trailing dimensions that are cells: 2 for (j, i), 3 for (k, j, i).

    Returns:
        Shape (..., tile), float64.

    Collective: no.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _TileSums.apply(x, cells)
    return _tile_sums(x, cells)


class _TileSums(torch.autograd.Function):
    """The adjoint of a sum: every cell receives the derivative of its tile's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cells: int) -> Tensor:
        ctx.like = x.shape, x.dtype
        return _tile_sums(x, cells)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        shape, dtype = ctx.like
        gradient = gradients[0].to(dtype)
        return gradient.reshape(*gradient.shape, *[1] * (len(shape) - gradient.ndim)).expand(shape), None


def _tile_sums(x: Tensor, cells: int) -> Tensor:
    shape, n = x.shape[:-cells], math.prod(x.shape[-cells:])
    values = x.detach().to(torch.float64).reshape(math.prod(shape), n).numpy()
    if n < 2:
        return torch.from_numpy(values.sum(-1)).reshape(shape)
    half = (n + 1) // 2
    total = values[:, :half].copy()
    rest = values[:, half:]
    while True:
        part = total[:, : n - half]
        np.add(part, rest, out=part)
        if half == 1:
            return torch.from_numpy(total[:, 0].copy()).reshape(shape)
        n, half = half, (half + 1) // 2
        rest = total[:, half:n]


@dataclass(frozen=True, eq=False)
class Layout:
    """Knows which rank owns which tile of a lattice. Built by `build`.

    Arguments:
        lattice: The tiles.
        comm: The ranks.
        owners: Rank of each tile, shape (tile).
    """

    lattice: Lattice
    comm: AnyCommunicator
    owners: np.ndarray

    @classmethod
    def build(cls, lattice: Lattice, comm: AnyCommunicator, owners: np.ndarray | None = None) -> "Layout":
        """Deals the tiles to the ranks of a communicator.

        Arguments:
            lattice: The tiles.
            comm: The ranks.
            owners: Rank of each tile, shape (tile); balanced by wet cells if absent.

        Raises:
            ValueError: There are more ranks than tiles, or owners are of a wrong shape, out of range, differ between
                ranks, or leave a rank without tile.

        Collective: yes.
        """
        with comm.together():
            owners = lattice.owners(comm.size) if owners is None else np.array(owners, np.int64)
            if owners.shape != (lattice.count,) or not np.array_equal(np.unique(owners), np.arange(comm.size)):
                raise ValueError(
                    f"Owners of shape {owners.shape} with ranks {np.unique(owners)} do not deal {lattice.count} tiles "
                    f"to {comm.size} ranks: give every tile a rank and every rank a tile."
                )
        first = comm.broadcast(owners)
        with comm.together():
            if not np.array_equal(first, owners):
                raise ValueError(f"Owners of rank {comm.rank} differ from rank 0's: pass the same on every rank.")
        return cls(lattice, comm, owners)

    @cached_property
    def local(self) -> np.ndarray:
        """Numbers of this rank's tiles, ascending."""
        return np.flatnonzero(self.owners == self.comm.rank)

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of tiles of each rank."""
        return np.bincount(self.owners, minlength=self.comm.size)

    @cached_property
    def slots(self) -> np.ndarray:
        """Place of each tile among those of its owner, shape (tile)."""
        slots = np.empty(self.lattice.count, np.int64)
        slots[self._order] = np.concatenate([np.arange(count) for count in self.counts])
        return slots

    @cached_property
    def _order(self) -> np.ndarray:
        """Tiles rank after rank, the order in which gathered pieces arrive."""
        return np.argsort(self.owners, kind="stable")

    def cut(
        self, field: np.ndarray, halo: bool = False, *, point: str = "T", sign: int = 1, fill: float = 0
    ) -> np.ndarray:
        """Cuts a global field, known on this rank, into this rank's tiles.

        Arguments:
            field: Shape (..., nj, ni).
            halo: Whether to cut windows (projected through the fold) instead of owned cells (as they stand).
            point: Point of the C-grid where the field lives; windows only.
            sign: Factor of values that have crossed the fold, -1 for vector components; windows only.
            fill: Value where no cell lies.

        Returns:
            Shape (tile, ..., tile_j, tile_i), or (tile, ..., wj, wi) for windows.

        Raises:
            ValueError: The field is not on this grid.

        Collective: no.
        """
        field = np.asarray(field)
        grid = (self.lattice.nj, self.lattice.ni)
        if field.shape[-2:] != grid:
            raise ValueError(f"Field of shape {field.shape} does not end in {grid}: read it on the lattice's grid.")
        source = self.lattice.source(point, self.local) if halo else self.lattice.cells(self.local)
        values = np.where(source >= 0, field.reshape(*field.shape[:-2], -1)[..., source], field.dtype.type(fill))
        if halo and sign != 1:
            values = np.where(self.lattice.flips(point, self.local), sign * values, values)
        return np.ascontiguousarray(np.moveaxis(values, -3, 0))

    def sum(self, partial: Tensor) -> Tensor:
        """Adds the partial sums of all tiles, one tile after another in lattice order.

        The result has the same bits on every rank and for every layout. Not differentiable.

        Arguments:
            partial: One value per tile of this rank, shape (..., tile); see `tile_sums`.

        Returns:
            Shape (...), float64.

        Collective: yes.
        """
        return torch.from_numpy(in_lattice_order(self.gather(partial)))

    def maximum(self, partial: Tensor) -> Tensor:
        """Finds the largest of all tiles' values, shape (..., tile) to (...), float64; NaN wins. Collective: yes."""
        return torch.from_numpy(np.asarray(self.gather(partial).max(axis=0)))

    def minimum(self, partial: Tensor) -> Tensor:
        """Finds the smallest of all tiles' values, shape (..., tile) to (...), float64; NaN wins. Collective: yes."""
        return torch.from_numpy(np.asarray(self.gather(partial).min(axis=0)))

    def gather(self, partial: Tensor) -> np.ndarray:
        """Hands every tile's values to every rank.

        Arguments:
            partial: Values of this rank's tiles, shape (..., tile).

        Returns:
            Values of all tiles in lattice order, float64, shape (tile, ...).

        Raises:
            ValueError: A rank gives other tiles than its own.

        Collective: yes, one message.
        """
        values = np.moveaxis(partial.detach().to(torch.float64).numpy(), -1, 0)
        with self.comm.together():
            if len(values) != len(self.local):
                raise ValueError(
                    f"Partial sums of {len(values)} tiles on rank {self.comm.rank}, expected {len(self.local)}: "
                    "sum over cells first, with the tile as last dimension."
                )
        width = int(np.prod(values.shape[1:]))
        gathered = self.comm.allgather_arrays(values.ravel(), [int(count) * width for count in self.counts])
        result = np.empty((self.lattice.count, *values.shape[1:]))
        result[self._order] = gathered.reshape(result.shape)
        return result

    def collect(self, owned: Tensor | np.ndarray, fill: float = 0) -> np.ndarray | None:
        """Assembles the global field on rank 0.

        Arguments:
            owned: Shape (..., tile, channel, tile_j, tile_i).
            fill: Value of cells in dropped tiles.

        Returns:
            Shape (..., channel, nj, ni) on rank 0, None elsewhere.

        Collective: yes.
        """
        pieces = self.comm.gather(np.moveaxis(_array(owned), -4, 0))
        return None if pieces is None else self.assemble(self._in_order(pieces), fill)

    def place(self, owned: Tensor | np.ndarray, fill: float = 0) -> np.ndarray:
        """Assembles a two-dimensional field, (tile, tile_j, tile_i) to (nj, ni), on every rank. Collective: yes."""
        return self.assemble(self._in_order(self.comm.allgather(_array(owned))), fill)

    def assemble(self, tiles: Sequence[np.ndarray] | np.ndarray, fill: float = 0) -> np.ndarray:
        """Puts all tiles, in lattice order, into a global field, (tile, ..., tile_j, tile_i) to (..., nj, ni).

        Arguments:
            tiles: Values of every tile.
            fill: Value of cells in dropped tiles.

        Collective: no.
        """
        lattice = self.lattice
        rows, columns = lattice.index.shape
        shape = (*tiles[0].shape[:-2], rows * lattice.tile_j, columns * lattice.tile_i)
        padded = np.full(shape, fill, tiles[0].dtype)
        for (j, i), values in zip(lattice.tiles * lattice.tile, tiles, strict=True):
            padded[..., j : j + lattice.tile_j, i : i + lattice.tile_i] = values
        return np.ascontiguousarray(padded[..., : lattice.nj, : lattice.ni])

    def _in_order(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        """Tiles in lattice order, from those of one rank after another."""
        tiles = [values for piece in pieces for values in piece]
        return [tiles[place] for place in np.argsort(self._order)]


def in_lattice_order(values: np.ndarray) -> np.ndarray:
    """Adds the values of all tiles, one tile after another, shape (tile, ...) to (...). Collective: no."""
    return np.asarray(np.add.accumulate(values, axis=0)[-1])


def _array(owned: Tensor | np.ndarray) -> np.ndarray:
    return owned.detach().numpy() if isinstance(owned, Tensor) else np.asarray(owned)
