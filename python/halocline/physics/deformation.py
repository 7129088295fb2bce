r"""Deformation of the drift: rates on quadrilaterals, their scaling and their tail.

On a quadrilateral with corners :math:`(x_c, y_c)`, counter-clockwise, and area a (shoelace), Green's theorem with a
velocity that is linear along the edges gives

.. math::

    u_x = \frac1a \oint u\,dy = \frac1a \sum_c \tfrac12 (u_c + u_{c+1}) (y_{c+1} - y_c), \qquad
    u_y = -\frac1a \oint u\,dx = -\frac1a \sum_c \tfrac12 (u_c + u_{c+1}) (x_{c+1} - x_c)

and likewise for v: exact for a velocity that is linear in x and y. From these

.. math::

    \text{div} = u_x + v_y, \qquad \text{shear} = \sqrt{(u_x - v_y)^2 + (u_y + v_x)^2}, \qquad
    \dot\epsilon = \sqrt{\text{div}^2 + \text{shear}^2}

Gradients averaged by area over boxes of n x n quadrilaterals give rates at the length L, the root of the area, and

.. math:: \langle \dot\epsilon^q \rangle_L \propto L^{-\beta(q)}, \qquad q = 1, 2, 3

fitted by least squares of the logarithms (Marsan et al. 2004, doi:10.1103/PhysRevLett.93.178501; Rampal et al. 2019,
doi:10.5194/tc-13-2457-2019). Smooth fields have :math:`\beta = 0`, a single line of shear
:math:`\beta(q) = q - 1`; a convex :math:`\beta` means that deformation is multifractal. The tail is the exponent
:math:`\alpha` of :math:`P(\dot\epsilon > s) \propto s^{-\alpha}` above the 90th percentile, by maximum likelihood
(Hill 1975; Clauset et al. 2009, doi:10.1137/070710111).

Velocities are mean drift over some hours, not instantaneous: see `mean_drift`. Serial: fields are whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halocline.mesh.grid import Grid

__all__ = [
    "ORDERS", "SIZES", "BoxMoments", "Rates", "Scaling", "Strain", "box_moments", "contour_gradients", "drift_strain",
    "mean_drift", "tail_excess",
]  # fmt: skip

SIZES = (1, 2, 4, 8, 16)
"""Widths of the boxes, quadrilaterals."""

ORDERS = (1, 2, 3)
"""Orders q of the moments."""

TAIL = 0.9
"""Quantile above which the tail is fitted."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """Deformation rates, 1/s."""

    divergence: Array
    shear: Array

    @property
    def total(self) -> Array:
        """Root of the sum of squares."""
        return np.hypot(self.divergence, self.shear)


@dataclass(frozen=True, eq=False)
class Strain:
    """Velocity gradients on the quadrilaterals between cell centres, (j, i) north-east of T cell (j, i).

    Attributes:
        gradients: u_x, u_y, v_x, v_y, 1/s, shape (4, sample, nj - 1, ni - 1); 0 where it does not count.
        area: Of the quadrilaterals that count, m2, else 0, shape (sample, nj - 1, ni - 1).
    """

    gradients: Array
    area: Array

    @property
    def rates(self) -> Rates:
        """Deformation on quadrilaterals; 0 where it does not count."""
        return _rates(self.gradients)


def mean_drift(velocity: ArrayLike, axis: int = 0) -> Array:
    """Averages equidistant instantaneous velocities over the time they span.

    Trapezoidal: the first and the last count half. A single one is returned as it is.

    Arguments:
        velocity: With both ends of the window, any shape.
        axis: Of time.

    Collective: no.
    """
    x = np.moveaxis(np.asarray(velocity, dtype=np.float64), axis, 0)
    return x[0] if len(x) == 1 else np.asarray((0.5 * (x[1:] + x[:-1])).mean(axis=0))


def contour_gradients(u: ArrayLike, v: ArrayLike, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Takes gradients of the velocity by contour integrals; see the module.

    Arguments:
        u, v: At the corners, m/s, shape (4, ...), counter-clockwise along the first axis.
        x, y: Of the corners, m, shape (4, ...) broadcasting to u.

    Returns:
        u_x, u_y, v_x, v_y, shape (4, ...), 1/s, and areas, m2.

    Collective: no.
    """
    u, v, x, y = (np.asarray(array, dtype=np.float64) for array in (u, v, x, y))
    dx, dy = (np.roll(position, -1, axis=0) - position for position in (x, y))
    area = 0.5 * (x * np.roll(y, -1, axis=0) - np.roll(x, -1, axis=0) * y).sum(axis=0)

    def around(w: Array, step: Array) -> Array:
        return np.asarray((0.5 * (w + np.roll(w, -1, axis=0)) * step).sum(axis=0) / area)

    return np.stack([around(u, dy), -around(u, dx), around(v, dy), -around(v, dx)]), area


