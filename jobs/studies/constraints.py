"""Holds generated states under each kind of constraint against the training states of their run.

Deep water is that within 30 degrees of the equator between 500 and 1500 m, bottom water all but the upper 1500 m there.
Spread is the standard deviation of temperature among members of the same month, in each cell, averaged (rms) by volume.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from halocline.io.nemo import read_states
from halocline.io.training_store import TrainingStore
from halocline.mesh.grid import Grid
from halocline.run.baselines import read_state
from halocline.run.generator import Generator
from halocline.run.judging import diagnose_fields
from halocline.run.run_folder import load_generator

METHODS: Mapping[str, tuple[str, ...]] = {
    "none": ("convection=false",),
    "mixed": (),
    "ts, noisy state": ("convection=false", "sampling.constraints=ts"),
    "c1, noisy state": ("convection=false", "sampling.constraints=c1"),
    "c2, noisy state": ("convection=false", "sampling.constraints=c2"),
    "ts, estimate": ("convection=false", "sampling.constraints=ts", "sampling.constraint_form=estimate"),
    "c2, estimate": ("convection=false", "sampling.constraints=c2", "sampling.constraint_form=estimate"),
    "primal-dual, c2 + stability": (
        "convection=false", "sampling.constraints=c2+stability", "sampling.constraint_form=multipliers"
    ),
    "strict": ("sampling.constraints=strict",),
}  # fmt: skip
WATERS = ("temperature_bottom", "salinity_bottom", "temperature_deep", "salinity_deep")


@dataclass(frozen=True)
class Row:
    """What some states hold.

    Attributes:
        name: How they were made.
        means, deviations: Of `WATERS`, over states.
        unstable, strictly: Unstable volume, %; with the usual threshold, and with 0.
        spread: Of temperature among states of one month, degC.
        seconds: To make a member; NaN for training states, and for states that were there.
    """

    name: str
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    unstable: float
    strictly: float
    spread: float
    seconds: float


def row(
    name: str, told: Mapping[str, np.ndarray], temperature: np.ndarray, month: np.ndarray, grid: Grid, seconds: float
) -> Row:
    """Summarises states; temperature of shape (state, k, j, i)."""
    return Row(
        name,
        tuple(float(told[water].mean()) for water in WATERS),
        tuple(float(told[water].std()) for water in WATERS),
        100 * float(told["unstable_fraction"].mean()),
        100 * float(told["unstable_fraction_strict"].mean()),
        spread(temperature, month, grid),
        seconds,
    )


def spread(temperature: np.ndarray, month: np.ndarray, grid: Grid) -> float:
    """Standard deviation among states of the same month, rms by volume, degC; NaN where no month has two."""
    groups = [np.nan_to_num(temperature[month == m]) for m in sorted(set(month.tolist()))]
    variances = [group.var(axis=0, ddof=1) for group in groups if len(group) > 1]
    if not variances:
        return float("nan")
    volume = np.where(grid.tmask, grid.cell_volume, 0.0)
    return float(np.sqrt((np.mean(variances, axis=0) * volume).sum() / volume.sum()))


def of_data(generator: Generator, store: TrainingStore) -> Row:
    """Summarises the training states."""
    seen = np.flatnonzero(~store.records.held_out)
    told = {name: x[seen] for name, x in store.diagnostics().items()}
    rows = [c.index for c in store.channels.channels if c.variable.name == "temperature"]
    levels = [c.level for c in store.channels.channels if c.variable.name == "temperature"]
    temperature = np.zeros((len(seen), generator.grid.nk, generator.grid.nj, generator.grid.ni))
    for n, record in enumerate(seen.tolist()):
        temperature[n, levels] = read_state(store, record)[rows]
    return row("training states", told, temperature, store.records.month[seen], generator.grid, float("nan"))


def of_method(name: str, run: Path, generator: Generator, arguments: argparse.Namespace) -> Row:
    """Generates states and summarises them."""
    path = arguments.folder / f"{name.replace(', ', '-').replace(' + ', '-').replace(' ', '-')}.nc"
    launcher = ["mpirun", "-n", str(arguments.ranks)] if arguments.ranks > 1 else []
    command = [
        *launcher, "halocline", "sample", run, f"members={arguments.members}", f"seed={arguments.seed}",
        f"output={path}", *arguments.options, *METHODS[name],
    ]  # fmt: skip
    seconds = float("nan")
    if not path.exists():
        print("$", *command, flush=True)
        began = time.monotonic()
        subprocess.run([str(word) for word in command], check=True)
        seconds = (time.monotonic() - began) / arguments.members
    data, grid = generator.config.data, generator.grid
    states = read_states((str(path),), data.variables, grid)
    told = {k: x.numpy() for k, x in diagnose_fields(states.fields, grid, generator.lattice, data).items()}
    return row(name, told, states.fields["temperature"], states.month, grid, seconds)


def show(rows: Sequence[Row], path: Path) -> None:
    """Prints the table and writes it."""
    table = Table(title="water masses (mean ± standard deviation), instability and spread")
    heads = ("bottom T", "bottom S", "deep T", "deep S", "unstable %", "threshold 0 %", "spread degC", "s per member")
    for head in ("states", *heads):
        table.add_column(head, no_wrap=True)
    for r in rows:
        waters = [f"{m:.3f} ± {s:.4f}" for m, s in zip(r.means, r.deviations, strict=True)]
        table.add_row(r.name, *waters, f"{r.unstable:.3f}", f"{r.strictly:.3f}", f"{r.spread:.3f}", f"{r.seconds:.2f}")
    Console(width=200).print(table)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [f"{water}_{kind}" for kind in ("mean", "std") for water in WATERS]
        writer.writerow(["states", *names, "unstable", "unstable_strict", "spread", "seconds"])
        writer.writerows([r.name, *r.means, *r.deviations, r.unstable, r.strictly, r.spread, r.seconds] for r in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="constraints", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder of a trained generator, with its training store")
    parser.add_argument("--members", type=int, default=36, help="states of each kind; months in turn")
    parser.add_argument("--seed", type=int, default=0, help="of all kinds")
    parser.add_argument("--ranks", type=int, default=2, help="processes")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="kinds", metavar="KIND")
    parser.add_argument("--options", nargs="*", default=[], help="further options of halocline sample")
    text = "for states and table; made if needed, and states in it are not made again"
    parser.add_argument("--folder", type=Path, required=True, help=text)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    generator = load_generator(arguments.run)
    path = Path(generator.config.data.store or arguments.run / "data.zarr")
    if not path.exists():
        sys.exit(f"constraints: {path} is missing, expected the training store of {arguments.run}.")
    rows = [of_data(generator, TrainingStore.open(path))]
    rows += [of_method(name, arguments.run, generator, arguments) for name in arguments.methods]
    show(rows, arguments.folder / "table.csv")


if __name__ == "__main__":
    main()
