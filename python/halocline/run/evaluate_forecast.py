"""`halocline evaluate` of forecasts: what `halocline forecast` wrote beside what the model did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halocline.io.forcing import instants
from halocline.io.forecast_file import Forecast, read_forecast
from halocline.io.models import StateSource, open_states, trajectories
from halocline.io.training_store import MANIFEST, TrainingStore
from halocline.run.config import RunConfig
from halocline.run.data import store_path
from halocline.run.forecast_maps_figure import Example
from halocline.run.forecast_report import leave_report
from halocline.run.forecast_score_baselines import Baselines, Training, add_baselines, fit_baselines
from halocline.run.forecast_score_cases import Case
from halocline.run.forecast_score_drift import DRIFT_HOURS
from halocline.run.forecast_scores import score_forecasts
from halocline.run.generator import Generator

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


def evaluate_forecasts(generator: Generator, options: ForecastEvaluation) -> None:
    """Scores forecasts and leaves report.png and table.json.

    Raises:
        FileNotFoundError, OSError: A file is not there, or the output cannot be written.
        ValueError: The reference has no states at the times of a forecast, or lacks a variable.

    Collective: no, one rank.
    """
    config, grid = generator.config, generator.grid
    source = open_states(options.reference or config.data.states, config.data.stored, grid)
    cases = [case_of(path, n, source, config, options) for n, path in enumerate(options.forecasts)]
    shortest = min((case.hours for case in cases), key=len)
    baselines = fit(config, generator, shortest)
    scores = score_forecasts([add_baselines(case, baselines, grid) for case in cases], grid)
    reached = shortest[min(len(shortest) - 1, max(1, len(shortest) // 2))]
    leave_report(Path(options.output), scores, grid, Example(cases[0], NAME, reached, DRIFT_HOURS))


def case_of(path: str, number: int, source: StateSource, config: RunConfig, options: ForecastEvaluation) -> Case:
    """Reads a forecast and the truth at its times, as far as both go."""
    found = read_forecast(path)
    records = followed(path, found, source, options.trajectories[number] if options.trajectories else None)
    states = source.read(np.sort(records))
    order = np.argsort(np.argsort(records))
    fields = {name: np.nan_to_num(x[:, 0])[order] for name, x in states.fields.items()}
    count, names = len(records), config.data.variables
    return Case(
        tuple(found.hours[:count].tolist()), {name: fields[name] for name in names},
        {NAME: {name: found.fields[name][:, :count] for name in names}},
        {name: fields[name] for name in config.data.forcing},
    )  # fmt: skip


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
        known = [mine[t] for t in times.tolist() if t in mine]
        if known and times[0].item() in mine and len(known) > 1:
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

