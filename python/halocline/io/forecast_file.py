"""Forecasts that `halocline forecast` wrote, as far as they are complete.

::

    FOLDER.zarr/VARIABLE     (member, time, y, x), float32, NaN on land and where nothing is written yet
    FOLDER.zarr/time         (time), hours since the start, attribute units "hours since YYYY-MM-DD hh:mm:ss"
    FOLDER.zarr/complete     (member), index of the last complete time, -1 where there is none
    FOLDER.zarr/mask         (y, x), sea

A forecast may still be running, or have been stopped: what lies beyond `complete` is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from halocline.io.checks import check_wet, mask_of
from halocline.io.nextsim_grid import check_sea
from halocline.mesh.grid import Grid
from halocline.state.variables import VARIABLES, variable

__all__ = ["Forecast", "is_forecast", "read_forecast", "read_forecast_state"]

Array = zarr.Array[Any]


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast, or the complete part of one.

    Attributes:
        hours: Since the start, the first 0, shape (time).
        start: Its time, datetime64[s].
        members: Their numbers in the file, shape (member).
        fields: Variable to shape (member, time, nj, ni), float32, NaN on land.
        wet: Sea, shape (nj, ni).
        times: Number of times that the forecast will have when it is complete.
    """

    hours: np.ndarray
    start: np.datetime64
    members: np.ndarray
    fields: dict[str, np.ndarray]
    wet: np.ndarray
    times: int

    @property
    def is_complete(self) -> bool:
        """Whether all times are there."""
        return len(self.hours) == self.times


def is_forecast(path: Path | str) -> bool:
    """Whether a folder is a forecast, complete or not. Collective: no."""
    try:
        arrays = _open(Path(path)) if Path(path).is_dir() else {}
    except FileNotFoundError:
        return False
    return all(name in arrays for name in ("time", "complete", "mask"))


def read_forecast(
    path: Path | str, variables: Sequence[str] | None = None, members: Sequence[int] | None = None
) -> Forecast:
    """Reads the times that are complete for all of the members.

    Arguments:
        path: FOLDER.zarr.
        variables: Names of the table; all that the file holds by default.
        members: Numbers from 0; all by default. Fewer may be complete for longer.

    Raises:
        FileNotFoundError: There is no such store.
        ValueError: It is no forecast, lacks a variable or member, or no time is complete.

    Collective: no, every rank may read by itself.
    """
    arrays = _open(Path(path))
    held = [name for name in VARIABLES if name in arrays]
    names = held if variables is None else [variable(name).name for name in variables]
    missing = [name for name in ("time", "complete", "mask", *names) if name not in arrays]
    if missing or not names:
        raise ValueError(
            f"Forecast {path} lacks {', '.join(missing) or 'any variable'}, expected time, complete, mask and "
            f"variables out of {', '.join(held) or 'the table'}: take a store that `halocline forecast` wrote."
        )
    complete, wet = np.asarray(arrays["complete"][...], np.int64), np.asarray(arrays["mask"][...]) > 0
    hours = np.asarray(arrays["time"][...], np.float64)
    chosen = np.arange(len(complete)) if members is None else _chosen(members, len(complete), path)
    _check_shapes(arrays, names, (len(complete), len(hours), *wet.shape), path)
    count = int(complete[chosen].min()) + 1
    if count < 1:
        late = chosen[complete[chosen] < 0].tolist()
        raise ValueError(
            f"Forecast {path} has no complete time for members {late}, expected at least the start: resume the "
            "forecast, or choose other members."
        )
    fields = {name: _read(arrays[name], chosen, count) for name in names}
    return Forecast(hours[:count], _start(arrays, path), chosen, fields, wet, len(hours))


