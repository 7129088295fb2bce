r"""The grid of neXtSIM_DG as one of Halocline: one level, all values at cell centres.

neXtSIM_DG carries ice as cell means and higher moments, and moves it with velocities on vertices; its files, its
boundary modules and its diagnostics hold the velocity of each *cell*. On this grid, therefore, U and V points lie where
T points lie, with their mask, so that `ice_u` and `ice_v` are the model's own numbers, without interpolation.

Widths are those of the quadrilateral between vertices: the mean of its southern and northern, and of its western and
eastern edge, along great circles where coordinates are longitude and latitude. A Cartesian grid has no place on the
globe. Its x and y are given as degrees on a plane that touches the equator, where both have the same length.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halocline.constants import EARTH_RADIUS, OMEGA
from halocline.io.nextsim_files import DGFile
from halocline.mesh.grid import Grid

__all__ = ["check_sea", "is_spherical", "positions", "read_grid", "read_mask"]

THICKNESS = 1.0
"""Of the one level, m: volumes of the grid are then areas."""


def read_grid(path: Path | str) -> Grid:
    """Reads the grid of a configuration of neXtSIM_DG.

    Arguments:
        path: Start or restart file: it has `mask` and `coords`.

    Raises:
        FileNotFoundError, OSError: It does not exist or cannot be read.
        ValueError: Something is missing or contradicts itself.

    Collective: no.
    """
    file = DGFile(path)
    try:
        return _build(file)
    except ValueError as error:
        raise ValueError(f"Grid file {file.path}: {error}") from error


def _build(file: DGFile) -> Grid:
    sea = read_mask(file)
    longitude, latitude = positions(file)
    corners = _vertices(file, sea.shape)
    e1, e2 = _widths(corners, spherical=is_spherical(file))
    east_north = corners[1:, 1:] if is_spherical(file) else _degrees(corners[1:, 1:])
    rotation = 2.0 * OMEGA * (np.sin(np.deg2rad(latitude)) if is_spherical(file) else np.ones_like(latitude))
    level = np.full((1, *sea.shape), THICKNESS)
    centres = {f"glam{point}": longitude for point in "tuv"} | {f"gphi{point}": latitude for point in "tuv"}
    return Grid(
        **centres,
        glamf=east_north[..., 0],
        gphif=east_north[..., 1],
        **{f"e1{point}": e1 for point in "tuvf"},
        **{f"e2{point}": e2 for point in "tuvf"},
        ff_t=rotation,
        ff_f=rotation,
        **{f"{point}mask": sea[None] for point in "tuv"},
        fmask=_surrounded(sea)[None],
        **{f"e3{point}": level for point in "tuvw"},
        gdept=0.5 * level,
        gdepw=0.0 * level,
        gdept_1d=np.array([0.5 * THICKNESS]),
        periodic_i=False,
        periodic_j=False,
        fold="",
    )


def read_mask(file: DGFile) -> np.ndarray:
    """Reads the sea, (nj, ni) bool.

    Raises:
        ValueError: It is missing, or all land.
    """
    mask = file.read("mask")
    if mask.ndim != 2 or not (mask == 1).any():
        raise ValueError(
            f"mask has shape {mask.shape} and {int((mask == 1).sum())} cells of sea, expected (y, x) with some sea "
            "(1): take a start or restart file."
        )
    return np.asarray(mask == 1)


def check_sea(sea: np.ndarray, grid: Grid, path: Path, remedy: str) -> None:
    """Refuses a file of another grid.

    Arguments:
        sea: Mask of the file, (y, x) bool.
        grid: Of the configuration.
        path, remedy: Named in the sentence.

    Raises:
        ValueError: It is not the grid's mask.
    """
    expected = grid.tmask[0]
    if sea.shape != expected.shape or (sea != expected).any():
        raise ValueError(
            f"mask of {path} has {int(sea.sum())} cells of sea in (y, x) = {sea.shape}, expected the "
            f"{int(expected.sum())} of the grid in {expected.shape}: {remedy}."
        )


def is_spherical(file: DGFile) -> bool:
    """Whether coordinates are longitude and latitude; the model decides by the same two names."""
    return "longitude" in file and "latitude" in file


def positions(file: DGFile) -> tuple[np.ndarray, np.ndarray]:
    """Reads longitude and latitude of the cell centres, degrees, (nj, ni).

    Raises:
        ValueError: The file has neither longitude and latitude nor x and y.
    """
    if is_spherical(file):
        return _first(file.read("longitude")), _first(file.read("latitude"))
    plane = np.stack([_first(file.read("x")), _first(file.read("y"))], axis=-1)
    degrees = _degrees(plane)
    return degrees[..., 0], degrees[..., 1]


def _first(x: np.ndarray) -> np.ndarray:
    """Drops the time axis with which diagnostic files repeat their coordinates."""
    return x[0] if x.ndim == 3 else x


def _degrees(plane: np.ndarray) -> np.ndarray:
    """Metres on a plane as degrees."""
    return np.rad2deg(plane / EARTH_RADIUS)


def _vertices(file: DGFile, shape: tuple[int, ...]) -> np.ndarray:
    """Reads the corners of the cells, (nj + 1, ni + 1, 2), m or degrees.

    Raises:
        ValueError: They are missing or of another shape.
    """
    corners = file.read("coords")
    expected = (shape[0] + 1, shape[1] + 1, 2)
    if corners.shape != expected:
        raise ValueError(f"coords has shape {corners.shape}, expected {expected} around mask: restore the file.")
    return corners


def _widths(corners: np.ndarray, spherical: bool) -> tuple[np.ndarray, np.ndarray]:
    """Widths of the cells along x and y, m, (nj, ni)."""
    points = _on_sphere(corners) if spherical else corners
    along_x = _length(points[:, 1:] - points[:, :-1], spherical)
    along_y = _length(points[1:] - points[:-1], spherical)
    return 0.5 * (along_x[:-1] + along_x[1:]), 0.5 * (along_y[:, :-1] + along_y[:, 1:])


def _on_sphere(degrees: np.ndarray) -> np.ndarray:
    """Points on the globe, m, (..., 3)."""
    longitude, latitude = np.moveaxis(np.deg2rad(degrees), -1, 0)
    point = (np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude))
    return EARTH_RADIUS * np.stack(point, axis=-1)


def _length(edge: np.ndarray, spherical: bool) -> np.ndarray:
    """Length of an edge, m: of the arc above the chord on the globe."""
    chord = np.sqrt((edge**2).sum(axis=-1))
    return 2.0 * EARTH_RADIUS * np.arcsin(0.5 * chord / EARTH_RADIUS) if spherical else chord


def _surrounded(sea: np.ndarray) -> np.ndarray:
    """Corners with sea on all four sides."""
    result = np.zeros_like(sea)
    result[:-1, :-1] = sea[:-1, :-1] & sea[:-1, 1:] & sea[1:, :-1] & sea[1:, 1:]
    return result
