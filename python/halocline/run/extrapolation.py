r"""The jump: an ongoing spin-up is read once a year and carried years ahead by statistics, as users do today.

Annual states are standardised, their departures from the mean of the years are decomposed into principal components,
each component's series of amplitudes is extrapolated (`series_models`), and the sum is a state:

.. math::
    x(t) = m + s \sum_c z_c(t) \, \phi_c, \qquad
    G_{tu} = \sum_i w_i \, \tilde x_{ti} \tilde x_{ui} = \sum_c U_{tc} \lambda_c U_{uc}, \qquad
    z_{tc} = U_{tc}, \quad \phi_c = \sum_t U_{tc} \, \tilde x_t

`m` is the mean over the years of each cell, `s` the scale of each level, the tilde a departure from `m` over `s`,
and `w` the share of a cell in the volume of its variable (area for surface variables), so that each variable counts as
much as another and a thick level more than a thin one. There are fewer years than cells, so the matrix G between years
is what is decomposed. Components are shared by all variables: temperature and salinity of a water mass move together.

So far this follows the published forecast: what the components leave out, and what the models of their series miss,
is lost at once. An anchored jump begins where the model stands, in the last year n,

.. math:: x(t) = x(n) + s \sum_c (\hat z_c(t) - \hat z_c(n)) \, \phi_c

The Gaussian process is the published model of a series; the relaxation knows that a spin-up ends. In one spin-up of
NEMO's GYRE, years 20 to 50 carried to year 66, the root mean square error of temperature in degC was 0.33 with
Gaussian processes (0.34 anchored), 0.095 with relaxations (0.058 anchored), and 0.092 where the state of year 50 was
kept. Anchoring, and the bound on the period, were chosen on that run: it is no independent test of them. Nothing is
adjusted: a state that is carried ahead may be unstable.

References: Meunier et al., 2025, Learning to generate physical ocean states; the spin-up forecast of the M2LInES
project (PCA and a Gaussian process per component).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halocline.mesh.grid import Grid
from halocline.run.baselines import fields_of
from halocline.run.config_reader import one_of
from halocline.run.series_models import MODELS, Forecast
from halocline.state.state import Channels, Standardisation, area_weights

__all__ = ["Components", "Extrapolation"]

FEWEST = 4  # years: a relaxation has three unknowns
EXPLAINED = 0.99


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of annual states.

    Attributes:
        grid, channels: Of the states.
        standardisation: Over the years.
        amplitudes: Of each component in each year, orthonormal over years, shape (year, component).
        patterns: Standardised, shape (component, channel, nj, ni), 0 on land.
        remainder: What they leave out of the last year, standardised, shape (channel, nj, ni).
        explained: Share of each component in the variance, shape (component); that of the first is 1 where nothing
            varies.
    """

    grid: Grid
    channels: Channels
    standardisation: Standardisation
    amplitudes: np.ndarray
    patterns: np.ndarray
    remainder: np.ndarray
    explained: np.ndarray

    @classmethod
    def fit(cls, series: Mapping[str, np.ndarray], grid: Grid, explained: float = EXPLAINED) -> Components:
        """Decomposes annual states.

        Arguments:
            series: Variable to shape (year, nk, nj, ni), one level for surface variables; land is not looked at.
            grid: Gives masks and volumes.
            explained: Share of the variance that the components kept must reach, in (0, 1]; 1 keeps as many as there
                are years.

        Raises:
            ValueError: A wet value is not finite, shapes differ, a variable is unknown, or the share is out of range.

        Collective: no.
        """
        if not 0.0 < explained <= 1.0:
            raise ValueError(f"explained is {explained}, expected a share of the variance in (0, 1].")
        channels = Channels.build(tuple(series), grid)
        states = channels.join(checked(series)).double()
        standardisation = Standardisation.fit(channels, states, grid)
        x = standardisation.forward(states).numpy().reshape(len(states), -1)
        root = np.sqrt(volume_weights(channels, grid)).reshape(-1)
        variance, vectors = np.linalg.eigh((x * root) @ (x * root).T)
        variance, vectors = np.clip(variance[::-1], 0.0, None), vectors[:, ::-1]
        total = variance.sum()
        share = variance / total if total > 0 else np.eye(1, len(variance))[0]
        kept = len(share) if explained == 1.0 else int(np.searchsorted(np.cumsum(share), explained)) + 1
        amplitudes = vectors[:, :kept]
        patterns = amplitudes.T @ x
        shape = states.shape[1:]
        remainder = (x[-1] - amplitudes[-1] @ patterns).reshape(shape)
        return cls(grid, channels, standardisation, amplitudes, patterns.reshape(-1, *shape), remainder, share[:kept])

    def fields(self, amplitudes: np.ndarray, *, remainder: bool = False) -> dict[str, np.ndarray]:
        """Builds the state of some amplitudes.

        Arguments:
            amplitudes: Shape (component).
            remainder: Whether to add what the components leave out of the last year.

        Returns:
            Variable to shape (nk, nj, ni), (1, nj, ni) for surface variables; physical units, float32, NaN on land.

        Collective: no.
        """
        x = np.tensordot(amplitudes, self.patterns, axes=1) + (self.remainder if remainder else 0.0)
        return fields_of(self.standardisation.inverse(x).numpy(), self.channels, self.grid)


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """A spin-up carried ahead.

    Attributes:
        years: That it was fitted to, shape (year).
        components: Of their states.
        forecasts: Of the amplitude of each component.
        anchored: Whether the jump begins at the last state; see the module.
    """

    years: np.ndarray
    components: Components
    forecasts: tuple[Forecast, ...]
    anchored: bool

    @classmethod
    def fit(
        cls,
        series: Mapping[str, np.ndarray],
        years: Sequence[float] | np.ndarray,
        grid: Grid,
        *,
        model: str = "gaussian_process",
        explained: float = EXPLAINED,
        anchored: bool = True,
    ) -> Extrapolation:
        """Fits a model to each component of a spin-up.

        Arguments:
            series: One state of each year, all of the same month; see `Components.fit`.
            years: Of the states, ascending, at least four.
            grid: Of the states.
            model: "gaussian_process" or "relaxation".
            explained: See `Components.fit`.
            anchored: Whether the jump begins at the last state; False follows the published form.

        Raises:
            ValueError: The years are too few or not ascending, or do not fit the states; see also `Components.fit`.

        Collective: no.
        """
        one_of("model", model, tuple(MODELS))
        times = np.asarray(years, np.float64)
        check_years(times, series)
        components = Components.fit(series, grid, explained)
        return cls(times, components, tuple(MODELS[model](times, z) for z in components.amplitudes.T), anchored)

    @property
    def explained_variance(self) -> float:
        """Share of the variance over the years that the components hold, in [0, 1]."""
        return float(self.components.explained.sum())

    def at(self, year: float) -> dict[str, np.ndarray]:
        """Carries the spin-up to a year.

        Arguments:
            year: Not before the first of the series.

        Returns: see `Components.fields`.

        Raises:
            ValueError: The year lies before the series.

        Collective: no.
        """
        if not year >= self.years[0]:
            raise ValueError(f"year is {year}, expected {self.years[0]:g} or later: the series begins there.")
        amplitudes = self._amplitudes(float(year))
        if self.anchored:
            amplitudes += self.components.amplitudes[-1] - self._amplitudes(float(self.years[-1]))
        return self.components.fields(amplitudes, remainder=self.anchored)

    def _amplitudes(self, year: float) -> np.ndarray:
        """What the forecasts say, shape (component)."""
        return np.array([forecast(year) for forecast in self.forecasts])


