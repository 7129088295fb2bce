"""Variance of generated states along the model's leading EOFs, with and without a coarse level.

EOFs are those of the training states' departures from their mean of each month, weighted by volume (temperature below
the surface) or area (sea level). A generator whose tiles know nothing of each other beyond their halos gives a basin
that is a patchwork: along the leading EOFs, which span the basin, its variance is too small. The last run of the model
is left out of training; what it has along the same EOFs is the yardstick, since forty years sample the slowest modes
only a few times.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from halocline.io.models import read_grid, read_states
from halocline.io.nemo import States, write_states
from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.grid import Grid
from halocline.run.config import DataConfig, build
from halocline.run.data import read_model

CONFIGS = Path(__file__).parents[1] / "configs"
CHECKED = ("temperature", "sea_level")
MODES = 5
FACTOR = 4  # of basin_coarse.yaml


def train_and_sample(arguments: argparse.Namespace) -> None:
    """Types the commands of all generators."""
    folder = arguments.folder
    common = [f"data.grid={arguments.grid}", f"data.states=[{','.join(map(str, arguments.states))}]"]
    common += ["training.centre=conditions", "training.validate_steps=0"]
    whole = ["lattice.tile=[40,32]", "lattice.halo=0", "training.batch=4"]  # as many cells in a batch as of four tiles
    steps, coarse = f"training.steps={arguments.steps}", f"training.steps={arguments.coarse_steps}"
    call(folder, "tiles", "train", CONFIGS / "basin.yaml", *common, steps)
    call(folder, "whole", "train", CONFIGS / "basin.yaml", *common, *whole, steps)
    call(folder, "coarse", "train", CONFIGS / "basin_coarse.yaml", *common, coarse)
    call(folder, "fine", "train", CONFIGS / "basin_fine.yaml", *common, steps, f"sampling.coarse={folder / 'coarse'}")
    months = f"months=[{','.join(map(str, arguments.months))}]"
    for name in ("tiles", "whole", "fine"):
        sample(folder, name, name, months, f"members={arguments.members}")
    told = folder / "told.nc"
    write_coarse(arguments, told)
    sample(folder, "fine", "given", months, f"members={arguments.members}", f"sampling.coarse={told}")


def call(folder: Path, name: str, job: str, config: Path, *words: object) -> None:
    """Runs a training, or goes on with it."""
    run([job, config, f"output={folder / name}", *words], folder / "log")


def sample(folder: Path, run_name: str, name: str, *words: object) -> None:
    """Samples a generator, unless that has been done."""
    output = folder / f"{name}.nc"
    if not output.exists():
        run(["sample", folder / run_name, f"output={output}", *words], folder / "log")


def run(words: Sequence[object], log: Path) -> None:
    """Runs a command of halocline, its output behind that of those before."""
    print("$ halocline", *words, flush=True)
    with log.open("a") as file:
        subprocess.run(["halocline", *map(str, words)], check=True, stdout=file, stderr=subprocess.STDOUT)


def write_coarse(arguments: argparse.Namespace, path: Path) -> None:
    """Writes coarse states of the run that was left out, one for each member in turn, spread over its years."""
    grid = read_grid(arguments.grid)
    words = {"grid": str(arguments.grid), "states": [str(arguments.reference)], "coarsen": FACTOR}
    words |= {"variables": ["temperature", "salinity", "sea_level"]}
    states = read_model(build(DataConfig, words, "data"), grid)
    chosen = told_records(states, arguments)
    fields = {name: np.nan_to_num(x[chosen]).astype(np.float32) for name, x in states.fields.items()}
    write_states(path, fields, coarsen_grid(grid, FACTOR), months=states.month[chosen].tolist(), attributes={})


def told_records(states: States, arguments: argparse.Namespace) -> np.ndarray:
    """Number of the state that each member is told."""
    months, members = arguments.months, np.arange(arguments.members)
    by_month = {month: np.flatnonzero(states.month == month) for month in months}
    turns = -(-arguments.members // len(months))
    chosen = []
    for member in members.tolist():
        known = by_month[months[member % len(months)]]
        chosen.append(known[member // len(months) * len(known) // turns])
    return np.array(chosen)


def anomalies(states: States, name: str, grid: Grid) -> np.ndarray:
    """Departures from the mean of each month times roots of weights that sum to 1, shape (state, value)."""
    x = np.asarray(states.fields[name], np.float64)
    if name == "sea_level":
        sea, size = grid.tmask[:1], (grid.e1t * grid.e2t)[None]
    else:
        x, sea, size = x[:, 1:], grid.tmask[1:], grid.cell_volume[1:]
    values, weights = x[:, sea], size[sea] / size[sea].sum()
    result = np.empty_like(values)
    for month in np.unique(states.month):
        here = states.month == month
        # the mean of n states takes up one of their n degrees of freedom
        result[here] = (values[here] - values[here].mean(axis=0)) * np.sqrt(here.sum() / (here.sum() - 1))
    return result * np.sqrt(weights)


def compare(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Returns a row for each set of states and each variable."""
    grid = read_grid(arguments.grid)
    sets = {"left-out run": (arguments.reference,)}
    titles = {"tiles": "four tiles", "whole": "one tile", "fine": "four tiles, cascade"}
    titles["given"] = "four tiles, told the model's"
    sets |= {title: (arguments.folder / f"{name}.nc",) for name, title in titles.items()}
    read = {title: read_states([str(path) for path in paths], CHECKED, grid) for title, paths in sets.items()}
    learned = read_states([str(path) for path in arguments.states], CHECKED, grid)
    rows: list[dict[str, object]] = []
    for name in CHECKED:
        x = anomalies(learned, name, grid)
        _, singular, eofs = np.linalg.svd(x, full_matrices=False)
        variance = singular**2 / len(x)
        rows.append(row("training runs: share of variance", name, variance[:MODES] / variance.sum(), 1.0))
        for title, states in read.items():
            made = anomalies(states, name, grid)
            along = ((made @ eofs[:MODES].T) ** 2).mean(axis=0) / variance[:MODES]
            rows.append(row(title, name, along, float((made**2).sum(axis=1).mean() / variance.sum())))
    return rows


