r"""Primal-dual sampling: multipliers rise while the sample is made.

At every time of arrival s the predictor's step is followed by Langevin steps on the tilted score, whose estimates tell
by how much the constraints are missed there, and the multipliers ascend:

.. math:: x \leftarrow x - \delta\sigma_s \hat z_\nu + \sigma_s\sqrt{2\delta}\,\xi, \qquad
    \nu \leftarrow \nu + \eta\,\bar r, \qquad \lambda \leftarrow \max(0, \lambda + \eta\,\bar r)

Residuals are signed: driven by a squared one, the multipliers could only grow. A chain has multipliers of its own, so
that a member does not depend on those made beside it.

References: Chamon, Karimi and Korba, 2024, Constrained sampling with primal-dual Langevin Monte Carlo.
"""

from __future__ import annotations

from torch import Tensor

from halocline.flow.sampler import LangevinSampler, Noise, Progress, Sampler
from halocline.inference.guidance import Multipliers

__all__ = ["PrimalDualSampler"]


class PrimalDualSampler(LangevinSampler):
    """Langevin-corrected sampler whose multipliers ascend once per step.

    Arguments:
        predictor: Its denoiser weighs residuals by `multipliers`.
        multipliers: Those of the denoiser.
        corrections: Langevin steps after each step, one evaluation each.
        delta: Their size; see `LangevinSampler`.
        noise: Function of the draw number.
        progress: As for `Sampler`.
    """

    def __init__(
        self,
        predictor: Sampler,
        multipliers: Multipliers,
        corrections: int,
        delta: float,
        noise: Noise,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(predictor, corrections, delta, noise, progress)
        self.multipliers = multipliers

    def step(self, x: Tensor, t: float, s: float, index: int) -> Tensor:
        x = super().step(x, t, s, index)
        self.multipliers.rise()
        return x
