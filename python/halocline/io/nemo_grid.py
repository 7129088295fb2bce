"""NEMO's grid files: mesh_mask and domain_cfg, of this and older releases.

Reference: NEMO 5.0, ``OCE/DOM/domain.F90``, ``domzgr.F90``, ``depth_e3.F90``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halocline.constants import OMEGA
from halocline.io.modelfile import ModelFile
from halocline.mesh.fold import Edges
from halocline.mesh.grid import Grid, mean_depth

__all__ = ["read_grid"]

_HORIZONTAL = (
    *("glamt", "gphit", "glamu", "gphiu", "glamv", "gphiv", "glamf", "gphif"),
    *("e1t", "e2t", "e1u", "e2u", "e1v", "e2v", "e1f", "e2f"),
)


def read_grid(path: Path | str) -> Grid:
    """Reads the grid of a NEMO configuration.

    Masks are read, or, from a domain_cfg, built from `top_level` and `bottom_level`. Three-dimensional
    thicknesses and depths are used where the file has them: they are what the model uses. Depths follow from
    thicknesses where they are missing. `fmask` is always built from `tmask`, since the one in the file holds
    the lateral friction at the coast.

    Arguments:
        path: mesh_mask or domain_cfg, global or one of the parts of a set.

    Raises:
        FileNotFoundError, OSError: It does not exist or cannot be read.
        ValueError: Something is missing that cannot be derived, or contradicts itself.

    Collective: no.
    """
    file = ModelFile(path)
    try:
        return _build(file)
    except ValueError as error:
        raise ValueError(f"Grid file {file.path}: {error}") from error


def _build(file: ModelFile) -> Grid:
    tmask = _sea(file)
    if not tmask.any():
        raise ValueError("tmask has no wet cell: check that the file is complete.")
    edges = _edges(file, *tmask.shape[1:])
    fields = {name: _horizontal(file, name) for name in _HORIZONTAL}
    _refuse_copied_columns(fields["glamt"], edges)
    vertical = _vertical(file, tmask, edges)
    gdept_1d = vertical.pop("gdept_1d")
    return Grid(
        **fields,
        ff_t=_coriolis(file, ("ff_t",), fields["gphit"]),
        ff_f=_coriolis(file, ("ff_f", "ff"), fields["gphif"]),
        tmask=tmask,
        **_face_masks(file, tmask, edges),
        **vertical,
        gdept_1d=gdept_1d,
        periodic_i=edges.periodic_i,
        periodic_j=edges.periodic_j,
        fold=edges.fold,
    )


def _sea(file: ModelFile) -> np.ndarray:
    """Wet T cells, (nk, nj, ni)."""
    if "tmask" in file:
        return _squeeze(file, "tmask", 3) == 1
    if "bottom_level" not in file:
        raise ValueError(
            "it has neither tmask nor bottom_level, expected a mesh_mask or a domain_cfg: choose one."
        )
    bottom = _squeeze(file, "bottom_level", 2)
    top = _squeeze(file, "top_level", 2) if "top_level" in file else np.minimum(bottom, 1)
    column = _column_names(file, "e3t")
    nk = _read_vertical(file, column, "e3t").shape[0]
    level = np.arange(1, nk + 1)[:, None, None]
    return (bottom > 0) & (level >= np.maximum(top, 1)) & (level <= bottom)


def _edges(file: ModelFile, nj: int, ni: int) -> Edges:
    """Periodicity and fold, by the attributes of NEMO 5 or the older `jperio`."""
    if (jperio := file.scalar("jperio")) is not None:
        old = int(jperio)
        fold = {3: "T", 4: "T", 5: "F", 6: "F"}.get(old, "")
        return Edges(nj, ni, old in (1, 4, 6, 7), old in (2, 7), fold)
    periodic = [bool(file.scalar(name)) for name in ("Iperio", "Jperio")]
    fold = str(file.attributes.get("NFtype", "")).strip() if file.scalar("NFold") else ""
    return Edges(nj, ni, periodic[0], periodic[1], fold)


def _refuse_copied_columns(glamt: np.ndarray, edges: Edges) -> None:
    """Refuses the two overlapping columns that files before NEMO 4.2 hold on cyclic grids."""
    if not edges.periodic_i or edges.ni < 4:
        return
    if (glamt[:, 0] == glamt[:, -2]).all() and (glamt[:, 1] == glamt[:, -1]).all():
        raise ValueError(
            "its first and last columns repeat each other, expected every column once: cut the "
            f"overlap of older NEMO releases, columns 1 and {edges.ni}."
        )


def _horizontal(file: ModelFile, name: str) -> np.ndarray:
    if name not in file:
        raise ValueError(f"variable {name} is missing: write the file with NEMO's ln_meshmask.")
    return _squeeze(file, name, 2)


def _coriolis(file: ModelFile, names: tuple[str, ...], latitude: np.ndarray) -> np.ndarray:
    """The Coriolis parameter, from latitude on the sphere where the file lacks it."""
    for name in names:
        if name in file:
            return _squeeze(file, name, 2)
    return 2.0 * OMEGA * np.sin(np.deg2rad(latitude))


def _face_masks(file: ModelFile, tmask: np.ndarray, edges: Edges) -> dict[str, np.ndarray]:
    """U and V masks of the file, or open where both neighbours are; F open where all four are."""

    def neighbour(dj: int, di: int) -> np.ndarray:
        return _shifted(tmask, edges, dj, di, False)

    between = {"umask": tmask & neighbour(0, 1), "vmask": tmask & neighbour(1, 0)}
    masks = {
        name: _squeeze(file, name, 3) == 1 if name in file else mask
        for name, mask in between.items()
    }
    return {**masks, "fmask": between["umask"] & between["vmask"] & neighbour(1, 1)}


def _shifted(field: np.ndarray, edges: Edges, dj: int, di: int, outside: float) -> np.ndarray:
    """The T field one cell further, across cyclic edges and the fold; `outside` beyond closed ones."""
    source, _ = edges.canonical("T", np.arange(edges.nj)[:, None] + dj, np.arange(edges.ni) + di)
    value = field.reshape(len(field), -1)[:, source]
    return np.where(source >= 0, value, np.asarray(outside, field.dtype))


def _vertical(file: ModelFile, tmask: np.ndarray, edges: Edges) -> dict[str, np.ndarray]:
    """Thicknesses and depths on all cells, and the depth that labels each level."""
    e3t, e3w = (_read_vertical(file, _column_names(file, name), name) for name in ("e3t", "e3w"))
    gdept, gdepw = _depths(file, e3t, e3w)
    label = gdept if gdept.ndim == 1 else mean_depth(gdept, tmask)
    e3t, e3w, gdept, gdepw = (_spread(x, tmask.shape) for x in (e3t, e3w, gdept, gdepw))
    faces = {}
    for name, dj, di in (("e3u", 0, 1), ("e3v", 1, 0)):
        if f"{name}_0" in file:
            faces[name] = _spread(_read_vertical(file, f"{name}_0", name), tmask.shape)
        else:  # a face is as high as the lower of its two cells
            faces[name] = np.minimum(e3t, _shifted(e3t, edges, dj, di, np.inf))
    return {
        "e3t": e3t, "e3w": e3w, **faces, "gdept": gdept, "gdepw": gdepw, "gdept_1d": label,
    }  # fmt: skip


def _depths(file: ModelFile, e3t: np.ndarray, e3w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depths of T and W points: read, or summed from thicknesses as NEMO's e3_to_depth does."""
    names = [_column_names(file, name, required=False) for name in ("gdept", "gdepw")]
    # Depths of the reference column must not be mixed with thicknesses that differ from it.
    if all(names) and (e3t.ndim == 1) == all(name.endswith("_1d") for name in names):
        gdept, gdepw = (_read_vertical(file, name, name) for name in names)
        return gdept, gdepw
    return np.cumsum(e3w, axis=0) - 0.5 * e3w[:1], np.cumsum(e3t, axis=0) - e3t


