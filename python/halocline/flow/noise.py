"""Keyed noise: every normal value is a function of what it is for, and of nothing else.

Philox4x32-10 under the key (seed, member) maps the counter (cell, forecast step, solver step, channel // 4) to four
words, which two Box-Muller transforms turn into the values of four channels. There is no state: any tile holds the
slice of the global field, in any order, on any rank. Cells are numbered j * ni + i over the global grid. |z| never
exceeds 6.77.

Reference: Salmon et al., 2011, Parallel random numbers: as easy as 1, 2, 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline import _kernels
from halocline.mesh.layout import Layout

WORD = 2**32
"""Everything that enters the key or the counter lies in [0, WORD)."""


def normal(
    seed: int,
    members: Sequence[int],
    forecast_step: int,
    solver_step: int,
    channels: int,
    cells: np.ndarray | Tensor,
) -> Tensor:
    """Draws independent standard normal values.

    Arguments:
        seed: Of the run, in [0, 2^32).
        members: Numbers of the ensemble members, each in [0, 2^32).
        forecast_step: In [0, 2^32).
        solver_step: In [0, 2^32); 0 is the draw that a sampler starts from.
        channels: Number of channels.
        cells: Global numbers of the cells, below 2^32, shape (tile, tile_j, tile_i); negative where the value
            shall be 0.

    Returns:
        Shape (member, tile, channel, tile_j, tile_i), float32.

    Raises:
        ValueError: A number does not fit into 32 bits, or cells are not three-dimensional.

    Collective: no.
    """
    words = {"seed": seed, "forecast_step": forecast_step, "solver_step": solver_step}
    words |= {f"members[{n}]": member for n, member in enumerate(members)}
    for name, word in words.items():
        _check_word(name, word)
    numbers = np.ascontiguousarray(cells, np.int64)
    if numbers.ndim != 3:
        raise ValueError(f"Noise got cells of shape {numbers.shape}, expected (tile, tile_j, tile_i).")
    _check_word("cells", int(numbers.max(initial=0)))
    out = torch.empty((len(members), len(numbers), channels, *numbers.shape[1:]), dtype=torch.float32)
    keys = np.asarray(members, np.uint32)
    _kernels.normal(out.numpy(), numbers, channels, seed, keys, forecast_step, solver_step, len(numbers))
    return out


def _check_word(name: str, word: int) -> None:
    if not 0 <= word < WORD:
        raise ValueError(f"Noise got {name} = {word}, expected a number in [0, {WORD}): choose another.")


@dataclass(frozen=True, eq=False)
class Noise:
    """Draws noise on the tiles of a layout. Built once by `build`.

    On a folded grid the last row holds cells that repeat others; they get the value of those, with the channel's sign,
    so that a draw is a valid state. Land gets noise too: the mask is the business of the denoiser.

    Arguments:
        layout: Tiles and their owners.
        channels: Number of channels.
        cells: Global numbers of the owned cells, shape (tile, tile_j, tile_i), -1 outside the grid.
        repeats: Where cells repeat others; see `Repeat`.
    """

    layout: Layout
    channels: int
    cells: np.ndarray
    repeats: tuple["Repeat", ...]

    @classmethod
    def build(cls, layout: Layout, points: Sequence[str], signs: Sequence[int]) -> "Noise":
        """Finds the cells of this rank's tiles, for channels at given points of the C-grid.

        Arguments:
            layout: Tiles and their owners.
            points, signs: Of each channel; as for `HaloPlan.build`.

        Raises:
            ValueError: A point is unknown, numbers of points and signs differ, or the grid has over 2^32 cells.

        Collective: no.
        """
        if len(points) != len(signs):
            raise ValueError(f"Noise got {len(points)} points and {len(signs)} signs: give one of each per channel.")
        _check_word("cells of the grid", layout.lattice.nj * layout.lattice.ni - 1)
        repeats = [Repeat.build(layout, point, points, signs) for point in dict.fromkeys(points)]
        cells = layout.lattice.cells(layout.local)
        return cls(layout, len(points), cells, tuple(repeat for repeat in repeats if len(repeat.tile)))

    def draw(self, seed: int, members: Sequence[int], forecast_step: int, solver_step: int) -> Tensor:
        """Draws one field per member; see `normal` for arguments and errors.

        Returns:
            Shape (member, tile, channel, tile_j, tile_i), float32; 0 outside the grid.

        Collective: no.
        """
        x = normal(seed, members, forecast_step, solver_step, self.channels, self.cells)
        for repeat in self.repeats:
            values = normal(seed, members, forecast_step, solver_step, self.channels, repeat.cells[None, None])
            signed = values[:, 0, :, 0][:, repeat.numbers] * repeat.signs[:, None]
            for n, channel in enumerate(repeat.numbers):
                x[:, repeat.tile, channel, repeat.j, repeat.i] = signed[:, n]
        return x


@dataclass(frozen=True, eq=False)
class Repeat:
    """Owned cells of this rank that repeat others, at one point of the C-grid.

    Arguments:
        tile, j, i: Where they lie among this rank's tiles, shape (n).
        cells: Global numbers of the cells that they repeat, shape (n).
        numbers: Channels at this point.
        signs: Of these channels.
    """

    tile: np.ndarray
    j: np.ndarray
    i: np.ndarray
    cells: np.ndarray
    numbers: list[int]
    signs: Tensor

    @classmethod
    def build(cls, layout: Layout, point: str, points: Sequence[str], signs: Sequence[int]) -> "Repeat":
        """Looks for repeated cells; see `Noise.build`."""
        lattice = layout.lattice
        own = lattice.cells(layout.local)
        canonical, _ = lattice.edges.canonical(point, own // lattice.ni, own % lattice.ni)
        tile, j, i = np.nonzero((own >= 0) & (canonical != own))
        numbers = [n for n, other in enumerate(points) if other == point]
        chosen = torch.tensor([float(signs[n]) for n in numbers])
        return cls(tile, j, i, canonical[tile, j, i], numbers, chosen)
