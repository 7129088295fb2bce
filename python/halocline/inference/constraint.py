r"""What a sample is to meet: means of water masses, and static stability.

A constraint is a function of the clean, standardised state on tiles. Means are those of the levels,

.. math:: r_k(x) = \frac{\langle q(x) \rangle_k - \mu_k}{\varsigma_k}

with q temperature and salinity ("ts"), potential density ("c1") or its vertical gradient ("c2"), the target
:math:`\mu` and the spread :math:`\varsigma` of the model's own states about it, so that a residual of 1 is a typical
departure. They are computed by the functions of `physics` that judge a running model, in lattice order, so that every
rank and every layout sees the same bits. All are differentiable.

References: Meunier et al., 2025 (arXiv 2502.02499); Gorce et al., 2025, NeurIPS workshop on climate change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from halocline.constants import RHO0
from halocline.mesh.layout import Layout
from halocline.physics.free_surface import FreeSurface, stretching
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import best_share, level_mean, level_sum
from halocline.physics.seawater import EquationOfState
from halocline.physics.stability import (
    density_step,
    interfaces,
    potential_density_profile,
    stratification_profile,
)  # fmt: skip
from halocline.state.state import Channels, Standardisation

__all__ = ["PROFILES", "Moments", "Stability", "Water", "colours"]

PROFILES: Mapping[str, tuple[str, ...]] = {
    "ts": ("temperature_mean", "salinity_mean"),
    "c1": ("potential_density",),
    "c2": ("stratification",),
}
"""Diagnostics whose profiles a kind of means holds, one after the other."""


@dataclass(frozen=True, eq=False)
class Water:
    """Temperature and salinity of a standardised state, and where they lie.

    Attributes:
        channels: Of the state; with temperature and salinity.
        standardisation: Of this rank's tiles.
        geometry: Owned cells.
        layout: Who owns which tile.
        eos: Equation of state of the model.
        free_surface: Which layers the sea level stretches.
    """

    channels: Channels
    standardisation: Standardisation
    geometry: Geometry
    layout: Layout
    eos: EquationOfState
    free_surface: FreeSurface = "linear"

    def fields(self, x: Tensor) -> dict[str, Tensor]:
        """Returns physical fields of a standardised state (member, tile, channel, j, i), float64. Collective: no."""
        return self.channels.split(self.standardisation.inverse(x.double()))

    def volume(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Returns the volume of wet cells, stretched by the sea level; its gradient is left out. Collective: yes."""
        volume = self.geometry.volume_t
        if self.free_surface == "linear" or "sea_level" not in fields:
            return volume
        stretch = stretching(fields["sea_level"].detach(), self.geometry, self.layout, self.free_surface)
        return volume * stretch.t

    def profile(self, name: str, fields: Mapping[str, Tensor]) -> Tensor:
        """Returns a profile of `PROFILES` by the name of its diagnostic, shape (member, level). Collective: yes."""
        T, S = fields["temperature"], fields["salinity"]
        if name == "potential_density":
            return potential_density_profile(T, S, self.geometry, self.layout, self.eos)
        if name == "stratification":
            return stratification_profile(self.step(fields), self.geometry, self.layout)
        return level_mean(fields[name.removesuffix("_mean")], self.volume(fields), self.layout)

    def step(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Returns the density step at interfaces, kg/m3, positive unstable. Collective: no."""
        return density_step(fields["temperature"], fields["salinity"], self.geometry.gdepw, self.eos)


@dataclass(frozen=True, eq=False)
class Moments:
    """Means of the levels that are to meet a target.

    Attributes:
        kind: Of `PROFILES`.
        water: Measures them.
        target: Shape (member, n); NaN where nothing is asked, as on levels without water.
        spread: Positive, shape (n).
    """

    kind: str
    water: Water
    target: Tensor
    spread: Tensor

    def residual(self, x: Tensor) -> Tensor:
        """Returns the residuals of a standardised state, shape (member, n), 0 where nothing is asked.

        Collective: yes.
        """
        fields = self.water.fields(x)
        profile = torch.cat([self.water.profile(name, fields) for name in PROFILES[self.kind]], dim=1)
        asked = self.target.isfinite() & profile.isfinite()
        return torch.where(asked, (profile - self.target) / self.spread, 0.0)

    def support(self) -> Tensor:
        """Returns which channels a residual depends on, bool (n, channel). Collective: no."""
        channels, nk = self.water.channels, self.water.channels.nk
        rows = []
        for name in PROFILES[self.kind]:
            tracers = ("temperature", "salinity") if self.kind != "ts" else (name.removesuffix("_mean"),)
            mine = torch.tensor([c.level if c.variable.name in tracers else -2 for c in channels.channels])
            levels = torch.arange(nk - 1)[:, None] if self.kind == "c2" else torch.arange(nk)[:, None]
            rows.append((mine == levels) | (mine == levels + 1) if self.kind == "c2" else mine == levels)
        return torch.cat(rows)

    @cached_property
    def steepness(self) -> Tensor:
        r"""Norms :math:`|\nabla r_k|^2` with respect to the standardised state, at its reference, shape (member, n).

        Residuals that share no channel are differentiated together. Of temperature and salinity they are the same in
        any state, of densities about so.

        Collective: yes, when it is first asked for.
        """
        support, mask = self.support(), self.water.standardisation.mask
        with torch.enable_grad():
            x = torch.zeros(len(self.target), *mask.shape, dtype=torch.float64, requires_grad=True)
            residual = self.residual(x)
            result = torch.zeros_like(residual)
            for group in colours(support):
                (slope,) = torch.autograd.grad(residual[:, group].sum(), x, retain_graph=True)
                squares = level_sum(slope.square(), self.water.layout)
                result[:, group] = squares @ support[group].double().T
        return result.detach()


def colours(support: Tensor) -> list[Tensor]:
    """Divides rows into groups that share no column, greedily; bool (row, column) to indices of rows."""
    groups: list[tuple[list[int], Tensor]] = []
    for row, mine in enumerate(support):
        for members, taken in groups:
            if not bool((mine & taken).any()):
                members.append(row)
                taken |= mine
                break
        else:
            groups.append(([row], mine.clone()))
    return [torch.tensor(members) for members, _ in groups]


@dataclass(frozen=True, eq=False)
class Stability:
    r"""Static stability of every pair of neighbours, :math:`\Delta_k / |\nabla \Delta_k| \le 0`.

    The gradient is that at the reference of the standardisation, so the residual is about the distance to the stable
    side, in units of the standardised state.

    Attributes:
        water: Measures it.
    """

    water: Water

    def residual(self, x: Tensor) -> Tensor:
        """Returns scaled density steps of a standardised state, (member, tile, k - 1, j, i), 0 at land. Collective: no.
        """
        geometry = self.water.geometry
        wet = geometry.once("interfaces", lambda: interfaces(geometry.tmask))
        scale = geometry.once(("steepness", self.water.eos), self._steepness)
        return torch.where(wet, self.water.step(self.water.fields(x)) / scale, 0.0)

    def best_share(self, x: Tensor, shift: Tensor) -> Tensor:
        """Returns the share of a shift, 1 or less, that leaves the least of what is unstable (squares, to first order).

        Returns:
            Shape (member), float64; 1 where nothing is unstable.

        Collective: yes.
        """
        before = self.residual(x)
        change = torch.where(before > 0, self.residual(x + shift) - before, 0.0)
        return best_share(before, change, self.water.layout)

    def _steepness(self) -> Tensor:
        """Norm of the gradient of a step with respect to the standardised state, kg/m3, (tile, k - 1, j, i)."""
        water, standardisation = self.water, self.water.standardisation
        reference = water.channels.split(standardisation.reference)
        scale = water.channels.split(standardisation.scale[:, None, None])
        depth = water.geometry.gdepw[..., 1:, :, :]
        total = torch.zeros_like(depth)
        for levels in (slice(None, -1), slice(1, None)):
            T, S = (reference[name][..., levels, :, :] for name in ("temperature", "salinity"))
            both = zip(water.eos.expansion(T, S, depth), ("temperature", "salinity"), strict=True)
            for expansion, name in both:
                total = total + (RHO0 * expansion * scale[name][levels]).square()
        return total.sqrt().clamp(min=1e-12)
