"""States from NEMO's output, from restarts, and from files that Halocline wrote."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.calendar import Stamps, from_dates, from_ndastp
from halocline.io.checks import check_land, check_salt, check_shape, check_unit, check_wet, mask_of
from halocline.io.modelfile import ModelFile
from halocline.io.state_files import StateFile, StateSource
from halocline.mesh.grid import Grid
from halocline.state.variables import Variable, variable

__all__ = ["States", "open_states", "read_field", "read_states"]


@dataclass(frozen=True, eq=False)
class States:
    """States of a model on its grid.

    Attributes:
        fields: Variable name to array of shape (state, k, nj, ni), one level for surface variables, in the
            table's units, NaN on land, float32 or float64 as in the files.
        year: Model year, 0 if unknown, shape (state).
        month: Month that the state closes or lies in, 1 to 12, shape (state).
        season: Fraction of the year in [0, 1), shape (state).
        time: Days from the origin that the files have, NaN if unknown, shape (state).
        parameters: Physical parameters by name, shape (state) each.
    """

    fields: Mapping[str, np.ndarray]
    year: np.ndarray
    month: np.ndarray
    season: np.ndarray
    time: np.ndarray
    parameters: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.month)

    def select(self, index: np.ndarray | slice) -> States:
        """Returns some of the states, by index or by a mask of shape (state)."""
        return States(
            {name: field[index] for name, field in self.fields.items()},
            self.year[index],
            self.month[index],
            self.season[index],
            self.time[index],
            {name: values[index] for name, values in self.parameters.items()},
        )


def read_states(
    paths: str | Path | Iterable[str | Path],
    variables: Sequence[str],
    grid: Grid,
    *,
    time: slice = slice(None),
    first_year: int | None = None,
    last_year: int | None = None,
    parameters: Sequence[str] = (),
) -> States:
    """Reads states from model output or restarts.

    Variables may lie in one file or in several (`grid_T`, `grid_U`, `grid_V`), times in one file or many
    (one restart each), each file global or in one part per rank. Where a file has `vovvle3t`, temperature and
    salinity are averages of their product with it, and are divided by it.

    Arguments:
        paths: Files or glob patterns; of a set of parts any one is enough.
        variables: Names from the variable table.
        grid: Of the same configuration.
        time: Which of the states, in the order of the files.
        first_year, last_year: Years to keep, inclusive.
        parameters: Names of numbers to read beside the fields: variables, one value per state or for
            the file, or global attributes.

    Raises:
        FileNotFoundError: A file, or a part of a set, does not exist.
        OSError: A file cannot be read.
        ValueError: A variable, unit, shape, mask, date or value is not as expected.

    Collective: no.
    """
    source = open_states(paths, variables, grid, parameters=parameters)
    return source.read(_choose(source.stamps, time, first_year, last_year))


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
    rows = [variable(name) for name in variables]
    files = [_Source.open(path, rows) for path in _expand(paths)]
    stamps = _agreed_stamps(files, rows)
    first = [source for source in files if rows[0].name in source.names]
    values = {name: _parameter(name, first) for name in parameters}

    def read(chosen: np.ndarray) -> States:
        fields = {row.name: _read_variable(row, files, chosen, grid) for row in rows}
        kept = stamps.take(chosen)
        some = {name: x[chosen] for name, x in values.items()}
        return States(fields, kept.year, kept.month, kept.season, kept.time, some)

    return StateSource(_listed(files, rows), stamps, values, read)


def _listed(sources: Sequence[_Source], rows: Sequence[Variable]) -> list[StateFile]:
    """Says which files hold which states: one of the first variable, and those of the others at the same times."""
    spans = {row.name: _spans(row, sources) for row in rows}
    distinct = {span for row in rows for span in spans[row.name]}
    found = []
    for paths, low, high in spans[rows[0].name]:
        beside = {path for others, first, end in distinct if first < high and low < end for path in others}
        found.append(StateFile(paths[0], low, high - low, tuple(sorted(beside | set(paths)))))
    return found


def _spans(row: Variable, sources: Sequence[_Source]) -> list[tuple[tuple[Path, ...], int, int]]:
    """Files that hold a variable, with the numbers of their first state and of the one behind the last."""
    holding = [source for source in sources if row.name in source.names]
    ends = np.cumsum([len(source.stamps) for source in holding]).tolist()
    return [(tuple(s.file.paths), end - len(s.stamps), end) for s, end in zip(holding, ends, strict=True)]


@dataclass(frozen=True)
class _Source:
    """A file, the wanted variables that it has, under its names, and its times."""

    file: ModelFile
    names: dict[str, str]
    stamps: Stamps

    @classmethod
    def open(cls, path: Path, rows: Sequence[Variable]) -> _Source:
        file = ModelFile(path)
        names = {row.name: name for row in rows if (name := _name_in(row, file))}
        if not names:
            expected = [_names_of(row) for row in rows]
            raise ValueError(
                f"File {file.path} holds none of the wanted variables, expected {', '.join(expected)}: "
                "correct the paths of the states."
            )
        return cls(file, names, _read_stamps(file, next(iter(names.values()))))


def _expand(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Resolves patterns; lists each set of parts once."""
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[Path] = []
    seen: set[Path] = set()
    for pattern in given:
        matches = sorted(glob.glob(str(pattern)))
        if not matches and glob.has_magic(str(pattern)):
            raise FileNotFoundError(f"No file matches {pattern}: check the path of the states.")
        for path in matches or [str(pattern)]:
            parts = ModelFile(path).paths
            if parts[0] not in seen:
                found.append(parts[0])
                seen.update(parts)
    if not found:
        raise ValueError("No file of states was given, expected at least one: name them.")
    return found


