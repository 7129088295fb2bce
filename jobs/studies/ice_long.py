r"""A forecast much longer than the runs it was learned from, against neXtSIM_DG itself.

States of three weeks say little of a year: ice that grows for a year is thicker than all of them. So the model is run
from the state at which the forecast starts, under its forcing, begun again as often, in pieces, each from the restart
of the one before. By blocks of days a row says the means over the sea of both, and the sharpness retained,

.. math:: s = \Big( \frac{\langle (\delta x)^2 \rangle_\text{forecast}}{\langle (\delta x)^2 \rangle_\text{model}}
          \Big)^{1/2},

with :math:`\delta x` the difference of neighbouring sea cells, over all times, members and pairs of the block.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from halocline.io.forcing import Forcing, open_forcing
from halocline.io.forecast_file import Forecast, read_forecast, read_forecast_state
from halocline.io.models import read_grid
from halocline.io.nextsim_forcing import ATMOSPHERE, write_forcing
from halocline.io.nextsim_states import DG_NAMES
from halocline.run.ice_model import Case, duration, is_done, read_output, run_model, start_model
from halocline.run.progress import Reporter

HOUR = np.timedelta64(1, "h")
DAY = 24.0


@dataclass(frozen=True)
class Row:
    """A variable in a block of days: means over the sea, and root mean squares of differences of neighbours."""

    days: tuple[float, float]
    name: str
    forecast: float
    model: float
    rough: float
    model_rough: float

    @property
    def sharpness(self) -> float:
        """Of the forecast, over the model's."""
        return self.rough / self.model_rough if self.model_rough else float("nan")


def roughness(x: np.ndarray, wet: np.ndarray) -> float:
    """Root mean square of differences of neighbouring sea cells, x of shape (..., nj, ni)."""
    pairs = [np.diff(x, axis=axis)[..., np.delete(wet, 0, axis) & np.delete(wet, -1, axis)] for axis in (-2, -1)]
    return float(np.sqrt(np.mean(np.concatenate([pair.ravel() for pair in pairs], dtype=np.float64) ** 2)))


def compare(forecast: Forecast, times: np.ndarray, fields: dict[str, np.ndarray], block: float) -> Iterator[Row]:
    """Rows of all blocks; of the times that both have, the start left out.

    Arguments:
        forecast: As read.
        times, fields: Of the model, as `read_output` has them.
        block: Days.
    """
    seconds = np.round(3600 * forecast.hours).astype("timedelta64[s]")
    _, here, there = np.intersect1d(forecast.start + seconds, times, return_indices=True)
    here, there = here[forecast.hours[here] > 0], there[forecast.hours[here] > 0]
    number = np.ceil(forecast.hours[here] / DAY / block).astype(int)
    wet = forecast.wet
    for n in np.unique(number):
        chosen = number == n
        for name, x in forecast.fields.items():
            made, own = x[:, here[chosen]], fields[name][there[chosen]]
            means = (float(field[..., wet].mean(dtype=np.float64)) for field in (made, own))
            yield Row((block * (n - 1), block * n), name, *means, roughness(made, wet), roughness(own, wet))


def run_pieces(arguments: argparse.Namespace, forecast: Forecast, every: float) -> list[Path]:
    """Runs the model as long as the forecast, or the rest of it; its diagnostics, piece by piece.

    Raises:
        RuntimeError: The model failed.
    """
    grid = read_grid(arguments.like)
    forcing = open_forcing(arguments.forcing, ATMOSPHERE, grid, trajectory=arguments.trajectory, cycle=True)
    state, _ = read_forecast_state(arguments.forecast, tuple(DG_NAMES), grid, hours=0.0)
    hours, outputs, restart = 24.0 * arguments.piece, [], None
    count = int(np.ceil(float(forecast.hours[-1]) / hours))
    with Reporter("pieces of the model's run", count) as reporter:
        for piece in range(count):
            folder = arguments.folder / f"piece_{piece:03d}"
            start = forecast.start + duration(piece * hours)
            case = Case(arguments.model, arguments.config, start, hours, limit=arguments.limit, output_every=every)
            about = f"{case} {arguments.forcing} {arguments.trajectory} {arguments.emissivity}"
            if not is_done(folder, about):
                under = with_weather(case, arguments, forcing, folder)
                if restart:
                    _, failure = run_model(under, restart, folder)
                else:
                    _, failure = start_model(under, state, grid, folder, like=arguments.like)
                (folder / "atmosphere.nc").unlink()
                if failure:
                    raise RuntimeError(f"The model failed in {folder}: {failure}.")
                (folder / "done").write_text(about)
            outputs.append(folder / "out.nc")
            restart = case.restart(folder)
            reporter.advance(f"to day {arguments.piece * (piece + 1):g}")
    return outputs


