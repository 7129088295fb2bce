r"""`halocline calibrate`: noise of forecasts whose ensembles spread as they err and are as rough as the model.

A forecast starts its samples from noise whose long and short waves are scaled by variable (`run.long_waves`). Round by
round ensembles are made from states of runs of the model, and scored; for each variable then

.. math::
    f \leftarrow f \, e^{-a \overline{\ln (\sigma / e)}}, \qquad s \leftarrow s \, e^{-a \overline{\ln (E / E_m)} / 2}

with the factors f on long and s on short waves, the ratio of spread :math:`\sigma` to error e, that of the energy E at
the smallest scales to the model's, and means over all leads; a = 0.6, since variables answer to each other's noise,
too. Where the network is told the wind, the noise grows with a power p of it (`run.wind_noise`),

.. math:: p \leftarrow p + b \, (\overline{k} - 1), \qquad \ln e \approx k \ln \sigma + \mathrm{const\ over\ starts}

with b = 0.25: where errors differ more from day to day than spread does, k is above 1. Steps are bounded, and so are
the factors: where chance has no part in what is wrong no noise will mend it. Of all rounds the one is kept whose
logarithms are the smallest: of both ratios, in the mean over leads of their amounts, and of :math:`\overline{k}`.

Reference: Fortin et al., 2014, Why should ensemble spread match the RMSE of the ensemble mean?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from halocline.io.models import open_states
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.config import apply_overrides, build, parse_overrides
from halocline.run.forecast_score_means import VariableScores
from halocline.run.forecast_scores import score_on_ranks
from halocline.run.generator import Generator
from halocline.run.hindcast import NAME, Hindcasts
from halocline.run.outputs import make_folder, table_console
from halocline.run.run_folder import load_generator, save_generator, start_run_folder
from halocline.run.sampling_config import WIND

__all__ = ["CalibrationOptions", "Waves", "calibrate", "next_waves"]

LONG, SHORT, WIND_POWER = (0.25, 4.0), (0.4, 2.0), (0.0, 0.5)
"""Least and largest factor, and power."""

RELAXATION = 0.6
STEP = math.log(2.0)
"""a, and the largest change of a factor's logarithm in a round."""

POWER_RELAXATION, POWER_STEP = 0.25, 0.1
"""b, and the largest change of a power in a round."""


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of `halocline calibrate`; see its help."""

    output: str
    states: tuple[str, ...] = ()
    trajectories: tuple[int, ...] = ()
    starts: int = 4
    lead: float = 12.0
    steps: int = 10
    members: int = 8
    rounds: int = 5
    seed: int = 0
    wind: bool = True
    sampling: dict[str, int | float | dict[str, float] | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("starts", 1), ("steps", 1), ("members", 2), ("rounds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}.")
        if not self.lead > 0:
            raise ValueError(f"lead is {self.lead:g}, expected hours above 0.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected an integer in [0, 2^32).")


@dataclass(frozen=True)
class Waves:
    """Factors on the waves of the noise and powers of the wind, by variable; none where they are left as they are."""

    long: Mapping[str, float]
    short: Mapping[str, float]
    wind: Mapping[str, float]

    @classmethod
    def of(cls, generator: Generator, wind: bool = True) -> Waves:
        """Those of a generator, with or without powers."""
        sampling, data = generator.config.sampling, generator.config.data
        told = wind and set(WIND) <= set(data.forcing)

        def named(of: float | Mapping[str, float], usual: float) -> dict[str, float]:
            return {n: float(of.get(n, usual) if isinstance(of, Mapping) else of) for n in data.variables}

        powers = named(sampling.wind_power, 0.0) if told else {}
        return cls(named(sampling.long_waves, 1.0), named(sampling.short_waves, 1.0), powers)

    def put(self, generator: Generator) -> Generator:
        """The generator with these."""
        config = generator.config
        sampling = replace(config.sampling, long_waves=dict(self.long), short_waves=dict(self.short))
        if self.wind:
            sampling = replace(sampling, wind_power=dict(self.wind))
        return replace(generator, config=replace(config, sampling=sampling))


def next_waves(waves: Waves, scores: Mapping[str, VariableScores]) -> Waves:
    """Takes a step; see the module. What has no finite score keeps its factors. Collective: no."""
    return Waves(
        {n: _moved(f, scores[n].spread_skill, 1.0, LONG) for n, f in waves.long.items()},
        {n: _moved(f, scores[n].fine_scales, 0.5, SHORT) for n, f in waves.short.items()},
        {n: _grown(p, scores[n].spread_slope) for n, p in waves.wind.items()},
    )


def _moved(factor: float, ratios: Sequence[float], power: float, limits: tuple[float, float]) -> float:
    logs = _logs(ratios)
    step = -RELAXATION * power * float(logs.mean()) if len(logs) else 0.0
    moved = factor * math.exp(min(max(step, -STEP), STEP))
    return round(min(max(moved, limits[0]), limits[1]), 3)


def _grown(power: float, slopes: Sequence[float]) -> float:
    step = POWER_RELAXATION * (_slope(slopes) - 1.0)
    moved = power + (min(max(step, -POWER_STEP), POWER_STEP) if math.isfinite(step) else 0.0)
    return round(min(max(moved, WIND_POWER[0]), WIND_POWER[1]), 3)


def _slope(slopes: Sequence[float]) -> float:
    """Mean over leads: that of each is known from few starts."""
    finite = [k for k in slopes if math.isfinite(k)]
    return sum(finite) / len(finite) if finite else math.nan


def _logs(ratios: Sequence[float]) -> np.ndarray:
    positive = np.array([r for r in ratios if math.isfinite(r) and r > 0])
    return np.asarray(np.log(positive))


def cost(scores: Mapping[str, VariableScores]) -> float:
    """How far from calibrated: mean amount of the logarithms; see the module. Collective: no."""
    ratios = [row for of in scores.values() for row in (of.spread_skill, of.fine_scales, (_slope(of.spread_slope),))]
    amounts = [float(np.abs(logs).mean()) for logs in map(_logs, ratios) if len(logs)]
    return sum(amounts) / len(amounts) if amounts else math.inf


def calibrate(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Writes a run folder with the weights of another and noise of its own.

    Starts are dealt to ranks. The best so far is in the output folder after every round.

    Raises:
        ValueError: The run makes no ensembles of forecasts; there are no such trajectories; nothing can be told of the
            ensembles; or the output is the run or a folder in which one trains.
        FileNotFoundError, OSError: A file is not there, or the output cannot be written.

    Collective: yes.
    """
    torch.set_num_threads(1)  # one thread per rank: part of what fixes the bits
    with comm.together():
        options = build(CalibrationOptions, apply_overrides({}, parse_overrides(arguments)), "")
        generator = load_generator(run, options.sampling)
        check(run, generator, options)
        hindcasts = find(generator, options)
        if comm.is_root:
            make_folder(Path(options.output))  # now, and not after a round
    best, waves = math.inf, Waves.of(generator, options.wind)
    for number in range(options.rounds):
        trial = waves.put(generator)
        scores = score_on_ranks(len(hindcasts), partial(hindcasts.case, trial), generator.grid, comm)
        with comm.together():
            if scores is not None:
                found = scores.variables[NAME]
                here = cost(found)
                tell(number, waves, found, here)
                if math.isinf(here):
                    raise ValueError(
                        "No variable has a ratio of spread to error or of energies, expected some: the ensembles do "
                        "not differ or do not err; take more members, other trajectories, or a trained run."
                    )
                if here < best:
                    best = here
                    leave(Path(options.output), trial)
                waves = next_waves(waves, found)
        waves = comm.broadcast(waves)
    if comm.is_root:
        print(f"least distance {best:.3f}; written: {options.output}", flush=True)


