r"""Starts that users make today without a generator: means, neighbours and interpolations of the training states.

All are weighted means of training states of one month; they differ in the weights. Let p be the parameters in units of
their standard deviations over the training states, and v number the different values that have states of the month,
`m_v` their means:

.. math::
    x_\mathrm{mean} = \frac{1}{N} \sum_n x_n, \qquad
    x_\mathrm{nearest} = x_n, \; n \in v^* = \arg\min_v |p_v - p|, \qquad
    x_\mathrm{interpolated} = \sum_v w_v(p) \, m_v, \; \sum_v w_v = 1

States that are held out are never looked at. A mean of stable states need not be stable, nor in geostrophic balance:
nothing is adjusted here, so that it can be seen what such a start is worth; the caller may adjust.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator

from halocline.io.training_store import TrainingStore
from halocline.mesh.grid import Grid
from halocline.state.state import Channels

__all__ = ["fields_of", "interpolated", "nearest_state", "training_mean", "value_weights"]


def training_mean(store: TrainingStore, month: int) -> dict[str, np.ndarray]:
    """Averages the training states of a month, whatever their parameters.

    Arguments:
        store: Holds them.
        month: At whose end the states stand, 1 to 12.

    Returns:
        Variable to shape (nk, nj, ni), (1, nj, ni) for surface variables; physical units, float32, NaN on land.

    Raises:
        ValueError: No training state is of this month, or a chunk is damaged.

    Collective: no.
    """
    records = records_of(store, month)
    return combine(store, dict.fromkeys(records.tolist(), 1.0 / len(records)))


def nearest_state(
    store: TrainingStore, parameters: Mapping[str, float], month: int, member: int, seed: int
) -> dict[str, np.ndarray]:
    """Takes a training state of the nearest parameter value; of two that are equally near, the lower one.

    Arguments:
        store, month: See `training_mean`.
        parameters: Value of each parameter of the store.
        member: Different members take different states as long as there are enough, then the first ones again.
        seed: Of the order in which members take them.

    Returns: see `training_mean`.

    Raises:
        ValueError: As `training_mean`; a parameter is missing, unknown or not finite; member or seed is negative.

    Collective: no.
    """
    if member < 0 or seed < 0:
        raise ValueError(f"member is {member} and seed is {seed}, expected integers from 0 on.")
    values = Values.of(store, parameters, month)
    nearest = int(np.argmin(np.linalg.norm(values.standard - values.wanted, axis=1)))
    records = values.records[values.group == nearest]
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(records)), kind="stable")
    return combine(store, {int(records[order[member % len(records)]]): 1.0})


def interpolated(store: TrainingStore, parameters: Mapping[str, float], month: int) -> dict[str, np.ndarray]:
    """Interpolates between the mean states of the training values of the parameters; see `value_weights`.

    Arguments: see `nearest_state`.

    Returns: see `training_mean`.

    Raises:
        ValueError: As `training_mean`; a parameter is missing, unknown or not finite.

    Collective: no.
    """
    values = Values.of(store, parameters, month)
    weights = value_weights(values.standard, values.wanted)
    share = weights / np.bincount(values.group)
    return combine(store, {int(n): float(share[v]) for n, v in zip(values.records, values.group, strict=True)})


def value_weights(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    r"""Weights of the training values in an interpolation.

    One parameter that varies: linear between the two neighbours, and at the ends of the training range beyond them.
    Several: linear in each simplex of the Delaunay triangulation of the training values, and beyond their hull the
    nearest value alone. Nothing is extrapolated.

    Arguments:
        values: Different training values in ascending order, shape (value, parameter).
        wanted: Shape (parameter).

    Returns:
        Shape (value), of sum 1, none negative.

    Collective: no.
    """
    varying = np.ptp(values, axis=0) > 0
    P = values[:, varying]
    p, each = wanted[varying], np.eye(len(P))
    if P.shape[1] == 0:
        return np.full(len(P), 1.0 / len(P))
    if P.shape[1] == 1:
        return np.array([np.interp(p[0], P[:, 0], hat) for hat in each])
    weights = np.full(len(P), np.nan)
    if np.linalg.matrix_rank(P - P[0]) == P.shape[1]:  # else the values lie on a line, and have no triangles
        weights = LinearNDInterpolator(P, each)(p[None])[0]
    return weights if np.isfinite(weights).all() else each[np.argmin(np.linalg.norm(P - p, axis=1))]


@dataclass(frozen=True, eq=False)
class Values:
    """Training records of a month by the value of their parameters.

    Attributes:
        records: Their numbers, shape (record).
        group: Number of the value of each, shape (record).
        standard: Different values in ascending order, in standard deviations, shape (value, parameter).
        wanted: The value asked for, in the same units, shape (parameter).
    """

    records: np.ndarray
    group: np.ndarray
    standard: np.ndarray
    wanted: np.ndarray

    @classmethod
    def of(cls, store: TrainingStore, parameters: Mapping[str, float], month: int) -> Values:
        """Sorts the training records of a month.

        Raises:
            ValueError: There is none, or the parameters are not those of the store.
        """
        records = records_of(store, month)
        names = tuple(store.records.parameters)
        wanted = np.array([float(parameters[name]) for name in checked(store, parameters)])
        training = ~np.asarray(store.records.held_out, bool)
        if not names:
            return cls(records, np.zeros(len(records), np.int64), np.zeros((1, 0)), wanted)
        table = np.stack([store.records.parameters[name] for name in names], axis=1).astype(np.float64)
        mean, scale = table[training].mean(axis=0), table[training].std(axis=0)
        scale[scale == 0] = 1.0
        different, group = np.unique(table[records], axis=0, return_inverse=True)
        return cls(records, group.reshape(-1), (different - mean) / scale, (wanted - mean) / scale)


def checked(store: TrainingStore, parameters: Mapping[str, float]) -> tuple[str, ...]:
    """Names of the store's parameters, where exactly these have a finite value.

    Raises:
        ValueError: Some are missing, unknown or not finite.
    """
    names = tuple(store.records.parameters)
    if set(parameters) != set(names):
        raise ValueError(
            f"Parameters are {', '.join(parameters) or 'none'}, expected {', '.join(names) or 'none'}: give a value "
            f"for each parameter of training store {store.path}, and no other."
        )
    for name in names:
        if not np.isfinite(parameters[name]):
            raise ValueError(f"Parameter {name} is {parameters[name]}, expected a finite number.")
    return names


def records_of(store: TrainingStore, month: int) -> np.ndarray:
    """Numbers of the training records of a month.

    Raises:
        ValueError: There is none.
    """
    training = ~np.asarray(store.records.held_out, bool)
    months = np.asarray(store.records.month)
    found = np.flatnonzero(training & (months == month))
    if not found.size:
        there = ", ".join(map(str, np.unique(months[training]))) or "none"
        raise ValueError(
            f"Training store {store.path} has no training states of month {month}, expected one of its months, "
            f"{there}: choose another month."
        )
    return found


def combine(store: TrainingStore, weights: Mapping[int, float]) -> dict[str, np.ndarray]:
    """Adds up training states, in float64 and in the order given; reads no state of weight 0, and one at a time.

    Arguments:
        weights: Of each record, by its number.

    Returns: see `training_mean`.
    """
    total = np.zeros((store.channels.count, store.grid.nj, store.grid.ni))
    for record, weight in weights.items():
        if weight:
            total += weight * read_state(store, record)
    return fields_of(total, store.channels, store.grid)


def fields_of(x: np.ndarray, channels: Channels, grid: Grid) -> dict[str, np.ndarray]:
    """Names the fields of a state, shape (channel, nj, ni), as files of states have them.

    Returns: see `training_mean`.

    Collective: no.
    """
    split = channels.split(torch.as_tensor(x))
    wet = {row.name: grid.mask(row.point)[: len(split[row.name])] for row in channels.variables}
    return {name: np.where(wet[name], field.numpy(), np.nan).astype(np.float32) for name, field in split.items()}


def read_state(store: TrainingStore, record: int) -> np.ndarray:
    """Reads a whole state, shape (channel, nj, ni), physical units, 0 on land.

    Raises:
        ValueError: A chunk is missing or damaged.
    """
    rows, columns = (-(-n // c) for n, c in zip((store.grid.nj, store.grid.ni), store.chunk, strict=True))
    return np.block([[store.block(1, record, J, I) for I in range(columns)] for J in range(rows)])