def row(title: str, name: str, along: np.ndarray, total: float) -> dict[str, object]:
    """Names the numbers of a set of states."""
    modes = {f"EOF {n + 1}": float(x) for n, x in enumerate(along)}
    return {"variable": name, "states": title, **modes, "total": total}


def obedience(arguments: argparse.Namespace) -> tuple[float, float]:
    """Rms departure of samples from the coarse temperature that they were told, and that of the latter from its mean.

    Both by volume, below the surface, in degC; means are those of each month.
    """
    grid = read_grid(arguments.grid)
    coarse = coarsen_grid(grid, FACTOR)
    words = {"grid": str(arguments.grid), "states": [str(arguments.folder / "given.nc")], "coarsen": FACTOR}
    made = read_model(build(DataConfig, words | {"variables": ["temperature"]}, "data"), coarse)
    told = read_states((str(arguments.folder / "told.nc"),), ("temperature",), coarse)
    weight = np.where(coarse.tmask, coarse.cell_volume, 0.0)[1:]
    weight /= weight.sum()

    def rms(x: np.ndarray) -> float:
        return float(np.sqrt((np.nan_to_num(x[:, 1:]) ** 2 * weight).sum(axis=(1, 2, 3)).mean()))

    spread = np.asarray(told.fields["temperature"], np.float64).copy()
    for month in np.unique(told.month):
        spread[told.month == month] -= spread[told.month == month].mean(axis=0)
    return rms(made.fields["temperature"] - told.fields["temperature"]), rms(spread)


def show(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Prints the table and writes it."""
    table = Table(title="variance along the model's leading EOFs and in all, in those of the training runs")
    for column in rows[0]:
        table.add_column(column, justify="left" if column in ("variable", "states") else "right")
    for values in rows:
        table.add_row(*(f"{x:.2f}" if isinstance(x, float) else str(x) for x in values.values()))
    Console(width=120).print(table)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="cascade", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    runs = Path("runs/quickstart")
    states = [runs / f"seed{n}/states.nc" for n in (1, 2, 3)]
    parser.add_argument("--grid", type=Path, default=runs / "spinup/mesh_mask.nc", help="of the basin")
    parser.add_argument("--states", type=Path, nargs="+", default=states, help="runs to learn from")
    parser.add_argument("--reference", type=Path, default=runs / "seed4/states.nc", help="run that is left out")
    parser.add_argument("--steps", type=int, default=1500, help="optimiser steps of each training on fine cells")
    parser.add_argument("--coarse-steps", type=int, default=3000, help="optimiser steps of that on coarse cells")
    parser.add_argument("--members", type=int, default=96, help="generated states of each generator")
    folder = Path("runs/cascade")
    parser.add_argument("--folder", type=Path, default=folder, help="for everything; goes on where it was")
    arguments = parser.parse_args()
    for name in ("grid", "reference", "folder"):
        setattr(arguments, name, getattr(arguments, name).absolute())
    arguments.states = [path.absolute() for path in arguments.states]
    reference = read_states((str(arguments.reference),), ("sea_level",), read_grid(arguments.grid))
    arguments.months = sorted(set(reference.month.tolist()))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    train_and_sample(arguments)
    show(compare(arguments), arguments.folder / "table.csv")
    missed, spread = obedience(arguments)
    print(f"coarse temperature of states told the model's: {missed:.4f} degC off it, which varies by {spread:.4f} degC")


if __name__ == "__main__":
    main()