def with_weather(case: Case, arguments: argparse.Namespace, forcing: Forcing, folder: Path) -> Case:
    """The case under the forecast's forcing, hour by hour."""
    folder.mkdir(parents=True, exist_ok=True)
    times = case.start + HOUR * np.arange(int(np.ceil(case.hours)) + 1)
    path = folder / "atmosphere.nc"
    write_forcing(path, forcing, times, like=arguments.atmosphere, emissivity=arguments.emissivity)
    return replace(case, atmosphere=path)


def read_outputs(paths: Sequence[Path]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Times and fields of diagnostics, one after the other."""
    read = [read_output(path) for path in paths]
    times = np.concatenate([times for times, _ in read])
    return times, {name: np.concatenate([fields[name] for _, fields in read]) for name in read[0][1]}


def show(rows: Sequence[Row], path: Path) -> None:
    """Prints the table, and writes it."""
    table = Table(title="forecast and model, by blocks of days", box=None)
    for head in ("days", "variable", "mean", "model's", "sharpness"):
        table.add_column(head, justify="left" if head == "variable" else "right")
    for row in rows:
        days = f"{row.days[0]:g} to {row.days[1]:g}"
        table.add_row(days, row.name, f"{row.forecast:.4g}", f"{row.model:.4g}", f"{row.sharpness:.2f}")
    Console(width=100).print(table)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["first_day", "last_day", "variable", "mean", "model_mean", "difference", "model_difference"])
        for row in rows:
            writer.writerow([*row.days, row.name, row.forecast, row.model, row.rough, row.model_rough])


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ice_long", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("forecast", type=Path, help="FOLDER.zarr of `halocline forecast`, complete or not")
    add("--folder", type=Path, required=True, help="for table and runs; one of before is gone on with")
    add("--block", type=float, default=100.0, help="days of a row of the table (100)")
    add("--outputs", type=Path, nargs="+", help="diagnostics of the model that are there already; it is not run then")
    add("--model", type=Path, help="executable of neXtSIM_DG")
    add("--config", type=Path, help="its configuration; start, end, atmosphere and output are replaced")
    add("--like", type=Path, help="start or restart file of it: coordinates, temperatures, sea surface")
    add("--atmosphere", type=Path, help="forcing file of it, for what the forecast's forcing does not have")
    add("--forcing", help="forcing of the forecast; begun again as often as it takes")
    add("--trajectory", type=int, help="of --forcing, from 0")
    add("--emissivity", type=float, help="of the sky, in place of that of --atmosphere, 1")
    add("--piece", type=float, default=20.0, help="days of a run of the model (20)")
    add("--limit", type=float, default=3600.0, help="seconds after which such a run is ended (3600)")
    arguments = parser.parse_args(words)
    needed = ("model", "config", "like", "atmosphere", "forcing")
    if arguments.outputs is None and (lacking := [name for name in needed if getattr(arguments, name) is None]):
        parser.error(f"--{', --'.join(lacking)} missing: the model is to be run, as no --outputs are given")
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    arguments = parse(words)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    try:
        forecast = read_forecast(arguments.forecast, tuple(DG_NAMES))
        if len(forecast.hours) < 2:
            raise ValueError(f"{arguments.forecast} has no complete step, expected at least one: resume the forecast.")
        outputs = arguments.outputs or run_pieces(arguments, forecast, float(forecast.hours[1]))
        rows = list(compare(forecast, *read_outputs(outputs), arguments.block))
        if not rows:
            raise ValueError(f"{outputs[0]} has no time of {arguments.forecast}, which starts at {forecast.start}.")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"ice_long: {error}")
    show(rows, arguments.folder / "table.csv")


if __name__ == "__main__":
    main()
