r"""Coarser grids: blocks of f x f cells become one cell, with the water and the openings that they had.

Sums run over the fine cells of a block, or over the fine faces on its east (north) face:

.. math::
    e_{1t} e_{2t} &= \sum_\mathrm{sea} e_{1t} e_{2t}, & e_{2u} &= \sum_\mathrm{open} e_{2u}, \\
    e_{1t} e_{2t} e_{3t} &= \sum_\mathrm{wet} e_{1t} e_{2t} e_{3t}, &
    e_{2u} e_{3u} &= \sum_\mathrm{open} e_{2u} e_{3u}

and for V as for U. The first line takes what is sea at the surface, the second each level by itself; where all of a
block or face is land, its whole area or width is taken. So area, volume and depth of the sea are what they were, and so
are transports through coarse faces; the divergence of the coarse flow is the volume mean of that of the fine one. e1t
and e2t are those of the block, both shrunk by the root of its fraction of sea. e1u and e2v are distances between cells,
f times the fine ones, land or not; so are e1f and e2f.

A cell is sea where any of its fine cells is, a face is open where any of its fine faces is; a corner is that of the
fine grid. Positions (glamt ...) and Coriolis parameter are those of the centre of the sea: means over the surface of
the wet fine cells, or over the open fine faces, longitudes taken across the date line; over all where all is land.
Depths and e3w are means over the water of a level. A grid whose size is no multiple of f is continued by land; its last
blocks end where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from halocline.mesh.grid import Grid

__all__ = ["FACTORS", "Blocks", "check_factor", "coarsen_grid"]

FACTORS = (2, 4, 8)
_LETTERS = {"T": "t", "U": "u", "V": "v", "F": "f"}


def coarsen_grid(grid: Grid, factor: int) -> Grid:
    """Coarsens a grid; see the module.

    The edges stay what they are: periodic in the same directions, folded about the same kind of pivot.

    Arguments:
        grid: The fine grid.
        factor: Cells of a block along i and j, of 2, 4, 8.

    Raises:
        ValueError: The factor is another, or the grid closes upon itself where blocks do not.

    Collective: no.
    """
    blocks = Blocks.build(grid, factor)
    masks = {f"{p}mask": blocks.gather(grid.mask(point), point).any(axis=-1) for point, p in _LETTERS.items()}
    return Grid(
        **_widths(grid, blocks),
        **_positions(grid, blocks),
        **{name: np.asarray(mask) for name, mask in masks.items()},
        **_thicknesses(grid, blocks),
        **_depths(grid, blocks),
        gdept_1d=grid.gdept_1d,
        periodic_i=grid.periodic_i,
        periodic_j=grid.periodic_j,
        fold=grid.fold,
    )


def check_factor(grid: Grid, factor: int) -> None:
    """Refuses factors that do not fit the edges of a grid.

    Raises:
        ValueError: See `coarsen_grid`.
    """
    if factor not in FACTORS:
        raise ValueError(
            f"Coarsening factor is {factor}, expected one of {', '.join(map(str, FACTORS))}: correct it."
        )
    if grid.fold == "T":
        raise ValueError(
            "A grid with a north fold about a T point cannot be coarsened: the fold runs through the middle of its "
            "last row of cells, so that blocks are not folded upon blocks; leave it as it is."
        )
    # the columns left must be even in number, for each pivot of the fold lies at a corner of blocks
    multiples = {"ni": (2 if grid.fold else 1) * factor * grid.periodic_i}
    multiples["nj"] = factor * (grid.periodic_j or bool(grid.fold))
    for name, multiple in multiples.items():
        if multiple and getattr(grid, name) % multiple:
            raise ValueError(
                f"The grid closes upon itself after {name} = {getattr(grid, name)} cells, expected a multiple of "
                f"{multiple} to be coarsened by {factor}: choose another factor."
            )


@dataclass(frozen=True, eq=False)
class Blocks:
    """Knows which fine cells, faces or corners make up a coarse one, and how much sea they are.

    Attributes:
        grid: The fine grid.
        factor: Cells of a block along i and j.
    """

    grid: Grid
    factor: int

    @classmethod
    def build(cls, grid: Grid, factor: int) -> Blocks:
        """Checks the factor.

        Raises:
            ValueError: See `coarsen_grid`.
        """
        check_factor(grid, factor)
        return cls(grid, factor)

    @cached_property
    def source(self) -> dict[str, np.ndarray]:
        """By point: flat indices j * ni + i of the fine values of each coarse one, -1 beyond the grid.

        All cells of a block (T), the faces on its east face (U) and north face (V), its north-east corner (F). Shape
        (NJ, NI, part); the first part always lies in the grid.
        """
        return {point: self._source(point in "VF", point in "UF") for point in _LETTERS}

    def _source(self, north: bool, east: bool) -> np.ndarray:
        def along(count: int, last: bool) -> np.ndarray:
            starts = np.arange(0, count, self.factor)[:, None]
            whole = starts + np.arange(self.factor)
            return np.minimum(whole[:, -1:], count - 1) if last else np.where(whole < count, whole, -1)

        j, i = along(self.grid.nj, north)[:, None, :, None], along(self.grid.ni, east)[None, :, None, :]
        cells = np.where((j >= 0) & (i >= 0), j * self.grid.ni + i, -1)
        return cells.reshape(*cells.shape[:2], -1)

    def gather(self, x: np.ndarray, point: str) -> np.ndarray:
        """Lists the fine values that make up each coarse one; zero, or False, beyond the grid.

        Arguments:
            x: Shape (..., nj, ni).
            point: In {"T", "U", "V", "F"}.

        Returns:
            Shape (..., NJ, NI, part).
        """
        source = self.source[point]
        return np.take(x.reshape(*x.shape[:-2], -1), source, axis=-1) * (source >= 0)

    @cached_property
    def size(self) -> dict[str, np.ndarray]:
        """By point: area of each fine T cell, width of each fine face, 1 for corners, shape (NJ, NI, part)."""
        g = self.grid
        sizes = {"T": g.e1t * g.e2t, "U": g.e2u, "V": g.e1v, "F": np.ones_like(g.e1f)}
        return {point: self.gather(size, point) for point, size in sizes.items()}

    @cached_property
    def sea(self) -> dict[str, np.ndarray]:
        """The same of what is sea at the surface; else below it, as under an ice shelf; of all where all is land."""
        found = {}
        for point, size in self.size.items():
            mask = self.grid.mask(point)
            deep = _first_with_any(size * self.gather(np.asarray(mask.any(axis=0)), point), size)
            found[point] = _first_with_any(size * self.gather(mask[0], point), deep)
        return found

    def water(self, point: str) -> np.ndarray:
        """Volume of each fine T cell, open area of each fine face; shape (nk, NJ, NI, part), 0 on land."""
        thickness = getattr(self.grid, f"e3{_LETTERS[point]}") * self.grid.mask(point)
        return self.size[point] * self.gather(thickness, point)


def _first_with_any(weight: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Replaces weights that are all zero for a coarse cell."""
    return np.where(weight.any(axis=-1, keepdims=True), weight, otherwise)


