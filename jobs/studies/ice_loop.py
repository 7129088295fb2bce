r"""Runs neXtSIM_DG from forecast or given states, and sets the runs against an uninterrupted one.

The uninterrupted run begins at the start of the configuration and goes on for the spin-up and the longest lead. After
the spin-up the model is started anew: from the restart that it left (`restart`: what a start without stress costs),
from the cell means of the same moment as a start file has them (`means`), from those at rest (`rest`), from members of
forecasts and from states of files. `nudged` starts as `means` with the thickness changed by 1e-4 of itself at random,
and is set against that run: what no start can know. For each lead a row says the rms difference from the
uninterrupted run, its change since the start, the verdict by thresholds learnt from states of the model, cells that are
not finite, and the largest thickness.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from halocline.io.forcing import instants, open_forcing
from halocline.io.forecast_file import is_forecast, read_forecast_state
from halocline.io.models import open_states, read_grid
from halocline.io.nextsim_forcing import ATMOSPHERE, write_forcing
from halocline.io.nextsim_states import DG_NAMES
from halocline.mesh.grid import Grid
from halocline.physics.verdict import Thresholds
from halocline.run.ice_loop import Outcome, compare, learn
from halocline.run.ice_model import Case, read_output, run_model, start_model, start_of

HOUR = np.timedelta64(1, "h")
QUANTITIES = ("concentration", "thickness", "damage", "drift")
NUDGE = 1.0e-4  # of the thickness
TAUGHT = 200  # states that teach the thresholds, at most, evenly out of all

State = dict[str, np.ndarray]


def state_at(path: Path, grid: Grid, when: np.datetime64, run: int | None) -> State:
    """The state of files at a time; of the run of that number where several have one then.

    Raises:
        ValueError: There is none, or more than one.
    """
    source = open_states(str(path), tuple(DG_NAMES), grid)
    found = np.flatnonzero(instants(source.stamps) == when)
    if run is not None and run < len(found):
        found = found[[run]]
    if len(found) != 1:
        raise ValueError(f"{path} has {len(found)} states at {when}, expected one: name its run by PATH#NUMBER.")
    return {name: x[0] for name, x in source.read(found).fields.items()}


def starts(arguments: argparse.Namespace, grid: Grid, when: np.datetime64) -> dict[str, State]:
    """States to start from, by name."""
    found: dict[str, State] = {}
    for text in arguments.states:
        path, _, number = text.partition("#")
        if not is_forecast(path):
            name = f"{Path(path).stem}-{number}" if number else Path(path).stem  # the model takes # for a comment
            found[name] = state_at(Path(path), grid, when, int(number) if number else None)
            continue
        for member in range(arguments.members):
            told = {"member": member, "hours": arguments.hours_of_forecast}
            fields, at = read_forecast_state(path, tuple(DG_NAMES), grid, **told)
            if at != when:
                raise ValueError(f"{path} is at {at}, but the model starts at {when}: choose --hours-of-forecast.")
            found[f"{Path(path).stem}-{member}"] = fields
    return found


def thresholds(path: Path | None, grid: Grid) -> Thresholds | None:
    """Limits learnt from states of files."""
    if path is None:
        return None
    source = open_states(str(path), tuple(DG_NAMES), grid)
    chosen = np.arange(0, len(source), -(-len(source) // TAUGHT))
    return learn(source.read(chosen).fields, grid)


def weather(arguments: argparse.Namespace, grid: Grid, start: np.datetime64, hours: float) -> Path | None:
    """The atmosphere of a forecast's forcing, if that is asked for."""
    if arguments.forcing is None:
        return None
    forcing = open_forcing(arguments.forcing, ATMOSPHERE, grid, trajectory=arguments.trajectory)
    times = start + HOUR * np.arange(int(np.ceil(hours)) + 1)
    return write_forcing(arguments.folder / "atmosphere.nc", forcing, times, like=arguments.atmosphere)


def uninterrupted(arguments: argparse.Namespace, grid: Grid, case: Case) -> tuple[Path, Path]:
    """Runs the model through, from `like` or from a state; its diagnostics, and its restart after the spin-up."""
    folder, name = arguments.folder / "reference", arguments.reference
    print(f"reference: {case.hours:g} h from {name or arguments.like}", flush=True)
    if name:
        path, _, number = name.partition("#")
        state = state_at(Path(path), grid, case.start, int(number) if number else None)
        output, failure = start_model(case, state, grid, folder, like=arguments.like)
    else:
        output, failure = run_model(case, arguments.like, folder)
    if failure:
        raise RuntimeError(f"The reference failed: {failure}.")
    return output, case.restart(folder)


def own_starts(output: Path, grid: Grid, when: np.datetime64) -> dict[str, State]:
    """The state of the uninterrupted run at the end of the spin-up: cell means, and the same at rest."""
    means = state_at(output, grid, when, None)
    noise = np.random.default_rng(0).standard_normal(means["thickness"].shape)
    nudged = means | {"thickness": means["thickness"] * (1.0 + NUDGE * noise)}
    return {"means": means, "rest": {k: x for k, x in means.items() if not k.startswith("ice_")}, "nudged": nudged}


