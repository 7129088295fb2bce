r"""What a series of numbers, one per year, will be years ahead: a Gaussian process, or an exponential relaxation.

Both are fitted to one series y(t) and give a function of the year.

The Gaussian process has zero mean after the mean of the series is taken off, and the covariance linear + periodic +
white of the published forecast of spin-ups,

.. math::
    k(s, t) = a^2 s t + p^2 \exp\!\Big(-\frac{2}{\ell^2} \sin^2 \frac{\pi (s - t)}{P}\Big) + \sigma^2 \delta_{st}

with times in standard deviations from their mean and values in standard deviations. The forecast is its mean,
`k(t, T) K^-1 y`; amplitudes, length, period and noise are those of the greatest marginal likelihood

.. math:: \ln p(y) = -\tfrac12 y^\top K^{-1} y - \tfrac12 \ln |K| - \tfrac n2 \ln 2 \pi

within bounds: a period between two steps and half of the length of the series, since one that has not come twice cannot
be told from a trend, and would lead back to where the series began.

The relaxation is what a linear system does on its way to equilibrium, and what a trend does not know: that it ends,

.. math:: y(t) = y_\infty + A e^{-(t - t_0) / \tau}

by least squares, with the time scale between half of the shortest step and `LONGEST` times the length of the series.

References: Rasmussen and Williams, 2006, Gaussian Processes for Machine Learning, 2.2 and 5.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["MODELS", "Forecast", "GaussianProcess", "fit_gaussian_process", "fit_relaxation"]

Forecast = Callable[[float], float]
"""Value of a series at a year."""

LONGEST = 10.0  # a relaxation slower than that is a straight line to the eye, and its end a guess
CONSTANT = 1e-12  # of the largest value: a series that varies less is one number and rounding
ITERATIONS = 60
CLIMBS = 3  # from the best periods of the scan
INSIDE = 1e-2  # a start keeps this share of the range from its ends, where nothing pulls it away


@dataclass(frozen=True)
class GaussianProcess:
    """Covariance with its hyper-parameters, in the units of the module's equation.

    Attributes:
        trend: a, amplitude of the linear part.
        amplitude: p, of the periodic part.
        length: l, of the periodic part, in radians of its phase.
        period: P.
        noise: sigma.
    """

    trend: Tensor
    amplitude: Tensor
    length: Tensor
    period: Tensor
    noise: Tensor

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """Covariance of the series without its noise, shape (s, t)."""
        phase = torch.sin(math.pi * (s[:, None] - t) / self.period)
        return self.trend**2 * s[:, None] * t + self.amplitude**2 * torch.exp(-2 * (phase / self.length) ** 2)

    def factor(self, t: Tensor) -> Tensor:
        """Cholesky factor of the covariance with noise, shape (t, t)."""
        return torch.linalg.cholesky(self.covariance(t, t) + self.noise**2 * torch.eye(len(t), dtype=t.dtype))

    def log_likelihood(self, t: Tensor, y: Tensor) -> Tensor:
        """Logarithm of the marginal likelihood of values y at times t, shape ()."""
        factor = self.factor(t)
        white = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
        return -0.5 * white.square().sum() - factor.diagonal().log().sum() - 0.5 * len(t) * math.log(2 * math.pi)

    def predict(self, t: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
        """Mean at other times, shape (wanted), given values y at t."""
        weight = torch.cholesky_solve(y[:, None], self.factor(t))
        return (self.covariance(wanted, t) @ weight)[:, 0]

    @classmethod
    def fit(cls, t: Tensor, y: Tensor) -> GaussianProcess:
        """Maximises the marginal likelihood: a scan of periods, then quasi-Newton steps from the best of them.

        The likelihood has a maximum for nearly each number of periods in the series, so they are scanned at half a
        period's distance.

        Arguments:
            t, y: Times and values, both of mean 0 and variance 1, float64, shape (n), n at least three.

        Collective: no.
        """
        low, high = bounds(t)
        frequencies = np.linspace(math.exp(-high[3]), math.exp(-low[3]), 2 * len(t))
        starts = [torch.tensor([1.0, 0.5, 1.0, 1 / f, 0.3], dtype=torch.float64) for f in frequencies]
        starts.sort(key=lambda x: -float(cls(*x).log_likelihood(t, y)))
        found = [cls(*maximise(lambda x: cls(*x).log_likelihood(t, y), x, low, high)) for x in starts[:CLIMBS]]
        return max(found, key=lambda model: float(model.log_likelihood(t, y)))


def bounds(t: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the least and greatest hyper-parameters, in the order of `GaussianProcess`."""
    step, span = float(t.diff().min()), float(t[-1] - t[0])
    low, high = [1e-3, 1e-4, 0.3, 2 * step, 1e-4], [10.0, 10.0, 10.0, max(span / 2, 2.01 * step), 1.0]
    return torch.tensor(low, dtype=torch.float64).log(), torch.tensor(high, dtype=torch.float64).log()


