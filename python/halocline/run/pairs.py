r"""Batches for the training of forecasts: windows of two states a lead apart, and of the forcing at both ends.

The network learns :math:`x_0 = (X(T + \tau) - X(T)) / s_\tau` (`halocline.run.increments`), stretched where
the configuration says so (`halocline.run.learned_changes`). Per cell it is told :math:`X(T)`, standardised, and the
forcing at T and at :math:`T + \tau`; per sample the lead and the parameters, but no season: a forecast runs on into
years of which the states that were learned knew nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.flow.conditions import extra_conditions
from halocline.flow.times import stratified_times
from halocline.io.training_store import TrainingStore
from halocline.run.generator import Generator
from halocline.run.increments import AT_BOUND, Increments, successors
from halocline.run.learned_changes import LearnedChanges
from halocline.run.loader import Batch, Sample, WindowLoader, draw_noise
from halocline.run.scale_windows import parameters_of
from halocline.state.state import Standardisation

__all__ = ["BoundsOfStates", "PairLoader", "Pair"]

LEAD = (0, 0, 1, 1)  # where the counter of the draw of a lead begins, beside those of `loader`


@dataclass(frozen=True)
class Pair(Sample):
    """A sample, and the number of its lead among `forecast.leads`."""

    lead: int


@dataclass(frozen=True)
class BoundsOfStates:
    """Bounds of each channel that values reach, and what turns standardised states into physical ones; float64.

    Bounds that values come near to but do not reach, such as that of damage at 1 in neXtSIM_DG, are no censoring:
    nothing is known to lie there.

    Attributes:
        low, high: Shape (channel); infinite where there is none.
        lowest, highest: The same of all physical bounds.
        mean, scale: Of the standardisation, shape (channel).
    """

    low: Tensor
    high: Tensor
    lowest: Tensor
    highest: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def build(cls, generator: Generator) -> BoundsOfStates:
        """Takes them from the table of variables, and from a standardisation with one mean for each level."""
        rows, n = [channel.variable.bounds for channel in generator.channels.channels], generator.channels.count
        lowest, highest = (torch.tensor([bounds[k] for bounds in rows], dtype=torch.float64) for k in (0, 1))
        assert generator.increments is not None
        below, above = generator.increments.attained[:, :n]
        low, high = torch.where(below, lowest, -torch.inf), torch.where(above, highest, torch.inf)
        mean, scale = level_means(generator.standardisation)[:n], generator.standardisation.scale[:n].double()
        return cls(low, high, lowest, highest, mean, scale)

    def physical(self, x: Tensor) -> Tensor:
        """Turns standardised states, shape (..., channel, j, i), into physical ones, float64."""
        return x.double() * self.scale[:, None, None] + self.mean[:, None, None]

    def side(self, x: Tensor) -> Tensor:
        """Tells where standardised states, shape (sample, channel, j, i), lie on a bound: -1, 1 or 0, int8."""
        physical = self.physical(x)
        low, high = (
            (physical - bound[:, None, None]).abs() <= AT_BOUND for bound in (self.low, self.high)
        )
        return high.to(torch.int8) - low.to(torch.int8)


class PairLoader(WindowLoader):
    """Reads the batches of a training of forecasts; see the module.

    Arguments: see `WindowLoader`. A sample is a state and a lead that one of its successors in the store is away; both
    are drawn anew in every epoch.

    Raises:
        ValueError: As `WindowLoader`; or the store has not measured the changes over the leads.
    """

    def __init__(self, store: TrainingStore, generator: Generator, rank: int, ranks: int) -> None:
        config, increments = generator.config, generator.increments
        if increments is None:
            raise ValueError(f"Training store {store.path} has no increments: give `halocline data` once more.")
        leads = config.forecast.leads
        self._follows = np.stack([successors(store.records, lead) for lead in leads])
        super().__init__(store, generator, rank, ranks)
        self._forecast, self._count = config.forecast, generator.channels.count
        self._bounds = BoundsOfStates.build(generator)
        self._learned = LearnedChanges.build(generator)
        self._leads = increments.leads
        names = generator.parameters.names
        self._parameters = generator.parameters.standardise(parameters_of(store.records, names)).float()

    def _drawn(self, store: TrainingStore) -> np.ndarray:
        return np.flatnonzero((self._follows >= 0).any(axis=0))

    def sample(self, n: int) -> Pair:
        """Draws what the n-th sample of the training is. Collective: no."""
        drawn = super().sample(n)
        possible = np.flatnonzero(self._follows[:, drawn.record] >= 0)
        draws = np.random.Generator(np.random.Philox(key=[self._seed, n], counter=LEAD))
        lead = int(possible[draws.integers(len(possible))])
        return Pair(drawn.record, drawn.scale, drawn.window, drawn.symmetry, lead)

    def _collect(self, step: int, part: Sequence[int], samples: Sequence[Sample], total: float) -> Batch:
        chosen = [pair for n in part if isinstance(pair := samples[n], Pair)]
        before, wet, static, cells = self._windows([plain(pair, pair.record) for pair in chosen])
        after = np.stack(
            [self._states(plain(pair, int(self._follows[pair.lead, pair.record]))) for pair in chosen]
        )
        n, x1 = self._count, torch.from_numpy(after)
        lead = torch.tensor([pair.lead for pair in chosen])
        given = self._bounds.physical(before[:, :n])
        unit = self._learned.increments.scale[lead, :n, None, None]
        x0 = self._learned.change(given, self._bounds.physical(x1[:, :n]), unit).float()
        numbers = [step * self._training.batch + k for k in part]
        t = stratified_times(self._seed, step, self._training.batch, part)
        z = draw_noise(self._seed, numbers, x0.shape[1:])
        if self._forecast.deterministic:
            t, z = torch.ones_like(t), torch.zeros_like(z)
        state = torch.where(wet[:, :n], self._learned.told(given, before[:, :n]), 0)
        told = torch.cat([static, state, before[:, n:], x1[:, n:]], dim=1)
        return Batch(
            x0=x0, z=z, t=t, wet=wet[:, :n], wet_count=total,
            conditions={"static": told, "conditions": self._told(chosen, lead), "cells": cells},
            bounds=self._bounds.side(x1[:, :n]) if self._forecast.loss == "censored" else None,
        )  # fmt: skip

    def _told(self, chosen: Sequence[Pair], lead: Tensor) -> Tensor:
        """Conditions per sample: lead, parameters, augmentation."""
        scales, symmetries = (torch.tensor([getattr(s, name) for s in chosen]) for name in ("scale", "symmetry"))
        extra = extra_conditions(self._training, scales, symmetries)
        parameters = self._parameters[[pair.record for pair in chosen]]
        return torch.cat([Increments.told(self._leads[lead]), parameters, extra], dim=1)


def plain(pair: Pair, record: int) -> Sample:
    """The window of a pair in one of its two records, without the lead: what is kept serves every lead."""
    return Sample(record, pair.scale, pair.window, pair.symmetry)


def level_means(standardisation: Standardisation) -> Tensor:
    """The one value of the reference in the sea of each channel, shape (channel), float64."""
    masked = torch.where(standardisation.mask, standardisation.reference.double(), -torch.inf)
    return masked.flatten(1).amax(dim=1)
