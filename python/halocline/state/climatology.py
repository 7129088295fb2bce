r"""The mean of states as a function of season and physical parameters.

At each parameter value that the training states have, a channel of a cell follows a seasonal cycle by least squares;
between the values, and a little beyond, cycles are combined by thin-plate splines:

.. math::
    m(s, \theta) = \sum_v w_v(\theta) \sum_f \varphi_f(s) \, c_{vf}, \qquad \sum_v w_v = 1, \quad
    w_v(\theta_{v'}) = \delta_{vv'}

with the harmonics :math:`\varphi` of the year that the seasons of the states can tell apart. A spline returns planes
exactly, so a parameter that acts linearly is carried beyond the training values without error; where values are too few
for a plane, weights are those of linear radial functions, which between two values interpolate linearly.

A generator that learns departures from this mean need not learn what a regression knows, and can be given parameters
between those of training. References: Wahba, 1990, Spline Models for Observational Data; Mardani et al., 2025, Residual
corrective diffusion modeling, for a generative model of the residual of a regression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from halocline.mesh.layout import Layout

__all__ = ["Climatology", "seasonal_basis"]

EXACT = 9  # decimals of the weights: the mean at a training value is that value's own, and no rank rounds otherwise
MOST = 12  # seasonal functions, enough for monthly states
TENSORS = ("points", "coefficients")


def seasonal_basis(season: np.ndarray, count: int) -> np.ndarray:
    """Evaluates 1, sine and cosine of the first harmonics of the year, and a last cosine where `count` is even.

    Arguments:
        season: Fraction of the year, shape (sample).
        count: Of functions.

    Returns:
        Shape (sample, function), float64.

    Collective: no.
    """
    phase = 2 * math.pi * np.asarray(season, np.float64)[:, None]
    columns = [np.ones_like(phase)]
    for n in range(1, (count - 1) // 2 + 1):
        columns += [np.sin(n * phase), np.cos(n * phase)]
    if count % 2 == 0:
        columns.append(np.cos(count // 2 * phase))
    return np.concatenate(columns, axis=1)


def seasons_told_apart(season: np.ndarray, value: np.ndarray) -> int:
    """Counts the seasonal functions that the states of each parameter value determine, shapes (state) both."""
    return min(MOST, *(len(np.unique(season[value == v].round(6))) for v in np.unique(value)))


@dataclass(frozen=True, eq=False)
class Climatology:
    """Seasonal cycles at parameter values; see the module.

    Attributes:
        points: Standardised parameters, float64, shape (value, parameter); one value where there are no parameters.
        coefficients: c, float32, shape (value, function, channel, j, i), or with a tile before channel; 0 on land.
    """

    points: Tensor
    coefficients: Tensor

    @property
    def components(self) -> Tensor:
        """The coefficients as one list of fields, shape (value * function, channel, j, i)."""
        return self.coefficients.flatten(0, 1)

    def weights(self, season: Tensor, parameters: Tensor) -> Tensor:
        """Returns the weight of each component, float64, shape (sample, value * function).

        Arguments:
            season: Fraction of the year, shape (sample).
            parameters: Standardised, shape (sample, parameter).

        Collective: no; equal on all ranks.
        """
        of_values = interpolation(self.points.numpy(), parameters.double().numpy())
        of_season = seasonal_basis(season.numpy(), self.coefficients.shape[1])
        return torch.as_tensor((of_values[:, :, None] * of_season[:, None, :]).reshape(len(of_values), -1))

    def reference(self, season: Tensor, parameters: Tensor) -> Tensor:
        """Returns the mean state of each sample, float64, shape (sample, ...) of the components.

        Arguments: see `weights`.

        Collective: no.
        """
        weights, components = self.weights(season, parameters), self.components
        result = torch.zeros(len(weights), *components.shape[1:], dtype=torch.float64)
        for mean, row in zip(result, weights.tolist(), strict=True):
            for weight, field in zip(row, components, strict=True):
                if weight:
                    mean += weight * field.double()
        return result

    def cut(self, layout: Layout) -> Climatology:
        """Returns the same on this rank's tiles: components of shape (tile, channel, j, i). Collective: no."""
        fields = [torch.as_tensor(layout.cut(field.numpy())) for field in self.components]
        shape = self.coefficients.shape[:2]
        return Climatology(self.points, torch.stack(fields).unflatten(0, shape))

    def to_dict(self) -> dict[str, Tensor]:
        """Returns its tensors, for files."""
        return {name: getattr(self, name) for name in TENSORS}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor]) -> Climatology | None:
        """Restores it from `to_dict`; None where there is none."""
        return cls(*(tensors[name] for name in TENSORS)) if set(TENSORS) <= set(tensors) else None


def interpolation(points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Weights of the values at other ones, shape (wanted, value), rounded to `EXACT` decimals.

    Arguments:
        points: Different values, shape (value, parameter).
        wanted: Shape (wanted, parameter).
    """
    count = len(points)
    if count == 1 or points.shape[1] == 0:
        return np.ones((len(wanted), 1))
    plane = np.column_stack([np.ones(count), points])
    if np.linalg.matrix_rank(plane) == plane.shape[1]:
        spline = RBFInterpolator(points, np.eye(count), kernel="thin_plate_spline", degree=1)
    else:
        spline = RBFInterpolator(points, np.eye(count), kernel="linear", degree=0)
    return np.asarray(spline(wanted)).round(EXACT)


def values_of(parameters: Sequence[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the different parameter values of states.

    Arguments:
        parameters: One array of shape (state) for each parameter.
        count: Of states.

    Returns:
        Values, shape (value, parameter), and the number of that of each state, shape (state).

    Collective: no.
    """
    if not parameters:
        return np.zeros((1, 0)), np.zeros(count, int)
    table = np.stack([np.asarray(column, np.float64) for column in parameters], axis=1)
    values, number = np.unique(table, axis=0, return_inverse=True)
    return values, number.reshape(-1)
