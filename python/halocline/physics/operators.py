r"""Differences and balances on the C-grid, for global fields.

Fields are whole (..., k, j, i) arrays of one process; the neighbours of an edge cell follow the
grid's periodicity and fold. Index (j, i) of U is the east face, of V the north face, of F the
north-east corner of T cell (j, i). Everything is pure, float64 and differentiable.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from halocline.constants import GRAVITY, OMEGA, RHO0
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.physics.integrals import add_along
from halocline.physics.seawater import EquationOfState

EQUATORIAL_CUTOFF = 2.0 * OMEGA * math.sin(math.radians(3.0))
"""Coriolis parameter at 3 degrees, 1/s: nearer to the equator geostrophy is tapered to zero."""


def _float64(x: Any) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


@dataclass(frozen=True)
class Window:
    """One ring of neighbours around a global field: cyclic, folded, or zero beyond a closed edge.

    Arguments:
        source: Per point, flat index of the cell behind each position, -1 for none, shape
            (nj + 2, ni + 2).
        flips: Per point, whether a vector component changes sign there, same shape.
    """

    source: dict[str, Tensor]
    flips: dict[str, Tensor]

    @classmethod
    def build(cls, grid: Grid) -> "Window":
        """Builds the ring from a lattice of one tile that covers the grid."""
        lattice = Lattice.from_grid(grid, (grid.nj, grid.ni), 1)
        points = ("T", "U", "V")
        return cls(
            {point: torch.as_tensor(lattice.source(point)[0]) for point in points},
            {point: torch.as_tensor(lattice.flips(point)[0]) for point in points},
        )

    def widen(self, x: Any, point: str, sign: int = 1) -> Tensor:
        """Surrounds a field by its ring.

        Arguments:
            x: Field, shape (..., nj, ni).
            point: Where it lives, "T", "U" or "V".
            sign: -1 for the component of a vector, 1 for anything else.

        Returns:
            The field with one more row and column on each side, shape (..., nj + 2, ni + 2).
        """
        flat = _float64(x).flatten(-2)
        source = self.source[point]
        wide = flat[..., source.clamp(min=0).flatten()].unflatten(-1, source.shape)
        wide = torch.where(self.flips[point], sign * wide, wide)
        return torch.where(source >= 0, wide, 0.0)


def _part(wide: Tensor, dj: int, di: int) -> Tensor:
    """Returns the neighbour (j + dj, i + di) of every cell from a widened field."""
    nj, ni = wide.shape[-2:]
    return wide[..., 1 + dj : nj - 1 + dj, 1 + di : ni - 1 + di]


def divergence(u: Any, v: Any, grid: Grid) -> Tensor:
    r"""Returns the horizontal divergence at T points.

    .. math:: \nabla\cdot u = \frac{\delta_i(e_{2u} e_{3u} u) + \delta_j(e_{1v} e_{3v} v)}
                                   {e_{1t} e_{2t} e_{3t}}

    Arguments:
        u: Velocity at U, m/s, shape (..., k, j, i); land counts as zero.
        v: Velocity at V, m/s, same shape.
        grid: Geometry.

    Returns:
        Divergence, 1/s, zero on land.
    """
    ring = Window.build(grid)
    flux_u = _float64(u) * _float64(grid.e2u * grid.e3u * grid.umask)
    flux_v = _float64(v) * _float64(grid.e1v * grid.e3v * grid.vmask)
    west = _part(ring.widen(flux_u, "U", -1), 0, -1)
    south = _part(ring.widen(flux_v, "V", -1), -1, 0)
    outflow = flux_u - west + flux_v - south
    return outflow / _float64(grid.e1t * grid.e2t * grid.e3t) * _float64(grid.tmask)


def vertical_integral(x: Any, e3: Any, mask: Any) -> Tensor:
    """Returns the integral over depth of wet cells, unit of x times m, shape (..., j, i).

    Arguments:
        x: Field, shape (..., k, j, i); values on land may be anything, NaN too.
        e3: Layer thickness at the point of x, m.
        mask: Wet cells at the point of x.
    """
    wet = torch.as_tensor(mask, dtype=torch.bool)
    return add_along(torch.where(wet, _float64(x) * _float64(e3), 0.0), -3)


def hydrostatic_pressure(density: Any, sea_level: Any, grid: Grid) -> Tensor:
    r"""Integrates the hydrostatic balance from the surface to T points, by NEMO's trapezoids.

    .. math:: p_k = g \rho_0 \eta + g \int_0^{z_k} (\rho - \rho_0)\, dz

    Arguments:
        density: Density, kg/m3, shape (..., k, j, i); land values do not matter.
        sea_level: Sea level, m, shape (..., j, i).
        grid: Geometry; layers at rest.

    Returns:
        Pressure less that of water of density rho0 at rest, Pa, shape (..., k, j, i).
    """
    anomaly = torch.where(torch.as_tensor(grid.tmask), _float64(density) - RHO0, 0.0)
    above = torch.cat([torch.zeros_like(anomaly[..., :1, :, :]), anomaly[..., :-1, :, :]], dim=-3)
    layers = 0.5 * _float64(grid.e3w) * (anomaly + above)
    return GRAVITY * (RHO0 * _float64(sea_level).unsqueeze(-3) + layers.cumsum(-3))


def pressure_gradient(pressure: Tensor, density: Any, grid: Grid) -> tuple[Tensor, Tensor]:
    r"""Returns the horizontal pressure gradient at U and V points.

    .. math:: p_x|_z = \frac{\delta_i p - g\, \overline{\rho - \rho_0}^i\, \delta_i z_t}{e_{1u}}

    The second term removes the slope of the levels; it is zero where depths are uniform.

    Arguments:
        pressure: From :func:`hydrostatic_pressure`, Pa, shape (..., k, j, i).
        density: Density, kg/m3, same shape.
        grid: Geometry.

    Returns:
        (at U, at V), Pa/m, zero on closed faces.
    """
    ring = Window.build(grid)
    anomaly = torch.where(torch.as_tensor(grid.tmask), _float64(density) - RHO0, 0.0)
    p, r, z = (ring.widen(x, "T") for x in (pressure, anomaly, grid.gdept))

    def along(dj: int, di: int, spacing: Any, mask: Any) -> Tensor:
        rise = _part(p, dj, di) - _part(p, 0, 0)
        mean = 0.5 * (_part(r, dj, di) + _part(r, 0, 0))
        slope = GRAVITY * mean * (_part(z, dj, di) - _part(z, 0, 0))
        return torch.where(torch.as_tensor(mask), (rise - slope) / _float64(spacing), 0.0)

    return along(0, 1, grid.e1u, grid.umask), along(1, 0, grid.e2v, grid.vmask)


def _mean_of_wet(wide: Tensor, wet: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
    """Returns the mean over those neighbours that are wet, zero where none is."""
    total = sum((_part(wide, *offset) for offset in offsets), torch.zeros(()))
    count = sum((_part(wet, *offset) for offset in offsets), torch.zeros(()))
    return total / count.clamp(min=1.0)


def _inverse_coriolis(f: Tensor) -> Tensor:
    """Returns 1/f, below the cut-off f / f_cut**2: continuous, and zero at the equator."""
    return f / f.abs().clamp(min=EQUATORIAL_CUTOFF) ** 2


def geostrophic_velocity(T: Any, S: Any, sea_level: Any, grid: Grid, eos: EquationOfState) -> tuple[Tensor, Tensor]:
    r"""Computes the velocity in balance with density and sea level.

    .. math:: f u = -\frac{1}{\rho_0} \overline{p_y}, \qquad f v = \frac{1}{\rho_0} \overline{p_x}

    The gradient is averaged over those of the four surrounding V (U) points that are wet, so land
    neither drags nor drives. Closed faces carry no flow. Between 3 degrees and the equator 1/f is
    replaced by f / f(3 degrees)**2, which fades to zero where geostrophy has no solution. The
    free surface enters through its slope only; layers are those at rest.

    Arguments:
        T: Temperature, degC, shape (..., k, j, i); land values do not matter, NaN included.
        S: Salinity, same shape.
        sea_level: Sea level, m, shape (..., j, i).
        grid: Geometry, with ``ff_t`` and the masks.
        eos: Equation of state of the model.

    Returns:
        (u at U, v at V), m/s, shape (..., k, j, i), zero on closed faces.
    """
    wet = torch.as_tensor(grid.tmask)
    T, S = (torch.where(wet, _float64(x), 0.0) for x in (T, S))
    eta = torch.where(torch.as_tensor(grid.wet), _float64(sea_level), 0.0)
    density = eos.density(T, S, _float64(grid.gdept))
    p_x, p_y = pressure_gradient(hydrostatic_pressure(density, eta, grid), density, grid)

    ring = Window.build(grid)
    f = ring.widen(grid.ff_t, "T")
    f_u = 0.5 * (_part(f, 0, 0) + _part(f, 0, 1))
    f_v = 0.5 * (_part(f, 0, 0) + _part(f, 1, 0))
    around_u = [(0, 0), (0, 1), (-1, 0), (-1, 1)]
    around_v = [(0, 0), (1, 0), (0, -1), (1, -1)]
    p_y = _mean_of_wet(ring.widen(p_y, "V", -1), ring.widen(grid.vmask, "V"), around_u)
    p_x = _mean_of_wet(ring.widen(p_x, "U", -1), ring.widen(grid.umask, "U"), around_v)
    u = -p_y / RHO0 * _inverse_coriolis(f_u) * _float64(grid.umask)
    v = p_x / RHO0 * _inverse_coriolis(f_v) * _float64(grid.vmask)
    return u, v
