r"""What a network is told of the coarse state: the value of the coarse cell that each cell lies in, with noise.

.. math::
    c(j, i) = \frac{X_c(J, I) - m_c(J, I)}{s} + \eta \, \epsilon(J, I), \qquad
    (J, I) = (\lfloor j / f \rfloor, \lfloor i / f \rfloor)

for the coarse state X and the coarse reference m, both as `state.coarsening` makes them of fine ones, the scale s of
the fine state, and white noise :math:`\epsilon` of standard deviation 1; 0 where the coarse cell is land, and where no
cell lies. Only variables at T points are told: a velocity would change its sign across a fold.

With it, tiles that are denoised with no more than their halos agree on what the whole basin does. In training X is the
coarse state of the record itself; in sampling it comes from a generator of coarse states or from a file. The noise is
what makes the fine level robust to the errors of the coarse one.

Reference: Ho et al., 2022, Cascaded diffusion models for high fidelity image generation, noise conditioning
augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.flow.noise import WORD, normal
from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.grid import Grid
from halocline.mesh.layout import Layout
from halocline.run.config import DataConfig, RunConfig
from halocline.state.climatology import Climatology
from halocline.state.coarsening import Coarsening
from halocline.state.state import Channels, Standardisation

__all__ = ["TRAINING", "CoarseContext", "context_count", "stream_of"]

DRAW = WORD - 1
"""Number of the draw in `flow.noise`, beyond those of any sampler."""
TRAINING = WORD - 1
"""Stream (forecast step in `flow.noise`) of what training draws, whose samples are not members."""


def stream_of(data: DataConfig) -> int:
    """Stream (forecast step in `flow.noise`) of what a generator draws.

    Its own for each coarseness: cells of a coarse grid have the numbers of other cells on the fine one, and equal noise
    there would tie both levels of a cascade to each other.
    """
    return 0 if data.coarsen == 1 else WORD - data.coarsen


def context_count(config: RunConfig, grid: Grid) -> int:
    """Counts the channels of the coarse state that a network is told."""
    told = config.coarse.told(config.data.variables)
    return Channels.build(told, grid).count if told else 0


@dataclass(frozen=True, eq=False)
class CoarseContext:
    """Turns coarse states into what the network is told. Built by `build`; knows no rank.

    Attributes:
        factor: f.
        noise: Its standard deviation :math:`\\eta`.
        grid: The coarse grid.
        ni: Columns of the fine grid.
        channels: What is told, by level.
        index: The numbers of these channels in a state.
        reference: Components of m, shape (component, channel, NJ * NI), float64.
        scale: s, shape (channel).
        mask: True in the coarse sea, shape (channel, NJ * NI).
    """

    factor: int
    noise: float
    grid: Grid
    ni: int
    channels: Channels
    index: tuple[int, ...]
    reference: np.ndarray
    scale: np.ndarray
    mask: np.ndarray

    @classmethod
    def build(
        cls,
        config: RunConfig,
        grid: Grid,
        channels: Channels,
        standardisation: Standardisation,
        climatology: Climatology | None,
    ) -> CoarseContext:
        """Coarsens grid and reference.

        Arguments:
            config: Has a `coarse.factor` above 1.
            grid: The fine grid.
            channels, standardisation, climatology: Of the fine state.

        Raises:
            ValueError: The grid cannot be coarsened by this factor.

        Collective: no.
        """
        names, factor = config.coarse.told(config.data.variables), config.coarse.factor
        told, coarse = Channels.build(names, grid), coarsen_grid(grid, factor)
        index = tuple(channel.index for channel in channels.channels if channel.variable.name in names)
        coarsening = Coarsening.build(grid, factor, told)
        fields = standardisation.reference[None] if climatology is None else climatology.components
        parts = [coarsening.apply(field[list(index)].double()).flatten(1).numpy() for field in fields]
        mask = told.mask(coarse).reshape(told.count, -1)
        scale = standardisation.scale.numpy()[list(index)]
        return cls(factor, config.coarse.noise, coarse, grid.ni, told, index, np.stack(parts), scale, mask)

    def cells(self, fine: np.ndarray) -> np.ndarray:
        """Numbers the coarse cells, J * NI + I, in which fine cells j * ni + i lie; -1 stays -1."""
        j, i = np.divmod(fine, self.ni)
        return np.where(fine >= 0, j // self.factor * self.grid.ni + i // self.factor, -1)

    def standardise(self, x: np.ndarray, cells: np.ndarray, weights: Sequence[float]) -> np.ndarray:
        """Standardises the values of some coarse cells.

        Arguments:
            x: Physical units, shape (channel, cell).
            cells: Their numbers, shape (cell).
            weights: Of the components of m.

        Returns:
            Shape (channel, cell), float32, 0 on land.

        Collective: no.
        """
        departure = x.astype(np.float64)
        for weight, reference in zip(weights, self.reference, strict=True):
            if weight:
                departure -= weight * reference[:, cells]
        departure /= self.scale[:, None]
        return np.where(self.mask[:, cells], departure, 0.0).astype(np.float32)

    def draw(self, seed: int, stream: int, member: int, cells: np.ndarray) -> np.ndarray:
        """Draws the noise of some coarse cells, shape (channel, cell), float32, 0 on land.

        Arguments:
            seed, stream, member: What it belongs to, each in [0, 2^32).
            cells: Their numbers, shape (cell).

        Collective: no.
        """
        z = normal(seed, (member,), stream, DRAW, self.channels.count, cells[None, None])[0, 0, :, 0].numpy()
        return np.where(self.mask[:, cells], np.float32(self.noise) * z, np.float32(0))

    def on_tiles(self, layout: Layout, x: Tensor, seed: int, stream: int, members: Sequence[int]) -> Tensor:
        """Hands noisy coarse states to the windows of this rank's tiles.

        Arguments:
            layout: Who owns which tile of the fine lattice.
            x: Standardised, all of the coarse grid, shape (member, channel, NJ, NI).
            seed, stream: Of the noise.
            members: Their numbers.

        Returns:
            Shape (member, tile, channel, wj, wi), float32; 0 where no cell lies.

        Collective: no.
        """
        everywhere = np.arange(self.grid.nj * self.grid.ni)
        noise = np.stack([self.draw(seed, stream, member, everywhere) for member in members])
        cells = self.cells(layout.lattice.source("T", layout.local))
        shown = take(x.flatten(2).numpy() + noise, cells)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(shown, 2, 1)))


def take(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Takes cells of values, shape (..., cell), to shape (..., *cells.shape); 0 where the number is -1."""
    return np.where(cells >= 0, values[..., np.maximum(cells, 0)], values.dtype.type(0))