def check(run: Path, generator: Generator, options: CalibrationOptions) -> None:
    """Refuses what cannot be calibrated.

    Raises:
        ValueError: See `calibrate`.
    """
    output = Path(options.output)
    if output.resolve() == run.resolve() or (output / "checkpoints").exists():
        raise ValueError(f"Folder {output} is one in which a training runs, or the run itself: choose another output.")
    if generator.increments is None or generator.config.forecast.deterministic:
        raise ValueError(f"The run {run} makes no ensembles of forecasts, expected one trained with forecast.leads.")
    if not generator.lattice.halo:
        raise ValueError("lattice.halo is 0, expected at least 1: waves are told apart by their neighbours.")


def find(generator: Generator, options: CalibrationOptions) -> Hindcasts:
    """Finds the starts: in the trajectories that are named, or those that were held out.

    Raises:
        ValueError: None are named or held out; see `Hindcasts.find`.
    """
    data = generator.config.data
    held = data.held_out_trajectories
    runs = options.trajectories or (tuple(range(held[0], held[1] + 1)) if held else ())
    if not runs:
        raise ValueError("trajectories is missing and the run has held none out: name some it was not trained on.")
    source = open_states(options.states or data.states, data.stored, generator.grid)
    size = (options.starts, options.lead, options.steps, options.members, options.seed)
    return Hindcasts.find(source, runs, *size)


def leave(folder: Path, generator: Generator) -> None:
    """Writes the run folder."""
    start_run_folder(folder, generator)
    save_generator(folder, generator, generator.denoiser.network.state_dict())


def tell(number: int, waves: Waves, scores: Mapping[str, VariableScores], here: float) -> None:
    """Prints what a round found; ratios of the first lead, of the mean and of the last."""
    table = Table(box=SIMPLE_HEAD, title=f"round {number + 1}: distance {here:.3f}", title_justify="left")
    headings = ("", "long", "short", "wind", "spread / error", "slope", "smallest scales / model's", "mean CRPS")
    for name in headings:
        table.add_column(name, justify="left" if not name else "right")
    for name, row in scores.items():
        ratios = (_few(row.spread_skill), _few(row.fine_scales))
        noise = (f"{waves.long[name]:g}", f"{waves.short[name]:g}", f"{waves.wind.get(name, 0):g}")
        crps = f"{np.nanmean(row.crps):.4g}"
        table.add_row(name, *noise, ratios[0], f"{_slope(row.spread_slope):.2f}", ratios[1], crps)
    table_console().print(table)


def _few(ratios: Sequence[float]) -> str:
    logs = _logs(ratios)
    mean = math.exp(float(logs.mean())) if len(logs) else math.nan
    return f"{ratios[0]:.2f} {mean:.2f} {ratios[-1]:.2f}"
