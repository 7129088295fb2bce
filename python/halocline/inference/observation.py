r"""What is known of a state: fields on some cells, such as the surface temperature of a satellite or a coarse model's.

Known values y with independent errors of variance R weigh the residuals of the clean estimate,

.. math:: g = -J^\top \frac{m - y}{R + s^2}, \qquad s^2 = \frac{\sigma^2}{\sigma^2 + \alpha^2},

on the cells where they are known: pseudoinverse guidance, exact for a standardised Gaussian of independent cells.

References: Song et al., 2023, Pseudoinverse-guided diffusion models for inverse problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.integrals import best_share, global_sum

__all__ = ["Given"]


@dataclass(frozen=True, eq=False)
class Given:
    """Values that are known on some cells.

    Attributes:
        value: Standardised, shape (member, tile, channel, j, i), or one member for all; finite.
        known: Where, bool, shape (tile, channel, j, i).
        error: Standard deviation of the errors, standardised, broadcasting; positive.
        layout: Who owns which tile.
    """

    value: Tensor
    known: Tensor
    error: Tensor
    layout: Layout

    def residual(self, x: Tensor) -> Tensor:
        """Returns the departure of a standardised state, shape of x, 0 where nothing is known. Collective: no."""
        return torch.where(self.known, x.double() - self.value, 0.0)

    def weight(self, x: Tensor, variance: float) -> Tensor:
        """Returns the weights of the residuals of an estimate with this posterior variance. Collective: no."""
        return self.residual(x).detach() / (self.error.square() + variance)

    def best_share(self, x: Tensor, shift: Tensor) -> Tensor:
        """Returns the share of a shift, 1 or less, that leaves the least of the weighted departure, shape (member).

        Collective: yes.
        """
        before = self.residual(x) / self.error
        change = self.residual(x + shift) / self.error - before
        return best_share(before, change, self.layout)

    def missed(self, x: Tensor) -> Tensor:
        """Returns the root mean square departure in units of the error, shape (member, 1). Collective: yes."""
        squares = (self.residual(x) / self.error).square()
        count = self.known.expand_as(squares).double()
        total, norm = global_sum(torch.stack([squares, count]), self.layout)
        return (total / norm.clamp(min=1.0)).sqrt()[:, None]
