r"""Degree-days: how much the air has frozen and melted over the last month and the last year.

With the air temperature T of the last n records and :math:`T_0 = 271.35` K, the freezing point of the sea,

.. math::

    \text{positive} = \frac1n \sum \max(T - T_0, 0), \qquad \text{freezing} = \frac1n \sum \max(T_0 - T, 0),

over 30 and 366 days. They are updated one record at a time: the record that leaves the window is subtracted, the new
one added. Temperatures are kept as whole multiples of :math:`2^{-16}` K and sums as whole numbers, which do not round:
whether they were computed at once, step by step, or in a run that was interrupted, the fields have the same bits.

Reference: Finn et al., 2025, GenSIM, whose public code takes 120 and 1464 records of six hours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from halocline.constants import KELVIN

__all__ = ["DEGREE_DAYS", "THRESHOLD", "DegreeDays"]

THRESHOLD = 271.35 - KELVIN
"""Temperature from which degrees are counted, degC."""

WINDOWS: Mapping[str, int] = {"month": 30, "year": 366}
"""Length of each window, days."""

DEGREE_DAYS = tuple(f"{kind}_{window}" for window in WINDOWS for kind in ("positive", "freezing"))
"""Names of the fields, in the order of GenSIM: positive and freezing degrees over the month, then over the year."""

STEPS = 1 << 16
"""Parts of a kelvin in which temperatures are kept: 1.5e-5 K, as float32 has at 250 K. Records fit in 32 bits."""

LARGEST = 200.0
"""Of a temperature, degC either side of zero: beyond, it is not one, or in kelvins."""


class DegreeDays:
    """Degree-days at points, updated with every record.

    Memory is that of the longest window, 4 bytes a point and record: 6 kB a cell for a year of six-hourly records.

    Arguments:
        shape: Of a field, such as (tile, 1, j, i).
        interval: Time between two records, hours; a whole number of them makes a day.
        before: Degree-days of the time before the first record, by name, K, of this shape: as long as a window is not
            filled, they count for the records that it lacks. Left out, the mean is over the records that there are.

    Raises:
        ValueError: The interval does not divide a day, or a field of `before` is missing or of another shape.

    Collective: no; points are independent.
    """

    def __init__(self, shape: tuple[int, ...], interval: float, before: Mapping[str, Tensor] | None = None) -> None:
        per_day = round(24.0 / interval) if interval > 0 else 0
        if per_day < 1 or abs(per_day * interval - 24.0) > 1e-9:
            raise ValueError(f"interval is {interval} h, expected one that divides a day, such as 6: resample forcing.")
        self.lengths = {window: days * per_day for window, days in WINDOWS.items()}
        self.before = _checked(before, shape)
        self.count = 0
        self._ring = torch.zeros(max(self.lengths.values()), *shape, dtype=torch.int32)
        self._sums = torch.zeros(len(DEGREE_DAYS), *shape, dtype=torch.int64)

    def update(self, temperature: Tensor) -> None:
        """Takes in the next record.

        Arguments:
            temperature: Of the air, degC, of the shape of a field, finite.

        Raises:
            ValueError: The shape differs, or a value is not a temperature.
        """
        if tuple(temperature.shape) != tuple(self._ring.shape[1:]):
            raise ValueError(
                f"Air temperature has shape {tuple(temperature.shape)}, expected {tuple(self._ring.shape[1:])}: give "
                "the tiles for which the degree-days were made."
            )
        if not bool((temperature.abs() < LARGEST).all()):
            raise ValueError(
                f"Air temperature spans {float(temperature.min()):g} to {float(temperature.max()):g}, expected degC "
                f"within {LARGEST:g} of zero, on land too: convert it, and fill the land."
            )
        degrees = torch.round((temperature.double() - THRESHOLD) * STEPS).to(torch.int32)
        for n, length in enumerate(self.lengths.values()):
            leaving = self._ring[(self.count - length) % len(self._ring)] if self.count >= length else None
            for k, part in enumerate(_parts(degrees, leaving)):
                self._sums[2 * n + k] += part
        self._ring[self.count % len(self._ring)] = degrees
        self.count += 1

    def fields(self) -> dict[str, Tensor]:
        """Returns the degree-days, K, float64, by the names of `DEGREE_DAYS`.

        Raises:
            ValueError: There is neither a record nor a time before.
        """
        if self.count == 0 and self.before is None:
            raise ValueError("Degree-days were asked for before the first record: update them, or give those before.")
        found = {}
        for n, length in enumerate(self.lengths.values()):
            here = min(self.count, length)
            for k in (2 * n, 2 * n + 1):
                total, name = self._sums[k].double() / STEPS, DEGREE_DAYS[k]
                if self.before is None:
                    found[name] = total / here
                else:
                    found[name] = (total + (length - here) * self.before[name]) / length
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Returns all that a run needs to go on with the same bits."""
        before = {f"before_{name}": x for name, x in (self.before or {}).items()}
        return {"ring": self._ring, "sums": self._sums, "count": torch.tensor(self.count), **before}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on where another one stood.

        Raises:
            ValueError: It was of another shape or interval.
        """
        if state["ring"].shape != self._ring.shape:
            raise ValueError(
                f"Degree-days were kept as {tuple(state['ring'].shape)} (record, ...), expected "
                f"{tuple(self._ring.shape)}: go on with the same grid, tiles and interval."
            )
        self._ring, self._sums, self.count = state["ring"].clone(), state["sums"].clone(), int(state["count"])
        before = {name: state[f"before_{name}"] for name in DEGREE_DAYS if f"before_{name}" in state}
        self.before = before or None


def _parts(arriving: Tensor, leaving: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the sums of positive and of freezing degrees change by, whole numbers."""
    positive, freezing = arriving.clamp(min=0).long(), (-arriving).clamp(min=0).long()
    if leaving is None:
        return positive, freezing
    return positive - leaving.clamp(min=0).long(), freezing - (-leaving).clamp(min=0).long()


def _checked(before: Mapping[str, Tensor] | None, shape: tuple[int, ...]) -> dict[str, Tensor] | None:
    """Degree-days of the time before, float64.

    Raises:
        ValueError: One is missing, of another shape, negative or not finite.
    """
    if before is None:
        return None
    for name in DEGREE_DAYS:
        x = before.get(name)
        if x is None or tuple(x.shape) != tuple(shape) or not bool(((x >= 0) & x.isfinite()).all()):
            found = "nothing" if x is None else f"shape {tuple(x.shape)}, smallest {float(x.min()):g}"
            raise ValueError(f"{name} before the first record has {found}, expected {tuple(shape)}, 0 K or more.")
    return {name: before[name].double() for name in DEGREE_DAYS}
