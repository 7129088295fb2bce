r"""What profiles the model's own states have: targets of constraints, as functions of season and physical parameters.

A profile p of the training states is regressed on season and standardised parameters,

.. math:: p_k \approx \sum_f c_{kf} \, \phi_f, \qquad
    \phi = (1,\ \text{sines and cosines of the year},\ \text{parameters}),

and its spread is the standard deviation of what is left. Where the generator has a climatology, profiles follow it: its
weights take the place of :math:`\phi`. Where states are no more than functions, nothing is left to tell a spread from,
and that of all states is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from halocline.flow.conditions import sample_conditions
from halocline.inference.constraint import PROFILES
from halocline.state.climatology import Climatology

__all__ = ["Targets"]

LEAST = 1e-2  # spread of a level, of the largest of its profile: deep water that never moves must not rule the others
NAMES = tuple(name for profile in PROFILES.values() for name in profile)


@dataclass(frozen=True)
class Targets:
    """Regressed profiles.

    Attributes:
        coefficients: Diagnostic to c, float64, shape (feature, level); NaN on levels without water.
        spread: Diagnostic to float64, shape (level), positive.
    """

    coefficients: Mapping[str, Tensor] = field(default_factory=dict)
    spread: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        diagnostics: Mapping[str, np.ndarray],
        season: Tensor,
        parameters: Tensor,
        climatology: Climatology | None = None,
    ) -> Targets:
        """Regresses the profiles of states.

        Arguments:
            diagnostics: Name to array of shape (state, level); those of no use here are passed over.
            season: Fraction of the year, shape (state).
            parameters: Standardised, shape (state, parameter).
            climatology: Of the generator.

        Collective: no.
        """
        features = cls.features(season, parameters, climatology).numpy()
        rank = int(np.linalg.matrix_rank(features))
        coefficients, spread = {}, {}
        for name in (name for name in NAMES if name in diagnostics):
            values = np.asarray(diagnostics[name], float)
            there = np.isfinite(values).all(axis=0)
            found = np.full((features.shape[1], values.shape[1]), np.nan)
            found[:, there] = np.linalg.lstsq(features, values[:, there], rcond=1e-8)[0]
            size, freedom = np.ones(values.shape[1]), len(values) - rank
            if freedom > 0:
                size[there] = np.sqrt(((values - features @ found)[:, there] ** 2).sum(axis=0) / freedom)
            else:
                size[there] = values[:, there].std(axis=0)
            size[there] = np.maximum(size[there], LEAST * size[there].max(initial=0.0) + 1e-9)
            coefficients[name], spread[name] = torch.as_tensor(found), torch.as_tensor(size)
        return cls(coefficients, spread)

    @staticmethod
    def features(season: Tensor, parameters: Tensor, climatology: Climatology | None = None) -> Tensor:
        """Returns the features, float64, shape (sample, feature)."""
        if climatology is not None:
            return climatology.weights(season, parameters)
        told = sample_conditions(season, parameters).double()
        return torch.cat([told.new_ones(len(told), 1), told], dim=1)

    def of(
        self, kind: str, season: Tensor, parameters: Tensor, climatology: Climatology | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the target of a kind of means, shape (sample, n), and its spread, shape (n).

        Raises:
            ValueError: The training data did not have these profiles.

        Collective: no.
        """
        names = PROFILES[kind]
        if missing := [name for name in names if name not in self.coefficients]:
            raise ValueError(
                f"Constraint '{kind}' needs targets of {', '.join(missing)}, got "
                f"{', '.join(self.coefficients) or 'none'}: train again, with temperature and salinity in "
                "data.variables."
            )
        features = self.features(season, parameters, climatology)
        target = torch.cat([features @ self.coefficients[name] for name in names], dim=1)
        return target, torch.cat([self.spread[name] for name in names])

    def to_dict(self) -> dict[str, Tensor]:
        """Returns its tensors, for files."""
        parts = {"coefficients": self.coefficients, "spread": self.spread}
        return {f"{part}.{name}": x for part, tensors in parts.items() for name, x in tensors.items()}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor]) -> Targets:
        """Restores it from `to_dict`."""
        parts: dict[str, dict[str, Tensor]] = {"coefficients": {}, "spread": {}}
        for key, x in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = x
        return cls(**parts)
