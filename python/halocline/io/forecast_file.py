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

from halocline.state.variables import VARIABLES, variable

__all__ = ["Forecast", "read_forecast"]

Array = zarr.Array[Any]


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast, or the complete part of one.

    Attributes:
        hours: Since the start, the first 0, shape (time).
        units: Of the file's time: "hours since" the start.
        members: Their numbers in the file, shape (member).
        fields: Variable to shape (member, time, nj, ni), float32, NaN on land.
        wet: Sea, shape (nj, ni).
        times: Number of times that the forecast will have when it is complete.
    """

    hours: np.ndarray
    units: str
    members: np.ndarray
    fields: dict[str, np.ndarray]
    wet: np.ndarray
    times: int

    @property
    def is_complete(self) -> bool:
        """Whether all times are there."""
        return len(self.hours) == self.times


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
    units = str(arrays["time"].attrs.get("units", ""))
    return Forecast(hours[:count], units, chosen, fields, wet, len(hours))


def _open(path: Path) -> dict[str, Array]:
    """All arrays of a store by name."""
    try:
        return dict(zarr.open_group(path, mode="r").arrays())
    except (OSError, KeyError, ValueError) as error:
        raise FileNotFoundError(f"No forecast at {path}: give the folder that `halocline forecast` wrote.") from error


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
