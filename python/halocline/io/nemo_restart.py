"""NEMO's ocean restart: a state from which the model starts.

NEMO requires five fields: `un vn tn sn sshn`. All else has a fallback, but by groups: a file with `sshb` must
have every other "before" field, one with `nn_fsbc` the surface means. A generated state has the five fields and
none of a group, so the model starts with one Euler step and background turbulence.

Reference: NEMO 5.0, ``OCE/IOM/restart.F90``, ``OCE/DOM/domain.F90``, ``OCE/DOM/daymod.F90``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from halocline.io.atomic import atomic_paths
from halocline.io.calendar import last_day, ordinal
from halocline.io.checks import check_land, check_salt, check_shape, check_wet, mask_of
from halocline.io.decomposition import Rectangle, domain_attributes, part_path, rectangles
from halocline.io.modelfile import ModelFile, create_dataset
from halocline.mesh.grid import Grid
from halocline.state.variables import VARIABLES

__all__ = ["read_restart", "write_restart"]

FIELDS = ("sea_level", "velocity_u", "velocity_v", "temperature", "salinity")
"""What NEMO requires, in the order in which it writes them."""

DATES = ("kt", "ndastp", "adatrj", "ntime")
"""NEMO reads all of these or, without `kt`, none."""

CLASSIC_LIMIT = 2**32 - 4
"""Bytes that a variable of a 64-bit-offset file may have in one record."""


def read_restart(path: Path | str, grid: Grid | None = None) -> dict[str, np.ndarray]:
    """Reads the present fields of a restart; those of the previous time level are passed over.

    Arguments:
        path: A global file, with or without .nc, one of the parts of a set, or the name common to them.
        grid: If given, fields are checked against its masks.

    Returns:
        Temperature, salinity, velocities and sea level by name, shape (nk, nj, ni), one level for sea
        level, float64, 0 on land.

    Raises:
        FileNotFoundError, OSError: A file does not exist or cannot be read.
        ValueError: A field is missing, or does not fit the grid, or the parts leave a gap.

    Collective: no.
    """
    file = ModelFile(path)
    missing = [row.nemo_restart for name in FIELDS if (row := VARIABLES[name]).nemo_restart not in file]
    if missing:
        raise ValueError(
            f"Restart {file.path} lacks {', '.join(missing)}, expected un, vn, tn, sn and sshn: take a "
            "restart of NEMO's ocean."
        )
    gap = file.uncovered()
    if grid is None and gap is not None and gap.any():
        j, i = (int(n) for n in np.argwhere(gap)[0])
        raise ValueError(
            f"The {len(file.paths)} parts of {file.path} leave {int(gap.sum())} of {gap.size} cells out, "
            f"first at j={j}, i={i}, expected none: restore the parts, or give the grid if these are land."
        )
    return {name: _read_now(file, name, grid) for name in FIELDS}


def _read_now(file: ModelFile, name: str, grid: Grid | None) -> np.ndarray:
    """One field as (nk or 1, nj, ni)."""
    row = VARIABLES[name]
    x = file.read(row.nemo_restart).astype(np.float64)
    if x.ndim != (4 if row.is_3d else 3) or x.shape[0] != 1:
        raise ValueError(
            f"{row.nemo_restart} of {file.path} has dimensions {file.dimensions[row.nemo_restart]} of sizes "
            f"{x.shape}, expected one time, {'levels, ' if row.is_3d else ''}y and x: take a restart."
        )
    x = x if row.is_3d else x[:, None]
    if grid is None:
        return x[0]
    where = f"{name} ({row.nemo_restart} of {file.path})"
    check_shape(row, x.shape[1:], grid, where)
    for check in (check_land, check_wet, check_salt):
        check(row, x, grid, where)
    return np.where(mask_of(row, grid), x[0], 0.0)


def write_restart(
    path: Path | str,
    fields: Mapping[str, np.ndarray],
    grid: Grid,
    *,
    like: Path | str | None = None,
    month: float | None = None,
    calendar: str = "360_day",
    per_rank: int | tuple[int, int] | None = None,
    depth_means: bool = False,
) -> list[Path]:
    """Writes a state as a restart, in the form in which NEMO writes it; whole or not at all.

    Double precision, 64-bit-offset netCDF (netCDF-4 where a field exceeds its 4 GiB), `time_counter`
    unlimited, velocities 0 outside umask and vmask, all else outside tmask.

    Arguments:
        path: File to write; with `per_rank` the common name of NAME_0000.nc, NAME_0001.nc, ...
        fields: Temperature, salinity, velocities and sea level, shape (nk, nj, ni), one level for sea
            level; what lies on land is not looked at.
        grid: Gives masks and coordinates.
        like: A restart of the configuration to start. Its grid is compared, and its step (`kt`), dates and
            time step (`rdt`) are taken over. Without it these are left out, and NEMO takes step and date from
            its namelist: set nn_date0 to the season of the state there.
        month: Time of the year of the state, months since 1 January: 3 is the end of March. Date and step
            of `like` are moved there within its year, or into the next where that would be before the
            start of its run. NEMO's analytical forcings take the season from the step.
        calendar: For `month`: "360_day", "noleap" or "standard" (nn_leapy = 30, 0, 1).
        per_rank: Numbers of ranks along i and j, or their product. NEMO must then run on the same
            ranks, none of which may be dropped as land; prefer one global file, which starts any number.
        depth_means: Adds `uu_n vv_n ssha`, which NEMO otherwise computes from the five fields.

    Returns:
        The files written.

    Raises:
        ValueError: A field is missing, of another shape, or not finite in the sea; `like` is of another grid, or
            its date is to be moved and it has no time step.
        OSError: A file cannot be written; see `atomic_path`.

    Collective: no, one rank writes.
    """
    content = _prepare(fields, grid)
    if depth_means:
        content |= _depth_means(content, grid)
    scalars = {} if like is None else _scalars(_check_like(ModelFile(like), grid), month, calendar)
    parts = rectangles(grid, per_rank)
    paths = [part_path(Path(path), part) for part in parts]
    needed = sum(x.nbytes for x in content.values())
    with atomic_paths(paths, needed) as temporaries:
        for temporary, part in zip(temporaries, parts, strict=True):
            _write_part(temporary, part, content, grid, scalars)
    return paths


def _prepare(fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
    """Checks the fields and returns them by NEMO's names, 0 on land."""
    if missing := [name for name in FIELDS if name not in fields]:
        raise ValueError(
            f"The state lacks {', '.join(missing)}, which NEMO requires in a restart; got "
            f"{', '.join(fields) or 'nothing'}: complete it, velocities may be 0."
        )
    content = {}
    for name in FIELDS:
        row = VARIABLES[name]
        x = np.asarray(fields[name], np.float64)
        where = f"{name} of the state"
        check_shape(row, x.shape, grid, where)
        check_wet(row, x[None], grid, where)
        x = np.where(mask_of(row, grid), x, 0.0)
        content[row.nemo_restart] = x if row.is_3d else x[0]
    return content


