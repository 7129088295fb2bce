r"""Validation of the training of forecasts: single steps from states that were never learned from.

From starts spread over the held-out states an ensemble makes one step of each lead. The score is the mean over leads
and variables of the fair CRPS, divided by the root mean square change of the state over that lead: 0 is perfect, and
persistence has about 0.6. Beside it stand, for each variable, the error of the ensemble mean in the same unit and the
ratio of spread to skill, over all leads.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.layout import Layout
from halocline.physics.ensembles import areas, score_ensemble
from halocline.physics.geometry import Geometry
from halocline.run.forecast_step import Stepper
from halocline.run.generator import Generator
from halocline.run.increments import successors
from halocline.run.teams import by_some, usable

__all__ = ["validate_forecast"]

STARTS = 6  # of each lead


def validate_forecast(
    generator: Generator, store: TrainingStore, comm: Communicator | Serial, members: int, seed: int
) -> dict[str, float]:
    """Scores single steps; see the module.

    Arguments:
        generator: With the weights to be tested.
        store: Of its training. Where no state is held out, steps between training states are scored.
        comm: All ranks; those that find no tile wait.
        members: Of the ensemble.
        seed: Of their noise.

    Returns:
        By name; infinite where a member has diverged.

    Collective: yes.
    """
    workers = usable(comm.size, generator.lattice.count, 1)
    return by_some(comm, workers, lambda part: score(generator, store, part, members, seed))


def score(
    generator: Generator, store: TrainingStore, comm: Communicator | Serial, members: int, seed: int
) -> dict[str, float]:
    """Makes the steps. Collective: yes."""
    layout = Layout.build(generator.lattice, comm)
    stepper, names = Stepper.build(generator, layout, mean_parameters(generator, store)), generator.channels.variables
    geometry = Geometry.build(generator.grid, layout)
    held = bool(np.asarray(store.records.held_out, bool).any())
    count = 1 if generator.config.forecast.deterministic else members
    found: dict[str, list[tuple[float, float, float]]] = {row.name: [] for row in names}
    assert generator.increments is not None
    for lead in generator.config.forecast.leads:
        scale = generator.increments.at(lead).tolist()
        for number, (first, last) in enumerate(starts(store, lead, held)):
            states = [torch.as_tensor(store.whole(record)) for record in (first, last)]
            n = generator.channels.count
            x, truth = (torch.as_tensor(layout.cut(s[:n].numpy())).float() for s in states)
            forcing = [s[n:].numpy() for s in states]
            try:
                made = stepper(x.expand(count, *x.shape), forcing, lead, number, seed, range(count))
            except ValueError as error:
                if "diverged" not in str(error):
                    raise
                return dict.fromkeys(summary({row.name: [(1.0, 1.0, 1.0)] for row in names}, count), math.inf)
            for channel, row in enumerate(names):
                weight = areas(geometry, row.point)
                field, true = made[:, :, channel : channel + 1], truth[None, :, channel : channel + 1]
                s = score_ensemble(field.double(), true.double(), weight, layout)
                unit = scale[channel]
                found[row.name].append((s.crps / unit, s.mse / unit**2, s.variance / unit**2))
    return summary(found, count)


def summary(found: dict[str, list[tuple[float, float, float]]], members: int) -> dict[str, float]:
    """Averages over leads and starts."""
    result: dict[str, float] = {}
    means = {name: np.mean(rows, axis=0) for name, rows in found.items()}
    for name, (crps, mse, variance) in means.items():
        result[f"crps_{name}"], result[f"error_{name}"] = float(crps), float(np.sqrt(mse))
        if members > 1:
            result[f"spread_skill_{name}"] = float(np.sqrt((members + 1) / members * variance / mse))
    return {"score": float(np.mean([row[0] for row in means.values()])), **result}


def starts(store: TrainingStore, lead: float, held_out: bool) -> list[tuple[int, int]]:
    """Chooses pairs of records spread over all there are."""
    follows = successors(store.records, lead, held_out)
    possible = np.flatnonzero(follows >= 0)
    places = np.linspace(0, len(possible) - 1, min(STARTS, len(possible))).astype(int)
    return [(int(a), int(follows[a])) for a in possible[places]]


def mean_parameters(generator: Generator, store: TrainingStore) -> list[float]:
    """Those of the records, averaged."""
    return [float(np.mean(store.records.parameters[name])) for name in generator.parameters.names]
