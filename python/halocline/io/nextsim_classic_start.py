r"""Restarts of classic neXtSIM from a generated state: an example of the model's, with the ice of the state.

The state lies on a grid, the restart on triangles, see `Triangles`. From the state come concentration, thickness, snow,
damage and stress on triangles, and drift on nodes, turned from the axes of the grid to those of the plane:

.. math::
    u = R \, u_{grid}, \qquad \sigma = R \, \sigma_{grid} R^T, \qquad
    R = \begin{pmatrix} \cos\alpha & -\sin\alpha \\ \sin\alpha & \cos\alpha \end{pmatrix}

with :math:`\alpha` the direction of the grid's i axis in the plane. All else is that of the example: mesh, time,
temperatures, sea surface, and what the state does not have. Four things follow from the ice so that the file does not
contradict itself: the concentration of a state is all ice, so there is no young ice beside it; of the old ice no more
is from former years than there is; ice where the example has none has the temperatures of the nearest ice in it, since
those of open water are those of ice that melts (its enthalpy in `thermoWinton` is nought); snow does not flood the ice.
Nodes on coasts stay at rest.

The stress is zero, as in the model's `restart_at_rest`: a stress that does not belong to the damage of its triangle
breaks ice within the first hour. That holds for the example's, and for a learned stress, interpolated: started from the
model's own Moorings, damage after an hour was 0.031 off the uninterrupted run with none, 0.052 with the example's; with
the stress of Moorings 0.103, without 0.029 (one case, 16 km, 120 sub-steps; root mean squares).

Young ice that is merged into the rest is strong where it was weak: leads of the model that are covered by it start as
solid ice.

Reference: neXtSIM, `readRestart`, `thermoWinton` in ``model/finiteelement.cpp``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from halocline.io.atomic import atomic_paths
from halocline.io.nextsim_classic import ELEMENT_NAMES, STRESS, packed, pair, read_records, replace_ice
from halocline.io.nextsim_start import NEEDED, mend_ice
from halocline.io.nextsim_triangles import Triangles, to_plane
from halocline.mesh.grid import Grid

__all__ = ["is_classic", "write_classic_start"]

FIELD, MESH = "field_", "mesh_"
YOUNG = ("M_conc_young", "M_h_young", "M_hs_young")
OF_FORMER_YEARS = {"M_conc_myi": "M_conc", "M_thick_myi": "M_thick"}
TEMPERATURES = "M_tice_"  # of the surface and the layers of the ice
MOST_DAMAGED = 1.0 - 1.0e-10  # the model's own limit


def is_classic(path: Path | str) -> bool:
    """Whether a path names the field_ pair of a restart of classic neXtSIM, with or without .bin or .dat.

    Collective: no.
    """
    stem = _stem(path)
    return stem.name.startswith(FIELD) and all(stem.with_name(stem.name + end).is_file() for end in (".bin", ".dat"))


def write_classic_start(
    path: Path | str, fields: Mapping[str, np.ndarray], grid: Grid, *, like: Path | str, stress: bool = False
) -> list[Path]:
    """Writes a restart of classic neXtSIM: the pairs field_NAME and mesh_NAME.

    Arguments:
        path: field_NAME to write, with or without .bin.
        fields: Concentration, thickness, snow and, if they are to be other than the example's, damage (0 intact),
            `ice_u`, `ice_v` [m/s], `stress_xx`, `stress_yy`, `stress_xy` [Pa], shape (1, nj, ni); what lies on land is
            not looked at. They are mended by `mend_ice`.
        grid: Of the fields, with positions in degrees.
        like: field_NAME of a restart of the model, beside its mesh_ pair.
        stress: Whether to start with the stress of the state; else there is none.

    Returns:
        The four files written.

    Raises:
        ValueError: A field is missing or impossible, half of a vector or of the stress is given, or none of it but
            it is asked for; the name does not begin with field_; the mesh lies elsewhere; the example is damaged, or it
            has no ice whose temperatures could be taken.
        FileNotFoundError, OSError: A file cannot be read or written.

    Collective: no, one rank writes.
    """
    stem, example = _stem(path), _stem(like)
    _check_names(stem, example)
    _check_fields(fields, stress)
    records, mesh = read_records(example), read_records(_mesh(example))
    triangles = Triangles.build(mesh, records, example)
    triangles.check(grid, example)
    ice = {name: x[0] for name, x in mend_ice(fields, grid).items()}
    turned = ice | _turned(ice, grid)
    left_out = () if stress else STRESS
    on_triangles = {
        name: triangles.values(x, grid, "centres")
        for name, x in turned.items()
        if name in ELEMENT_NAMES and name not in left_out
    }
    records = _consistent(replace_ice(records, on_triangles), stress) | _temperatures(
        records, on_triangles, triangles.centres, example
    )
    if "ice_u" in turned:
        components = [triangles.values(turned[name], grid, "nodes") for name in ("ice_u", "ice_v")]
        moving = np.concatenate([np.where(triangles.fixed, 0.0, x) for x in components])
        records["M_VT"] = moving.astype(records["M_VT"].dtype)
    return _write(stem, records, example)


def _check_names(stem: Path, example: Path) -> None:
    """Refuses what cannot be a restart.

    Raises:
        ValueError: See `write_classic_start`.
    """
    for name in (stem, example):
        if not name.name.startswith(FIELD):
            raise ValueError(f"Restart {name} of classic neXtSIM is expected to be named {FIELD}NAME: rename it.")
    if stem.resolve() == example.resolve():
        raise ValueError(f"Restart {stem} would replace its own example: give the output another name.")


def _check_fields(fields: Mapping[str, np.ndarray], stress: bool) -> None:
    """Refuses a state that lacks something.

    Raises:
        ValueError: See `write_classic_start`.
    """
    if missing := [name for name in NEEDED if name not in fields]:
        raise ValueError(
            f"The state lacks {', '.join(missing)}, which neXtSIM requires at the start; got "
            f"{', '.join(fields) or 'nothing'}: train with these data.variables."
        )
    for whole in (("ice_u", "ice_v"), tuple(STRESS)):
        given = [name for name in whole if name in fields]
        if given and len(given) < len(whole):
            raise ValueError(f"The state has {', '.join(given)} only, expected {', '.join(whole)} or none of them.")
    if stress and "stress_xx" not in fields:
        raise ValueError(
            f"The stress of the state is asked for, but it has {', '.join(fields)} only, expected {', '.join(STRESS)}, "
            "too: start without stress, or train with these data.variables."
        )


def _turned(ice: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
    """Drift and stress along the axes of the plane."""
    along = np.gradient(to_plane(grid.gphit, grid.glamt), axis=1)
    angle = np.arctan2(along[..., 1], along[..., 0])
    c, s = np.cos(angle), np.sin(angle)
    found: dict[str, np.ndarray] = {}
    if "ice_u" in ice:
        u, v = ice["ice_u"], ice["ice_v"]
        found |= {"ice_u": c * u - s * v, "ice_v": s * u + c * v}
    if "stress_xx" in ice:
        xx, yy, xy = (ice[name] for name in STRESS)
        found["stress_xx"] = c * c * xx - 2 * c * s * xy + s * s * yy
        found["stress_yy"] = s * s * xx + 2 * c * s * xy + c * c * yy
        found["stress_xy"] = c * s * (xx - yy) + (c * c - s * s) * xy
    return found


def _consistent(records: dict[str, np.ndarray], stress: bool) -> dict[str, np.ndarray]:
    """Lets what depends on the ice follow it; see the module."""
    changed = dict(records)
    if "M_damage" in changed:
        changed["M_damage"] = np.minimum(changed["M_damage"], MOST_DAMAGED)
    for name in YOUNG:
        if name in changed:
            changed[name] = np.zeros_like(changed[name])
    for part, whole in OF_FORMER_YEARS.items():
        if part in changed:
            changed[part] = np.minimum(changed[part], changed[whole])
    for name in STRESS.values():
        if name in changed:
            changed[name] = np.where(stress & (changed["M_conc"] > 0), changed[name], 0).astype(changed[name].dtype)
    return changed


def _temperatures(
    records: Mapping[str, np.ndarray], ice: Mapping[str, np.ndarray], centres: np.ndarray, example: Path
) -> dict[str, np.ndarray]:
    """Temperatures of the example's nearest ice, where it has none but the state has some.

    Raises:
        ValueError: It has none at all.
    """
    names = [name for name in records if name.startswith(TEMPERATURES)]
    had = (records["M_conc"] > 0) & (records["M_thick"] > 0)
    new = ~had & (ice["concentration"] > 0) & (ice["thickness"] > 0)
    if not names or not new.any():
        return {}
    if not had.any():
        raise ValueError(
            f"Restart {example} has no ice, expected some: the state's would have the temperatures of water, at which "
            "ice melts; name a restart with ice."
        )
    _, nearest = cKDTree(centres[had]).query(centres[new])
    found = {name: records[name].copy() for name in names}
    for values in found.values():
        values[new] = values[had][nearest]
    return found


def _write(stem: Path, records: Mapping[str, np.ndarray], example: Path) -> list[Path]:
    """Writes the fields and, beside them, the mesh of the example: all four files or none, and returns their names."""
    meshes, fields, (content, index) = pair(_mesh(stem)), pair(stem), packed(records)
    copied = [] if _mesh(example).resolve() == _mesh(stem).resolve() else list(meshes)
    with atomic_paths([*copied, *fields]) as temporary:
        for old, file in zip(pair(_mesh(example)), temporary[: len(copied)], strict=False):
            shutil.copyfile(old, file)
        temporary[-2].write_bytes(content)
        temporary[-1].write_text(index)
    return [*meshes, *fields]


def _stem(path: Path | str) -> Path:
    """A name without .bin and .dat."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".bin", ".dat") else path


def _mesh(stem: Path) -> Path:
    return stem.with_name(MESH + stem.name.removeprefix(FIELD))
