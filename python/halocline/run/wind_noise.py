r"""Noise of forecasts that grows with the wind: ensembles that spread more in storms than in calm weather.

Errors of a network depend more on the weather than what it takes for chance. After 12 h the ensembles of that of
jobs/configs/ice.yaml spread up to twice as wide as they err on calm days and three quarters as wide in storms: right on
the mean, and wrong on most days. The noise that its samples start from is therefore multiplied, variable by
variable, by

.. math::
    g_c = \min\Big(\max\Big(\frac{w}{w_0}, \tfrac14\Big), 2\Big)^{p_c}, \qquad
    w^2 = \frac{L^n \overline{(u^2 + v^2)}}{L^n 1}, \qquad L = K K,

with the mean over both ends of the lead, the rms wind :math:`w_0` of the training states, and K of `run.long_waves`,
land counting as zero above and below. With n = 4 and a halo of at least four cells, w is the wind within some seven
cells: ice passes on what happens nearby. p is `sampling.wind_power`; `halocline calibrate` finds it.

Reference: Leutbecher and Palmer, 2008, Ensemble forecasting (Journal of Computational Physics 227), for spread that
says on which days a forecast errs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.halo import HaloPlan
from halocline.mesh.layout import Layout
from halocline.run.generator import Generator
from halocline.run.long_waves import WIDEST, factors, smooth
from halocline.run.pairs import level_means
from halocline.run.sampling_config import WIND

__all__ = ["WindNoise"]

CALMEST, WILDEST = 0.25, 2.0  # w / w0
ROUNDS = 4  # n


@dataclass(frozen=True, eq=False)
class WindNoise:
    """The factor of the noise; see the module. Built by `build`.

    Attributes:
        power: p, shape (channel, 1, 1), float64.
        usual: w0, m/s.
        rows: Where the components of the wind are among the forcing.
        layout: Who owns which tile.
        halo: Of one scalar on T points.
        width: Cells, of the halo.
        sea: Owned cells, shape (1, tile, 1, j, i).
        weight: The same smoothed.
    """

    power: Tensor
    usual: float
    rows: tuple[int, int]
    layout: Layout
    halo: HaloPlan
    width: int
    sea: Tensor
    weight: Tensor

    @classmethod
    def build(cls, generator: Generator, layout: Layout) -> WindNoise | None:
        """Builds what does not depend on the forcing; None where the noise does not grow.

        Collective: yes (builds the halo plan).
        """
        data, width = generator.config.data, generator.lattice.halo
        power = factors(generator.config.sampling.wind_power, data.variables, usual=0.0).double()
        if not bool((power != 0).any()):
            return None
        rows = data.forcing.index(WIND[0]), data.forcing.index(WIND[1])
        of_wind = [generator.channels.count + row for row in rows]
        mean, scale = (
            v.double()[of_wind] for v in (level_means(generator.standardisation), generator.standardisation.scale)
        )
        halo = HaloPlan.build(layout, ("T",), (1,))
        sea = torch.as_tensor(layout.cut(generator.grid.mask("T")[:1])).double()[None]
        made = cls(power, float((mean**2 + scale**2).sum().sqrt()), rows, layout, halo, width, sea, sea)
        return replace(made, weight=made._smooth(sea))

    def __call__(self, forcing: Sequence[np.ndarray]) -> Tensor:
        """Returns g, shape (1, tile, channel, j, i), float32; 1 on land.

        Arguments:
            forcing: At both ends of the lead, each of shape (forcing, nj, ni).

        Collective: yes, eight halo exchanges of one scalar.
        """
        squares = [f[row].astype(np.float64) ** 2 for f in forcing for row in self.rows]
        w2 = torch.as_tensor(self.layout.cut(np.nan_to_num(sum(squares) / len(forcing))[None]))[None]
        w = (self._smooth(w2 * self.sea) / self.weight).sqrt() / self.usual
        # In float64 and then rounded: the last bit of a power depends on where in memory a number lies.
        grown = w.clamp(CALMEST, WILDEST) ** self.power
        return torch.where(self.sea > 0, grown, 1.0).float()

    def _smooth(self, x: Tensor) -> Tensor:
        for _ in range(ROUNDS):
            x = smooth(x, min(self.width, WIDEST), self.halo, self.width, self.sea)
        return x