def study(arguments: argparse.Namespace) -> list[Outcome]:
    """Runs the model from all starts."""
    grid, leads = read_grid(arguments.like), arguments.leads
    start = start_of(arguments.config) if arguments.start is None else np.datetime64(arguments.start, "s")
    when, total = start + HOUR * arguments.spin_up, arguments.spin_up + max(leads)
    limits, atmosphere = thresholds(arguments.climate, grid), weather(arguments, grid, start, total)
    model = {"atmosphere": atmosphere, "limit": arguments.limit}
    through = Case(arguments.model, arguments.config, start, total, arguments.spin_up or None, **model)
    output, left = uninterrupted(arguments, grid, through)
    case = Case(arguments.model, arguments.config, when, max(leads), **model)
    reference, found = read_output(output), []
    if arguments.spin_up:
        ran = run_model(case, left, arguments.folder / "restart")
        found += compare("restart", ran, reference, when, leads, grid, limits)
    chosen = own_starts(output, grid, when) if arguments.spin_up else {}
    like = left if arguments.spin_up else arguments.like
    for name, state in {**chosen, **starts(arguments, grid, when)}.items():
        print(f"{name}: {case.hours:g} h", flush=True)
        ran = start_model(case, state, grid, arguments.folder / name, like=like)
        other = read_output(arguments.folder / "means" / ran[0].name) if name == "nudged" else reference
        found += compare(name, ran, other, when, leads, grid, limits)
    return found


def show(found: Sequence[Outcome], path: Path) -> None:
    """Prints the table, and writes it."""
    table = Table(title="rms difference from the uninterrupted run (in brackets: its change since the start, if known)")
    heads = ("start", "h", "concentration", "thickness, m", "damage", "drift, m/s", "verdict", "NaN", "thickest, m")
    for head in heads:
        table.add_column(head, no_wrap=head != "verdict")
    for row in found:
        cells = [cell(row.rms[q], row.change[q]) for q in QUANTITIES]
        mark = " absurd" if row.is_absurd else ""
        table.add_row(row.name, f"{row.hours:g}", *cells, row.verdict, str(row.bad), f"{row.thickest:.2f}{mark}")
    Console(width=180).print(table)
    for row in found:
        if row.verdict == "reject":
            print(f"{row.name}, {row.hours:g} h: {row.reason}")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        changes = [f"change_{q}" for q in QUANTITIES]
        writer.writerow(["start", "hours", *QUANTITIES, *changes, "verdict", "reason", "nan", "thickest"])
        for row in found:
            numbers = [*(row.rms[q] for q in QUANTITIES), *(row.change[q] for q in QUANTITIES)]
            writer.writerow([row.name, row.hours, *numbers, row.verdict, row.reason, row.bad, row.thickest])


def cell(rms: float, change: float) -> str:
    """A difference, and in brackets the change, which is not known where the uninterrupted run left no start."""
    return f"{rms:.4f}" if np.isnan(change) else f"{rms:.4f} ({change:.4f})"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="ice_loop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("states", nargs="*", help="forecasts (FOLDER.zarr), or states of files (FILE; FILE#RUN where it has several)")
    add("--model", type=Path, required=True, help="executable of neXtSIM_DG")
    add("--config", type=Path, required=True, help="its configuration; start, end and output are replaced")
    add("--like", type=Path, required=True, help="start or restart file: coordinates, temperatures, sea surface")
    add("--folder", type=Path, required=True, help="for start files, runs and table; a new one")
    add("--start", help="of the uninterrupted run, YYYY-MM-DDThh:mm (that of the configuration)")
    add("--reference", help="its state, FILE or FILE#RUN (left out: the file --like as it is)")
    add("--spin-up", type=int, default=0, help="hours of it before the model is started anew (0)")
    add("--leads", type=float, nargs="+", default=[1, 3, 6, 12, 24], help="hours from then on (1 3 6 12 24)")
    add("--climate", type=Path, help="states that teach the thresholds of the verdict, such as trajectories.nc")
    add("--members", type=int, default=1, help="of each forecast, from 0 (1)")
    add("--hours-of-forecast", type=float, help="time of the forecast to start from, hours since its start (its last)")
    add("--forcing", help="forcing of a forecast, under which the model is to be run")
    add("--trajectory", type=int, help="of --forcing, from 0")
    add("--atmosphere", type=Path, help="forcing file of the configuration, from which --forcing takes the rest")
    add("--limit", type=float, default=600.0, help="seconds after which a run is ended (600)")
    arguments = parser.parse_args(words)
    arguments.folder.mkdir(parents=True)
    try:
        found = study(arguments)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"ice_loop: {error}")
    show(found, arguments.folder / "table.csv")


if __name__ == "__main__":
    main()
