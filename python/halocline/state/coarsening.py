r"""Coarse states: what a state is on a grid of larger cells.

.. math:: X_c = \frac{\sum w X}{\sum w}, \qquad
    w = e_{1t} e_{2t} e_{3t}\ (T), \quad e_{2u} e_{3u}\ (U), \quad e_{1v} e_{3v}\ (V)

over the wet fine cells of a block, or the open fine faces on its face (`mesh.coarsen`); without thickness for surface
fields. Heat, salt and volume stay what they were, and so do transports through the faces of blocks. The weights do not
depend on the state, so the mean of coarse states is the coarse mean, and coarsening by 2 twice is coarsening by 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.coarsen import Blocks
from halocline.mesh.grid import Grid
from halocline.state.state import Channel, Channels

__all__ = ["Coarsening"]


@dataclass(frozen=True, eq=False)
class Coarsening:
    """Maps states to a grid that is coarser by a factor.

    The coarse state has the channels of the fine one. At T points none of them runs dry: a coarse cell is sea where any
    of its fine cells is. A velocity can: the few open faces of a deep level may all lie inside blocks, where the coarse
    grid has no face. Such a channel stays in its place and is 0 everywhere, as on land.

    Attributes:
        blocks: Which fine cells make up a coarse one.
        points: Point of the C-grid of each channel, "T" for "W".
        weights: Of the fine values of each channel, sums to 1 or, on land, 0; shape (NJ, NI, part) each, float64.
    """

    blocks: Blocks
    points: tuple[str, ...]
    weights: tuple[np.ndarray, ...]

    @classmethod
    def build(cls, grid: Grid, factor: int, channels: Channels) -> Coarsening:
        """Works out the weights.

        Arguments:
            grid: The fine grid.
            factor: Of 2, 4, 8.
            channels: Of fine and coarse states.

        Raises:
            ValueError: The grid cannot be coarsened by this factor; see `coarsen_grid`.

        Collective: no.
        """
        blocks = Blocks.build(grid, factor)
        points = tuple("T" if point == "W" else point for point in channels.points)
        weights = (_weight(channel, p, blocks) for channel, p in zip(channels.channels, points, strict=True))
        return cls(blocks, points, tuple(weights))

    def apply(self, x: Tensor | np.ndarray) -> Tensor:
        """Coarsens states.

        Arguments:
            x: Shape (..., channel, nj, ni), physical units; land is not looked at.

        Returns:
            Shape (..., channel, NJ, NI), 0 on land, computed in float64, in the type of x.

        Raises:
            ValueError: The shape is not that of states on the fine grid.

        Collective: no.
        """
        x = torch.as_tensor(x)
        grid, count = self.blocks.grid, len(self.points)
        if x.ndim < 3 or tuple(x.shape[-3:]) != (count, grid.nj, grid.ni):
            raise ValueError(
                f"State to be coarsened has shape {tuple(x.shape)}, expected (..., {count}, {grid.nj}, {grid.ni}): use "
                "the grid and the variables that this coarsening was made for."
            )
        fine = x.double().cpu().numpy()
        means = [self._mean(fine[..., n, :, :], n) for n in range(count)]
        return torch.as_tensor(np.stack(means, axis=-3)).to(x)

    def _mean(self, x: np.ndarray, channel: int) -> np.ndarray:
        """Averages one channel, shape (..., nj, ni) to (..., NJ, NI)."""
        source, weights = self.blocks.source[self.points[channel]], self.weights[channel]
        flat = x.reshape(*x.shape[:-2], -1)
        mean = np.zeros((*x.shape[:-2], *source.shape[:2]))
        for part in range(source.shape[-1]):  # one after another: the same bits however many states there are
            weight = weights[..., part]
            mean += np.where(weight > 0, flat[..., source[..., part]], 0.0) * weight
        return mean


def _weight(channel: Channel, point: str, blocks: Blocks) -> np.ndarray:
    """Share of each fine value in the coarse one, shape (NJ, NI, part)."""
    grid, level = blocks.grid, channel.level
    size = grid.mask(point)[level] * np.ones((grid.nj, grid.ni))
    if channel.variable.is_3d and point in "TUV":
        size *= getattr(grid, f"e3{point.lower()}")[level]
    weight = blocks.size[point] * blocks.gather(size, point)
    total = weight.sum(axis=-1, keepdims=True)
    return weight / np.where(total > 0, total, 1.0)
