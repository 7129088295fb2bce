"""The grid as the diagnostics see it: the owned cells of this process's tiles."""

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.grid import Grid
from halocline.mesh.layout import Layout
from halocline.physics.integrals import add_along

_HORIZONTAL = ("e1t", "e2t", "e1u", "e2u", "e1v", "e2v", "gphit")
_VERTICAL = ("e3t", "e3u", "e3v", "e3w", "gdept", "gdepw")


@dataclass(frozen=True)
class Geometry:
    """C-grid metrics and masks on owned cells, in NEMO's words.

    Horizontal fields have shape (tile, j, i), others (tile, k, j, i); float64 and bool. Positions
    outside the grid are land of size one. ``owned_t``, ``owned_u`` and ``owned_v`` are true for
    the one cell of each point that counts in integrals: on a folded grid some positions of the
    last row repeat others.

    """

    grid: Grid
    e1t: Tensor
    e2t: Tensor
    e1u: Tensor
    e2u: Tensor
    e1v: Tensor
    e2v: Tensor
    gphit: Tensor
    e3t: Tensor
    e3u: Tensor
    e3v: Tensor
    e3w: Tensor
    gdept: Tensor
    gdepw: Tensor
    tmask: Tensor
    umask: Tensor
    vmask: Tensor
    owned_t: Tensor
    owned_u: Tensor
    owned_v: Tensor

    @classmethod
    def build(cls, grid: Grid, layout: Layout) -> "Geometry":
        """Cuts the grid into this process's tiles.

        Arguments:
            grid: The whole grid; kept for what is computed on it, such as streamfunctions.
            layout: Which tiles are here.

        Collective: no.
        """

        def metric(name: str) -> Tensor:
            return torch.as_tensor(layout.cut(getattr(grid, name), fill=1.0))

        def mask(name: str) -> Tensor:
            return torch.as_tensor(layout.cut(getattr(grid, name), fill=False))

        def owned(point: str) -> Tensor:
            return torch.as_tensor(layout.lattice.canonical_mask(point, layout.local))

        return cls(
            grid=grid,
            **{name: metric(name) for name in _HORIZONTAL + _VERTICAL},
            **{name: mask(name) for name in ("tmask", "umask", "vmask")},
            owned_t=owned("T"),
            owned_u=owned("U"),
            owned_v=owned("V"),
        )

    @property
    def volume_t(self) -> Tensor:
        """Volume at rest of the wet T cells that count, m3, (tile, k, j, i)."""
        area = (self.e1t * self.e2t * self.owned_t).unsqueeze(1)
        return area * self.e3t * self.tmask

    @property
    def volume_u(self) -> Tensor:
        """Volume at rest of the wet U cells that count, m3, (tile, k, j, i)."""
        area = (self.e1u * self.e2u * self.owned_u).unsqueeze(1)
        return area * self.e3u * self.umask

    @property
    def volume_v(self) -> Tensor:
        """Volume at rest of the wet V cells that count, m3, (tile, k, j, i)."""
        area = (self.e1v * self.e2v * self.owned_v).unsqueeze(1)
        return area * self.e3v * self.vmask

    @property
    def wet(self) -> Tensor:
        """Columns with any wet T cell, bool (tile, j, i)."""
        return self.tmask.any(1)

    @property
    def area_t(self) -> Tensor:
        """Area of the wet columns that count, m2, (tile, j, i)."""
        return self.e1t * self.e2t * self.wet * self.owned_t

    @property
    def depth_t(self) -> Tensor:
        """Depth at rest of the column, m, (tile, j, i); zero on land."""
        return add_along(self.e3t * self.tmask, 1)
