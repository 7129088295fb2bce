r"""Changes of the state as a forecast learns them: of stretched variables, and compressed.

.. math::
    x_0 = \frac{\operatorname{arsinh}(k z)}{\operatorname{arsinh} k}, \qquad
    z = \frac{Y(T + \tau) - Y(T)}{s_\tau}

with Y the state, where `forecast.stretched` says so stretched (`halocline.state.stretching`), s the root mean square
change, and k = `forecast.compression`; :math:`x_0 = z` without it. Sea ice changes in narrow zones and rests elsewhere:
over 12 hours of neXtSIM_DG half of all cells change by less than a sixth of the rms change in thickness, one in a
hundred by more than four times; the kurtosis is 49, and that of :math:`x_0` with k = 3 is 4.4. What a network leaves of
its noise is alike everywhere in :math:`x_0`, so that it is small where the ice rests.
"""

from __future__ import annotations

import math
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
        compression: k; 0: none.
        increments: Of stretched states.
        mean, scale: Of stretched states, shape (channel, 1, 1), float64.
    """

    stretching: Stretching
    compression: float
    increments: Increments
    mean: Tensor
    scale: Tensor

    @classmethod
    def build(cls, generator: Generator) -> LearnedChanges:
        """Takes the settings of a generator of forecasts."""
        assert generator.increments is not None
        names, config = [channel.variable.name for channel in generator.channels.channels], generator.config.forecast
        stretching = Stretching.build(names, config.stretched)
        mean, scale = generator.increments.stretched_level[:, : len(names), None, None]
        return cls(stretching, config.compression, generator.increments.of(stretching), mean, scale)

    def change(self, x: Tensor, after: Tensor, unit: Tensor) -> Tensor:
        """Returns :math:`x_0` of two states.

        Arguments:
            x, after: Physical states, shape (..., channel, j, i), float64; infinite where a bound is none.
            unit: s, shape (..., channel, 1, 1), see `unit`.

        Collective: no.
        """
        z, k = (self.stretching(after) - self.stretching(x)) / unit, self.compression
        return (k * z).asinh() / math.asinh(k) if k else z

    def apply(self, x: Tensor, change: Tensor, unit: Tensor) -> Tensor:
        """Returns the state after a change: undoes `change`. Arguments: see there. Collective: no."""
        k = self.compression
        z = sinh(math.asinh(k) * change) / k if k else change
        return self.stretching.inverse(self.stretching(x) + unit * z)

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


def sinh(x: Tensor) -> Tensor:
    """The hyperbolic sine by `expm1`: that of torch has other last bits where a value is at the end of a tensor."""
    return 0.5 * (x.expm1() - (-x).expm1())
