r"""Coherence over the basin: how much generated states vary along the leading modes (EOFs) of a reference.

Modes are eigenvectors of the covariance of the reference's departures from the mean of their month, with the volume (or
area) of cells for weights, :math:`\langle x, y \rangle = \sum_c w_c x_c y_c`. Along mode :math:`e_m` the variances of
both sets and their ratio are

.. math:: v_m = \overline{\langle x', e_m \rangle^2}, \qquad \varrho_m = v^{generated}_m / v^{reference}_m

Tiles that do not know of each other lose variance along modes larger than a tile: for an even mode over T of them the
ratio is 1 / T.

Modes fit the states that they were found from: along them those states vary more than others of the same climate, the
more so the fewer they are. Modes are therefore found from one half of the reference's contrasts (see `departures`), the
earlier ones, and the reference's variance is measured with the other half; then the halves change roles, and both
results are averaged. Contrasts of the two halves are uncorrelated if states are; states that follow each other closely
are not, and then modes still fit better than they should.

All of it follows from the inner products of the contrasts of all states with each other, which are summed up level by
level: no departures are kept, and the archive is read once.

Serial: fields are whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halocline.physics.departures import Departures, Sample, interval, resample

__all__ = ["MOST", "Modes", "mode_variances"]

LEADING = 8  # modes
MOST = 600  # reference states: the inner products of all with all are needed
CHUNK = 1 << 22  # numbers held at once: 32 MiB
LEAST = 3  # contrasts in each half, and of the generated states
PRECISION = 1e-10  # of the first eigenvalue: less is rounding


@dataclass(frozen=True)
class Modes:
    """Variances along the leading modes of the reference.

    Attributes:
        share: Of each mode in the variance of the reference, shape (mode).
        ratio, low, high: Generated over reference variance along each mode, and bounds of a bootstrap over the
            contrasts of both sets, 95 %, shape (mode); the modes themselves stay as they are.
        leading, rest, total: The same (ratio, low, high) for these modes together, for all else, and for both.
        months: That were compared.
        states, members: Of the reference, and generated: how many were compared.
        own_means: Whether the generated departures are from their own mean of each month; otherwise from the
            reference's, less the mean difference of all members.
    """

    share: np.ndarray
    ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray
    leading: tuple[float, float, float]
    rest: tuple[float, float, float]
    total: tuple[float, float, float]
    months: tuple[int, ...]
    states: int
    members: int
    own_means: bool


def mode_variances(
    generated: np.ndarray, reference: np.ndarray, weight: np.ndarray, departures: Departures, count: int = LEADING
) -> Modes:
    """Compares variances along modes.

    Arguments:
        generated, reference: Shape (state, k, nj, ni), anything on land.
        weight: Volume or area of each cell, 0 on land, shape (k, nj, ni).
        departures: Which states are compared.
        count: Number of modes; fewer where the reference has fewer.

    Raises:
        ValueError: There are too few states, or the reference does not vary.

    Collective: no.
    """
    known = len(departures.contrast_weights)
    second = departures.second_half
    halves = (np.flatnonzero(~second), np.flatnonzero(second))
    if min(map(len, halves)) < LEAST:
        raise ValueError(
            f"Modes need {2 * LEAST} reference states more than months, got {len(departures.states)} states in "
            f"{len(departures.months)} months: name more of them."
        )
    if departures.spread_count < LEAST:
        raise ValueError(
            f"Modes need {LEAST} independent departures of generated states, got {departures.spread_count} of "
            f"{len(departures.members)} states in {len(departures.months)} months of the reference: sample more."
        )
    products = inner_products(generated, reference, weight, departures)
    along, against = squares_along(products, departures.contrast_weights, halves, count)
    y = Sample(against, departures.contrast_weights).means(resample(known, seed=1))
    x = Sample.equal(along).means(resample(len(along), seed=0)) - departures.excess * y
    x, y = summed(x), summed(y)
    ratios = np.divide(x, y, out=np.full_like(x, np.nan), where=y > PRECISION * y[:, -1:])
    low, high = interval(ratios[1:])
    n = slice(0, -3)
    leading, rest, total = ((float(ratios[0, m]), float(low[m]), float(high[m])) for m in (-3, -2, -1))
    return Modes(
        y[0, n] / y[0, -1], ratios[0, n], low[n], high[n], leading, rest, total, tuple(departures.months.tolist()),
        len(departures.states), len(departures.members), departures.has_own_means,
    )  # fmt: skip


def inner_products(
    generated: np.ndarray, reference: np.ndarray, weight: np.ndarray, departures: Departures
) -> np.ndarray:
    """Multiplies the contrasts of all states with each other, the reference's first, shape (contrast, contrast)."""
    products = np.zeros(())
    step = max(1, CHUNK // (len(generated) + len(reference)))
    for k, w in enumerate(weight):
        wet = np.flatnonzero(w)
        for start in range(0, len(wet), step):
            cells = wet[start : start + step]
            x, y = (states[:, k].reshape(len(states), -1)[:, cells] for states in (generated, reference))
            contrasts = departures.spread(departures.generated_departures(x, y))
            rows = np.concatenate([departures.reference_contrasts(y), contrasts])
            rows *= np.sqrt(w.reshape(-1)[cells] / weight.sum())
            products = products + rows @ rows.T
    return products


def squares_along(
    products: np.ndarray, weights: np.ndarray, halves: tuple[np.ndarray, np.ndarray], leading: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squares of contrasts along the modes of either half, and of the whole contrasts.

    Arguments:
        products: See `inner_products`.
        weights: Of the reference's contrasts.
        halves: Numbers of the reference's contrasts.
        leading: Number of modes.

    Returns:
        Of generated states, averaged over the modes of both halves, shape (contrast, mode + 1), and of the reference,
        along the modes of the half in which a contrast is not, likewise; the last column is the whole.
    """
    found = [modes_of(products, half, weights[half]) for half in halves]
    count = min(leading, *(projection.shape[1] for projection in found))
    if count == 0:
        raise ValueError("The reference does not vary: name other states.")
    projected = [(products[:, half] @ p[:, :count]) ** 2 for half, p in zip(halves, found, strict=True)]
    known, whole = len(weights), np.diagonal(products)[:, None]
    against = np.zeros((known, count))
    for n, half in enumerate(halves):
        against[half] = projected[1 - n][half]
    along = 0.5 * (projected[0] + projected[1])[known:]
    return np.hstack([along, whole[known:]]), np.hstack([against, whole[:known]])


def modes_of(products: np.ndarray, half: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Finds the modes of some contrasts, leading ones first.

    Returns:
        What turns inner products with these contrasts into components along the modes, shape (contrast, mode).
    """
    root = np.sqrt(weights)
    values, vectors = np.linalg.eigh(root[:, None] * products[np.ix_(half, half)] * root)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > PRECISION * max(values[0], 0.0)
    return root[:, None] * vectors[:, kept] / np.sqrt(values[kept])


def summed(variances: np.ndarray) -> np.ndarray:
    """Of shape (draw, mode + 1) to modes, modes together, all else, the whole, shape (draw, mode + 3)."""
    modes, whole = variances[:, :-1], variances[:, -1:]
    leading = modes.sum(axis=1, keepdims=True)
    return np.hstack([modes, leading, whole - leading, whole])
