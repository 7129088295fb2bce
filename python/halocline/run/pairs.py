r"""Batches for the training of forecasts: windows of two states a lead apart, and of the forcing at both ends.

The network learns :math:`x_0 = (X(T + \tau) - X(T)) / s_\tau` (`halocline.run.increments`), stretched where
the configuration says so (`halocline.run.learned_changes`). Per cell it is told :math:`X(T)`, standardised, and the
forcing at T and at :math:`T + \tau`; per sample the lead and the parameters, but no season: a forecast runs on into
years of which the states that were learned knew nothing. `forecast.state_noise` roughens states that are told, as those
are that a forecast has made itself (`draw_state_noise`): to take the noise away is part of the change.
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

__all__ = ["BoundsOfStates", "Pair", "PairLoader", "draw_state_noise"]

LEAD = (0, 0, 1, 1)  # where the counter of the draw of a lead begins, beside those of `loader`
DISTURBED = (0, 0, 2, 1)  # the same of the noise on states
RANGE = 30.0  # of its sizes


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
        near: Distance from `low` and `high` within which no value lies that is not on them, shape (2, channel): half of
            what was found between them and other values, so that a forecast of rounded states is rounded there, too.
        mean, scale: Of the standardisation, shape (channel).
    """

    low: Tensor
    high: Tensor
    lowest: Tensor
    highest: Tensor
    near: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def build(cls, generator: Generator) -> BoundsOfStates:
        """Takes them from the table of variables, and from a standardisation with one mean for each level."""
        rows, n = [channel.variable.bounds for channel in generator.channels.channels], generator.channels.count
        lowest, highest = (torch.tensor([bounds[k] for bounds in rows], dtype=torch.float64) for k in (0, 1))
        assert generator.increments is not None
        below, above = generator.increments.attained[:, :n]
        near = generator.increments.gap[:, :n] / 2 * generator.increments.attained[:, :n]
        low, high = torch.where(below, lowest, -torch.inf), torch.where(above, highest, torch.inf)
        mean, scale = level_means(generator.standardisation)[:n], generator.standardisation.scale[:n].double()
        return cls(low, high, lowest, highest, near, mean, scale)

    def physical(self, x: Tensor) -> Tensor:
        """Turns standardised states, shape (..., channel, j, i), into physical ones, float64."""
        return x.double() * self.scale[:, None, None] + self.mean[:, None, None]

    def standardised(self, x: Tensor) -> Tensor:
        """Undoes `physical`, float32."""
        return ((x - self.mean[:, None, None]) / self.scale[:, None, None]).float()

    def clip(self, x: Tensor) -> Tensor:
        """Moves physical states to the nearest that all physical bounds allow."""
        return x.clamp(self.lowest[:, None, None], self.highest[:, None, None])

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
        numbers = [step * self._training.batch + k for k in part]
        unit = self._learned.increments.scale[lead, :n, None, None]
        given, standard = self._given(numbers, before[:, :n], unit, wet[:, :n])
        x0 = self._learned.change(given, self._bounds.physical(x1[:, :n]), unit).float()
        t = stratified_times(self._seed, step, self._training.batch, part, shift=self._training.time_shift)
        z = draw_noise(self._seed, numbers, x0.shape[1:])
        if self._forecast.deterministic:
            t, z = torch.ones_like(t), torch.zeros_like(z)
        state = torch.where(wet[:, :n], self._learned.told(given, standard), 0)
        told = torch.cat([static, state, before[:, n:], x1[:, n:]], dim=1)
        return Batch(
            x0=x0, z=z, t=t, wet=wet[:, :n], wet_count=total,
            conditions={"static": told, "conditions": self._told(chosen, lead), "cells": cells},
            bounds=self._bounds.side(x1[:, :n]) if self._forecast.loss == "censored" else None,
        )  # fmt: skip

    def _given(self, numbers: Sequence[int], before: Tensor, unit: Tensor, wet: Tensor) -> tuple[Tensor, Tensor]:
        """States that samples are told, with their noise where there is any: physical, and standardised."""
        given, most = self._bounds.physical(before), self._forecast.state_noise
        if not most:
            return given, before
        noise = torch.stack([draw_state_noise(self._seed, n, most, before.shape[1:]) for n in numbers])
        disturbed = self._bounds.clip(self._learned.apply(given, noise.double(), unit))
        here = wet & (noise != 0)
        return torch.where(here, disturbed, given), torch.where(here, self._bounds.standardised(disturbed), before)

    def _told(self, chosen: Sequence[Pair], lead: Tensor) -> Tensor:
        """Conditions per sample: lead, parameters, augmentation."""
        scales, symmetries = (torch.tensor([getattr(s, name) for s in chosen]) for name in ("scale", "symmetry"))
        extra = extra_conditions(self._training, scales, symmetries)
        parameters = self._parameters[[pair.record for pair in chosen]]
        return torch.cat([Increments.told(self._leads[lead]), parameters, extra], dim=1)


def draw_state_noise(seed: int, sample: int, most: float, shape: Sequence[int]) -> Tensor:
    r"""Draws white noise on the state that a sample is told, in units of its change, shape (channel, j, i).

    .. math:: \epsilon_c = m \, 30^{-u_c} z_c, \qquad u_c \sim U(0, 1), \quad z_c \sim \mathcal N(0, I)

    in every other sample, at random; the others have none. Sizes from m down to a thirtieth of it are equally likely on
    a logarithmic scale, for each channel by itself, as nobody knows how much a forecast leaves in which variable.

    Arguments:
        seed, sample: What it is a function of.
        most: m.
        shape: Of the result.

    Collective: no.
    """
    draws = np.random.Generator(np.random.Philox(key=[seed, sample], counter=DISTURBED))
    if draws.random() < 0.5:
        return torch.zeros(*shape)
    size = most * RANGE ** -draws.random((shape[0], 1, 1), dtype=np.float32)
    return torch.from_numpy(size * draws.standard_normal(tuple(shape), dtype=np.float32))


def plain(pair: Pair, record: int) -> Sample:
    """The window of a pair in one of its two records, without the lead: what is kept serves every lead."""
    return Sample(record, pair.scale, pair.window, pair.symmetry)


def level_means(standardisation: Standardisation) -> Tensor:
    """The one value of the reference in the sea of each channel, shape (channel), float64."""
    masked = torch.where(standardisation.mask, standardisation.reference.double(), -torch.inf)
    return masked.flatten(1).amax(dim=1)
