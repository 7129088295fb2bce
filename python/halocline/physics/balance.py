r"""Velocity whose transport of columns has no divergence, by the least change of kinetic energy.

A column that gains water raises the sea level: what a generated velocity brings together leaves as surface gravity
waves within hours. With the transport of columns

.. math:: U = e_{2u} \sum_k e_{3u} u, \qquad V = e_{1v} \sum_k e_{3v} v,

the same velocity is added to all levels of a column,

.. math:: u \leftarrow u + \frac{\delta_i \phi}{e_{1u}}, \qquad v \leftarrow v + \frac{\delta_j \phi}{e_{2v}},
    \qquad \delta_i \Big( \frac{e_{2u} H_u}{e_{1u}}\, \delta_i \phi \Big)
         + \delta_j \Big( \frac{e_{1v} H_v}{e_{2v}}\, \delta_j \phi \Big) = -(\delta_i U + \delta_j V),

with no flow through coasts. Among all changes that remove the divergence this one has the least
:math:`\sum e_1 e_2 e_3 |\delta u|^2`; shear and the circulation around islands stay. The potential is that of the
pressure under a rigid lid. It is found by conjugate gradients, preconditioned by the diagonal, with sums in lattice
order: the bits do not depend on who owns which tile.

References: Smith, Dukowicz and Malone, 1992, Parallel ocean general circulation modeling, Physica D 60.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout, tile_sums
from halocline.physics.free_surface import Stretching
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import add_along, lattice_sum

__all__ = ["TOLERANCE", "column_divergence", "without_divergence"]

TOLERANCE = 1.0e-13
"""Divergence that is left, relative to what passes the faces of the cells (root mean square of both)."""

ROUNDS = 4  # of the solver: each begins with the divergence as it is, so that round-off of the last one is met
PATIENCE = 200  # iterations for each row and column of the grid, far more than a sea of even depth needs


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns of water and the faces between them.

    Attributes:
        layout: Tiles, with a halo of one cell.
        potential, transport: Exchanges of a field at T, and of (U, V).
        section_u, section_v: Thickness of the wet cells at U and V, m, (tile, k, j, i).
        width_u, width_v: Width of the face, m, (tile, j, i).
        spacing_u, spacing_v: Distance between the columns beside it, m, (tile, j, i).
        counted: 1 where a column is wet and repeats no other, else 0, (tile, j, i).
        conductance: Of the east and the north face of each column, depth times width over spacing, m, of windows,
            (tile, 2, wj, wi).
    """

    layout: Layout
    potential: HaloPlan
    transport: HaloPlan
    section_u: Tensor
    section_v: Tensor
    width_u: Tensor
    width_v: Tensor
    spacing_u: Tensor
    spacing_v: Tensor
    counted: Tensor
    conductance: Tensor

    @classmethod
    def build(cls, geometry: Geometry, layout: Layout, stretch: Stretching) -> Columns:
        """Measures the faces. Collective: yes."""
        lattice = Lattice.from_grid(geometry.grid, layout.lattice.tile, 1)
        ring = Layout.build(lattice, layout.comm, layout.owners)
        potential = HaloPlan.build(ring, ("T",), (1,))
        transport = HaloPlan.build(ring, ("U", "V"), (-1, -1))
        section_u, section_v = geometry.section_u * _one(stretch.u), geometry.section_v * _one(stretch.v)
        conductance = torch.stack(
            [
                add_along(section_u, 1) * geometry.e2u / geometry.e1u,
                add_along(section_v, 1) * geometry.e1v / geometry.e2v,
            ],
            dim=1,
        )
        wide = HaloPlan.build(ring, ("U", "V"), (1, 1)).fill(conductance.unsqueeze(0))[0]
        counted = (geometry.wet & geometry.owned_t).double()
        sizes = (geometry.e2u, geometry.e1v, geometry.e1u, geometry.e2v)
        return cls(ring, potential, transport, section_u, section_v, *sizes, counted, wide)

    def of(self, u: Tensor, v: Tensor) -> Tensor:
        """Adds up the columns: transport through the east and the north face, m3/s, (tile, 2, j, i)."""
        columns = (add_along(u * self.section_u, 1) * self.width_u, add_along(v * self.section_v, 1) * self.width_v)
        return torch.stack(columns, dim=1)

    def divergence(self, transport: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what leaves each column, and what passes its faces either way, m3/s, (tile, j, i).

        Collective: yes.
        """
        wide = self.transport.fill(transport.unsqueeze(0))[0]
        east, west = wide[:, 0, 1:-1, 1:-1], wide[:, 0, 1:-1, :-2]
        north, south = wide[:, 1, 1:-1, 1:-1], wide[:, 1, :-2, 1:-1]
        passed = east.abs() + west.abs() + north.abs() + south.abs()
        return ((east - west) + (north - south)) * self.counted, passed * self.counted

    def steps(self, potential: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the steps of a field at T to the east, from the west, to the north, from the south.

        Collective: yes.
        """
        wide = self.potential.fill(potential[None, :, None])[0, :, 0]
        centre = wide[:, 1:-1, 1:-1]
        east, west = wide[:, 1:-1, 2:] - centre, centre - wide[:, 1:-1, :-2]
        return east, west, wide[:, 2:, 1:-1] - centre, centre - wide[:, :-2, 1:-1]

    def inflow(self, potential: Tensor) -> Tensor:
        """Applies the operator: what enters each column if :math:`\\phi` drives the flow, (tile, j, i).

        Collective: yes.
        """
        east, west, north, south = self.steps(potential)
        c_east, c_west, c_north, c_south = self._faces
        return ((c_west * west - c_east * east) + (c_south * south - c_north * north)) * self.counted

    @property
    def diagonal(self) -> Tensor:
        """Diagonal of the operator, positive, 1 where a column has no open face, m, (tile, j, i)."""
        c_east, c_west, c_north, c_south = self._faces
        total = (c_east + c_west) + (c_north + c_south)
        return torch.where(total > 0.0, total, 1.0)

    @property
    def _faces(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c = self.conductance
        return c[:, 0, 1:-1, 1:-1], c[:, 0, 1:-1, :-2], c[:, 1, 1:-1, 1:-1], c[:, 1, :-2, 1:-1]


def without_divergence(
    u: Tensor, v: Tensor, geometry: Geometry, layout: Layout, stretch: Stretching
) -> tuple[Tensor, Tensor]:
    """Removes the divergence of the transport of columns; see the head of this module.

    Arguments:
        u: Velocity at U, m/s, shape (tile, k, j, i), finite on land.
        v: Velocity at V, m/s, same shape.
        geometry: Owned cells.
        layout: Which tiles are here.
        stretch: Layer thickness relative to rest, of one state.

    Returns:
        (u, v), float64, zero on closed faces; a flow without divergence keeps its bits.

    Raises:
        ValueError: A velocity is not finite, or the potential is not found.

    Collective: yes; two sums and one exchange in each of some hundred iterations, all of two-dimensional fields.
    """
    columns = Columns.build(geometry, layout, stretch)
    u, v = (torch.where(mask, x.double(), 0.0) for x, mask in ((u, geometry.umask), (v, geometry.vmask)))
    for _ in range(ROUNDS):
        outflow, passed = columns.divergence(columns.of(u, v))
        left, scale = _norms(outflow, passed, layout=layout)
        limit = TOLERANCE * float(scale)
        if float(left) <= limit:
            return u, v
        potential = _solve(columns, outflow, 0.1 * limit)
        east, _, north, _ = columns.steps(potential)
        u = u + torch.where(geometry.umask, (east / columns.spacing_u).unsqueeze(1), 0.0)
        v = v + torch.where(geometry.vmask, (north / columns.spacing_v).unsqueeze(1), 0.0)
    raise ValueError(
        f"Velocity keeps a divergence of {float(left / scale):.1e} of what passes the faces, expected {TOLERANCE:.0e}: "
        "check that it is finite and that the grid's masks of T, U and V belong together."
    )


def column_divergence(u: Tensor, v: Tensor, geometry: Geometry, layout: Layout, stretch: Stretching) -> float:
    """Returns the divergence of the transport of columns relative to what passes their faces.

    Arguments as for :func:`without_divergence`.

    Returns:
        Root mean square of one over that of the other; 0 at rest.

    Collective: yes.
    """
    columns = Columns.build(geometry, layout, stretch)
    left, scale = _norms(*columns.divergence(columns.of(u.double(), v.double())), layout=layout)
    return float(left / scale) if scale > 0 else 0.0


def _solve(columns: Columns, outflow: Tensor, limit: float) -> Tensor:
    """Finds the potential that brings in what leaves, by conjugate gradients, until the norm of the rest is below."""
    layout, diagonal = columns.layout, columns.diagonal
    potential, rest = torch.zeros_like(outflow), outflow
    search = rest / diagonal
    (weight,) = _sums(rest * search, layout=layout)
    for _ in range(PATIENCE * (layout.lattice.nj + layout.lattice.ni)):
        drawn = columns.inflow(search)
        (curvature,) = _sums(search * drawn, layout=layout)
        if not curvature > 0.0:  # nothing is left to search, or a value is not finite
            break
        step = weight / curvature
        potential, rest = potential + step * search, rest - step * drawn
        scaled = rest / diagonal
        last = weight
        weight, square = _sums(rest * scaled, rest * rest, layout=layout)
        if not square.sqrt() > limit:
            break
        search = scaled + (weight / last) * search
    return potential


def _sums(*fields: Tensor, layout: Layout) -> Tensor:
    """Adds fields over all columns, (tile, j, i) each to (field,). Collective: yes."""
    return lattice_sum(tile_sums(torch.stack(fields)), layout)


def _norms(*fields: Tensor, layout: Layout) -> Tensor:
    return _sums(*(x * x for x in fields), layout=layout).sqrt()


def _one(stretch: Tensor) -> Tensor:
    """Layer thickness relative to rest of the only member."""
    return stretch[0] if stretch.ndim else stretch
