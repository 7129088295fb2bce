r"""The mean of the forcing over a step: what a storm that comes and goes between its ends does to the ice.

.. math:: \bar f = \frac{1}{\tau} \int_T^{T + \tau} f(t) \, dt

by the trapezoidal rule over T, the times every `forecast.forcing_interval` hours after it, and :math:`T + \tau`. The
interval is part of what is learned, so that a forecast is told the same mean as its training was, whatever the interval
of its files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from halocline.io.training_store import Records
from halocline.run.increments import TOLERANCE, successors

__all__ = ["followers", "mean_forcing", "quadrature"]


def quadrature(lead: float, interval: float) -> tuple[tuple[float, ...], np.ndarray]:
    """Times within a step and their weights in the mean; see the module.

    Arguments:
        lead: Hours of the step.
        interval: Hours between two times, the last of which may be nearer.

    Returns:
        Hours after T, both ends included, and weights that add up to 1, float64.

    Collective: no.
    """
    inner = interval * np.arange(1, int(np.ceil(lead / interval)) + 1)
    hours = np.concatenate([[0.0], inner[inner < lead - TOLERANCE], [lead]])
    widths = np.diff(hours)
    weights = np.convolve(widths, [0.5, 0.5]) / lead
    return tuple(hours.tolist()), weights


def mean_forcing(lead: float, interval: float, read: Callable[[float], np.ndarray]) -> np.ndarray:
    """Averages forcing over a step, one record after the other.

    Arguments:
        lead, interval: See `quadrature`.
        read: Returns the forcing so many hours after T, of any shape.

    Returns:
        The mean, in the same shape, float32. The sum is float64 and in the order of time: the same bits everywhere.

    Collective: no, unless `read` is.
    """
    total: np.ndarray | float = 0.0
    for hours, weight in zip(*quadrature(lead, interval), strict=True):
        total = total + weight * read(hours).astype(np.float64)
    return np.asarray(total, np.float32)


def followers(records: Records, lead: float, interval: float, held_out: bool = False) -> list[np.ndarray]:
    """Finds for each record of a store those at the times of `quadrature`.

    Arguments:
        records: Of a store.
        lead, interval: See `quadrature`; an interval of 0 asks for the ends alone.
        held_out: Whether to pair states that are held out, or those that are not.

    Returns:
        Numbers of records at each time, each of shape (record); -1 at all times where one of them is missing.

    Raises:
        ValueError: States a lead apart there are, but none with states at the interval between them.

    Collective: no.
    """
    hours: Sequence[float] = quadrature(lead, interval)[0] if interval else (0.0, lead)
    found = np.stack([successors(records, h, held_out) for h in hours])
    whole = (found >= 0).all(axis=0)
    if not whole.any() and (found[-1] >= 0).any():
        raise ValueError(
            f"forecast.forcing_interval is {interval:g} h, but no two states {lead:g} h apart have others at this "
            "interval between them, expected some: give the interval of the times of data.states, or 0."
        )
    return list(np.where(whole, found, -1))
