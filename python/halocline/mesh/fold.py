"""The north fold and cyclic edges: which cell of the grid a position stands for.

A tripolar grid is closed in the north by folding its last row upon itself. What lies beyond that row is the grid seen
from the other side, so a position there takes the value of another cell; vector components change sign. Depending on
the pivot and the point of the C-grid, the last row itself may hold each value twice. One of the two holders is the
*canonical* one; the other repeats it, and counts neither in integrals nor in noise.

With N columns, J the last row, m >= 1 rows beyond it, column p (0-based):

====== ===== ================== ============ ==========================
pivot  point source of J + m    p maps to    row J itself
====== ===== ================== ============ ==========================
T      T, W  J - m              -p           right half repeats left
T      U     J - m              N - 1 - p    right half repeats left
T      V     J - 1 - m          -p           repeats row J - 1
T      F     J - 1 - m          N - 1 - p    repeats row J - 1
F      T, W  J + 1 - m          N - 1 - p    holds itself
F      U     J + 1 - m          N - 2 - p    holds itself
F      V     J - m              N - 1 - p    right half repeats left
F      F     J - m              N - 2 - p    right half repeats left
====== ===== ================== ============ ==========================

Reference: NEMO 5.0, ``lbc_nfd_generic.h90``.
"""

from dataclasses import dataclass

import numpy as np

POINTS = ("T", "U", "V", "F", "W")
FOLDS = ("", "T", "F")

# (pivot, point) -> (row = 2 J + constant - row beyond, column = constant - p modulo N)
_REFLECTION = {
    ("T", "T"): (0, 0),
    ("T", "U"): (0, -1),
    ("T", "V"): (-1, 0),
    ("T", "F"): (-1, -1),
    ("F", "T"): (1, -1),
    ("F", "U"): (1, -2),
    ("F", "V"): (0, -1),
    ("F", "F"): (0, -2),
}


@dataclass(frozen=True)
class Edges:
    """How the rectangle of a grid continues beyond its edges.

    Arguments:
        nj: Number of rows.
        ni: Number of columns.
        periodic_i: Whether the last column is followed by the first.
        periodic_j: Whether the last row is followed by the first.
        fold: Pivot of the north fold, in {"", "T", "F"}; "" is none.

    Raises:
        ValueError: A size is not positive, or fold and periodicities exclude each other.
    """

    nj: int
    ni: int
    periodic_i: bool = False
    periodic_j: bool = False
    fold: str = ""

    def __post_init__(self) -> None:
        if self.nj < 1 or self.ni < 1:
            raise ValueError(f"Grid size {self.nj} x {self.ni} must be at least 1 x 1: check the mask of its file.")
        if self.fold not in FOLDS:
            raise ValueError(f"North fold {self.fold!r} is none of {FOLDS}: name its pivot, or leave it empty.")
        if self.fold and self.periodic_j:
            raise ValueError(f"Fold {self.fold!r} and periodic_j exclude each other: a folded grid ends in the north.")
        if self.fold and not self.periodic_i:
            raise ValueError(f"Fold {self.fold!r} needs periodic_i: the folded row is a closed circle.")
        if self.fold and self.ni % 2:
            raise ValueError(
                f"Fold {self.fold!r} needs an even number of columns, got {self.ni}: "
                "its two pivots lie half a circle apart."
            )

    def canonical(self, point: str, j: np.ndarray, i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the cell whose value a position shows.

        Arguments:
            point: Point of the C-grid, in {"T", "U", "V", "F", "W"}.
            j, i: Row and column of each position, also beyond the edges; they broadcast against each other.

        Returns:
            Flat index j * ni + i of the cell, -1 where nothing lies, and whether the value has crossed the fold.

        Raises:
            ValueError: The point is unknown.
        """
        if point not in POINTS:
            raise ValueError(f"Grid point {point!r} is none of {POINTS}: correct the variable table.")
        j, i = np.broadcast_arrays(np.asarray(j, np.int64), np.asarray(i, np.int64))
        if self.periodic_i:
            i = i % self.ni
        if self.periodic_j:
            j = j % self.nj
        crossed = self._crossed(point, j, i)
        if self.fold:
            row, column = self._reflection(point)
            j = np.where(crossed, 2 * (self.nj - 1) + row - j, j)
            i = np.where(crossed, (column - i) % self.ni, i)
        inside = (j >= 0) & (j < self.nj) & (i >= 0) & (i < self.ni)
        return np.where(inside, j * self.ni + i, -1), crossed & inside

    def _reflection(self, point: str) -> tuple[int, int]:
        return _REFLECTION[self.fold, "T" if point == "W" else point]

    def _crossed(self, point: str, j: np.ndarray, i: np.ndarray) -> np.ndarray:
        """Positions beyond the fold, and repeated ones in the last row."""
        if not self.fold:
            return np.zeros(j.shape, bool)
        row, column = self._reflection(point)
        last = j == self.nj - 1
        if row == 0:  # the last row lies on the fold: its right half, seen from the pivot, repeats its left half
            last = last & (i > (column - i) % self.ni)
        elif row > 0:  # the fold lies beyond the last row
            last = np.zeros(j.shape, bool)
        return (j >= self.nj) | last
