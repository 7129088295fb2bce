"""The grid as the diagnostics see it: the owned cells of this process's tiles."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from halocline.mesh.grid import Grid
from halocline.mesh.layout import Layout
from halocline.physics.integrals import add_along

_HORIZONTAL = ("e1t", "e2t", "e1u", "e2u", "e1v", "e2v", "gphit")
_VERTICAL = ("e3t", "e3u", "e3v", "e3w", "gdept", "gdepw")
_MASKS = ("tmask", "umask", "vmask", "owned_t", "owned_u", "owned_v")

BLOCK = 1 << 17
"""Cells on which diagnostics work at once: a field of them, 1 MiB, and what is computed from it stay in cache."""

V = TypeVar("V")


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def blocks(self) -> list[tuple[slice, "Geometry"]]:
        """Pieces of whole tiles, of about ``BLOCK`` cells: which tiles, and their geometry."""
        count = len(self.tmask)
        width = max(1, BLOCK // max(1, self.tmask[:1].numel()))
        if width >= count:
            return [(slice(0, count), self)]
        return [(tiles, self._of(tiles)) for tiles in (slice(n, min(n + width, count)) for n in range(0, count, width))]

    def _of(self, tiles: slice) -> "Geometry":
        names = _HORIZONTAL + _VERTICAL + _MASKS
        return Geometry(self.grid, **{name: getattr(self, name)[tiles] for name in names})

    def once(self, key: Hashable, compute: Callable[[], V]) -> V:
        """Returns what `compute` gave when this key was first asked for: for what the geometry alone decides."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[Hashable, Any]:
        return {}

    @cached_property
    def volume_t(self) -> Tensor:
        """Volume at rest of the wet T cells that count, m3, (tile, k, j, i)."""
        area = (self.e1t * self.e2t * self.owned_t).unsqueeze(1)
        return area * self.e3t * self.tmask

    @cached_property
    def volume_u(self) -> Tensor:
        """Volume at rest of the wet U cells that count, m3, (tile, k, j, i)."""
        area = (self.e1u * self.e2u * self.owned_u).unsqueeze(1)
        return area * self.e3u * self.umask

    @cached_property
    def volume_v(self) -> Tensor:
        """Volume at rest of the wet V cells that count, m3, (tile, k, j, i)."""
        area = (self.e1v * self.e2v * self.owned_v).unsqueeze(1)
        return area * self.e3v * self.vmask

    @cached_property
    def wet(self) -> Tensor:
        """Columns with any wet T cell, bool (tile, j, i)."""
        return self.tmask.any(1)

    @cached_property
    def area_t(self) -> Tensor:
        """Area of the wet columns that count, m2, (tile, j, i)."""
        return self.e1t * self.e2t * self.wet * self.owned_t

    @cached_property
    def depth_t(self) -> Tensor:
        """Depth at rest of the column, m, (tile, j, i); zero on land."""
        return add_along(self.e3t * self.tmask, 1)

    @cached_property
    def section_u(self) -> Tensor:
        """Thickness at rest of the wet U cells, m, (tile, k, j, i)."""
        return self.e3u * self.umask

    @cached_property
    def section_v(self) -> Tensor:
        """Thickness at rest of the wet V cells, m, (tile, k, j, i)."""
        return self.e3v * self.vmask
