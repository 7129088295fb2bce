"""Small grids cut into tiles, for the tests of the diagnostics."""

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.physics.seawater import SimplifiedEOS

# Density linear in temperature alone: rho = rho0 - 0.2 (T - 10), warmer is lighter.
LINEAR = SimplifiedEOS(rn_a0=0.2, rn_b0=0.0, rn_lambda1=0.0, rn_lambda2=0.0, rn_mu1=0.0, rn_mu2=0.0, rn_nu=0.0)


def broken_levels(nk: int, nj: int, ni: int, seed: int = 1) -> np.ndarray:
    """Numbers of wet levels with land, sills and a dry corner larger than a tile of 3 x 4."""
    levels = np.random.default_rng(seed).integers(1, nk + 1, (nj, ni))
    levels[1, 2:4] = 0
    levels[:3, :4] = 0
    return levels


def broken_grid(**options) -> Grid:
    """5 levels, 8 x 11 cells: divisible neither by 3 nor by 4."""
    return box_grid(5, 8, 11, levels=broken_levels(5, 8, 11), e1=8.0e4, e2=6.0e4, **options)


def split(grid: Grid, tile: tuple[int, int] = (3, 4)) -> tuple[Geometry, Layout]:
    layout = Layout.build(Lattice.from_grid(grid, tile, 1), Serial())
    return Geometry.build(grid, layout), layout


def cut(x: np.ndarray, layout: Layout) -> Tensor:
    """(member, k, j, i) to (member, tile, k, j, i)."""
    return torch.as_tensor(layout.cut(np.asarray(x, dtype=np.float64))).transpose(0, 1)


def content(x: Tensor, e3t: Tensor, tmask: Tensor) -> Tensor:
    """Content of each column, unit of x times m, shape (..., j, i)."""
    return torch.where(tmask, x.double() * e3t, 0.0).sum(-3)
