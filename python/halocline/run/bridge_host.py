"""A model's memory as arrays: its rectangle of the grid, its mask, and its fields, of which nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halocline.mesh.rearrange import Rect
from halocline.run.bridge_errors import UsageError
from halocline.run.contract import Declaration, FieldDeclaration

__all__ = ["Host", "HostField", "strided_view"]

Stride = tuple[int, int, int]
"""Distances of neighbours along i, j, k, in numbers."""


@dataclass(frozen=True, eq=False)
class HostField:
    """A registered field of this rank.

    Attributes:
        declaration: As the model gave it.
        view: Its cells in the model's memory, shape (levels, rows, columns); None for a rank without cells.
    """

    declaration: FieldDeclaration
    view: np.ndarray | None

    @property
    def dtype(self) -> np.dtype:
        """Type of its numbers."""
        return np.dtype(f"f{self.declaration.bytes}")

    @property
    def views(self) -> list[np.ndarray]:
        """The view in a list, as `Rearrange` takes it: none for a rank without cells."""
        return [] if self.view is None else [self.view]


class Host:
    """What one rank of the model declares, verb by verb."""

    def __init__(self) -> None:
        self.sizes = (0, 0, 0)
        self.rect: Rect | None = None
        self.mask = np.zeros((0, 0, 0), bool)
        self.fields: dict[str, HostField] = {}

    def take_grid(
        self, sizes: tuple[int, int, int], first: tuple[int, int], shape: tuple[int, int], mask: memoryview | None,
        stride: Stride,
    ) -> None:
        """Takes sizes, rectangle and mask; the mask is copied.

        Arguments:
            sizes: Cells of the global grid along i, j, k.
            first, shape: First cell, from 0, and size of the rectangle along i, j; size 0 without cells.
            mask: Bytes of the float64 mask, from the first cell to the last; None without cells.
            stride: Of the mask.

        Raises:
            UsageError: The mask is missing or does not lie in its memory.
        """
        (i0, j0), (nx, ny) = first, shape
        self.sizes = sizes
        self.rect = Rect(j0, j0 + ny, i0, i0 + nx) if nx > 0 and ny > 0 else None
        if self.rect is None:
            return
        if mask is None:
            raise UsageError("The mask is missing, expected one on every rank that has cells.")
        self.mask = strided_view(mask, 8, (sizes[2], ny, nx), stride, "The mask") > 0.5

    def take_field(self, declaration: FieldDeclaration, data: memoryview | None, stride: Stride) -> None:
        """Registers a field, or its new address.

        Arguments:
            declaration: Name, point, unit, levels, bytes.
            data: Writable bytes from the first cell to the last; None without cells.
            stride: Of the field.

        Raises:
            UsageError: The field is missing, does not lie in its memory, or is another one than before.
        """
        name = declaration.name
        known = self.fields.get(name)
        if known is not None and known.declaration != declaration:
            raise UsageError(
                f"Field {name} was registered as {known.declaration}, now as {declaration}: registering again may "
                "change its address only."
            )
        view = None
        if self.rect is not None:
            if data is None:
                raise UsageError(f"Field {name} has no address, expected one on every rank that has cells.")
            shape = (declaration.levels, *self.rect.shape)
            view = strided_view(data, declaration.bytes, shape, stride, f"Field {name}")
        self.fields[name] = HostField(declaration, view)

    def declaration(self, calendar: str, time_step: float, step: int, date: int) -> Declaration:
        """Returns what this rank says, with its own rectangle alone; see `Declaration.join`."""
        declared = tuple(field.declaration for field in self.fields.values())
        return Declaration(*self.sizes, declared, calendar, time_step, step, date, (self.rect,))

    @property
    def pieces(self) -> list[tuple[Rect, dict[str, np.ndarray]]]:
        """The fields of this rank as they stand in the model's memory, with their rectangle."""
        if self.rect is None:
            return []
        return [(self.rect, {name: field.view for name, field in self.fields.items() if field.view is not None})]


def strided_view(
    data: memoryview, bytes_per_number: int, shape: tuple[int, int, int], stride: tuple[int, int, int], name: str
) -> np.ndarray:
    """Sees a model's array as (level, j, i), without a copy: the same memory as Fortran's (ji, jj, jk).

    Arguments:
        data: Bytes from the first cell to the last, both included.
        bytes_per_number: 8 or 4.
        shape: (levels, rows, columns).
        stride: Distances of neighbours along i, j, k, in numbers; that of an axis with one cell does not matter.
        name: For the sentence.

    Raises:
        UsageError: A distance is not positive, or the cells reach beyond the memory.

    Collective: no.
    """
    if bytes_per_number not in (4, 8):
        raise UsageError(f"{name} has {bytes_per_number} bytes per number, expected 4 or 8: register a real array.")
    strides = tuple(step if size > 1 else 1 for step, size in zip(reversed(stride), shape, strict=True))
    numbers = np.frombuffer(data, np.dtype(f"f{bytes_per_number}"))
    last = sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if min(strides) < 1 or last >= len(numbers):
        raise UsageError(
            f"{name} with sizes {tuple(reversed(shape))} and strides {stride} along (i, j, k) does not lie in its "
            f"{len(numbers)} numbers: give positive strides, in numbers, and the address of the first cell."
        )
    return np.lib.stride_tricks.as_strided(numbers, shape, [step * bytes_per_number for step in strides])
