r"""Changes of the state as a forecast learns them, some of their variables stretched.

.. math::
    x_0 = \frac{Y(T + \tau) - Y(T)}{s_\tau}

with Y the state, stretched where `forecast.stretched` says so (`halocline.state.stretching`), and s its root mean
square change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.run.generator import Generator
from halocline.run.increments import Increments
from halocline.state.stretching import Stretching

__all__ = ["LearnedChanges"]


@dataclass(frozen=True, eq=False)
class LearnedChanges:
    """Turns physical states into what is learned of their changes, and back; and says what the network is told of them.

    Attributes:
        stretching: Of the channels of the state.
        increments: Of stretched states.
        mean, scale: Of stretched states, shape (channel, 1, 1), float64.
    """

    stretching: Stretching
    increments: Increments
    mean: Tensor
    scale: Tensor

    @classmethod
    def build(cls, generator: Generator) -> LearnedChanges:
        """Takes the settings of a generator of forecasts."""
        assert generator.increments is not None
        names = [channel.variable.name for channel in generator.channels.channels]
        stretching = Stretching.build(names, generator.config.forecast.stretched)
        mean, scale = generator.increments.stretched_level[:, : len(names), None, None]
        return cls(stretching, generator.increments.of(stretching), mean, scale)

    def change(self, x: Tensor, after: Tensor, unit: Tensor) -> Tensor:
        """Returns :math:`x_0` of two states.

        Arguments:
            x, after: Physical states, shape (..., channel, j, i), float64; infinite where a bound is none.
            unit: s, shape (..., channel, 1, 1), see `unit`.

        Collective: no.
        """
        return (self.stretching(after) - self.stretching(x)) / unit

    def apply(self, x: Tensor, change: Tensor, unit: Tensor) -> Tensor:
        """Returns the state after a change: undoes `change`. Arguments: see there. Collective: no."""
        return self.stretching.inverse(self.stretching(x) + unit * change)

    def unit(self, hours: float) -> Tensor:
        """Returns s at a lead, shape (channel, 1, 1). Raises: see `Increments.at`. Collective: no."""
        return self.increments.at(hours)[: len(self.mean), None, None]

    def told(self, x: Tensor, standardised: Tensor) -> Tensor:
        """Standardises the stretched channels of states.

        Arguments:
            x: Physical, shape (..., channel, j, i), float64.
            standardised: The same as they are otherwise told, float32.

        Returns:
            Like `standardised`.

        Collective: no.
        """
        if not bool(self.stretching.chosen.any()):
            return standardised
        stretched = (self.stretching(x) - self.mean) / self.scale
        return torch.where(self.stretching.chosen, stretched.float(), standardised)