def read_forecast_state(
    path: Path | str, variables: Sequence[str], grid: Grid, *, member: int = 0, hours: float | None = None
) -> tuple[dict[str, np.ndarray], np.datetime64]:
    """Reads a member of a forecast at one time.

    Arguments:
        path: FOLDER.zarr.
        variables: Names of the table.
        grid: Of the generator.
        member: Its number.
        hours: Since the start of the forecast; the last complete time if left out.

    Returns:
        Variable to (1, nj, ni), NaN on land; and the time, datetime64[s].

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is no forecast, is of another grid, lacks a variable or member, or has not come to that time.

    Collective: no.
    """
    path = Path(path)
    if not is_forecast(path):
        raise FileNotFoundError(f"{path} is no forecast, expected the folder that `halocline forecast` wrote: name it.")
    arrays = _open(path)
    check_sea(np.asarray(arrays["mask"][...]) == 1, grid, path, "name the forecast of this grid")
    complete = np.asarray(arrays["complete"][...])
    if not 0 <= member < len(complete):
        raise ValueError(f"member is {member}, expected 0 to {len(complete) - 1} of {path}: choose one.")
    number = _number(np.asarray(arrays["time"][...], np.float64), int(complete[member]), hours, path, member)
    fields = {}
    for name in variables:
        if name not in arrays:
            raise ValueError(f"Forecast {path} lacks {name}, expected {', '.join(variables)}: take one that has them.")
        row, x = variable(name), np.asarray(arrays[name][member, number])[None]
        check_wet(row, x[None], grid, f"{name} of {path}", (number,))
        fields[name] = np.where(mask_of(row, grid), x, np.nan)
    seconds = round(3600.0 * float(np.asarray(arrays["time"][number])))
    return fields, _start(arrays, path) + np.timedelta64(seconds, "s")


def _open(path: Path) -> dict[str, Array]:
    """All arrays of a store by name."""
    try:
        return dict(zarr.open_group(path, mode="r").arrays())
    except (OSError, KeyError, ValueError) as error:
        raise FileNotFoundError(f"No forecast at {path}: give the folder that `halocline forecast` wrote.") from error


def _start(arrays: dict[str, Array], path: Path | str) -> np.datetime64:
    """Time of the start, of units "hours since YYYY-MM-DD hh:mm:ss".

    Raises:
        ValueError: There is none.
    """
    units = str(arrays["time"].attrs.get("units", ""))
    try:
        return np.datetime64(units.partition(" since ")[2].strip().replace(" ", "T"), "s")
    except ValueError as error:
        raise ValueError(
            f"Time of forecast {path} has units '{units}', expected hours since a date: the store is damaged."
        ) from error


def _number(times: np.ndarray, complete: int, hours: float | None, path: Path, member: int) -> int:
    """Number of a time.

    Raises:
        ValueError: It is not one of the forecast, or not complete.
    """
    if complete < 0:
        raise ValueError(f"Member {member} of {path} has no complete time yet: go on with the forecast.")
    if hours is None:
        return complete
    found = np.flatnonzero(np.abs(times[: complete + 1] - hours) < 1.0 / 3600.0)
    if not found.size:
        known = ", ".join(f"{x:g}" for x in times[: complete + 1][:4])
        raise ValueError(
            f"hours is {hours:g}, but member {member} of {path} is complete at {known}{', ...' * (complete > 3)} to "
            f"{times[complete]:g} h: choose one of its times, or go on with the forecast."
        )
    return int(found[0])


def _chosen(members: Sequence[int], count: int, path: Path | str) -> np.ndarray:
    chosen = np.asarray(members, np.int64)
    if not chosen.size or chosen.min() < 0 or chosen.max() >= count:
        raise ValueError(f"Members of forecast {path} are to be {list(members)}, expected some of 0 to {count - 1}.")
    return chosen


def _check_shapes(arrays: dict[str, Array], names: Sequence[str], expected: tuple[int, ...], path: Path | str) -> None:
    for name in names:
        if arrays[name].shape != expected:
            raise ValueError(
                f"{name} of forecast {path} has shape {arrays[name].shape}, expected (member, time, y, x) = {expected} "
                "of complete, time and mask: the store is damaged; forecast again."
            )


def _read(array: Array, members: np.ndarray, count: int) -> np.ndarray:
    """Reads member after member: a chunk is one of them."""
    return np.stack([np.asarray(array[int(member), :count], np.float32) for member in members])
