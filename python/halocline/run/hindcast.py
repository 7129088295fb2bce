"""Forecasts of what is known: ensembles from states of a run of the model, in memory, beside what it did.

For studies and calibration; what is made for keeps comes from `halocline forecast`, with the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.io.models import StateSource, trajectories
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.run.forecast_score_cases import Case, Fields
from halocline.run.forecast_step import Stepper
from halocline.run.generator import Generator

__all__ = ["NAME", "Hindcasts", "ensemble"]

NAME = "forecast"
CLOSE = 1e-4  # hours: times of files are days in float64


@dataclass(frozen=True, eq=False)
class Hindcasts:
    """Starts within runs of the model; made by `find`.

    Attributes:
        source: States of the runs, with forcing.
        records: Numbers of the states at the start and after each step, one row for each start.
        lead: Hours of a step.
        members: Of an ensemble.
        seed: The start's number is added.
    """

    source: StateSource
    records: tuple[np.ndarray, ...]
    lead: float
    members: int
    seed: int = 0

    @classmethod
    def find(
        cls, source: StateSource, runs: Sequence[int], starts: int, lead: float, steps: int, members: int, seed: int = 0
    ) -> Hindcasts:
        """Spreads starts evenly over runs, as far as states follow at every step.

        Arguments:
            source: States of all runs.
            runs: Their numbers, from 0.
            starts: In each run, at most.
            lead: Hours of a step.
            steps: Of a forecast.
            members, seed: See the attributes.

        Raises:
            ValueError: There is no such run, or none of its states is followed by others at all steps.

        Collective: no.
        """
        time = 24.0 * np.asarray(source.stamps.time, float)
        number = trajectories(time)
        found = []
        for run in runs:
            mine = np.flatnonzero(number == run)
            if not len(mine):
                raise ValueError(f"There is no trajectory {run}, expected 0 to {int(number.max(initial=-1))}.")
            rows = [row for row in (_followed(time[mine], n, lead, steps) for n in range(len(mine))) if row is not None]
            if not rows:
                raise ValueError(
                    f"Trajectory {run} has no state that others follow {steps} times after {lead:g} h, expected "
                    f"{steps * lead:g} h of them: ask for fewer steps, or another lead."
                )
            chosen = np.unique(np.linspace(0, len(rows) - 1, min(starts, len(rows))).astype(int))
            found += [mine[rows[n]] for n in chosen]
        return cls(source, tuple(found), lead, members, seed)

    def __len__(self) -> int:
        return len(self.records)

    def case(self, generator: Generator, number: int) -> Case:
        """Makes the ensemble of a start. Collective: no."""
        records, names = self.records[number], generator.config.data.variables
        states = self.source.read(np.sort(records))
        fields = {name: np.nan_to_num(x[:, 0]) for name, x in states.fields.items()}
        made = ensemble(generator, fields, self.lead, self.members, self.seed + number)
        hours = tuple(self.lead * n for n in range(len(records)))
        truth = {name: fields[name] for name in names}
        return Case(hours, truth, {NAME: made}, {k: x for k, x in fields.items() if k not in names})


def _followed(time: np.ndarray, first: int, lead: float, steps: int) -> np.ndarray | None:
    """Places of a state and of those that follow it, in hours of one run; None where one is missing."""
    wanted = time[first] + lead * np.arange(steps + 1)
    places = np.searchsorted(time, wanted - CLOSE)
    if places[-1] >= len(time) or (np.abs(time[places] - wanted) > CLOSE).any():
        return None
    return np.asarray(places)


def ensemble(generator: Generator, run: Fields, lead: float, members: int, seed: int) -> dict[str, np.ndarray]:
    """Makes an ensemble from the first of some states, told the forcing of all of them.

    Arguments:
        generator: Of forecasts; a deterministic one makes one member.
        run: State and forcing at the start and after each step, variable to shape (time, nj, ni), 0 on land.
        lead: Hours of a step.
        members: How many.
        seed: Of the forecast.

    Returns:
        Variable to shape (member, time, nj, ni), the start included.

    Raises: see `Stepper`.

    Collective: no.
    """
    names, forcing = generator.config.data.variables, generator.config.data.forcing
    layout = Layout.build(generator.lattice, Serial())
    stepper = Stepper.build(generator, layout)
    count = 1 if generator.config.forecast.deterministic else members
    start = torch.as_tensor(layout.cut(np.stack([run[name][0] for name in names]))).float()
    x = torch.where(stepper.mask, start, 0).expand(count, *start.shape).contiguous()
    made = [_whole(x, layout)]
    for n in range(len(run[names[0]]) - 1):
        told = [_stacked(run, forcing, n + k) for k in (0, 1)]
        x = stepper(x, told, lead, n, seed, range(count))
        made.append(_whole(x, layout))
    stacked = np.stack(made, axis=1)
    return {name: stacked[:, :, channel] for channel, name in enumerate(names)}


def _stacked(run: Mapping[str, np.ndarray], names: Sequence[str], time: int) -> np.ndarray:
    """Some fields at a time, shape (name, nj, ni); empty where nothing is told."""
    shape = next(iter(run.values())).shape[1:]
    return np.stack([run[name][time] for name in names]) if names else np.zeros((0, *shape), np.float32)


def _whole(x: Tensor, layout: Layout) -> np.ndarray:
    """Members on the whole grid, shape (member, channel, nj, ni)."""
    return np.asarray(layout.collect(x))
