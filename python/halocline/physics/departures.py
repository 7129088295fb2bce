r"""Departures of states from the mean of their month, and how large they are in truth.

A mean of n states lies nearer to these states than the true mean does, so that the squares of their departures from it
are too small by (n - 1) / n, and those of other states too large. Departures of reference states are therefore taken as
the n - 1 *contrasts* of each month (Helmert)

.. math:: c_k = \sqrt{k / (k + 1)} \, \left( \frac{1}{k} \sum_{l \le k} x_l - x_{k+1} \right), \qquad k = 1 ... n - 1

which have the variance of a state, do not know the mean, are uncorrelated with each other and with the mean where the
states are, and have the sum of squares of the departures from it.

Serial: fields are whole.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Departures", "Sample", "helmert", "interval", "resample"]

DRAWS = 1000  # of the bootstrap
INTERVAL = (0.025, 0.975)  # quantiles that bound an interval


def helmert(x: np.ndarray) -> np.ndarray:
    """Returns the contrasts of n states, see the module.

    Arguments:
        x: Shape (n, ...).

    Returns:
        Shape (n - 1, ...), float64.

    Collective: no.
    """
    x = np.asarray(x, np.float64)
    k = np.arange(1, len(x)).reshape(-1, *[1] * (x.ndim - 1))
    return np.sqrt(k / (k + 1)) * (np.cumsum(x[:-1], axis=0) / k - x[1:])


@dataclass(frozen=True, eq=False)
class Departures:
    """Which states of two sets stand at the same months.

    Attributes:
        months: In both sets, with enough reference states, shape (month).
        generated, reference: Numbers of the states of each month.
    """

    months: np.ndarray
    generated: tuple[np.ndarray, ...]
    reference: tuple[np.ndarray, ...]

    @classmethod
    def match(cls, generated: np.ndarray, reference: np.ndarray, most: int | None = None, least: int = 2) -> Departures:
        """Matches states by month.

        Arguments:
            generated, reference: Month of each state, shape (state).
            most: Reference states to take at most, evenly from each month; all if absent.
            least: Reference states that a month must have: two for departures.

        Raises:
            ValueError: No month of the generated states has as many.

        Collective: no.
        """
        months = [m for m in np.unique(generated) if (reference == m).sum() >= least]
        if not months:
            raise ValueError(f"No month of the generated states has {least} states of the reference.")
        taken = [np.flatnonzero(reference == m) for m in months]
        if most is not None and sum(map(len, taken)) > most:
            share = max(2, most // len(months))
            taken = [n[np.linspace(0, len(n) - 1, min(share, len(n))).round().astype(int)] for n in taken]
        return cls(np.array(months), tuple(np.flatnonzero(generated == m) for m in months), tuple(taken))

    @cached_property
    def members(self) -> np.ndarray:
        """Numbers of the generated states, month by month."""
        return np.concatenate(self.generated)

    @cached_property
    def states(self) -> np.ndarray:
        """Numbers of the reference states, month by month."""
        return np.concatenate(self.reference)

    @cached_property
    def parts(self) -> np.ndarray:
        """Share of the generated states that stand at each month, shape (month)."""
        return np.array([len(n) for n in self.generated]) / len(self.members)

    @cached_property
    def state_weights(self) -> np.ndarray:
        """Weights of the reference states by which their months count as in the generated ones, shape (state)."""
        return self._spread([len(n) for n in self.reference])

    @cached_property
    def contrast_weights(self) -> np.ndarray:
        """Weights of the contrasts of the reference, likewise, shape (contrast)."""
        return self._spread([len(n) - 1 for n in self.reference])

    @property
    def has_own_means(self) -> bool:
        """Whether each month has two generated states or more."""
        return min(self._sizes) > 1

    @cached_property
    def second_half(self) -> np.ndarray:
        """True for the contrasts of the later states of each month, shape (contrast); a middle one goes in turn."""
        halves = []
        for n, count in enumerate(self._counts - 1):
            place = (np.arange(count) + 0.5) / count
            halves.append(np.where(place == 0.5, n % 2 == 1, place > 0.5))
        return np.concatenate(halves)

    def reference_contrasts(self, x: np.ndarray) -> np.ndarray:
        """Contrasts of the reference, shape (contrast, ...), of all its states, shape (state, ...)."""
        return np.concatenate([helmert(x[n]) for n in self.reference])

    def generated_departures(self, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Departures from the reference's mean of the month, shape (member, ...), of all states of both sets."""
        pairs = zip(self.generated, self.reference, strict=True)
        return np.concatenate([x[g].astype(np.float64) - reference[r].mean(axis=0, dtype=np.float64) for g, r in pairs])

    def spread(self, departures: np.ndarray) -> np.ndarray:
        """Contrasts of generated states: of each month if all have two or more, else of all departures together.

        Arguments:
            departures: Shape (member, ...), see `generated_departures`.

        Returns:
            Shape (contrast, ...), float64.

        Collective: no.
        """
        if self.has_own_means:
            return np.concatenate([helmert(x) for x in np.split(departures, np.cumsum(self._sizes)[:-1])])
        return helmert(departures)

    @property
    def spread_count(self) -> int:
        """Number of contrasts of generated states."""
        return len(self.members) - (len(self.months) if self.has_own_means else 1)

    @cached_property
    def excess(self) -> float:
        """What squares of `spread` have too much, in squares of the reference's contrasts.

        0 where months have their own means; else the reference's means, of few states each, do not cancel.
        """
        if self.has_own_means or len(self.members) < 2:
            return 0.0
        known = np.repeat(np.eye(len(self.months)), self._sizes, axis=0)
        return float((helmert(known) ** 2 / self._counts).sum(axis=1).mean())

    @property
    def _sizes(self) -> list[int]:
        return [len(n) for n in self.generated]

    @property
    def _counts(self) -> np.ndarray:
        return np.array([len(n) for n in self.reference])

    def _spread(self, sizes: list[int]) -> np.ndarray:
        return np.repeat(self.parts / sizes, sizes)


@dataclass(frozen=True, eq=False)
class Sample:
    """Numbers of some samples, whose weighted mean is looked for.

    Attributes:
        values: Shape (sample, ...).
        weights: Shape (sample), of sum 1.
    """

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def equal(cls, values: np.ndarray) -> Sample:
        """Of samples that count alike."""
        return cls(values, np.full(len(values), 1 / len(values)))

    def means(self, counts: np.ndarray) -> np.ndarray:
        """Means where each sample is there so many times, shape (draw, ...).

        Arguments:
            counts: Shape (draw, sample).
        """
        total = (counts @ self.weights).reshape(-1, *[1] * (self.values.ndim - 1))
        return self.sums(counts) / total

    def sums(self, counts: np.ndarray) -> np.ndarray:
        """Weighted sums instead, shape (draw, ...)."""
        flat = self.values.reshape(len(self.values), -1)
        return ((counts * self.weights) @ flat).reshape(len(counts), *self.values.shape[1:])


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of 95 % of the finite draws, of shape (draw, ...); NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # there may be none
        low, high = np.nanquantile(np.where(np.isfinite(draws), draws, np.nan), INTERVAL, axis=0)
    return low, high


def resample(count: int, seed: int) -> np.ndarray:
    """Says how often a bootstrap takes each sample, shape (1 + draw, sample); the first row takes each once."""
    random = np.random.Generator(np.random.Philox(key=seed))
    return np.concatenate([np.ones((1, count)), random.multinomial(count, np.full(count, 1 / count), DRAWS)])
