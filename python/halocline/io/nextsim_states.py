"""States from neXtSIM: diagnostics and restarts of neXtSIM_DG, trajectories, Moorings and stores of GenSIM.

Halocline's damage is 0 where the ice is intact, as in classic neXtSIM and in GenSIM; neXtSIM_DG has 1 there. Fields
with DG components give their first, the cell mean.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.calendar import Stamps, from_dates
from halocline.io.checks import check_land, check_shape, check_unit, check_wet, mask_of
from halocline.io.forcing_files import remedy
from halocline.io.gensim_store import holds_flat, open_flat, store_files
from halocline.io.modelfile import ModelFile, open_dataset
from halocline.io.nemo_states import States
from halocline.io.nextsim_files import DGFile, is_dg
from halocline.io.nextsim_grid import check_sea, positions
from halocline.io.state_files import StateFile, StateSource
from halocline.mesh.grid import Grid
from halocline.state.variables import Variable, variable

__all__ = ["DG_NAMES", "holds_nextsim", "open_states", "read_states"]

DG_NAMES = {
    "concentration": "cice",
    "thickness": "hice",
    "snow": "hsnow",
    "damage": "damage",
    "ice_u": "u",
    "ice_v": "v",
}
"""Name in neXtSIM_DG by variable; see `VARIABLES` for those of trajectories."""

EPOCH = "seconds since 1970-01-01 00:00:00"
"""Of every time in neXtSIM_DG's files, whatever their attributes say."""

CENTRES = 1.0e-6
"""Largest difference between cell centres of one grid, degrees: 0.1 m."""


@dataclass(frozen=True)
class _Source:
    """A file, its times, and how a variable is read from it.

    Attributes:
        path: Of the file.
        stamps: Of all its states.
        read: From a variable and the numbers of states, ascending, to (state, 1, j, i), NaN where a value is missing.
        others: Files that it is known by, if it is a folder.
    """

    path: Path
    stamps: Stamps
    read: Callable[[Variable, np.ndarray], np.ndarray]
    others: tuple[Path, ...] = ()


def holds_nextsim(path: Path | str) -> bool:
    """Whether a file is one of neXtSIM, by its content; the first that a pattern names. See `read_states`.

    Collective: no.
    """
    matches = sorted(glob.glob(str(path)))
    if not matches:
        return False
    first = Path(matches[0])
    if is_dg(first) or holds_flat(first):
        return True
    try:
        with open_dataset(first) as dataset:
            return "sic" in dataset.variables and dataset["sic"].ndim == 4 and "trajectory" in dataset.dimensions
    except OSError:
        return False  # whoever reads it next says what is wrong with it


def read_states(
    paths: str | Path | Iterable[str | Path],
    variables: Sequence[str],
    grid: Grid,
    *,
    first_year: int | None = None,
    last_year: int | None = None,
    parameters: Sequence[str] = (),
) -> States:
    """Reads states of the sea ice.

    Arguments:
        paths: Files or glob patterns. Diagnostics and restarts of neXtSIM_DG; files with `sic`, `sit`, `sid`, `snt`,
            `siu`, `siv` along (trajectory, time, y, x), whose trajectories are appended to each other; Moorings and
            stores of GenSIM (`gensim_store`).
        variables: Names from the variable table.
        grid: Of the same configuration, from `read_grid`.
        first_year, last_year: Years to keep, inclusive.
        parameters: Must be empty: the files hold none.

    Raises:
        FileNotFoundError, OSError: A file does not exist or cannot be read.
        ValueError: A variable, unit, shape, mask, date or value is not as expected.

    Collective: no.
    """
    source = open_states(paths, variables, grid, parameters=parameters)
    return source.read(_kept(source.stamps, first_year, last_year))


def open_states(
    paths: str | Path | Iterable[str | Path],
    variables: Sequence[str],
    grid: Grid,
    *,
    parameters: Sequence[str] = (),
) -> StateSource:
    """Finds the states of all files, to be read in parts; see `read_states`.

    Collective: no.
    """
    if parameters:
        raise ValueError(
            f"Parameters {', '.join(parameters)} were asked for, but neXtSIM's files hold none: leave data.parameters "
            "empty."
        )
    rows = [variable(name) for name in variables]
    sources = [_open(path, grid) for path in _expand(paths)]
    stamps = Stamps.concatenate([source.stamps for source in sources])
    ends = np.cumsum([len(source.stamps) for source in sources]).tolist()
    files = [
        StateFile(s.path, end - len(s.stamps), len(s.stamps), s.others) for s, end in zip(sources, ends, strict=True)
    ]

    def read(chosen: np.ndarray) -> States:
        parts: dict[str, list[np.ndarray]] = {row.name: [] for row in rows}
        for source, file in zip(sources, files, strict=True):
            mine = chosen[(chosen >= file.first) & (chosen < file.first + file.count)] - file.first
            if len(mine):
                for row in rows:
                    parts[row.name].append(_checked(row, source, mine, grid))
        kept = stamps.take(chosen)
        fields = {name: np.concatenate(found) for name, found in parts.items()}
        return States(fields, kept.year, kept.month, kept.season, kept.time, {})

    return StateSource(files, stamps, {}, read)


def _expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Resolves patterns.

    Raises:
        FileNotFoundError: A pattern or name fits no file.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found = [Path(match) for pattern in given for match in sorted(glob.glob(str(pattern))) or [str(pattern)]]
    for path in found:
        if not path.exists():
            raise FileNotFoundError(f"No file matches {path}: check the path of the states.")
    return list(dict.fromkeys(found))