def _depth_means(content: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
    """Depth means of the velocities and the sea level after the step.

    With a moving surface all layers of a column stretch alike, so thicknesses at rest give the same mean.
    """
    means = {}
    for name, source, mask, e3 in (
        ("uu_n", "un", grid.umask, grid.e3u),
        ("vv_n", "vn", grid.vmask, grid.e3v),
    ):
        depth = (e3 * mask).sum(axis=0)
        transport = (e3 * content[source]).sum(axis=0)
        means[name] = np.divide(transport, depth, out=np.zeros_like(depth), where=depth > 0)
    return {**means, "ssha": content["sshn"]}


def _check_like(like: ModelFile, grid: Grid) -> ModelFile:
    """Refuses an example of another grid.

    Raises:
        ValueError: Sizes or land differ.
    """
    present = read_restart(like.path)
    shape = present["temperature"].shape
    if shape != grid.shape:
        raise ValueError(
            f"Restart {like.path} has (level, y, x) = {shape}, expected {grid.shape} of the grid: name a "
            "restart of the same configuration."
        )
    land = (present["temperature"] == 0.0) & (present["salinity"] == 0.0)
    differing = land == grid.tmask
    if differing.any():
        k, j, i = (int(n) for n in np.argwhere(differing)[0])
        raise ValueError(
            f"Restart {like.path} differs from the grid's tmask in {int(differing.sum())} cells, first at "
            f"level {k}, j={j}, i={i}: name a restart of the same configuration."
        )
    return like


def _scalars(like: ModelFile, month: float | None, calendar: str) -> dict[str, float]:
    """Step, dates and time step of the example, moved to a time of the year."""
    found = {name: like.scalar(name) for name in (*DATES, "rdt")}
    scalars = {name: value for name, value in found.items() if value is not None}
    if not all(name in scalars for name in DATES):
        return {"rdt": scalars["rdt"]} if "rdt" in scalars else {}
    return scalars if month is None else _moved(scalars, month, calendar, like.path)


def _moved(scalars: Mapping[str, float], month: float, calendar: str, path: Path) -> dict[str, float]:
    """Step and dates at a time of the year: that of the example's year, or of the next if this is before its start.

    The day of the example counts as run to its end, whatever the hour was.
    """
    was = int(scalars["ndastp"])
    old = (was // 10000, was // 100 % 100, was % 100)
    for year in (old[0], old[0] + 1):
        date = last_day(month, year, calendar)
        elapsed = math.ceil(scalars["adatrj"] - 1e-6) + ordinal(*date, calendar) - ordinal(*old, calendar)
        kt = scalars["kt"] + _steps(elapsed - scalars["adatrj"], scalars.get("rdt"), path)
        if elapsed >= 0 and kt >= 0:
            break
    ndastp = date[0] * 10000 + date[1] * 100 + date[2]
    return {**scalars, "kt": float(kt), "ndastp": float(ndastp), "adatrj": float(elapsed), "ntime": 0.0}


def _steps(days: float, rdt: float | None, path: Path) -> int:
    """Time steps of a number of days.

    Raises:
        ValueError: There are days to step over, and no time step.
    """
    if abs(days) <= 1e-6:  # what adatrj is rounded to
        return 0
    if rdt is None or not 0.0 < rdt < math.inf:
        found = "missing" if rdt is None else rdt
        raise ValueError(
            f"rdt of restart {path} is {found}, expected the time step in s, by which its step kt follows its date: "
            "take another restart for `like`, or leave it out."
        )
    return round(days * 86400.0 / rdt)


def _write_part(
    path: Path,
    part: Rectangle,
    content: Mapping[str, np.ndarray],
    grid: Grid,
    scalars: Mapping[str, float],
) -> None:
    """Writes one file."""
    here = (..., part.rows, part.columns)
    local = {name: x[here] for name, x in content.items()}
    with create_dataset(path, _container(local)) as dataset:
        dataset.set_fill_off()
        dataset.setncatts(domain_attributes(part, grid))
        for name, size in (("x", part.columns), ("y", part.rows)):
            dataset.createDimension(name, size.stop - size.start)
        dataset.createDimension("nav_lev", grid.nk)
        # NEMO takes a fixed time axis for a fourth dimension in space, and stops.
        dataset.createDimension("time_counter", None)
        for name, values in (("nav_lon", grid.glamt), ("nav_lat", grid.gphit)):
            dataset.createVariable(name, "f4", ("y", "x"))[:] = values[here]
        dataset.createVariable("nav_lev", "f4", ("nav_lev",))[:] = grid.gdept_1d
        dataset.createVariable("time_counter", "f4", ("time_counter",))[:] = [scalars.get("kt", 0.0)]
        for name, value in scalars.items():
            dataset.createVariable(name, "f8", ())[...] = value
        for name, x in local.items():
            levels = ("nav_lev",) if x.ndim == 3 else ()
            variable = dataset.createVariable(name, "f8", ("time_counter", *levels, "y", "x"))
            variable[0] = x


def _container(local: Mapping[str, np.ndarray]) -> Literal["NETCDF3_64BIT_OFFSET", "NETCDF4"]:
    """NEMO's format, unless a field is too large for it."""
    fits = max(x.nbytes for x in local.values()) <= CLASSIC_LIMIT
    return "NETCDF3_64BIT_OFFSET" if fits else "NETCDF4"
