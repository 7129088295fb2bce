"""One state out of a forecast that `halocline forecast` wrote, without reading the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from halocline.io.checks import check_wet, mask_of
from halocline.io.nextsim_grid import check_sea
from halocline.mesh.grid import Grid
from halocline.state.variables import variable

__all__ = ["is_forecast", "read_forecast_state"]


def is_forecast(path: Path | str) -> bool:
    """Whether a folder is a forecast, complete or not. Collective: no."""
    if not Path(path).is_dir():
        return False
    try:
        group = zarr.open_group(Path(path), mode="r")
    except (OSError, KeyError, ValueError):
        return False
    return all(name in group for name in ("time", "complete", "mask"))


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
    arrays = dict(zarr.open_group(path, mode="r").arrays())
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
    return fields, _when(arrays["time"], number)


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


def _when(time: Any, number: int) -> np.datetime64:
    """A time as a date; its units are "hours since YYYY-MM-DD hh:mm:ss"."""
    start = str(time.attrs["units"]).split(" since ")[-1]
    seconds = round(3600.0 * float(np.asarray(time[number])))
    return np.datetime64(start.strip().replace(" ", "T"), "s") + np.timedelta64(seconds, "s")
