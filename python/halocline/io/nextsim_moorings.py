"""The grid of Moorings of classic neXtSIM, and of files like them: positions of cell centres, and which are sea.

Moorings lie on a grid of their own, on which the model averages its triangles. They name no vertices and no mask:
widths are the distances between neighbouring centres along great circles, and sea is where the first record has ice
values. GenSIM's auxiliary file has a `mask`. As for neXtSIM_DG, velocities are those of cells: U and V points lie where
T points lie.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halocline.constants import EARTH_RADIUS, OMEGA
from halocline.io.modelfile import ModelFile
from halocline.mesh.grid import Grid

__all__ = ["is_moorings_grid", "read_moorings_grid"]

LEVEL = 1.0
"""Thickness of the one level, m: volumes of the grid are then areas."""

MISSING = 1.0e13
"""Numbers as large as this are fill values (-1e14)."""


def is_moorings_grid(path: Path | str) -> bool:
    """Whether a file has positions of cell centres along (y, x) as Moorings do, and no geometry of NEMO.

    Collective: no.
    """
    try:
        file = ModelFile(path)
    except (OSError, ValueError):
        return False  # whoever reads it next says what is wrong with it
    return all(name in file for name in ("latitude", "longitude")) and "e1t" not in file and "glamt" not in file


def read_moorings_grid(path: Path | str) -> Grid:
    """Reads the grid of Moorings, or of a file with `latitude`, `longitude` and `mask` (1 sea) along (y, x).

    Arguments:
        path: The file.

    Raises:
        FileNotFoundError, OSError: It does not exist or cannot be read.
        ValueError: Positions are missing, or there is no sea.

    Collective: no.
    """
    file = ModelFile(path)
    lacking = [name for name in ("latitude", "longitude") if name not in file or len(file.dimensions[name]) != 2]
    if lacking:
        raise ValueError(f"File {file.path} lacks {' and '.join(lacking)} along (y, x): take Moorings of the model.")
    latitude, longitude = (file.read(name).astype(np.float64) for name in ("latitude", "longitude"))
    sea = _sea(file)
    if sea.shape != latitude.shape or not sea.any() or min(sea.shape) < 2:
        raise ValueError(
            f"File {file.path} has {int(sea.sum())} cells of sea in {sea.shape} and positions in {latitude.shape}, "
            "expected the same (y, x), at least 2 x 2, with some sea: take a file with values."
        )
    e2, e1 = _distances(latitude, longitude)
    rotation = 2.0 * OMEGA * np.sin(np.deg2rad(latitude))
    level = np.full((1, *sea.shape), LEVEL)
    corners = np.zeros_like(sea)
    corners[:-1, :-1] = sea[:-1, :-1] & sea[:-1, 1:] & sea[1:, :-1] & sea[1:, 1:]
    return Grid(
        **{f"glam{point}": longitude for point in "tuvf"},
        **{f"gphi{point}": latitude for point in "tuvf"},
        **{f"e1{point}": e1 for point in "tuvf"},
        **{f"e2{point}": e2 for point in "tuvf"},
        ff_t=rotation,
        ff_f=rotation,
        **{f"{point}mask": sea[None] for point in "tuv"},
        fmask=corners[None],
        **{f"e3{point}": level for point in "tuvw"},
        gdept=0.5 * level,
        gdepw=0.0 * level,
        gdept_1d=np.array([0.5 * LEVEL]),
        periodic_i=False,
        periodic_j=False,
        fold="",
    )


def _sea(file: ModelFile) -> np.ndarray:
    """Which cells are sea: those of `mask`, else those in which the first record has a concentration or thickness."""
    if "mask" in file:
        return np.asarray(file.read("mask") == 1)
    name = next((name for name in ("sic", "sit") if name in file), "")
    if not name or len(file.dimensions[name]) != 3:
        raise ValueError(f"File {file.path} has neither mask nor sic or sit along (time, y, x): take Moorings.")
    x = file.read(name, slice(0, 1))[0]
    return np.asarray(np.isfinite(x) & (np.abs(x) < MISSING))


def _distances(latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Widths of the cells along j and i, m: half the distance of their neighbours, the whole one at an edge."""
    phi, lam = np.deg2rad(latitude), np.deg2rad(longitude)
    points = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)
    widths = []
    for axis in (0, 1):
        chord = np.sqrt((np.diff(points, axis=axis) ** 2).sum(axis=-1))
        between = 2.0 * EARTH_RADIUS * np.arcsin(0.5 * chord)
        before, after = (np.concatenate(pair, axis=axis) for pair in _sides(between, axis))
        widths.append(0.5 * (before + after))
    return widths[0], widths[1]


def _sides(between: np.ndarray, axis: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Distances to the neighbours before and after each cell, to be joined; at an edge the same one twice."""
    first, last = np.take(between, [0], axis), np.take(between, [-1], axis)
    return (first, between), (between, last)