def _names_of(row: Variable) -> str:
    """Names that a variable may have in a file, for a sentence."""
    return " or ".join(name for name in (row.nemo_output, row.nemo_restart or row.nextsim) if name)


def _name_in(row: Variable, file: ModelFile) -> str:
    """Name of a variable in a file, "" if it is not there."""
    for name in (row.nemo_output, row.nemo_restart, row.nextsim):
        if name and name in file:
            return name
    return ""


def _read_stamps(file: ModelFile, name: str) -> Stamps:
    """Finds the times of a file.

    Raises:
        ValueError: It says neither month nor date.
    """
    axis = file.dimensions[name][0]
    if "month" in file and file.dimensions["month"] == (axis,):
        month = file.read("month").astype(np.int64)
        year = file.read("year").astype(np.int64) if "year" in file else np.zeros_like(month)
        season = file.read("season") if "season" in file else month / 12.0 % 1.0
        time = file.read(axis) if axis in file else np.full(len(month), np.nan)
        return Stamps(year, month, season.astype(np.float64), time.astype(np.float64))
    if (ndastp := file.scalar("ndastp")) is not None:
        return from_ndastp(ndastp, file.scalar("adatrj"))
    if axis in file and " since " in file.unit(axis):
        return from_dates(file.read(axis), file.unit(axis), file.calendar(axis))
    raise ValueError(
        f"File {file.path} does not say when its states are, expected variables year and month, a time "
        f"coordinate {axis} with units such as 'days since 0001-01-01', or ndastp: add one of them."
    )


def _agreed_stamps(files: Sequence[_Source], rows: Sequence[Variable]) -> Stamps:
    """Times of the states, the same for all variables.

    Raises:
        ValueError: A variable is nowhere, or has other times than the first.
    """
    stamps: list[Stamps] = []
    for row in rows:
        parts = [source.stamps for source in files if row.name in source.names]
        if not parts:
            raise ValueError(
                f"Variable {row.name} is in none of the files of states ({files[0].file.path}, ...), "
                f"expected it as {_names_of(row)}: add its file or leave it out of the variables."
            )
        stamps.append(Stamps.concatenate(parts))
        if not stamps[-1].same(stamps[0]):
            raise ValueError(
                f"{row.name} has {len(stamps[-1])} states and {rows[0].name} has {len(stamps[0])}, or "
                "their dates differ; expected the same: give the files of all variables for all times."
            )
    return stamps[0]


