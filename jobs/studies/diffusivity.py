"""Leaves each value of a parameter out, generates for it, and compares with the model's own states at that value.

Errors are those of each month's field, rms by volume, averaged over months: of the mean of the generated members, and
of three fields that need no generator: the mean of the training states, a state of the nearest value, and linear
interpolation between neighbours.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from halocline.io.atomic import atomic_path
from halocline.io.nemo import read_grid, read_states
from halocline.io.training_store import TrainingStore
from halocline.mesh.grid import Grid
from halocline.run.baselines import interpolated, nearest_state, training_mean
from halocline.run.judging import diagnose_fields
from halocline.run.run_folder import load_generator

CONFIG = Path(__file__).parents[1] / "configs/gyre.yaml"
MONTHS = range(1, 13)
TRACERS = ("temperature", "salinity")
Fields = Mapping[str, np.ndarray]


def prepare(states: Path, name: str, value: float, folder: Path) -> None:
    """Writes the states at this value and those at all others, as two files."""
    folder.mkdir(parents=True, exist_ok=True)
    with xr.open_dataset(states, decode_times=False) as whole:
        here = np.isclose(whole[name].values, value)
        for file, chosen in (("own.nc", here), ("others.nc", ~here)):
            with atomic_path(folder / file) as temporary:
                whole.isel(time=np.flatnonzero(chosen)).to_netcdf(temporary)


def train_and_sample(arguments: argparse.Namespace, value: float) -> None:
    """Types the commands of one value."""
    folder = place(arguments, value)
    run, log = folder / "run", folder / "log"
    keys = [
        f"output={run}", f"data.grid={arguments.grid}", f"data.states={folder}/others.nc", "data.first_year=null",
        "data.last_year=null", f"data.parameters=[{arguments.name}]", f"training.steps={arguments.steps}",
        *arguments.options,
    ]  # fmt: skip
    call(["halocline", "train", CONFIG, *keys], log)
    sample = [f"members={12 * arguments.members}", f"parameters.{arguments.name}={value}"]
    call(["halocline", "sample", run, *sample, "sampling.constraints=strict", f"output={folder}/states.nc"], log)


def call(command: list[object], log: Path) -> None:
    """Runs a command, its output behind that of those before."""
    print("$", *command, flush=True)
    with log.open("a") as file:
        subprocess.run([str(word) for word in command], check=True, stdout=file, stderr=subprocess.STDOUT)


def place(arguments: argparse.Namespace, value: float) -> Path:
    """Folder of one value."""
    return arguments.folder / f"{value:g}"


def compare(arguments: argparse.Namespace, value: float) -> dict[str, float]:
    """Returns the errors of everything at one value, by name and variable, and the unstable volume in percent."""
    folder = place(arguments, value)
    generator = load_generator(folder / "run")
    grid, data = generator.grid, generator.config.data
    store = TrainingStore.open(folder / "run/data.zarr")
    own, made = (read_states((str(folder / file),), data.variables, grid) for file in ("own.nc", "states.nc"))
    wanted = {arguments.name: value}
    result: dict[str, float] = {}
    for month in MONTHS:
        truth = {name: own.fields[name][own.month == month][0] for name in TRACERS}
        members = {name: made.fields[name][made.month == month] for name in TRACERS}
        contenders: dict[str, Fields] = {
            "generated": {name: x.mean(axis=0) for name, x in members.items()},
            "training mean": training_mean(store, month),
            "nearest": nearest_state(store, wanted, month, member=0, seed=0),
            "interpolated": interpolated(store, wanted, month),
        }
        for contender, fields in contenders.items():
            for name in TRACERS:
                key = f"{contender}, {name}"
                result[key] = result.get(key, 0.0) + rms(fields[name] - truth[name], grid) / len(MONTHS)
        for name in TRACERS:
            single = np.mean([rms(x - truth[name], grid) for x in members[name]])
            result[f"one member, {name}"] = result.get(f"one member, {name}", 0.0) + float(single) / len(MONTHS)
    for key, states in (("unstable, own", own), ("unstable, generated", made)):
        told = diagnose_fields(states.fields, grid, generator.lattice, data)
        result[key] = 100 * float(told["unstable_fraction"].mean())
    return result


def rms(x: np.ndarray, grid: Grid) -> float:
    """Root mean square of a field by volume."""
    volume = np.where(grid.tmask, grid.cell_volume, 0.0)
    return float(np.sqrt((np.where(grid.tmask, x, 0.0) ** 2 * volume).sum() / volume.sum()))


def show(results: Mapping[float, Mapping[str, float]], arguments: argparse.Namespace) -> None:
    """Prints the table and writes it."""
    columns = list(next(iter(results.values())))
    table = Table(title=f"error at a value of {arguments.name} that was left out (rms: degC, 1e-3; unstable: %)")
    table.add_column("states")
    for value in results:
        table.add_column(f"{value:g}", justify="right")
    for column in columns:
        table.add_row(column, *(f"{row[column]:.4f}" for row in results.values()))
    Console(width=120).print(table)
    with (arguments.folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([arguments.name, *columns])
        writer.writerows([value, *(row[column] for column in columns)] for value, row in results.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="diffusivity", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--states", type=Path, required=True, help="NEMO states of all values")
    parser.add_argument("--grid", type=Path, required=True, help="their mesh_mask")
    parser.add_argument("--name", default="rn_avt0", help="variable of the parameter, one value per time")
    parser.add_argument("--steps", type=int, default=100, help="optimiser steps of each training")
    parser.add_argument("--members", type=int, default=1, help="generated states per month")
    text = "further options of halocline train"
    parser.add_argument("--options", nargs="*", default=["training.centre=conditions"], help=text)
    parser.add_argument("--folder", type=Path, required=True, help="for everything; goes on where it was")
    arguments = parser.parse_args()
    for name in ("states", "grid", "folder"):
        setattr(arguments, name, getattr(arguments, name).absolute())
    read_grid(arguments.grid)  # refused before anything is begun
    with xr.open_dataset(arguments.states, decode_times=False) as whole:
        values = sorted(set(whole[arguments.name].values.tolist()))
    for value in values:  # one after the other: netCDF does not like threads
        if not (place(arguments, value) / "others.nc").exists():
            prepare(arguments.states, arguments.name, value, place(arguments, value))
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(train_and_sample, arguments, value) for value in values]:
            done.result()
    show({value: compare(arguments, value) for value in values}, arguments)


if __name__ == "__main__":
    main()
