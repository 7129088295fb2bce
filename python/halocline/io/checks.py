"""What a field from a file must satisfy before it is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halocline.mesh.grid import Grid
from halocline.state.variables import Variable

__all__ = ["check_land", "check_shape", "check_unit", "check_wet", "mask_of"]

_LAND = 1.0e19  # larger numbers are fill values, whatever the file calls them

_UNITS = {
    "degC": {"degc", "c", "°c", "celsius", "deg_c", "deg c", "degree_c", "degrees_c",
             "degree_celsius", "degrees_celsius"},
    "1e-3": {"1e-3", "0.001", "1.e-3", "g/kg", "g kg-1", "psu", "pss", "pss-78", "1"},
    "m/s": {"m/s", "m s-1", "m.s-1", "m s^-1", "ms-1"},
    "m": {"m", "meter", "meters", "metre", "metres"},
    "1": {"1", "fraction", "-"},
    "kg/kg": {"kg/kg", "kg kg-1", "kg.kg-1", "kg kg^-1", "1"},
    "K": {"k", "kelvin"},
    "Pa": {"pa", "n/m2", "n m-2", "n m^-2", "n/m^2"},
}  # fmt: skip


def mask_of(row: Variable, grid: Grid) -> np.ndarray:
    """Returns where a variable is sea, shape (nk or 1, nj, ni)."""
    mask = grid.mask(row.point)
    return mask if row.is_3d else mask[:1]


def check_unit(row: Variable, unit: str, where: str) -> None:
    """Refuses a field in another unit; files that name none (restarts) are trusted.

    Raises:
        ValueError: The unit is not that of the variable table.
    """
    if unit and unit.strip().lower() not in _UNITS[row.unit]:
        raise ValueError(
            f"Unit of {where} is '{unit}', expected {row.unit} for {row.name}: convert the file."
        )


def check_shape(row: Variable, shape: tuple[int, ...], grid: Grid, where: str) -> None:
    """Refuses a field of another grid.

    Raises:
        ValueError: The shape (nk or 1, nj, ni) differs.
    """
    expected = (grid.nk if row.is_3d else 1, grid.nj, grid.ni)
    if shape != expected:
        raise ValueError(
            f"{where} has (level, y, x) = {shape}, expected {expected} of the grid: name the grid file "
            "of the same configuration."
        )


def check_land(
    row: Variable, x: np.ndarray, grid: Grid, where: str, records: Sequence[int] = ()
) -> None:
    """Refuses data on land, which show that states and grid do not belong together.

    Arguments:
        row: Row of the variable table.
        x: Shape (state, nk or 1, nj, ni); land is NaN, a fill value or 0.
        grid: Gives the mask.
        where: Names the field in the sentence.
        records: Number of each state in its file; 0, 1, ... if left out.

    Raises:
        ValueError: A land cell holds something else; the sentence says how many and where the first is.
    """
    with np.errstate(invalid="ignore"):
        data = np.isfinite(x) & (np.abs(x) < _LAND) & (x != 0.0) & ~mask_of(row, grid)
    if data.any():
        raise ValueError(
            f"{where} holds data on {_cells(data)} land cells of {row.point.lower()}mask, first at "
            f"{_first(data, records)}: name the grid file of the same configuration."
        )


def check_wet(
    row: Variable, x: np.ndarray, grid: Grid, where: str, records: Sequence[int] = ()
) -> None:
    """Refuses wet cells without a possible value.

    Arguments:
        row, grid, where, records: As for `check_land`.
        x: Shape (state, nk or 1, nj, ni).

    Raises:
        ValueError: A wet value is missing, NaN, or outside the bounds of the variable table; the
            sentence says how many cells and where the first is.
    """
    mask = mask_of(row, grid)
    with np.errstate(invalid="ignore"):
        absent = mask & ~(np.abs(x) < _LAND)
    if absent.any():
        raise ValueError(
            f"{where} is missing or NaN at {_cells(absent)} wet cells of {row.point.lower()}mask, first "
            f"at {_first(absent, records)}: mend or leave out the file, or name the grid file of the same "
            "configuration."
        )
    low, high = row.bounds
    wild = mask & ((x < low) | (x > high))
    if wild.any():
        value = x[tuple(np.argwhere(wild)[0])]
        raise ValueError(
            f"{where} is {value:g} {row.unit} at {_first(wild, records)}, expected {low:g} to {high:g}: check "
            "the unit, and that it is not an average times layer thickness."
        )


def check_salt(
    row: Variable, x: np.ndarray, grid: Grid, where: str, records: Sequence[int] = ()
) -> None:
    """Refuses wet cells of salinity 0: they are the land of another grid.

    Raises:
        ValueError: There is such a cell; the sentence says how many and where the first is.
    """
    fresh = mask_of(row, grid) & (x == 0.0)
    if row.name == "salinity" and fresh.any():
        raise ValueError(
            f"{where} is 0, as on land, at {_cells(fresh)} wet cells of tmask, first at {_first(fresh, records)}: "
            "name the grid file of the same configuration."
        )


def _cells(bad: np.ndarray) -> int:
    """Number of cells that are bad at any time."""
    return int(bad.any(axis=0).sum())


def _first(bad: np.ndarray, records: Sequence[int]) -> str:
    state, level, j, i = (int(n) for n in np.argwhere(bad)[0])
    return f"time index {records[state] if len(records) else state}, level {level}, j={j}, i={i}"
