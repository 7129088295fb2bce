"""`halocline evaluate` of forecasts: what `halocline forecast` wrote beside what the model did."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from halocline.io.forcing import instants
from halocline.io.forecast_file import Forecast, read_forecast
from halocline.io.models import StateSource, open_states, trajectories
from halocline.io.training_store import MANIFEST, TrainingStore
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.config import RunConfig
from halocline.run.data import store_path
from halocline.run.forecast_maps_figure import Example
from halocline.run.forecast_report import leave_report
from halocline.run.forecast_score_baselines import Baselines, Training, add_baselines, fit_baselines
from halocline.run.forecast_score_cases import Case, check_hours
from halocline.run.forecast_score_drift import DRIFT_HOURS
from halocline.run.forecast_scores import deal, score_on_ranks
from halocline.run.generator import Generator
from halocline.run.outputs import make_folder

__all__ = ["ForecastEvaluation", "evaluate_forecasts"]

NAME = "forecast"


@dataclass(frozen=True)
class ForecastEvaluation:
    """Options of `halocline evaluate` for forecasts; see its help."""

    forecasts: tuple[str, ...]
    reference: tuple[str, ...] = ()
    trajectories: tuple[int, ...] = ()
    output: str = "evaluation"

    def __post_init__(self) -> None:
        if not self.forecasts:
            raise ValueError("forecasts is empty, expected folders that `halocline forecast` wrote: name some.")
        if self.trajectories and len(self.trajectories) != len(self.forecasts):
            raise ValueError(
                f"trajectories has {len(self.trajectories)} numbers for {len(self.forecasts)} forecasts, expected one "
                "for each: the run of the reference that it is a forecast of."
            )


@dataclass(frozen=True, eq=False)
class Start:
    """A forecast, and the states of the reference that it is compared with.

    Attributes:
        path: Of the forecast.
        hours: Since the start, as far as both go.
        records: Numbers of the states, one for each of the hours.
    """

    path: str
    hours: tuple[float, ...]
    records: np.ndarray


def evaluate_forecasts(generator: Generator, options: ForecastEvaluation, comm: Communicator | Serial) -> None:
    """Scores forecasts and leaves report.png and table.json.

    Starts are dealt to the ranks, which hold one at a time. The table has the same bits on any number of ranks.

    Raises:
        FileNotFoundError, OSError: A file is not there, or the output cannot be written.
        ValueError: The reference has no states at the times of a forecast, or lacks a variable.

    Collective: yes; rank 0 writes.
    """
    config, grid = generator.config, generator.grid
    torch.set_num_threads(1)  # one thread per rank: part of what fixes the bits
    with comm.together():
        source = open_states(options.reference or config.data.states, config.data.stored, grid)
    starts = find_starts(options, source, config, comm)
    shortest, longest = (choose((start.hours for start in starts), key=len) for choose in (min, max))
    fitted = None
    with comm.together():
        if comm.is_root:
            make_folder(Path(options.output))
            fitted = fit(config, generator, longest)
    baselines: Baselines = comm.broadcast(fitted)

    def read(number: int) -> Case:
        return add_baselines(read_case(starts[number], source, config), baselines, grid)

    scores = score_on_ranks(len(starts), read, grid, comm)
    with comm.together():
        if scores is not None:
            reached = shortest[min(len(shortest) - 1, max(1, len(shortest) // 2))]
            example = Example(read_case(starts[0], source, config), NAME, reached, DRIFT_HOURS)
            leave_report(Path(options.output), scores, grid, example)


def find_starts(
    options: ForecastEvaluation, source: StateSource, config: RunConfig, comm: Communicator | Serial
) -> list[Start]:
    """Finds what each forecast is compared with, before the long work begins.

    Raises: see `evaluate_forecasts`.

    Collective: yes.
    """
    with comm.together():
        mine = [find_start(number, options, source, config) for number in deal(len(options.forecasts), comm)]
    starts = [start for part in comm.allgather(mine) for start in part]
    with comm.together():
        longest = max((start.hours for start in starts), key=len)
        for start in starts:
            check_hours(start.hours, longest)
    return starts


def find_start(number: int, options: ForecastEvaluation, source: StateSource, config: RunConfig) -> Start:
    """Finds the states at the times of a forecast, of which one variable is enough."""
    path = options.forecasts[number]
    found = read_forecast(path, config.data.variables[:1])
    records = followed(path, found, source, options.trajectories[number] if options.trajectories else None)
    return Start(path, tuple(found.hours[: len(records)].tolist()), records)


def read_case(start: Start, source: StateSource, config: RunConfig) -> Case:
    """Reads a forecast and the truth at its times; a forecast that is still being made may have more by now."""
    found = read_forecast(start.path, config.data.variables)
    states = source.read(np.sort(start.records))
    order = np.argsort(np.argsort(start.records))
    fields = {name: np.nan_to_num(x[:, 0])[order] for name, x in states.fields.items()}
    return Case(
        start.hours,
        truth={name: fields[name] for name in config.data.variables},
        forecasts={NAME: {name: x[:, : len(start.hours)] for name, x in found.fields.items()}},
        forcing={name: fields[name] for name in config.data.forcing},
    )


def followed(path: str, found: Forecast, source: StateSource, trajectory: int | None) -> np.ndarray:
    """Numbers of the states of the reference at the times of a forecast.

    Raises:
        ValueError: The start and the time after it are not among them, or are in several runs.
    """
    times = found.start + np.round(found.hours * 3600).astype("timedelta64[s]")
    when, run = instants(source.stamps), runs(source)
    candidates = np.unique(run) if trajectory is None else np.array([trajectory])
    fitting = []
    for number in candidates.tolist():
        mine = {t: n for n, t in zip(np.flatnonzero(run == number).tolist(), when[run == number].tolist(), strict=True)}
        known = [mine[t] for t in takewhile(mine.__contains__, times.tolist())]
        if len(known) > 1:
            fitting.append(known)
    if len(fitting) != 1:
        raise ValueError(
            f"Forecast {path} starts at {times[0]}, which {len(fitting)} of {len(candidates)} runs of the reference "
            "have with the time after it, expected one: name the run with trajectories=[N]."
        )
    return np.array(fitting[0])


def runs(source: StateSource) -> np.ndarray:
    """Number of the run that each state belongs to."""
    return trajectories(np.asarray(source.stamps.time, float))


def fit(config: RunConfig, generator: Generator, hours: tuple[float, ...]) -> Baselines:
    """Fits the baselines to the states that were learned from, where the store is here and its runs are equal."""
    path = store_path(config)
    if not (path / MANIFEST).exists():
        print(f"no training store at {path}: free drift and damped anomaly are left out", flush=True)
        return Baselines(None, None)
    store = TrainingStore.open(path)
    return fit_baselines(training_of(store, config), generator.grid, hours[1:])


def training_of(store: TrainingStore, config: RunConfig) -> Training:
    """Reads the runs that were learned from, cut to the length of the shortest."""
    records, grid = store.records, store.grid
    held, run = np.asarray(records.held_out, bool), np.asarray(records.trajectory)
    groups = [np.flatnonzero((run == n) & ~held) for n in np.unique(run[~held])]
    length = min(len(group) for group in groups)
    states = np.stack([np.stack([store.whole(int(r)) for r in group[:length]]) for group in groups])
    names = store.variables
    fields = {name: states[:, :, n].reshape(len(groups), length, grid.nj, grid.ni) for n, name in enumerate(names)}
    step = float(24 * np.diff(np.asarray(records.time, float)[groups[0]])[0])
    forcing = {name: fields.pop(name) for name in config.data.forcing}
    return Training(fields, forcing, step)
