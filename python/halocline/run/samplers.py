"""The sampler that the section `sampling` of a configuration names."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from halocline.flow.denoiser import Denoiser
from halocline.flow.sampler import (
    AncestralSampler,
    DDIMSampler,
    EulerSampler,
    HeunSampler,
    MultistepSampler,
    Progress,
    Sampler,
)
from halocline.flow.times import cosine_times, logistic_times, quadratic_times, uniform_times
from halocline.run.sampling_config import SamplingConfig

__all__ = ["plain_sampler"]

TIMES = {
    "uniform": uniform_times, "logistic": logistic_times, "quadratic": quadratic_times, "cosine": cosine_times,
}  # fmt: skip


def plain_sampler(
    sampling: SamplingConfig, denoiser: Denoiser, noise: Callable[[int], Tensor], progress: Progress | None = None
) -> Sampler:
    """Builds a sampler from noise to data.

    Arguments:
        sampling: Names sampler, steps and times.
        denoiser: With whatever constrains it.
        noise: Function of the draw number.
        progress: Called after each step.

    Collective: no.
    """
    times = TIMES[sampling.times](sampling.steps)
    if sampling.sampler == "ancestral":
        return AncestralSampler(denoiser, times, noise, progress=progress)
    kinds: dict[str, type[Sampler]] = {
        "euler": EulerSampler, "heun": HeunSampler, "multistep": MultistepSampler, "ddim": DDIMSampler,
    }  # fmt: skip
    return kinds[sampling.sampler](denoiser, times, progress=progress)