def volume_weights(channels: Channels, grid: Grid) -> np.ndarray:
    """Share of each wet cell in the volume (surface variables: area) of its variable, shape (channel, nj, ni).

    Each variable has weight 1; 0 on land and for repeated cells.

    Collective: no.
    """
    counted = area_weights(channels, grid) > 0
    weight = np.zeros(counted.shape)
    for channel in channels.channels:
        row = channel.variable
        e1, e2, e3 = (getattr(grid, f"{factor}{row.point.lower()}") for factor in ("e1", "e2", "e3"))
        weight[channel.index] = e1 * e2 * (e3[channel.level] if row.is_3d else 1.0) * counted[channel.index]
    for row in channels.variables:
        mine = [channel.index for channel in channels.channels if channel.variable is row]
        weight[mine] /= weight[mine].sum()
    return weight


def checked(series: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Returns a series of which all variables have the same number of years.

    Raises:
        ValueError: They have not.
    """
    counts = {name: len(x) for name, x in series.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"Years are {counts}, expected the same number for each variable: leave out what is missing.")
    return series


def check_years(years: np.ndarray, series: Mapping[str, np.ndarray]) -> None:
    """Refuses years that do not fit the states.

    Raises:
        ValueError: They are too few, not ascending, not finite, or not as many as the states.
    """
    if years.ndim != 1 or len(years) < FEWEST or not np.isfinite(years).all() or not (np.diff(years) > 0).all():
        raise ValueError(f"years are {years.tolist()}, expected {FEWEST} or more in ascending order.")
    if any(len(x) != len(years) for x in series.values()):
        counts = {name: len(x) for name, x in series.items()}
        raise ValueError(f"States are {counts}, expected {len(years)} of each variable, one per year of the series.")