def _column_names(file: ModelFile, name: str, required: bool = True) -> str:
    """Finds the three-dimensional variable, or else the one of the reference column."""
    for candidate in (f"{name}_0", f"{name}_1d"):
        if candidate in file:
            return candidate
    if required:
        raise ValueError(f"neither {name}_0 nor {name}_1d is there: write it with NEMO's ln_meshmask.")
    return ""


def _read_vertical(file: ModelFile, variable: str, name: str) -> np.ndarray:
    """Reads (nk, nj, ni) or (nk), without the time axis."""
    value = file.read(variable).astype(np.float64)
    if len(file.dimensions[variable]) in (2, 4):
        value = value[0]
    if value.ndim not in (1, 3):
        raise ValueError(
            f"{name} ({variable}) has dimensions {file.dimensions[variable]}, expected levels or "
            "levels, y and x: check the file."
        )
    return value


def _spread(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Gives a column to every cell."""
    return np.broadcast_to(value[:, None, None], shape) if value.ndim == 1 else value


def _squeeze(file: ModelFile, name: str, ndim: int) -> np.ndarray:
    """Reads a variable without the time axis."""
    value = file.read(name)
    if value.ndim == ndim + 1 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != ndim:
        raise ValueError(
            f"{name} has dimensions {file.dimensions[name]} of sizes {value.shape}, expected "
            f"{ndim} without time: check the file."
        )
    return value