def maximise(function: Callable[[Tensor], Tensor], start: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Climbs from a start to a maximum of a smooth function of positive numbers within bounds (logarithms)."""
    place = (start.log() - low) / (high - low)
    x = place.logit(INSIDE).requires_grad_()
    search = torch.optim.LBFGS([x], max_iter=ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def inside() -> Tensor:
        return torch.exp(low + (high - low) * torch.sigmoid(x))

    def loss() -> Tensor:
        search.zero_grad()
        value = -function(inside())
        value.backward()
        return value

    search.step(loss)
    return inside().detach()


def fit_gaussian_process(years: np.ndarray, values: np.ndarray) -> Forecast:
    """Fits the Gaussian process to a series; its forecast is the mean.

    Arguments:
        years: Ascending, shape (year), at least three.
        values: Shape (year).

    Collective: no.
    """
    if is_constant(values):
        return lambda year: float(values.mean())
    centre, unit, mean, scale = years.mean(), years.std(), values.mean(), values.std()
    t, y = torch.as_tensor((years - centre) / unit).double(), torch.as_tensor((values - mean) / scale).double()
    model = GaussianProcess.fit(t, y)

    def forecast(year: float) -> float:
        at = torch.tensor([(year - centre) / unit], dtype=torch.float64)
        return float(mean + scale * model.predict(t, y, at)[0])

    return forecast


def fit_relaxation(years: np.ndarray, values: np.ndarray) -> Forecast:
    """Fits the exponential relaxation to a series.

    The end and the amplitude are linear in the series and follow from the time scale, which is searched for on a
    logarithmic grid and then between the neighbours of its best point.

    Arguments: see `fit_gaussian_process`.

    Collective: no.
    """
    if is_constant(values):
        return lambda year: float(values.mean())
    first, span = years[0], years[-1] - years[0]

    def decay(year: np.ndarray | float, logarithm: float) -> np.ndarray:
        return np.expm1(-(np.asarray(year) - first) / math.exp(logarithm))

    def amplitude(logarithm: float) -> tuple[float, float]:
        """Amplitude for a time scale, and the squared distance that remains."""
        basis = decay(years, logarithm)
        basis = basis - basis.mean()
        A = float(basis @ (values - values.mean()) / (basis @ basis))
        return A, float(np.sum((values - values.mean() - A * basis) ** 2))

    grid = np.linspace(math.log(0.5 * np.diff(years).min()), math.log(LONGEST * span), 200)
    best = int(np.argmin([amplitude(x)[1] for x in grid]))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    scale = golden_section(lambda x: amplitude(x)[1], *ends)
    A, _ = amplitude(scale)
    offset = float(values.mean() - A * decay(years, scale).mean())
    return lambda year: offset + A * float(decay(year, scale))


def is_constant(values: np.ndarray) -> bool:
    """Whether a series is one number, to within rounding."""
    return float(np.ptp(values)) <= CONSTANT * float(np.abs(values).max())


def golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Finds the minimum of a function that falls and then rises, to round-off."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    fa, fb = function(a), function(b)
    while high - low > 1e-14 * max(abs(low), abs(high), 1.0) and low < a < b < high:
        if fa <= fb:
            high, b, fb = b, a, fa
            a = high - ratio * (high - low)
            fa = function(a)
        else:
            low, a, fa = a, b, fb
            b = low + ratio * (high - low)
            fb = function(b)
    return 0.5 * (low + high)


MODELS: dict[str, Callable[[np.ndarray, np.ndarray], Forecast]] = {
    "gaussian_process": fit_gaussian_process,
    "relaxation": fit_relaxation,
}
"""Fit by name."""