def drift_strain(u: ArrayLike, v: ArrayLike, grid: Grid, covered: ArrayLike | None = None) -> Strain:
    """Takes velocity gradients between four cell centres.

    Both components lie at cell centres and point along the grid's axes, as in neXtSIM (see `io.nextsim_grid`).
    Corners are placed by the widths of the cells in a plane; that the axes turn from cell to cell is neglected.

    Arguments:
        u, v: m/s, shape (sample, nj, ni); anything on land.
        grid: Gives widths and the sea.
        covered: Where there is ice, shape (sample, nj, ni) or (nj, ni); everywhere in the sea by default.
            Quadrilaterals count whose four corners are wet, covered and finite.

    Collective: no.
    """
    u, v = (np.asarray(w, dtype=np.float64) for w in (u, v))
    counts = grid.tmask[0] & np.isfinite(u) & np.isfinite(v)
    counts = counts if covered is None else counts & np.asarray(covered, dtype=bool)
    corners = _corners(counts).all(axis=0)
    e1, e2 = _corners(grid.e1t), _corners(grid.e2t)
    south, north = 0.5 * (e1[0] + e1[1]), 0.5 * (e1[3] + e1[2])
    west, east = 0.5 * (e2[0] + e2[3]), 0.5 * (e2[1] + e2[2])
    zero = np.zeros_like(south)
    x, y = np.stack([zero, south, north, zero]), np.stack([zero, zero, east, west])
    u, v = (np.where(counts, w, 0.0) for w in (u, v))
    gradients, area = contour_gradients(_corners(u), _corners(v), x[:, None], y[:, None])
    return Strain(np.where(corners, gradients, 0.0), np.where(corners, area, 0.0))


def _corners(x: ArrayLike) -> NDArray:
    """South-west, south-east, north-east, north-west of every quadrilateral, (..., nj, ni) to (4, ..., nj-1, ni-1)."""
    x = np.asarray(x)
    return np.stack([x[..., :-1, :-1], x[..., :-1, 1:], x[..., 1:, 1:], x[..., 1:, :-1]])


def _rates(gradients: Array) -> Rates:
    ux, uy, vx, vy = gradients
    return Rates(ux + vy, np.hypot(ux - vy, uy + vx))


@dataclass(frozen=True, eq=False)
class Scaling:
    """Moments by length, and what they tell.

    Attributes:
        lengths: m, shape (size).
        moments: Mean of the total deformation to the power q, s^-q, shape (q, size).
        beta: Exponents of q = 1, 2, 3; NaN where fewer than two lengths have boxes.
        boxes: Number of boxes of each size.
    """

    lengths: Array
    moments: Array
    beta: tuple[float, ...]
    boxes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BoxMoments:
    """Sums over boxes, to be added over forecasts with ``+``; shape (size) and (q, size)."""

    count: Array
    length: Array
    moments: Array

    def __add__(self, other: BoxMoments) -> BoxMoments:
        return BoxMoments(self.count + other.count, self.length + other.length, self.moments + other.moments)

    def scaling(self) -> Scaling:
        """Fits the exponents over the sizes that have boxes."""
        with np.errstate(invalid="ignore", divide="ignore"):
            lengths, moments = self.length / self.count, self.moments / self.count
            logarithms = np.log(lengths), np.log(moments)
        beta = tuple(_slope(logarithms[0], logarithm) for logarithm in logarithms[1])
        return Scaling(lengths, moments, beta, tuple(int(n) for n in self.count))


def _slope(x: Array, y: Array) -> float:
    """Minus the slope of the least-squares line through the finite points."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 2:
        return float("nan")
    x, y = x[known] - x[known].mean(), y[known]
    return float(-(x * y).sum() / (x * x).sum())


def box_moments(strain: Strain, sizes: tuple[int, ...] = SIZES) -> BoxMoments:
    """Averages gradients by area over boxes, and sums powers of their total deformation.

    Boxes lie side by side from the first quadrilateral on; those that reach over the last one are cut there. A box
    counts where at least half of its n x n quadrilaterals do, and its length is the root of their area.

    Arguments:
        strain: Of all samples.
        sizes: n, quadrilaterals.

    Collective: no.
    """
    found = [_boxes(strain, n) for n in sizes]
    count, length = (np.array([x[k] for x in found], dtype=np.float64) for k in (0, 1))
    return BoxMoments(count, length, np.array([x[2] for x in found]).T)


def _boxes(strain: Strain, n: int) -> tuple[int, float, list[float]]:
    """Number of boxes, sum of their lengths, and sums of the powers of their deformation."""
    area = _blocks(strain.area, n)
    wide = _blocks(strain.gradients * strain.area, n)
    kept = _blocks((strain.area > 0).astype(np.float64), n) >= 0.5 * n * n
    total = _rates(wide[:, kept] / area[kept]).total
    return int(kept.sum()), float(np.sqrt(area[kept]).sum()), [float((total**q).sum()) for q in ORDERS]


def _blocks(x: Array, n: int) -> Array:
    """Sums over n x n cells of the last two axes, zeros beyond their end."""
    *leading, nj, ni = x.shape
    rows, columns = -(-nj // n), -(-ni // n)
    x = np.pad(x, [(0, 0)] * len(leading) + [(0, rows * n - nj), (0, columns * n - ni)])
    return np.asarray(x.reshape(*leading, rows, n, columns, n).sum(axis=(-3, -1)))


def tail_excess(rates: ArrayLike, quantile: float = TAIL) -> float:
    r"""Returns the mean of :math:`\ln(\dot\epsilon / \dot\epsilon_0)` above a quantile: the inverse of the tail.

    With :math:`\dot\epsilon_0` the quantile, :math:`\alpha = 1 / \overline{\ln(\dot\epsilon / \dot\epsilon_0)}`.
    Inverses are what may be averaged over forecasts.

    Arguments:
        rates: Positive rates that count, any shape.
        quantile: Above which they are taken.

    Returns:
        NaN where the quantile is not positive, or nothing exceeds it.

    Collective: no.
    """
    values = np.asarray(rates, dtype=np.float64).ravel()
    if not values.size:
        return float("nan")
    least = float(np.quantile(values, quantile))
    above = values[values > least]
    return float(np.log(above / least).mean()) if least > 0 and above.size else float("nan")