def _open(path: Path, grid: Grid) -> _Source:
    if is_dg(path):
        return _open_dg(path, grid)
    if holds_flat(path):
        stamps, read = open_flat(path, grid)
        return _Source(path, stamps, read, store_files(path) if path.is_dir() else ())
    return _open_trajectories(path, grid)


def _open_dg(path: Path, grid: Grid) -> _Source:
    """A diagnostic or restart file of neXtSIM_DG."""
    file = DGFile(path)
    _check_centres(file, grid)

    def read(row: Variable, records: np.ndarray) -> np.ndarray:
        if row.name not in DG_NAMES:
            raise ValueError(f"Variable {row.name} is not one of {', '.join(DG_NAMES)}, which neXtSIM_DG has.")
        low, high = int(records.min()), int(records.max()) + 1
        x = file.read_mean(DG_NAMES[row.name], slice(low, high))
        x = 1.0 - x if row.name == "damage" else x
        return (x[records - low] if x.ndim == 3 else x[None])[:, None]

    return _Source(path, _dg_stamps(path), read)


def _check_centres(file: DGFile, grid: Grid) -> None:
    """Refuses a file of another grid; diagnostic files carry no mask that could tell.

    Raises:
        ValueError: Cell centres differ.
    """
    longitude, latitude = positions(file)
    same = longitude.shape == grid.glamt.shape
    if same:
        distance = np.maximum(np.abs(longitude - grid.glamt), np.abs(latitude - grid.gphit))
        same = bool((distance < CENTRES).all())
    if not same:
        raise ValueError(
            f"File {file.path} has {longitude.shape} cell centres (y, x) that are not those of the grid of shape "
            f"{grid.glamt.shape}: name the grid file of the same configuration."
        )


def _dg_stamps(path: Path) -> Stamps:
    """Times of a diagnostic file, or the one time of a restart.

    Raises:
        ValueError: There is none; start files have none.
    """
    with open_dataset(path) as dataset:
        for name in ("data/time", "metadata/time/time"):
            try:
                seconds = np.atleast_1d(np.ma.getdata(dataset[name][...]))
            except IndexError:
                continue
            return from_dates(seconds, EPOCH, "standard")
    raise ValueError(
        f"File {path} does not say when its states are, expected data/time or metadata/time/time: take diagnostics or "
        "restarts that the model wrote, not a start file."
    )


def _open_trajectories(path: Path, grid: Grid) -> _Source:
    """A file with a time axis for all its trajectories."""
    file = ModelFile(path)
    if "time" not in file or "sic" not in file or file.dimensions["sic"][-3:] != ("time", "y", "x"):
        raise ValueError(
            f"File {path} is neither one of neXtSIM_DG nor has it sic along ([trajectory,] time, y, x): correct the "
            "paths of the states."
        )
    stamps = from_dates(file.read("time"), file.unit("time"), file.calendar("time"))
    leading = _leading_sizes(path)
    if "mask" in file:
        check_sea(file.read("mask") == 1, grid, path, "name the grid file of the same configuration")

    def read(row: Variable, records: np.ndarray) -> np.ndarray:
        name = row.nextsim
        if not name or name not in file:
            usual = f"leave {row.name} out of the variables"
            raise ValueError(f"File {path} lacks {name or row.name}: {remedy(row, usual)}.")
        if file.dimensions[name] != file.dimensions["sic"]:
            raise ValueError(
                f"{name} of {path} has dimensions {file.dimensions[name]}, expected those of sic, "
                f"{file.dimensions['sic']}: leave {row.name} out of the variables."
            )
        check_unit(row, file.unit(name), f"{row.name} ({name} of {path})")
        parts = []
        for number in np.unique(records // len(stamps)):
            mine = records[records // len(stamps) == number] % len(stamps)
            low, high = int(mine.min()), int(mine.max()) + 1
            place = (slice(int(k), int(k) + 1) for k in np.unravel_index(number, leading))
            x = file.read(name, (*place, slice(low, high)))
            parts.append(x.reshape(-1, 1, *x.shape[-2:])[mine - low])
        x = np.concatenate(parts)
        check_land(row, x, grid, f"{row.name} ({name} of {path})")
        return x

    return _Source(path, Stamps.concatenate([stamps] * int(np.prod(leading))), read)


def _leading_sizes(path: Path) -> tuple[int, ...]:
    """Sizes of the dimensions of `sic` before time."""
    with open_dataset(path) as dataset:
        shape: tuple[int, ...] = dataset["sic"].shape
    return shape[:-3]


def _checked(row: Variable, source: _Source, records: np.ndarray, grid: Grid) -> np.ndarray:
    """One variable of some states of a file, NaN on land.

    Raises:
        ValueError: Shape or values are not as expected.
    """
    where = f"{row.name} of {source.path}"
    x = source.read(row, records)
    check_shape(row, x.shape[1:], grid, where)
    check_wet(row, x, grid, where)
    return np.where(mask_of(row, grid), x, np.asarray(np.nan, x.dtype))


def _kept(stamps: Stamps, first_year: int | None, last_year: int | None) -> np.ndarray:
    """Indices of the states of the wanted years.

    Raises:
        ValueError: There is none.
    """
    low = -np.inf if first_year is None else first_year
    high = np.inf if last_year is None else last_year
    kept = np.flatnonzero((stamps.year >= low) & (stamps.year <= high))
    if not kept.size:
        raise ValueError(
            f"No state is left of {len(stamps)} of years {stamps.year.min()} to {stamps.year.max()}, expected some in "
            f"{first_year} to {last_year}: widen the choice."
        )
    return kept
