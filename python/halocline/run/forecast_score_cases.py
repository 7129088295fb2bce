"""A forecast beside what happened: the material of `forecast_scores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from halocline.mesh.grid import Grid
from halocline.state.variables import variable

__all__ = ["Case", "Fields", "check_case", "check_hours"]

Fields = Mapping[str, np.ndarray]
"""Variable to values."""


@dataclass(frozen=True, eq=False)
class Case:
    """One start: the truth, and all forecasts of it. Whole fields, anything on land.

    Attributes:
        hours: Of the states since the start, ascending, the first 0.
        truth: Variable to shape (time, nj, ni); NaN of the sea where it is not known.
        forecasts: Name of a forecast to its variables, shape (member, time, nj, ni), the start included. One that was
            stopped has fewer times; one that lacks a variable is not scored on it. A deterministic one has one member.
        forcing: Forcing to shape (time, nj, ni); free drift needs `wind_u` and `wind_v`.
    """

    hours: tuple[float, ...]
    truth: Fields
    forecasts: Mapping[str, Fields]
    forcing: Fields = field(default_factory=dict)


def check_case(case: Case, grid: Grid) -> None:
    """Refuses what cannot be scored.

    Arguments:
        case: To be scored.
        grid: Of all fields.

    Raises:
        ValueError: Times, names or shapes are not as described.

    Collective: no.
    """
    if len(case.hours) < 2 or case.hours[0] != 0 or (np.diff(case.hours) <= 0).any():
        raise ValueError(
            f"Times of a case are {told(case.hours)} h, expected at least two, ascending from 0 on: give the start and "
            "what follows it."
        )
    for name, x in case.truth.items():
        variable(name)
        expected = (len(case.hours), grid.nj, grid.ni)
        if np.shape(x) != expected:
            raise ValueError(f"Truth of {name} has shape {np.shape(x)}, expected (time, nj, ni) = {expected}.")
    for label, fields in case.forecasts.items():
        shapes = {np.shape(x)[:2] for x in fields.values()}
        grids = {np.shape(x)[2:] for x in fields.values()}
        if not fields or len(shapes) > 1 or grids != {(grid.nj, grid.ni)} or not set(fields) <= set(case.truth):
            raise ValueError(
                f"Forecast '{label}' has shapes {sorted({np.shape(x) for x in fields.values()})} of "
                f"{', '.join(fields) or 'no variable'}, expected (member, time, {grid.nj}, {grid.ni}) for each of some "
                f"of {', '.join(case.truth)}: read it whole, and give the truth of each variable."
            )
        members, times = shapes.pop()
        if members < 1 or times > len(case.hours):
            raise ValueError(
                f"Forecast '{label}' has {members} members and {times} times, expected at least 1 and at most the "
                f"{len(case.hours)} of the truth: cut it to the time that is known."
            )


def check_hours(hours: Sequence[float], longest: Sequence[float]) -> None:
    """Refuses the times of a case that differ from those of another that goes on for at least as long.

    Raises:
        ValueError: They differ.

    Collective: no.
    """
    if list(hours) != list(longest[: len(hours)]):
        raise ValueError(
            f"Times of a case are {told(hours)} h, expected {told(longest)} h as of the longest case, as far as it "
            "goes: cut all cases alike."
        )


def told(hours: Sequence[float]) -> str:
    """The first times of many."""
    return ", ".join(f"{hour:g}" for hour in hours[:6]) + (", ..." if len(hours) > 6 else "")
