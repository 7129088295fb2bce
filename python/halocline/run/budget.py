r"""Long forecasts: a closed budget of ice volume, and area means that are drawn back where they drift.

*Budget.* In a closed basin drift moves ice but makes none, so the mean thickness changes by freezing and melting alone,
as fitted to the states that were learned (`halocline.run.budget_fit`). Transport through open edges is not known, so
basins with such edges are refused; periodic and folded edges are closed. Volume that is missing is added in proportion
to concentration, :math:`r = c` below: open water stays open, and ice thickens evenly, where scaling would sharpen its
pattern step by step. Volume that is too much is taken in proportion to thickness, :math:`r = h`. Where there is no ice
at all none grows: the first of it is the network's to make. Only the mean is held: where it leaves what was learned,
the pattern of the thickness is extrapolated by the network, with no promise.

*Drift control.* Where a mean of concentration, damage or snow leaves the range that it has in the states that were
learned, the excess decays with a time scale of a day. Where velocities are rougher from cell to cell than in any of
these states, they are smoothed (`halocline.run.roughness`). Within these ranges nothing is changed, not a bit.

*Correction.* A mean is moved by :math:`\Delta` with

.. math::
    x \to x + \lambda r(x), \quad \lambda = \Delta / \langle r \rangle, \qquad
    r(x) = (x - b_-)(b_+ - x) / (b_+ - b_-), \quad r(x) = x - b_- \text{ without upper bound},

the change :math:`\delta` of least :math:`\langle \delta^2 / r \rangle` that does it. What lies on a bound stays there:
open water open, intact ice intact. Nothing crosses a bound, since :math:`\lambda \ge -1`, and :math:`\lambda \le 1`
where there are two; where this limits it the mean goes part of the way, and further in the next step. What comes from
sums is one number of each member, in the order of the lattice, so the bits do not depend on the layout. A field that
lies on its bound everywhere cannot be moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.ensembles import areas
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import global_sum
from halocline.run.budget_fit import DRIFTING, NEEDED, Budget, fluxes, open_edge
from halocline.run.generator import Generator
from halocline.run.roughness import VELOCITIES, Roughness
from halocline.state.state import Channels
from halocline.state.variables import VARIABLES

__all__ = ["Closure", "check_closure"]

DECAY = 24.0  # h, of what a mean exceeds its range by: that of weather, shorter than any drift, longer than a step


def check_closure(generator: Generator, budget: bool, drift_control: bool) -> None:
    """Refuses what the generator cannot close or control.

    Raises:
        ValueError: Ice may leave the basin; a variable is missing; or the run folder has no fit.

    Collective: no.
    """
    names = generator.config.data.stored
    if budget and (lacking := [name for name in NEEDED if name not in names]):
        raise ValueError(
            f"budget is true, but the run has no {', '.join(lacking)}, expected {', '.join(NEEDED)} among "
            "data.variables and data.forcing: leave budget out, or train with them."
        )
    if budget and (cells := open_edge(generator.grid)):
        raise ValueError(
            f"budget is true, but the sea reaches {cells} cells on the edge of the grid, expected a closed basin: ice "
            "may pass there, which the budget does not count; leave budget out."
        )
    controlled = DRIFTING + VELOCITIES
    if drift_control and not set(controlled) & set(generator.config.data.variables):
        raise ValueError(
            f"drift_control is true, but the run has none of {', '.join(controlled)}, expected one among "
            "data.variables: leave drift_control out."
        )
    if (budget or drift_control) and generator.budget is None:
        raise ValueError(
            "The run folder has no budget of its training states, expected one for budget and drift_control: train "
            "again, or leave both out."
        )


@dataclass(frozen=True, eq=False)
class Closure:
    """Corrects area means after each step. Built by `build`.

    Attributes:
        layout: Who owns which tile.
        weight: Areas of the sea, shape (tile, 1, j, i), 0 on land.
        area: Their sum.
        state: Channel of each variable without levels.
        air: Number of the air temperature among the forcing, or -1.
        fit: Of the generator.
        roughness: Of the velocities, where there are some and drift is controlled.
        budget, drift_control: What to do.
    """

    layout: Layout
    weight: Tensor
    area: Tensor
    state: dict[str, int]
    air: int
    fit: Budget
    roughness: Roughness | None
    budget: bool
    drift_control: bool

    @classmethod
    def build(cls, generator: Generator, layout: Layout, budget: bool, drift_control: bool) -> Closure | None:
        """Builds what does not change from step to step; None where nothing is asked for.

        Raises:
            ValueError: See `check_closure`.

        Collective: yes.
        """
        with layout.comm.together():
            check_closure(generator, budget, drift_control)
        fit = generator.budget
        if fit is None or not (budget or drift_control):
            return None
        weight = areas(Geometry.build(generator.grid, layout))
        forcing = generator.config.data.forcing
        state = {c.variable.name: n for n, c in enumerate(generator.channels.channels) if not c.variable.is_3d}
        moving, roughness = [name for name in VELOCITIES if name in state], None
        if drift_control and moving:
            roughness = Roughness.build(Channels.build(moving, generator.grid), generator.grid, layout)
        return cls(
            layout, weight, global_sum(weight, layout), state,
            forcing.index("air_temperature") if "air_temperature" in forcing else -1, fit, roughness, budget,
            drift_control,
        )  # fmt: skip

    def __call__(self, before: Tensor, after: Tensor, forcing: Sequence[np.ndarray], hours: float) -> Tensor:
        """Corrects the state at the end of a step.

        Arguments:
            before, after: State at both ends, shape (member, tile, channel, j, i), float32, 0 on land.
            forcing: At both ends, shape (forcing, nj, ni).
            hours: Lead.

        Returns:
            State at the end, within its bounds.

        Collective: yes.
        """
        after = after.clone()
        if self.drift_control:
            self._draw_back(after, hours)
        if self.roughness is not None:
            moving = [self.state[name] for name in VELOCITIES if name in self.state]
            after[:, :, moving] = self.roughness.smoothed(after[:, :, moving].double(), *self.fit.roughness.T).float()
        if self.budget:
            self._close(before, after, forcing, hours)
        return after

    def _field(self, x: Tensor, name: str) -> Tensor:
        """Cells of a variable, shape (member, tile, 1, j, i), float64."""
        return x[:, :, self.state[name], None].double()

    def _means(self, *fields: Tensor) -> Tensor:
        """Area means, shape (field, member)."""
        return global_sum(torch.stack(fields) * self.weight, self.layout) / self.area

    def _draw_back(self, x: Tensor, hours: float) -> None:
        names = [name for name in DRIFTING if name in self.state]
        if not names:
            return
        fields = [self._field(x, name) for name in names]
        rooms = [room(field, *VARIABLES[name].bounds) for name, field in zip(names, fields, strict=True)]
        means, least = self._means(*fields, *rooms).split(len(names))
        excess = means - means.clamp(self.fit.range[:, :1], self.fit.range[:, 1:])
        wanted = excess * math.expm1(-hours / DECAY)
        for name, field, r, change, mean in zip(names, fields, rooms, wanted, least, strict=True):
            x[:, :, self.state[name]] = moved(field, r, change, mean, VARIABLES[name].bounds[1])[:, :, 0].float()

    def _close(self, before: Tensor, after: Tensor, forcing: Sequence[np.ndarray], hours: float) -> None:
        both = self.layout.cut((forcing[0][self.air].astype(np.float64) + forcing[1][self.air]) / 2)
        air = torch.where(self.weight > 0, torch.as_tensor(both)[:, None], 0.0)
        concentration, thickness = (self._field(before, name) for name in ("concentration", "thickness"))
        snow = self._field(before, "snow") if "snow" in self.state else torch.zeros_like(thickness)
        cover, made = (self._field(after, name) for name in ("concentration", "thickness"))
        flux = fluxes(concentration, thickness, snow, air.expand_as(thickness))
        start, end, covered, conducted, lost = self._means(thickness, made, cover, *flux)
        a = self.fit.at(hours)
        change = (start + hours * (a[0] + a[1] * conducted + a[2] * lost)).clamp(min=0.0) - end
        made = moved(made, made, change.clamp(max=0.0), end, math.inf)
        made = moved(made, cover, change.clamp(min=0.0), covered, math.inf)
        after[:, :, self.state["thickness"]] = made[:, :, 0].float()


def room(x: Tensor, low: float, high: float) -> Tensor:
    """Returns r(x) of the module."""
    return (x - low) * ((high - x) / (high - low) if math.isfinite(high) else 1.0)


def moved(x: Tensor, r: Tensor, change: Tensor, mean: Tensor, high: float) -> Tensor:
    """Moves the mean of fields, shape (member, ...), by `change`, given r and its mean, (member); see the module."""
    factor = torch.where(mean > 0, change / mean.clamp(min=1e-30), 0.0)
    factor = factor.clamp(min=-1.0, max=1.0 if math.isfinite(high) else None)
    return x + factor[:, None, None, None, None] * r
