r"""The 52-coefficient polynomials of density that NEMO uses for TEOS-10 and EOS-80.

.. math:: \rho(T, S, z) = \sum_{ijk} c_{kji}\, s^i t^j \zeta^k, \qquad t = T / 40, \quad \zeta = z /
10^4,

with s the square root of a shifted salinity. The reference profile :math:`r_0(z)`, which depends on
depth alone and moves no water, is left out. A table is indexed [power of depth][power of
temperature][power of s].

References: Roquet, Madec, McDougall and Barker, 2015, Accurate polynomial expressions for the
density and specific
    volume of seawater using the TEOS-10 standard, Ocean Modelling 90. Values as in NEMO's
    ``eosbn2.F90``.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

Table = tuple[tuple[tuple[float, ...], ...], ...]

TEOS10_TABLE: Table = (
    (  # depth power 0
        (
            8.0189615746e02,
            8.6672408165e02,
            -1.7864682637e03,
            2.0375295546e03,
            -1.2849161071e03,
            4.3227585684e02,
            -6.0579916612e01,
        ),
        (
            2.6010145068e01,
            -6.5281885265e01,
            8.1770425108e01,
            -5.6888046321e01,
            1.7681814114e01,
            -1.9193502195,
        ),
        (-3.7074170417e01, 6.1548258127e01, -6.0362551501e01, 2.9130021253e01, -5.4723692739),
        (2.1661789529e01, -3.3449108469e01, 1.9717078466e01, -3.1742946532),
        (-8.3627885467, 1.1311538584e01, -5.3563304045),
        (5.4048723791e-01, 4.8169980163e-01),
        (-1.9083568888e-01,),
    ),
    (  # depth power 1
        (1.9681925209e01, -4.2549998214e01, 5.0774768218e01, -3.0938076334e01, 6.6051753097),
        (-1.3336301113e01, -4.4870114575, 5.0042598061, -6.5399043664e-01),
        (6.7080479603, 3.5063081279, -1.8795372996),
        (-2.4649669534, -5.5077101279e-01),
        (5.5927935970e-01,),
    ),
    (  # depth power 2
        (2.0660924175, -4.9527603989, 2.5019633244),
        (2.0564311499, -2.1311365518e-01),
        (-1.2419983026,),
    ),
    (  # depth power 3
        (-2.3342758797e-02, -1.8507636718e-02),
        (3.7969820455e-01,),
    ),
)
"""T Conservative Temperature, S Absolute Salinity, s = sqrt(|S + 32| * 0.875 / 35.16504)."""

EOS80_TABLE: Table = (
    (  # depth power 0
        (
            9.5356891948e02,
            1.7136499189e02,
            -3.7501039454e02,
            5.1856810420e02,
            -3.7264470465e02,
            1.4302533998e02,
            -2.2856621162e01,
        ),
        (
            1.0087518651e01,
            -1.3647741861e01,
            8.8478359933,
            -7.2329388377,
            1.4774410611,
            2.0036720553e-01,
        ),
        (-2.5579830599e01, 2.4043512327e01, -1.6807503990e01, 8.3811577084, -1.9771060192),
        (1.6846451198e01, -2.1482926901e01, 1.0108954054e01, -6.2675951440e-01),
        (-8.0812310102, 1.0102374985e01, -4.8340368631),
        (1.2079167803, 1.1515380987e-01),
        (-2.4520288837e-01,),
    ),
    (  # depth power 1
        (1.0748601068e01, -1.7817043500e01, 2.2181366768e01, -1.6750916338e01, 4.1202230403),
        (-1.5852644587e01, -7.6639383522e-01, 4.1144627302, -6.6955877448e-01),
        (9.9994861860, -1.9467067787e-01, -1.2177554330),
        (-3.4866102017, 2.2229155620e-01),
        (5.9503008642e-01,),
    ),
    (  # depth power 2
        (1.0375676547, -3.4249470629, 2.0542026429),
        (2.1836324814, -3.4453674320e-01),
        (-1.2548163097,),
    ),
    (  # depth power 3
        (1.8729078427e-02, -5.7238495240e-02),
        (3.8306136687e-01,),
    ),
)
"""T potential temperature, S practical salinity, s = sqrt(|S + 20| / 40)."""


BLOCK = 1 << 14
"""Cells whose polynomial is evaluated at once: a few of their arrays fit into the cache of a core."""


def evaluate(table: Table, s: Tensor, t: Tensor, zeta: Tensor) -> Tensor:
    """Evaluates a table by Horner's rule, in the order in which NEMO nests it.

    Arguments:
        table: Coefficients [depth][temperature][salinity].
        s: Square root of the shifted salinity, dimensionless.
        t: Scaled temperature, dimensionless.
        zeta: Scaled depth, dimensionless; the three broadcast against each other.

    Returns:
        The polynomial, unit of the coefficients.
    """
    return torch.as_tensor(_horner((_plane(plane, s, t) for plane in reversed(table)), zeta), dtype=zeta.dtype)


def planes(table: Table, s: Tensor, t: Tensor) -> tuple[Tensor, ...]:
    """Evaluates the factors of the powers of depth, which one water has at all depths: `evaluate` is
    ``add_planes(planes(table, s, t), zeta)`` to the last bit.

    Works in blocks that stay in cache.

    Arguments:
        table: Coefficients [depth][temperature][salinity].
        s: Square root of the shifted salinity, dimensionless.
        t: Scaled temperature, dimensionless; broadcasting.

    Returns:
        One tensor per power of depth, unit of the coefficients.
    """
    s, t = torch.broadcast_tensors(s, t)
    if s.numel() <= BLOCK:
        return tuple(torch.as_tensor(_plane(plane, s, t)) for plane in table)
    blocks = zip(s.reshape(-1).split(BLOCK), t.reshape(-1).split(BLOCK), strict=True)
    parts = [planes(table, *block) for block in blocks]
    return tuple(torch.cat(part).reshape(s.shape) for part in zip(*parts, strict=True))


def add_planes(factors: tuple[Tensor, ...], zeta: Tensor) -> Tensor:
    """Adds the powers of depth with their factors, from `planes`; shapes broadcast."""
    return torch.as_tensor(_horner(reversed(factors), zeta))


def _plane(plane: tuple[tuple[float, ...], ...], s: Tensor, t: Tensor) -> Tensor | float:
    return _horner((_horner(reversed(row), s) for row in reversed(plane)), t)


def _horner(falling: Iterable[Tensor | float], x: Tensor) -> Tensor | float:
    """Evaluates a polynomial in x whose coefficients come from that of the highest power down."""
    value: Tensor | float | None = None
    for coefficient in falling:
        if value is None:
            value = coefficient
        elif isinstance(coefficient, float):
            value = (value * x).add_(coefficient)  # in place: the product is nobody else's
        else:
            value = value * x + coefficient
    return 0.0 if value is None else value


def differentiate_salinity(table: Table) -> Table:
    """Returns the table of the exact derivative along s."""
    return tuple(tuple(tuple(i * row[i] for i in range(1, len(row))) for row in plane) for plane in table)


def differentiate_temperature(table: Table) -> Table:
    """Returns the table of the exact derivative along t."""
    return tuple(tuple(tuple(j * c for c in plane[j]) for j in range(1, len(plane))) for plane in table)
