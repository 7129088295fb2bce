r"""Forecasts that cost nothing, which a network has to beat: persistence, free drift, damped anomaly.

- *Persistence*: :math:`x(T + t) = x(T)`.
- *Free drift*: with drift and wind as complex numbers, :math:`u(T+t) = a\,w(T+t)` with one
  :math:`a = \sum \bar w u / \sum |w|^2` for all wet cells and times of the training data: the transfer coefficient is
  |a|, the turning angle arg a (Thorndike and Colony 1982). It knows the forcing of the forecast, as the network does.
  Other variables are carried along with that drift, :math:`\partial_t x + u \cdot \nabla x = 0`, upwind, with
  sub-steps that keep the Courant number below 1; so nothing leaves its bounds, and no ice is piled up.
- *Damped anomaly*: :math:`x(T+t) = \bar x + r_t\,(x(T) - \bar x)`, with the training mean of each cell and
  :math:`r_t = \sum x'(s)\,x'(s+t) / \sum x'(s)^2` over training data and wet cells, for each variable and lead: the
  regression that AR(1) has as :math:`r_t = r^t`, without its assumption.

Serial: fields are whole, float32 or float64, anything on land.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from halocline.mesh.grid import Grid
from halocline.run.forecast_score_cases import Case, Fields
from halocline.state.variables import variable

__all__ = ["Baselines", "DampedAnomaly", "FreeDrift", "Training", "add_baselines", "carry", "fit_baselines"]

DRIFT, WIND = ("ice_u", "ice_v"), ("wind_u", "wind_v")
COURANT = 0.9
"""Largest sum of the Courant numbers along both axes."""


@dataclass(frozen=True, eq=False)
class Training:
    """What baselines are fitted to: equidistant states and forcing of runs that no forecast is scored on.

    Attributes:
        fields: Variable to shape (trajectory, time, nj, ni); anything on land.
        forcing: Forcing to the same shape; free drift needs `wind_u` and `wind_v`.
        step: Time between states, hours.
    """

    fields: Fields
    forcing: Fields
    step: float


@dataclass(frozen=True)
class FreeDrift:
    """Drift proportional to the wind.

    Attributes:
        transfer: Ratio of speeds.
        turning: Angle from wind to drift, degrees, counter-clockwise.
    """

    transfer: float
    turning: float

    @classmethod
    def fit(cls, training: Training, wet: np.ndarray) -> FreeDrift:
        """Fits both by least squares; see the module. The mask has shape (nj, ni). Collective: no."""
        drift, wind = _complex(training.fields, DRIFT)[..., wet], _complex(training.forcing, WIND)[..., wet]
        a = complex((np.conj(wind) * drift).sum() / (np.abs(wind) ** 2).sum())
        return cls(abs(a), math.degrees(cmath.phase(a)))

    def drift(self, wind: np.ndarray) -> np.ndarray:
        """Drift of a complex wind, m/s."""
        return np.asarray(cmath.rect(self.transfer, math.radians(self.turning)) * wind)


def _complex(fields: Fields, names: tuple[str, str]) -> np.ndarray:
    return np.asarray(fields[names[0]], np.float64) + 1j * np.asarray(fields[names[1]], np.float64)


@dataclass(frozen=True, eq=False)
class DampedAnomaly:
    """Attributes: mean of each variable, shape (nj, ni), and its decay per lead in hours."""

    mean: Fields
    decay: Mapping[str, Mapping[float, float]]

    @classmethod
    def fit(cls, training: Training, hours: tuple[float, ...], wet: np.ndarray) -> DampedAnomaly:
        """Fits the decay at leads that are multiples of the training data's step; see the module.

        Raises:
            ValueError: A lead is no multiple, or longer than a trajectory.

        Collective: no.
        """
        mean: dict[str, np.ndarray] = {}
        decay: dict[str, dict[float, float]] = {}
        for name, field in training.fields.items():
            x = np.asarray(field, np.float64)
            mean[name] = np.where(wet, x.mean(axis=(0, 1)), 0.0)
            anomaly = (x - mean[name])[..., wet]
            decay[name] = {float(lead): _regression(anomaly, _lag(lead, training, x.shape[1])) for lead in hours}
        return cls(mean, decay)


def _lag(lead: float, training: Training, count: int) -> int:
    """Records between states that are a lead apart."""
    lag = round(lead / training.step)
    if not math.isclose(lag * training.step, lead, abs_tol=1e-6) or lag >= count:
        raise ValueError(
            f"Lead of {lead:g} h cannot be fitted to trajectories of {count} states every {training.step:g} h, "
            "expected a multiple of their step within their length: leave the damped anomaly out, or score other leads."
        )
    return lag


def _regression(anomaly: np.ndarray, lag: int) -> float:
    """Slope of states on those `lag` records before, (trajectory, time, cell)."""
    before, after = anomaly[:, : anomaly.shape[1] - lag], anomaly[:, lag:]
    square = float((before * before).sum())
    return float((before * after).sum()) / square if square > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Baselines:
    """All that were fitted; free drift is None where there is no drift or wind, the damped anomaly where left out."""

    free_drift: FreeDrift | None
    damped_anomaly: DampedAnomaly | None


def fit_baselines(training: Training, grid: Grid, hours: tuple[float, ...]) -> Baselines:
    """Fits every baseline that the training data allow.

    Arguments:
        training: Never the states that are scored.
        grid: Gives the sea.
        hours: Leads that will be scored, without 0.

    Raises:
        ValueError: A lead does not fit the training data.

    Collective: no.
    """
    wet = grid.tmask[0]
    known = set(DRIFT) <= set(training.fields) and set(WIND) <= set(training.forcing)
    return Baselines(FreeDrift.fit(training, wet) if known else None, DampedAnomaly.fit(training, hours, wet))


def add_baselines(case: Case, baselines: Baselines, grid: Grid) -> Case:
    """Adds "persistence", "free drift" and "damped anomaly" to the forecasts of a case, as one member each.

    Arguments:
        case: With the wind as `wind_u` and `wind_v` of its forcing, for free drift; without, that is left out.
        baselines: From `fit_baselines`.
        grid: Of the fields.

    Raises:
        ValueError: A lead was not fitted.

    Collective: no.
    """
    start = {name: np.asarray(x[0], np.float64) for name, x in case.truth.items()}
    made: dict[str, Fields] = {"persistence": {n: _repeated(x, len(case.hours)) for n, x in start.items()}}
    if baselines.free_drift is not None and set(WIND) <= set(case.forcing) and set(DRIFT) <= set(start):
        made["free drift"] = _free_drift(case, start, baselines.free_drift, grid)
    if baselines.damped_anomaly is not None:
        made["damped anomaly"] = _damped(case, start, baselines.damped_anomaly)
    return replace(case, forecasts={**case.forecasts, **made})


def _repeated(x: np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to(x, (1, count, *x.shape))


def _damped(case: Case, start: Fields, model: DampedAnomaly) -> dict[str, np.ndarray]:
    result = {}
    for name, x in start.items():
        missing = [lead for lead in case.hours[1:] if lead not in model.decay.get(name, {})]
        if missing:
            raise ValueError(
                f"Damped anomaly of {name} has no decay for a lead of {missing[0]:g} h: fit the baselines to all "
                "variables and leads that are scored."
            )
        decay = np.array([1.0, *(model.decay[name][lead] for lead in case.hours[1:])])[:, None, None]
        result[name] = (model.mean[name] + decay * (x - model.mean[name]))[None]
    return result


def _free_drift(case: Case, start: Fields, model: FreeDrift, grid: Grid) -> dict[str, np.ndarray]:
    """Free drift, and the other variables carried along with the mean of the drift at both ends of each step."""
    drift = np.where(grid.tmask[0], model.drift(_complex(case.forcing, WIND)), 0.0)
    states = [{name: x for name, x in start.items() if name not in DRIFT}]
    for n in range(1, len(case.hours)):
        mean = 0.5 * (drift[n - 1] + drift[n])
        states.append(carry(states[-1], mean.real, mean.imag, grid, 3600.0 * (case.hours[n] - case.hours[n - 1])))
    result = {name: np.stack([state[name] for state in states])[None] for name in states[0]}
    for name, component in zip(DRIFT, (drift.real, drift.imag), strict=True):
        result[name] = np.concatenate([start[name][None], component[1:]])[None]
    return result


def carry(tracers: Fields, u: np.ndarray, v: np.ndarray, grid: Grid, seconds: float) -> dict[str, np.ndarray]:
    """Carries tracers along with a steady drift, upwind and in sub-steps; closed edges and coasts have no gradient.

    Arguments:
        tracers: Name to shape (nj, ni); anything on land.
        u, v: At cell centres, m/s, same shape, finite.
        grid: Gives widths and the sea.
        seconds: Duration.

    Returns:
        Name to shape (nj, ni), 0 on land; within the range of the values given.

    Collective: no.
    """
    wet = grid.tmask[0]
    courant = np.where(wet, seconds * (np.abs(u) / grid.e1t + np.abs(v) / grid.e2t), 0.0)
    count = max(1, math.ceil(float(courant.max()) / COURANT))
    ci, cj = (np.where(wet, seconds / count * w / e, 0.0) for w, e in ((u, grid.e1t), (v, grid.e2t)))
    result = {name: np.where(wet, x, 0.0).astype(np.float64) for name, x in tracers.items()}
    for _ in range(count):
        result = {name: x - _upwind(x, ci, wet, 1) - _upwind(x, cj, wet, 0) for name, x in result.items()}
    return {name: np.clip(x, *variable(name).bounds) for name, x in result.items()}


def _upwind(x: np.ndarray, courant: np.ndarray, wet: np.ndarray, axis: int) -> np.ndarray:
    """Courant number times the difference against the wind."""
    step = np.where(np.diff(wet.astype(int), axis=axis) == 0, np.diff(x, axis=axis), 0.0)
    before, after = ((1, 0), (0, 1))
    widths = [before if a == axis else (0, 0) for a in range(2)], [after if a == axis else (0, 0) for a in range(2)]
    return np.maximum(courant, 0.0) * np.pad(step, widths[0]) + np.minimum(courant, 0.0) * np.pad(step, widths[1])
