"""Recorded traffic on tiles, and where an answer differs from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rect, stack_tiles, tile_rectangles
from halocline.run.contract import Judgement
from halocline.run.traffic import Event, Record

__all__ = ["Difference", "Tiles", "own_rectangles", "read_tiles", "tile_difference", "verdict_difference"]

Tiles = Mapping[str, np.ndarray]
"""Variable to array of shape (tile, level, j, i)."""


@dataclass(frozen=True)
class Difference:
    """The first number or word that is not what was recorded."""

    what: str
    recorded: str
    got: str

    def __str__(self) -> str:
        return f"{self.what}: recorded {self.recorded}, got {self.got}"


def own_rectangles(layout: Layout) -> list[Rect]:
    """This rank's tiles, without padding."""
    return [rect for rank, rect in tile_rectangles(layout) if rank == layout.comm.rank]


def read_tiles(record: Record, event: Event, layout: Layout) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reads the fields of an event on this rank's tiles, as the model's rectangles hand them over.

    Returns:
        Name to array of shape (tile, level, j, i), in the model's precision, zero where it has no cells; and where
        cells were recorded, shape (tile, j, i). No names if the event has no fields.

    Raises:
        FileNotFoundError, OSError: The record is incomplete or damaged.

    Collective: no.
    """
    pieces = record.pieces(event, own_rectangles(layout))
    names: dict[str, tuple[int, np.dtype]] = {}
    for arrays, _ in pieces:
        names |= {name: (len(values), values.dtype) for name, values in arrays.items()}
    stacked = {}
    for name, (levels, dtype) in names.items():
        parts = [arrays.get(name, np.zeros((levels, *known.shape), dtype)) for arrays, known in pieces]
        stacked[name] = stack_tiles(layout, parts)
    return stacked, stack_tiles(layout, [known[None] for _, known in pieces])[:, 0]


def tile_difference(recorded: Tiles, known: np.ndarray, got: Tiles, layout: Layout) -> Difference | None:
    """Finds the first recorded number whose bits another state does not have.

    Arguments:
        recorded: Fields.
        known: Where cells were recorded, shape (tile, j, i).
        got: Fields, converted to the recorded precision.
        layout: Of both.

    Returns:
        The first by variable, level, j, i; the same on every rank.

    Collective: yes.
    """
    mine = [
        ((n, *place), name, *values)
        for n, name in enumerate(recorded)
        if (found := _first(recorded[name], known, got[name].astype(recorded[name].dtype, copy=False), layout))
        for place, values in [found]
    ]
    everyone = [row for rows in layout.comm.allgather(mine[:1]) for row in rows]
    if not everyone:
        return None
    (_, level, j, i), name, old, new = min(everyone)
    return Difference(f"{name} at level {level}, j={j}, i={i}", old, new)


def _first(
    recorded: np.ndarray, known: np.ndarray, got: np.ndarray, layout: Layout
) -> tuple[tuple[int, int, int], tuple[str, str]] | None:
    """Level, j, i in the grid of the first differing number on this rank, and both values in words."""
    bits = np.dtype(f"u{recorded.dtype.itemsize}")
    differing = (recorded.view(bits) != got.view(bits)) & known[:, None]
    if not differing.any():
        return None
    tile, level, j, i = np.nonzero(differing)
    corners = layout.lattice.tiles[layout.local[tile]] * layout.lattice.tile
    rows, columns = corners[:, 0] + j, corners[:, 1] + i
    n = int(np.lexsort((columns, rows, level))[0])
    place = tile[n], level[n], j[n], i[n]
    values = tuple(f"{x[place]} (0x{x.view(bits)[place]:0{2 * x.itemsize}x})" for x in (recorded, got))
    return (int(level[n]), int(rows[n]), int(columns[n])), (values[0], values[1])


def verdict_difference(recorded: Judgement | None, got: Judgement) -> Difference | None:
    """Finds the first difference of two verdicts; None also where none was recorded. Collective: no."""
    if recorded is None:
        return None
    for name in ("level", "action", "step", "reason"):
        old, new = getattr(recorded, name), getattr(got, name)
        if old != new:
            return Difference(name, repr(old), repr(new))
    checks = [{c.name: repr((c.value, c.low, c.high, c.status)) for c in x.checks} for x in (recorded, got)]
    for name in dict.fromkeys([*checks[0], *checks[1]]):
        old, new = (table.get(name, "none") for table in checks)
        if old != new:
            return Difference(f"check {name}", old, new)
    return _diagnostic_difference(recorded.diagnostics, got.diagnostics)


def _diagnostic_difference(recorded: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> Difference | None:
    for name in dict.fromkeys([*recorded, *got]):
        if name not in recorded or name not in got:
            return Difference(f"diagnostic {name}", *(str(name in table) for table in (recorded, got)))
        old, new = (np.array(table[name], np.float64) for table in (recorded, got))
        if old.shape != new.shape:
            return Difference(f"shape of diagnostic {name}", str(old.shape), str(new.shape))
        differing = np.argwhere((old.view(np.uint64) != new.view(np.uint64)) & ~(np.isnan(old) & np.isnan(new)))
        if len(differing):
            place = tuple(int(n) for n in differing[0])
            return Difference(f"diagnostic {name}{list(place) or ''}", repr(float(old[place])), repr(float(new[place])))
    return None
