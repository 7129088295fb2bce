"""Generated states in a file that NEMO's users can read: NEMO's names where it has any, CF attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from halocline.io.atomic import atomic_path
from halocline.io.checks import check_shape, check_wet, mask_of
from halocline.io.modelfile import ModelFile, create_dataset
from halocline.mesh.grid import Grid
from halocline.state.variables import VARIABLES, Variable, variable

__all__ = ["read_member", "standard_names_of", "write_states", "written_name"]

FILL = np.float32(1.0e20)

ABSOLUTE_SALINITY = "sea_water_absolute_salinity"


def standard_names_of(equation_of_state: str) -> dict[str, str]:
    """Names temperature and salinity as an equation of state takes them.

    Arguments:
        equation_of_state: "eos80", "teos10", "seos" or "dino".

    Returns:
        CF standard names of temperature and salinity by variable, for `write_states`.

    Raises:
        ValueError: Unknown equation of state.

    Collective: no.
    """
    of_eos80 = {"temperature": "sea_water_potential_temperature", "salinity": "sea_water_practical_salinity"}
    of_teos10 = {"temperature": "sea_water_conservative_temperature", "salinity": ABSOLUTE_SALINITY}
    names = {"eos80": of_eos80, "teos10": of_teos10, "seos": of_teos10, "dino": of_teos10}
    if equation_of_state not in names:
        raise ValueError(
            f"Equation of state is {equation_of_state!r}, expected one of {', '.join(names)}: name that of the model."
        )
    return names[equation_of_state]


def write_states(
    path: Path | str,
    fields: Mapping[str, np.ndarray],
    grid: Grid,
    *,
    months: Sequence[float],
    season: Sequence[float] | None = None,
    members: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
    standard_names: Mapping[str, str] | None = None,
) -> None:
    """Writes states to one file, whole or not at all. Equal data give equal bytes.

    Dimensions (member, deptht, y, x), float32, land as _FillValue.

    Arguments:
        path: File to write.
        fields: Variable name to array of shape (member, nk, nj, ni), one level for surface variables;
            what lies on land is not looked at.
        grid: Gives masks, coordinates and depths.
        months: Month, 1 to 12, at whose end (or in which) each member stands, shape (member).
        season: Fraction of the year of each member, in [0, 1); the ends of the months if left out.
        members: Number of each member; 0, 1, ... if left out.
        attributes: Global attributes.
        standard_names: By variable, where the table's is not what the equation of state takes; see
            `standard_names_of`. Absolute salinity is written in g kg-1, the same numbers.

    Raises:
        ValueError: A shape differs, or a wet value is not finite or impossible.
        OSError: The file cannot be written; see `atomic_path`.

    Collective: no, one rank writes.
    """
    rows = [variable(name) for name in fields]
    months_written = np.asarray(months, np.int32)
    seasons = months_written / 12.0 % 1.0 if season is None else np.asarray(season, np.float64)
    numbers = np.asarray(np.arange(len(months_written)) if members is None else members, np.int32)
    if not len(months_written) == len(seasons) == len(numbers) > 0:
        raise ValueError(
            f"months, season and members have {len(months_written)}, {len(seasons)} and {len(numbers)} "
            "entries, expected one for each member, and at least one member."
        )
    for row in rows:
        _check(row, np.asarray(fields[row.name]), grid, len(numbers))
    with (
        atomic_path(path) as temporary,
        create_dataset(temporary, "NETCDF4") as dataset,
    ):
        dataset.setncatts({"Conventions": "CF-1.8", **(attributes or {})})
        _write_coordinates(dataset, grid, numbers, months_written, seasons)
        for row in rows:
            label = (standard_names or {}).get(row.name, row.standard_name)
            _write_variable(dataset, row, np.asarray(fields[row.name]), grid, label)


def read_member(path: Path | str, member: int) -> dict[str, np.ndarray]:
    """Reads one state of a file that `write_states` wrote.

    Arguments:
        path: The file.
        member: Number of the member.

    Returns:
        Variable name to array of shape (nk, nj, ni), one level for surface variables, NaN on land.

    Raises:
        FileNotFoundError, OSError: The file does not exist or cannot be read.
        ValueError: It has no such member, or is not such a file.

    Collective: no.
    """
    file = ModelFile(path)
    numbers = file.read("member").tolist()
    if member not in numbers:
        raise ValueError(
            f"Member {member} is not in {file.path}, expected one of {', '.join(map(str, numbers))}."
        )
    place = numbers.index(member)
    fields = {}
    for row in VARIABLES.values():
        if (name := written_name(row)) in file:
            field = file.read(name, slice(place, place + 1))
            fields[row.name] = field[0] if row.is_3d else field
    return fields


def written_name(row: Variable) -> str:
    """Name of a variable in files of states: NEMO's, or neXtSIM's where NEMO has none (damage)."""
    return row.nemo_output or row.nextsim


def _check(row: Variable, x: np.ndarray, grid: Grid, count: int) -> None:
    where = f"{row.name} to be written"
    if x.ndim != 4 or x.shape[0] != count:
        raise ValueError(
            f"{where} has shape {x.shape}, expected (member, level, y, x) with {count} members: give one "
            "month per member."
        )
    check_shape(row, x.shape[1:], grid, where)
    check_wet(row, x, grid, where)


def _write_coordinates(
    dataset: netCDF4.Dataset, grid: Grid, members: np.ndarray, months: np.ndarray, season: np.ndarray
) -> None:
    """Writes dimensions, positions, and when each member stands."""
    sizes = {"member": len(members), "deptht": grid.nk, "y": grid.nj, "x": grid.ni}
    for name, size in sizes.items():
        dataset.createDimension(name, size)
    along_member = (
        ("member", members, "i4", {"standard_name": "realization", "units": "1"}),
        ("month", months, "i4", {"long_name": "month at whose end the state stands, 1 to 12"}),
        ("season", season, "f8", {"units": "1", "long_name": "fraction of the year"}),
    )
    for name, values, kind, labels in along_member:
        _write(dataset, name, kind, ("member",), values, labels)
    depth = {"units": "m", "positive": "down", "axis": "Z", "standard_name": "depth"}
    _write(dataset, "deptht", "f4", ("deptht",), grid.gdept_1d, depth)
    for point in "tuv":
        suffix = "" if point == "t" else f"_{point}"
        for kind, source, unit in (("lon", "glam", "east"), ("lat", "gphi", "north")):
            labels = {
                "units": f"degrees_{unit}",
                "standard_name": "longitude" if kind == "lon" else "latitude",
                "long_name": f"of {point.upper()} points",
            }
            values = getattr(grid, source + point)
            _write(dataset, f"nav_{kind}{suffix}", "f4", ("y", "x"), values, labels)


def _write(
    dataset: netCDF4.Dataset,
    name: str,
    kind: str,
    dimensions: tuple[str, ...],
    values: np.ndarray,
    labels: Mapping[str, str],
) -> None:
    """Writes a coordinate."""
    variable = dataset.createVariable(name, kind, dimensions)
    variable.setncatts(labels)
    variable[:] = values


def _write_variable(
    dataset: netCDF4.Dataset, row: Variable, x: np.ndarray, grid: Grid, standard_name: str
) -> None:
    """Writes the states of one variable, member by member."""
    suffix = f"_{row.point.lower()}" if row.point in "UV" else ""
    dimensions = ("member", "deptht", "y", "x") if row.is_3d else ("member", "y", "x")
    variable = dataset.createVariable(
        written_name(row),
        "f4",
        dimensions,
        compression="zlib",
        complevel=1,
        shuffle=True,
        fill_value=FILL,
        chunksizes=(1,) * (len(dimensions) - 2) + (grid.nj, grid.ni),
    )
    labels = {
        "units": "g kg-1" if standard_name == ABSOLUTE_SALINITY else row.unit,
        "standard_name": standard_name,
        "long_name": row.long_name,
        "coordinates": f"season month nav_lat{suffix} nav_lon{suffix}",
    }
    variable.setncatts({key: value for key, value in labels.items() if value})
    mask = mask_of(row, grid)
    for member, state in enumerate(x):
        values = np.where(mask, state, FILL).astype(np.float32)
        variable[member] = values if row.is_3d else values[0]