def _mean(parts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (parts * weight).sum(axis=-1) / weight.sum(axis=-1)


def _widths(grid: Grid, blocks: Blocks) -> dict[str, np.ndarray]:
    """Widths of cells and faces, distances between them."""
    made = {"e2u": blocks.sea["U"].sum(axis=-1), "e1v": blocks.sea["V"].sum(axis=-1)}
    for name in ("e1u", "e2v", "e1f", "e2f"):
        made[name] = blocks.factor * blocks.gather(getattr(grid, name), name[-1].upper()).mean(axis=-1)
    rows, columns = (np.diff(np.append(np.arange(0, n, blocks.factor), n)) for n in (grid.nj, grid.ni))
    e1 = blocks.gather(grid.e1t, "T").sum(axis=-1) / rows[:, None]
    e2 = blocks.gather(grid.e2t, "T").sum(axis=-1) / columns
    shrunk = np.sqrt(blocks.sea["T"].sum(axis=-1) / (e1 * e2))
    return made | {"e1t": e1 * shrunk, "e2t": e2 * shrunk}


def _positions(grid: Grid, blocks: Blocks) -> dict[str, np.ndarray]:
    """Longitudes, latitudes and Coriolis parameters."""
    made = {}
    for point, p in _LETTERS.items():
        sea = blocks.sea[point]
        for name in (f"gphi{p}", *([f"ff_{p}"] if p in "tf" else [])):
            made[name] = _mean(blocks.gather(getattr(grid, name), point), sea)
        east = blocks.gather(getattr(grid, f"glam{p}"), point)
        first = east[..., :1]
        made[f"glam{p}"] = first[..., 0] + _mean((east - first + 180.0) % 360.0 - 180.0, sea)
    return made


def _thicknesses(grid: Grid, blocks: Blocks) -> dict[str, np.ndarray]:
    """Thicknesses that keep volumes and the areas of faces; means over the fine cells on land."""
    made = {}
    for point, p in (("T", "t"), ("U", "u"), ("V", "v")):
        water, sea = blocks.water(point), blocks.sea[point]
        kept = water.sum(axis=-1) / sea.sum(axis=-1)
        dry = _mean(blocks.gather(getattr(grid, f"e3{p}"), point), sea)
        made[f"e3{p}"] = np.where(water.any(axis=-1), kept, dry)
    return made


def _depths(grid: Grid, blocks: Blocks) -> dict[str, np.ndarray]:
    """Depths, and the distances between them, as means over the water of a level."""
    weight = _first_with_any(blocks.water("T"), blocks.sea["T"])
    return {name: _mean(blocks.gather(getattr(grid, name), "T"), weight) for name in ("e3w", "gdept", "gdepw")}