def _choose(
    stamps: Stamps, time: slice, first_year: int | None, last_year: int | None
) -> np.ndarray:
    """Indices of the wanted states.

    Raises:
        ValueError: There is none.
    """
    chosen = np.arange(len(stamps))[time]
    year = stamps.year[chosen]
    if first_year is not None:
        chosen, year = chosen[year >= first_year], year[year >= first_year]
    if last_year is not None:
        chosen = chosen[year <= last_year]
    if not chosen.size:
        years = f"{stamps.year.min()} to {stamps.year.max()}" if len(stamps) else "none"
        raise ValueError(
            f"No state is left of {len(stamps)} of years {years}, expected some in {time}, years "
            f"{first_year} to {last_year}: widen the choice."
        )
    return chosen


def _read_variable(
    row: Variable, files: Sequence[_Source], chosen: np.ndarray, grid: Grid
) -> np.ndarray:
    """Reads the chosen states of one variable from all files."""
    pieces, first = [], 0
    for source in files:
        if row.name in source.names:
            count = len(source.stamps)
            mine = chosen[(chosen >= first) & (chosen < first + count)] - first
            if mine.size:
                pieces.append(read_field(row, source.file, source.names[row.name], mine, grid))
            first += count
    return np.concatenate(pieces)


def read_field(
    row: Variable, file: ModelFile, name: str, records: np.ndarray, grid: Grid
) -> np.ndarray:
    """Reads states of one variable from one file, and checks them against the grid.

    Arguments:
        row: Row of the variable table.
        file: The file.
        name: Name of the variable in it.
        records: Indices of the states wanted.
        grid: Of the same configuration.

    Returns:
        Shape (state, nk or 1, nj, ni), NaN on land.

    Raises:
        ValueError: Unit, shape, mask or values are not as expected.

    Collective: no.
    """
    where = f"{row.name} ({name} of {file.path})"
    check_unit(row, file.unit(name), where)
    x = _read_records(row, file, name, records)
    check_shape(row, x.shape[1:], grid, where)
    times = records.tolist()
    check_land(row, x, grid, where, times)
    if row.name in ("temperature", "salinity") and name == row.nemo_output and "vovvle3t" in file:
        with np.errstate(divide="ignore", invalid="ignore"):
            x = x / _read_records(row, file, "vovvle3t", records)
    check_wet(row, x, grid, where, times)
    check_salt(row, x, grid, where, times)
    return np.where(mask_of(row, grid), x, np.asarray(np.nan, x.dtype))


def _read_records(
    row: Variable, file: ModelFile, name: str, records: np.ndarray
) -> np.ndarray:
    """Reads records as (state, level, y, x)."""
    low, high = int(records.min()), int(records.max()) + 1
    ndim = len(file.dimensions[name])
    without_time = ndim == (3 if row.is_3d else 2)
    x = file.read(name)[None] if without_time else file.read(name, slice(low, high))[records - low]
    if not row.is_3d and x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4:
        raise ValueError(
            f"{name} of {file.path} has dimensions {file.dimensions[name]}, expected time, "
            f"{'level, ' if row.is_3d else ''}y and x: check the file."
        )
    return x


def _parameter(name: str, sources: Sequence[_Source]) -> np.ndarray:
    """A physical parameter, one value per state of the files.

    Raises:
        ValueError: A file does not have it.
    """
    values = []
    for source in sources:
        count = len(source.stamps)
        number = source.file.scalar(name)
        found = source.file.read(name) if name in source.file else np.array([])
        if number is not None:
            found = np.full(count, number)
        if found.shape != (count,):
            raise ValueError(
                f"Parameter {name} of {source.file.path} has shape {found.shape}, expected one value "
                f"for each of {count} states or one for the file: add it to the file."
            )
        values.append(found.astype(np.float64))
    return np.concatenate(values)
