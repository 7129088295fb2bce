"""What a network is told besides the noisy state: where a cell lies, what surrounds it, and when.

Conditions per cell are cut from the global grid by the same lattice as the state, halo included, so that
they do not depend on the number of ranks. Conditions per sample are the season and physical parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.grid import Grid
from halocline.mesh.layout import Layout

__all__ = [
    "Augmentation", "CellConditions", "extra_conditions", "extra_count", "position_features", "sample_conditions",
    "season_features",
]  # fmt: skip

HARMONICS = 2  # of the year: a sine alone cannot follow a mixed layer that deepens slowly and shoals fast
MASK_POINTS = ("T", "U", "V")  # points of the surface masks, the first conditions per cell
WAVES = 4  # position features per direction: resolves a quarter of the domain, learned features do the rest


def season_features(season: Tensor) -> Tensor:
    """Maps the fraction of the year to sines and cosines of its first harmonics.

    Arguments:
        season: Fraction of the year in [0, 1), shape (sample).

    Returns:
        Shape (sample, 2 * HARMONICS).

    Collective: no.
    """
    phase = 2 * math.pi * season.double()[:, None] * torch.arange(1, HARMONICS + 1).double()
    return torch.cat([phase.sin(), phase.cos()], dim=1).float()


def sample_conditions(season: Tensor, parameters: Tensor) -> Tensor:
    """Joins season and standardised parameters, shapes (sample) and (sample, parameter)."""
    return torch.cat([season_features(season), parameters.float()], dim=1)


MIRRORED = ("flips", "all")
"""Symmetries with mirror images, of which a network must be told; turns are states like others."""


class Augmentation(Protocol):
    """Says at which scales and in which attitudes states are learned; `TrainingConfig` does."""

    @property
    def scales(self) -> tuple[int, ...]:
        """Coarsening factors."""
        ...

    @property
    def symmetries(self) -> str:
        """One of "none", "turns", "flips" and "all"."""
        ...


def extra_count(scales: Sequence[int], symmetries: str) -> int:
    """Counts the conditions per sample that augmentation adds; all are 0 for the states as they stand."""
    return (tuple(scales) != (1,)) + 3 * (symmetries in MIRRORED)


def extra_conditions(augmentation: Augmentation, scales: Tensor, symmetries: Tensor) -> Tensor:
    r"""Tells the network at which scale and in which attitude it sees a sample.

    These are :math:`\log_2(f) / 3` where there are scales other than 1, and where there are mirror images, one number
    for each of flip along i, flip along j, and transposition: 1 where it was done, else 0.

    Arguments:
        augmentation: What is learned.
        scales: Coarsening factor f of each sample, shape (sample).
        symmetries: flip_i + 2 flip_j + 4 transposed of each sample, shape (sample).

    Returns:
        Shape (sample, `extra_count`), float32.

    Collective: no.
    """
    columns = []
    if tuple(augmentation.scales) != (1,):
        columns.append(scales.double().log2() / 3)
    if augmentation.symmetries in MIRRORED:
        columns += [(symmetries // bit % 2).double() for bit in (1, 2, 4)]
    return torch.stack(columns, dim=1).float() if columns else torch.zeros(len(scales), 0)


def position_features(count: int, periodic: bool) -> np.ndarray:
    """Builds smooth features of the index along one direction, shape (feature, count).

    A closed direction gets its coordinate in [-1, 1] and half waves; a cyclic one gets whole waves only,
    so that no seam is visible where the grid closes upon itself.
    """
    where = (np.arange(count) + 0.5) / count
    waves = np.arange(1, WAVES + 1)[:, None] * np.pi * (2 if periodic else 1)
    features = [np.sin(waves * where), np.cos(waves * where)]
    if not periodic:
        features.insert(0, (2 * where - 1)[None, :])
    return np.concatenate(features)


@dataclass(frozen=True)
class CellConditions:
    """Conditions per cell on this rank's windows.

    Attributes:
        static: Masks, bathymetry and position, shape (tile, static, window j, window i), zero outside.
        cells: Global index of the cell at each window position or -1, shape (tile, window j, window i).
    """

    static: Tensor
    cells: Tensor

    @classmethod
    def build(cls, grid: Grid, layout: Layout) -> CellConditions:
        """Cuts the conditions from the grid.

        Collective: no.
        """
        static = layout.cut(static_fields(grid).astype(np.float32), halo=True)
        cells = layout.lattice.source("T")[layout.local]
        return cls(torch.as_tensor(static), torch.as_tensor(cells))

    @property
    def count(self) -> int:
        """Number of conditions per cell."""
        return int(self.static.shape[1])


def static_fields(grid: Grid) -> np.ndarray:
    """Stacks surface masks, bathymetry relative to the deepest cell, and position: (static, nj, ni)."""
    depth = grid.bathymetry
    masks = [np.asarray(grid.mask(point).any(axis=0)) for point in MASK_POINTS]
    along_j = position_features(grid.nj, grid.periodic_j)[:, :, None]
    along_i = position_features(grid.ni, grid.periodic_i)[:, None, :]
    shape = (grid.nj, grid.ni)
    return np.concatenate(
        [
            np.stack([*masks, depth / depth.max()]).astype(np.float64),
            np.broadcast_to(along_j, (len(along_j), *shape)),
            np.broadcast_to(along_i, (len(along_i), *shape)),
        ]
    )
