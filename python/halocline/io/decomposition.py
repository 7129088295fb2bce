"""How NEMO cuts the grid into one file per rank.

Reference: NEMO 5.0, ``OCE/LBC/mppini.F90`` (mpp_basesplit); ``OCE/IOM/iom_nf90.F90``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.mesh.grid import Grid

__all__ = ["Rectangle", "domain_attributes", "part_path", "rectangles"]


@dataclass(frozen=True)
class Rectangle:
    """Part of the grid that one file holds."""

    number: int
    total: int
    rows: slice
    columns: slice


def rectangles(grid: Grid, per_rank: int | tuple[int, int] | None) -> list[Rectangle]:
    """Returns the rectangles of NEMO's decomposition, in the order of its ranks.

    Arguments:
        grid: Gives the sizes.
        per_rank: Numbers of ranks along i and j, or their product; one global file if left out.

    Raises:
        ValueError: There are more ranks than cells along a direction, or none.
    """
    if per_rank is None:
        return [Rectangle(0, 1, slice(0, grid.nj), slice(0, grid.ni))]
    along_i, along_j = _factors(per_rank, grid) if isinstance(per_rank, int) else per_rank
    if not (1 <= along_i <= grid.ni and 1 <= along_j <= grid.nj):
        raise ValueError(
            f"per_rank is {along_i} x {along_j}, expected 1 to {grid.ni} ranks along i and 1 to {grid.nj} "
            "along j: every rank needs a cell."
        )
    pairs = [(rows, columns) for rows in _cut(grid.nj, along_j) for columns in _cut(grid.ni, along_i)]
    return [Rectangle(n, len(pairs), *pair) for n, pair in enumerate(pairs)]


def _factors(ranks: int, grid: Grid) -> tuple[int, int]:
    """Splits a number of ranks so that the largest rectangle is smallest, then roundest."""

    def cost(along_i: int) -> tuple[int, int]:
        width, height = -(-grid.ni // along_i), -(-grid.nj // (ranks // along_i))
        return width * height, width + height

    divisors = [n for n in range(1, ranks + 1) if ranks % n == 0]
    best = min(divisors, key=cost, default=0)
    return best, ranks // max(best, 1)


def _cut(size: int, ranks: int) -> list[slice]:
    """Cuts as NEMO does (mpp_basesplit): the first ranks have one cell more."""
    widths = [size // ranks + (n < size % ranks) for n in range(ranks)]
    ends = np.cumsum(widths).tolist()
    return [slice(end - width, end) for width, end in zip(widths, ends, strict=True)]


def part_path(path: Path, part: Rectangle) -> Path:
    """Returns the name of the file of a rank, with at least four digits as NEMO's."""
    if part.total == 1:
        return path
    base = path.name.removesuffix(".nc")
    width = max(4, len(str(part.total - 1)))
    return path.with_name(f"{base}_{part.number:0{width}d}.nc")


def domain_attributes(part: Rectangle, grid: Grid) -> dict[str, object]:
    """Returns the attributes by which NEMO places a file in the global grid; counted from 1, (x, y)."""

    def pair(x: int, y: int) -> np.ndarray:
        return np.array([x, y], np.int32)

    columns, rows = part.columns, part.rows
    return {
        "DOMAIN_number_total": np.int32(part.total),
        "DOMAIN_number": np.int32(part.number),
        "DOMAIN_dimensions_ids": pair(1, 2),
        "DOMAIN_size_global": pair(grid.ni, grid.nj),
        "DOMAIN_size_local": pair(columns.stop - columns.start, rows.stop - rows.start),
        "DOMAIN_position_first": pair(columns.start + 1, rows.start + 1),
        "DOMAIN_position_last": pair(columns.stop, rows.stop),
        "DOMAIN_halo_size_start": pair(0, 0),
        "DOMAIN_halo_size_end": pair(0, 0),
        "DOMAIN_type": "BOX",
    }
