"""Forcing files of neXtSIM_DG from the forcing of a forecast: so that both go through the same weather."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np

from halocline.constants import KELVIN
from halocline.io.atomic import atomic_path
from halocline.io.forcing import Forcing
from halocline.io.modelfile import create_dataset, open_dataset
from halocline.io.nextsim_files import STRUCTURE

__all__ = ["ATMOSPHERE", "write_forcing"]

ATMOSPHERE = ("wind_u", "wind_v", "air_temperature")
"""Forcing that the model is given; the rest follows from it and from an example."""

STEFAN_BOLTZMANN = 5.670374419e-8  # W/m2/K4, CODATA 2018
EPOCH = np.datetime64("1970-01-01T00:00:00")
AXES = ("time", "ydim", "xdim")


def write_forcing(
    path: Path | str, forcing: Forcing, times: np.ndarray, *, like: Path | str, emissivity: float | None = None
) -> Path:
    """Writes an atmosphere for neXtSIM_DG (`ERA5Atmosphere.file`), whole or not at all.

    Wind and air temperature come from the forcing, linear in time between its records, since the model takes each
    record as it is. The rest comes from the first record of an example, and follows the temperature: the depression of
    the dew point and the emissivity of the sky stay what they are there.

    Arguments:
        path: File to write.
        forcing: Of all of `ATMOSPHERE`, on the grid of the model.
        times: Of the records, ascending, datetime64.
        like: Forcing file of the configuration.
        emissivity: Of the sky, lw_in = emissivity * sigma * T^4, everywhere, in place of the example's.

    Returns:
        The file written.

    Raises:
        ValueError: The forcing does not cover the times, or lacks a variable.
        FileNotFoundError, OSError: A file cannot be read or written.

    Collective: no, one rank writes.
    """
    if missing := [name for name in ATMOSPHERE if name not in forcing.variables]:
        raise ValueError(
            f"Forcing lacks {', '.join(missing)}, expected {', '.join(ATMOSPHERE)}: open it with all three."
        )
    times = np.asarray(times, "datetime64[s]")
    forcing.require(times[0], times[-1])
    with open_dataset(Path(like)) as dataset:
        data = dataset["data"]
        sizes = {name: len(dimension) for name, dimension in data.dimensions.items()}
        first = {name: np.asarray(x[0], np.float64) for name, x in data.variables.items() if x.dimensions == AXES}
    depression = first["tair"] - first["dew2m"]
    kept = first["lw_in"] / (first["tair"] + KELVIN) ** 4
    radiated = kept if emissivity is None else emissivity * STEFAN_BOLTZMANN
    with atomic_path(path) as temporary, create_dataset(temporary, "NETCDF4") as dataset:
        data = _define(dataset, sizes, list(dict.fromkeys([*first, "wind_speed"])))
        data["time"][:] = (times - EPOCH).astype(np.float64)
        for k, when in enumerate(times):
            fields = _between(forcing, when)
            u, v, air = (fields[name] for name in ATMOSPHERE)
            changed = {
                "u": u, "v": v, "wind_speed": np.hypot(u, v), "tair": air, "dew2m": air - depression,
                "lw_in": radiated * (air + KELVIN) ** 4,
            }  # fmt: skip
            for name, x in {**first, **changed}.items():
                data[name][k] = x
    return Path(path)


def _define(dataset: netCDF4.Dataset, sizes: dict[str, int], names: list[str]) -> netCDF4.Group:
    """Creates groups, dimensions and variables."""
    dataset.createGroup("structure").setncattr("type", STRUCTURE)
    metadata = dataset.createGroup("metadata")
    metadata.setncattr("type", STRUCTURE)
    metadata.createGroup("configuration")
    data = dataset.createGroup("data")
    for name, size in sizes.items():
        data.createDimension(name, None if name == "time" else size)
    data.createVariable("time", "f8", ("time",))
    for name in names:
        data.createVariable(name, "f4", AXES)
    return data


def _between(forcing: Forcing, when: np.datetime64) -> dict[str, np.ndarray]:
    """Forcing at a time, linear between two records; float64."""
    before, after = forcing.bracket(when)
    weight = 0.0 if when == before else float((when - before) / (after - before))
    fields = {name: (1.0 - weight) * x.astype(np.float64) for name, x in forcing.read(before).items()}
    if weight:
        fields = {name: fields[name] + weight * x for name, x in forcing.read(after).items()}
    return fields
