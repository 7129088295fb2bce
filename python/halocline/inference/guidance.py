r"""Constraints as denoisers: the mean of the posterior, moved towards what is asked.

With a likelihood :math:`p(y \mid x_t)` the mean of the posterior becomes :math:`m_y = m + (\sigma^2 / \alpha)\, g`,
:math:`g = \nabla_{x_t} \log p(y \mid x_t)`. The denoisers here differ in g:

`PenalisedState`
    as published: the noisy state itself is drawn to the target at a rate of path time.
`GuidedDenoiser`
    the residuals r of the clean estimate m are weighted, and the gradient goes through the network,

    .. math:: g = -J^\top \nabla \sum_k w_k\, r_k(m), \qquad J = \partial m / \partial x_t .

    For a *penalty* :math:`\lambda r^2` the posterior variance of a residual enters, :math:`w_k = r_k / (1/2\lambda +
    s_k^2)` with :math:`s_k^{-2} = 1 + \alpha^2 / (\sigma^2 |\nabla r_k|^2)` for residuals of unit variance: exact where
    the state is Gaussian with equal variances. For *multipliers* :math:`w = \nu`: the tilted distribution
    :math:`p(x)\, e^{-\nu r(x)}`, of which the mean of r is what is asked and the spread is not lost.

References: Chung et al., 2023, Diffusion posterior sampling; Chamon, Karimi and Korba, 2024 (arXiv 2411.00568).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from halocline.flow.denoiser import Denoiser, Posterior
from halocline.flow.path import Path, Time
from halocline.inference.constraint import Moments, Stability
from halocline.inference.observation import Given

__all__ = ["GuidedDenoiser", "Multipliers", "PenalisedState", "Told"]

NOISE = 1e-6  # alpha below which a state tells nothing of the clean one


@dataclass
class Told:
    """What constraints have to say of every evaluation.

    Attributes:
        rows: One per evaluation and member: time, member, root mean square of the residuals, and of the multipliers.
    """

    rows: list[tuple[float, int, float, float]] = field(default_factory=list)

    def add(self, t: float, residual: Tensor, multipliers: Tensor | None = None) -> None:
        """Adds an evaluation; residual and multipliers of shape (member, n). Collective: no."""
        sizes = residual.double().square().mean(1).sqrt().tolist()
        pressure = [math.nan] * len(sizes) if multipliers is None else multipliers.square().mean(1).sqrt().tolist()
        self.rows += [(t, n, r, p) for n, (r, p) in enumerate(zip(sizes, pressure, strict=True))]


class PenalisedState:
    r"""Draws the noisy state to the target, at the published rate.

    After every step :math:`\Delta j = 1` of a thousand the published sampler moves the state by
    :math:`-\omega_j D(x_j)`, :math:`\omega_j = 10^{-3} (1 + 40 e^{-j/50})`; with t = j / 1000 that is the rate
    :math:`\omega(t) = 1 + 40 e^{-20 t}`, which belongs to the mean

    .. math:: m' = m - \frac{\sigma}{\alpha \dot\sigma - \sigma \dot\alpha}\, \omega(t)\, D(x_t), \qquad
        D = \sum_k \nabla r_k \, r_k / |\nabla r_k|^2

    on any path and with any sampler; on the linear path the factor is :math:`t\,\omega(t)`, at most 1 here. For means
    of temperature and salinity D is the published departure of the level's mean from the target; for density its
    Gauss-Newton form, in which the rate does not depend on units.

    Arguments:
        denoiser: To be constrained.
        moments: What is asked.
        strength: Factor of the rate; 1 as published.
        told: Is given the residuals of every estimate.

    References: Meunier et al., 2025 (arXiv 2502.02499), section 3.
    """

    def __init__(self, denoiser: Denoiser, moments: Moments, strength: float = 1.0, told: Told | None = None) -> None:
        self.denoiser, self.moments, self.strength, self.told = denoiser, moments, strength, told
        self.overlap = 0.5 if moments.kind == "c2" else 1.0  # neighbours pull at the same levels

    @property
    def path(self) -> Path:
        """That of the denoiser."""
        return self.denoiser.path

    def __call__(self, x: Tensor, t: Time) -> Posterior:
        """Denoises; see the class. Collective: yes."""
        mean = self.denoiser(x, t).mean
        time = float(t)
        if self.told is not None:
            self.told.add(time, self.moments.residual(mean))
        rate = self.strength * (1.0 + 40.0 * math.exp(-20.0 * time))
        factor = float(self.path.sigma(t)) / float(self.path.wronskian(t))
        shift = min(rate * factor, 1.0) * self.overlap * self._departure(x)
        return Posterior(mean - shift.to(mean.dtype))

    def _departure(self, x: Tensor) -> Tensor:
        steepness = self.moments.steepness
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            residual = self.moments.residual(x)
            weight = torch.where(steepness > 0, residual / steepness, 0.0).detach()
            (slope,) = torch.autograd.grad((weight * residual).sum(), x)
        return slope.detach()


@dataclass
class Multipliers:
    """Weights of residuals, per member, and how they rise.

    Attributes:
        step: Dual step; residuals have about unit variance, so 1 would be Newton's.
        shared: Whether members have them in common: theirs are then means over the members that are here, and a sample
            depends on the others.
        moments: Of equalities, shape (member, n); None before the first evaluation.
        stability: Of inequalities, at least 0, shape (member, tile, k - 1, j, i); likewise.
    """

    step: float = 0.5
    shared: bool = False
    moments: Tensor | None = None
    stability: Tensor | None = None
    _seen: list[tuple[Tensor | None, Tensor | None]] = field(default_factory=list)

    def see(self, equal: Tensor | None, unequal: Tensor | None) -> None:
        """Takes note of the residuals of an estimate. Collective: no."""
        self._seen.append((equal, unequal))

    def rise(self) -> None:
        r"""Ascends along the means of the residuals seen since the last call.

        .. math:: \nu \leftarrow \nu + \eta \bar r, \qquad \lambda \leftarrow \max(0, \lambda + \eta \bar r)

        Collective: no.
        """
        self.moments = self._risen(self.moments, [equal for equal, _ in self._seen if equal is not None])
        stability = self._risen(self.stability, [unequal for _, unequal in self._seen if unequal is not None])
        self.stability = None if stability is None else stability.clamp(min=0.0)
        self._seen.clear()

    def _risen(self, now: Tensor | None, seen: Sequence[Tensor]) -> Tensor | None:
        if not seen:
            return now
        total = seen[0]
        for residual in seen[1:]:
            total = total + residual
        mean = total / len(seen)
        if self.shared:
            mean = mean.mean(0, keepdim=True).expand_as(mean)
        return self.step * mean + (0.0 if now is None else now)


class GuidedDenoiser:
    """Weighs residuals of the clean estimate, with the gradient through the network; see the module.

    Arguments:
        denoiser: To be constrained; differentiable with respect to the state.
        moments: Equalities, or None.
        stability: Inequalities, or None.
        given: Known values, or None.
        strength: λ of the penalty; with multipliers not used.
        multipliers: Weights; None for a penalty.
        told: Is given the residuals of every estimate.

    Raises:
        ValueError: Nothing is asked.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        moments: Moments | None = None,
        stability: Stability | None = None,
        strength: float = 4.0,
        multipliers: Multipliers | None = None,
        told: Told | None = None,
        given: Given | None = None,
    ) -> None:
        if moments is None and stability is None and given is None:
            raise ValueError("A guided denoiser has neither means nor stability nor values to meet: give one of them.")
        self.denoiser, self.moments, self.stability, self.given = denoiser, moments, stability, given
        self.strength, self.multipliers, self.told = strength, multipliers, told

    @property
    def path(self) -> Path:
        """That of the denoiser."""
        return self.denoiser.path

    def __call__(self, x: Tensor, t: Time) -> Posterior:
        """Denoises; see the class. Collective: yes."""
        alpha, sigma = float(self.path.alpha(t)), float(self.path.sigma(t))
        if alpha <= NOISE or sigma == 0:
            return self._done(self.denoiser(x, t).mean, float(t))
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            mean = self.denoiser(x, t).mean
            potential, weight = self._potential(mean, alpha, sigma)
            if not potential.requires_grad:
                return self._done(mean.detach(), float(t))
            (slope,) = torch.autograd.grad(potential, x)
        mean, shift = mean.detach(), -(sigma**2) / alpha * slope
        share = self._trusted(mean, shift, weight).to(mean.dtype)
        return self._done(mean + share.reshape(-1, *[1] * (mean.ndim - 1)) * shift, float(t))

    def _potential(self, mean: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor | None]:
        """Returns the weighted sum of residuals, whose gradient is -g, and the weights of means, constants both."""
        total, chosen = mean.new_zeros((), dtype=torch.float64), None
        if self.moments is not None:
            residual = self.moments.residual(mean)
            if self.multipliers is None:
                clarity = (alpha / sigma) ** 2 / self.moments.steepness.clamp(min=1e-30)
                chosen = residual.detach() / (0.5 / self.strength + 1.0 / (1.0 + clarity))
            else:
                chosen = self.multipliers.moments
            total = total if chosen is None else total + (chosen * residual).sum()
        known = sigma**2 / (sigma**2 + alpha**2)  # variance of a state of unit variance
        if self.given is not None:
            total = total + (self.given.weight(mean, known) * self.given.residual(mean)).sum()
        if self.stability is not None:
            step = self.stability.residual(mean)
            if self.multipliers is None:
                weight = step.detach().clamp(min=0.0) / (0.5 / self.strength + known)
                total = total + (weight * step).sum()
            elif self.multipliers.stability is not None:
                total = total + (self.multipliers.stability * step).sum()
        return total, chosen

    def _trusted(self, mean: Tensor, shift: Tensor, weight: Tensor | None) -> Tensor:
        """Returns the share of a shift that is made, in [0, 1], shape (member). Collective: yes."""
        share = mean.new_ones(len(mean), dtype=torch.float64)
        if self.moments is not None and weight is not None:
            before = self.moments.residual(mean)
            change = self.moments.residual(mean + shift) - before
            size = change.square().sum(1).clamp(min=1e-30)
            share = torch.minimum(share, (weight.square().sum(1) / size).sqrt())
            if self.multipliers is None:
                share = torch.minimum(share, (-(before * change).sum(1) / size).clamp(min=0.0))
        if self.stability is not None:
            share = torch.minimum(share, self.stability.best_share(mean, shift))
        if self.given is not None:
            share = torch.minimum(share, self.given.best_share(mean, shift))
        return share

    def _done(self, mean: Tensor, t: float) -> Posterior:
        """Hands the residuals of the constrained mean to those who want them."""
        equal = None if self.moments is None else self.moments.residual(mean)
        if self.multipliers is not None:
            self.multipliers.see(equal, None if self.stability is None else self.stability.residual(mean))
        missed = self.given.missed(mean) if equal is None and self.given is not None else equal
        if self.told is not None and missed is not None:
            self.told.add(t, missed, None if self.multipliers is None else self.multipliers.moments)
        return Posterior(mean)
