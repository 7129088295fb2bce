r"""Strict constraints: every estimate lies in the set of states that are allowed, and so does the sample.

The set is the intersection of A, states whose level means of temperature and salinity depart from their target by no
more than a bound, and B, states of stable columns. Dykstra's algorithm finds the nearest point of it with the
projections on each,

.. math:: p = (1 - P_A)(m - q), \qquad q \leftarrow (1 - P_B)(m - p), \qquad z = m - p - q ,

in which p and q are the multipliers of the two sets: an augmented-Lagrangian splitting. q is kept from one evaluation
to the next, since m hardly moves between them, so that one turn each is enough; the last estimate, the sample, is made
to converge.

References: Boyle and Dykstra, 1986; Boyd et al., 2011, Distributed optimization via ADMM, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.flow.denoiser import Denoiser, Posterior
from halocline.flow.path import Path, Time
from halocline.inference.constraint import Moments, Water
from halocline.inference.guidance import Told
from halocline.physics.projection import ROUNDS, project_columns

__all__ = ["StrictDenoiser", "WithinMeans", "stable"]

TURNS = 100  # at most, of the last estimate
CLOSE = 1e-3  # by which a bound on a mean may be missed, relative


def stable(water: Water, x: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Projects a standardised state on stable columns, B; a column that is stable keeps its bits. Collective: no."""
    fields, geometry = water.fields(x), water.geometry
    T, S = fields["temperature"], fields["salinity"]
    levels = T.shape[-3]
    e3t, gdepw, tmask = (v[..., :levels, :, :] for v in (geometry.e3t, geometry.gdepw, geometry.tmask))
    after = project_columns(T, S, e3t, gdepw, tmask, water.eos, scales(water), rounds)
    change = {name: new - fields[name] for name, new in zip(("temperature", "salinity"), after, strict=True)}
    return x + standardised(water, change).to(x.dtype)


def scales(water: Water) -> tuple[float, float]:
    """Typical departures of temperature and salinity, which count alike: means of those of their channels."""
    means = []
    for name in ("temperature", "salinity"):
        mine = [c.index for c in water.channels.channels if c.variable.name == name]
        means.append(float(water.standardisation.scale[mine].mean()))
    return means[0], means[1]


def standardised(water: Water, change: dict[str, Tensor]) -> Tensor:
    """Returns a change of named fields in units of the standardised state, 0 for the others."""
    like = change["temperature"]
    whole = {
        row.name: change.get(row.name, like.new_zeros(*like.shape[:-3], water.channels.nk if row.is_3d else 1, 1, 1))
        for row in water.channels.variables
    }
    whole = {name: x.expand(*x.shape[:-2], *like.shape[-2:]) for name, x in whole.items()}
    return water.channels.join(whole) / water.standardisation.scale[:, None, None]


@dataclass(frozen=True, eq=False)
class WithinMeans:
    """The set A: means of the levels that depart from their target by at most a bound.

    Attributes:
        moments: Of temperature and salinity ("ts").
        bound: In units of the spread.
    """

    moments: Moments
    bound: float = 1.0

    def excess(self, x: Tensor) -> Tensor:
        """Returns what is beyond the bound, shape (member, n), units of the spread. Collective: yes."""
        residual = self.moments.residual(x)
        return residual - residual.clamp(-self.bound, self.bound)

    def satisfied(self, x: Tensor) -> bool:
        """Whether all means lie within the bound, to `CLOSE`. Collective: yes."""
        return not bool((self.excess(x).abs() > CLOSE * self.bound).any())

    def contradiction(self, x: Tensor) -> str:
        """Says which mean is furthest from its bound in a state of stable columns. Collective: yes."""
        excess = self.excess(x)
        worst = int(excess.abs().amax(dim=0).argmax())
        member = int(excess[:, worst].abs().argmax())
        nk = self.moments.water.channels.nk
        name, unit = ("temperature", "degC") if worst < nk else ("salinity", "1e-3")
        target, spread = float(self.moments.target[member, worst]), float(self.moments.spread[worst])
        found = target + float(self.moments.residual(x)[member, worst]) * spread
        return (
            f"sampling.constraints=strict cannot be met: with stable columns the mean {name} of level {worst % nk} is "
            f"{found:.5g} {unit}, expected {target:.5g} within {self.bound * spread:.2g}: the target profile may "
            "itself be unstable for this season and these parameters; choose parameters nearer to those of training, "
            "or sampling.constraints=stability with sampling.constraint_form=multipliers, which asks for no means."
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Projects a standardised state: moves whole levels. Collective: yes."""
        shift = -self.excess(x) * self.moments.spread
        if not bool(shift.any()):
            return x
        water = self.moments.water
        nk = water.channels.nk
        mask = water.geometry.tmask.double()
        change = {
            "temperature": shift[:, None, :nk, None, None] * mask,
            "salinity": shift[:, None, nk:, None, None] * mask,
        }
        return x + standardised(water, change).to(x.dtype)


class StrictDenoiser:
    """Returns estimates that satisfy the constraints.

    Arguments:
        denoiser: To be constrained.
        water: Of its states.
        means: The set A, or None.
        told: Is given the residuals of every estimate.
    """

    def __init__(
        self, denoiser: Denoiser, water: Water, means: WithinMeans | None = None, told: Told | None = None
    ) -> None:
        self.denoiser, self.water, self.means, self.told = denoiser, water, means, told
        self._q: Tensor | float = 0.0  # multiplier of the stable columns

    @property
    def path(self) -> Path:
        """That of the denoiser."""
        return self.denoiser.path

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Time) -> Posterior:
        """Denoises and projects; one turn of the algorithm. Collective: yes."""
        mean = self._turn(self.denoiser(x, t).mean, rounds=1)  # the next evaluation will move it further than a second
        if self.told is not None and self.means is not None:
            self.told.add(float(t), self.means.moments.residual(mean))
        return Posterior(mean)

    def _turn(self, mean: Tensor, rounds: int = ROUNDS) -> Tensor:
        if self.means is None:
            return stable(self.water, mean, rounds)
        open_ = mean - self._q
        p = open_ - self.means(open_)
        found = stable(self.water, mean - p, rounds)
        self._q = mean - p - found
        return found

    @torch.no_grad()
    def finish(self, x: Tensor) -> Tensor:
        """Projects a sample until it satisfies all constraints; returns it as it is if it does.

        Raises:
            ValueError: No state satisfies them all, or none was found near this one; on all ranks alike.

        Collective: yes.
        """
        self._q = 0.0
        found = stable(self.water, x)
        if self.means is None:
            return found
        for _ in range(TURNS):
            if self.means.satisfied(found):
                return found
            found = self._turn(x)
        if not self.means.satisfied(found):
            raise ValueError(self.means.contradiction(found))
        return found
