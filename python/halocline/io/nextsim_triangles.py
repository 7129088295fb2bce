r"""From cells of a grid to the triangles and nodes of a mesh of classic neXtSIM.

The mesh lies in a plane, the ellipsoid's polar stereographic one that Moorings name: with colatitude function t,

.. math::
    \rho = a \, m_c \frac{t(\phi)}{t(\phi_c)}, \qquad x = \rho \sin(\lambda - \lambda_0), \quad
    y = -\rho \cos(\lambda - \lambda_0), \qquad
    t(\phi) = \tan\Big(\frac{\pi}{4} - \frac{\phi}{2}\Big)
    \Big(\frac{1 + e \sin\phi}{1 - e \sin\phi}\Big)^{e / 2}, \quad
    m = \frac{\cos\phi}{\sqrt{1 - e^2 \sin^2\phi}}

Since its last remeshing the mesh has moved with the ice: nodes lie at `Nodes` + `M_UM`. Between the centres of sea
cells values are linear (Delaunay), beyond them those of the nearest: none leaves the range of those around it, so that
bounds are kept.

References: Snyder, 1987, Map Projections, A Working Manual, equations 14-15, 15-9 and 21-33 to 21-36; neXtSIM,
``core/src/exporter.cpp``, ``NpsNextsim.mpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import cKDTree

from halocline.mesh.grid import Grid

__all__ = ["Triangles", "to_plane"]

RADIUS, ECCENTRICITY = 6378273.0, 0.081816153
CENTRAL_LONGITUDE, TRUE_LATITUDE = -45.0, 60.0

FARTHEST = 3.0
"""Widths of a cell that a triangle may lie from the nearest sea of the grid: more is another region."""


def to_plane(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Projects positions in degrees to the plane of the mesh, m, shape (..., 2). Collective: no."""
    e, true = ECCENTRICITY, np.deg2rad(TRUE_LATITUDE)
    scale = RADIUS * np.cos(true) / np.sqrt(1 - (e * np.sin(true)) ** 2) / _colatitude(true)
    rho = scale * _colatitude(np.deg2rad(np.asarray(latitude, np.float64)))
    east = np.deg2rad(np.asarray(longitude, np.float64) - CENTRAL_LONGITUDE)
    return np.stack([rho * np.sin(east), -rho * np.cos(east)], axis=-1)


def _colatitude(phi: np.ndarray | float) -> np.ndarray:
    sine = ECCENTRICITY * np.sin(phi)
    return np.asarray(np.tan(np.pi / 4 - phi / 2) * ((1 + sine) / (1 - sine)) ** (ECCENTRICITY / 2))


@dataclass(frozen=True, eq=False)
class Triangles:
    """Where the values of a restart lie; made by `read`.

    Attributes:
        centres: Of the triangles, shape (element, 2), m in the plane.
        nodes: Their corners, shape (node, 2).
        fixed: Nodes that do not move (coasts), shape (node).
    """

    centres: np.ndarray
    nodes: np.ndarray
    fixed: np.ndarray

    @classmethod
    def build(cls, mesh: Mapping[str, np.ndarray], fields: Mapping[str, np.ndarray], where: Path | str) -> Triangles:
        """Places the triangles.

        Arguments:
            mesh, fields: Records of the pair `mesh_` and of the pair `field_`.
            where: The restart, for the sentence of an error.

        Raises:
            ValueError: A record is missing, or they are of different meshes.

        Collective: no.
        """
        wanted = {"mesh": ("Elements", "Nodes_x", "Nodes_y"), "field": ("M_UM", "M_dirichlet_flags", "M_conc")}
        for records, kind in ((mesh, "mesh"), (fields, "field")):
            if missing := [name for name in wanted[kind] if name not in records]:
                raise ValueError(f"Restart {where} has no {', '.join(missing)} in its {kind}_ pair: restore it.")
        corners, count = mesh["Elements"].reshape(-1, 3) - 1, len(mesh["Nodes_x"])
        flags = fields["M_dirichlet_flags"] - 1
        if (
            len(fields["M_conc"]) != len(corners) or len(fields["M_UM"]) != 2 * count
            or max(corners.max(), flags.max(initial=0)) >= count
        ):  # fmt: skip
            raise ValueError(
                f"Restart {where} has {len(fields['M_conc'])} values of M_conc and {len(fields['M_UM'])} of M_UM, "
                f"expected {len(corners)} triangles and twice {count} nodes: mesh_ and field_ are of two restarts."
            )
        nodes = np.stack([mesh["Nodes_x"], mesh["Nodes_y"]], axis=-1) + fields["M_UM"].reshape(2, -1).T
        fixed = np.zeros(count, bool)
        fixed[flags] = True
        return cls(nodes[corners].mean(axis=1), nodes, fixed)

    def check(self, grid: Grid, where: Path | str) -> None:
        """Refuses a grid that does not cover the mesh.

        Raises:
            ValueError: A triangle lies farther than `FARTHEST` widths of a cell from all sea.

        Collective: no.
        """
        sea = grid.tmask[0]
        distance, _ = cKDTree(_positions(grid)).query(self.centres)
        width = float(np.sqrt(grid.e1t * grid.e2t)[sea].mean())
        if distance.max() > FARTHEST * width:
            raise ValueError(
                f"{int((distance > FARTHEST * width).sum())} of {len(distance)} triangles of {where} lie farther than "
                f"{FARTHEST:g} cells from all sea of the grid, the farthest {distance.max() / 1e3:.0f} km, expected a "
                "mesh in the sea of the grid, in the polar stereographic plane of neXtSIM's Moorings (-45 degrees "
                "east, true at 60 degrees north): name a restart of the same region."
            )

    def values(self, x: np.ndarray, grid: Grid, at: str) -> np.ndarray:
        """Interpolates a field.

        Arguments:
            x: At cell centres, shape (nj, ni); what lies on land is not looked at.
            grid: Of it.
            at: "centres" or "nodes".

        Returns:
            Shape (element) or (node), float64.

        Collective: no.
        """
        sea, here, there = x[grid.tmask[0]].astype(np.float64), _positions(grid), getattr(self, at)
        found = LinearNDInterpolator(here, sea)(there)
        return np.where(np.isfinite(found), found, NearestNDInterpolator(here, sea)(there))


def _positions(grid: Grid) -> np.ndarray:
    """Centres of the cells of the sea in the plane, shape (cell, 2)."""
    sea = grid.tmask[0]
    return to_plane(grid.gphit[sea], grid.glamt[sea])
