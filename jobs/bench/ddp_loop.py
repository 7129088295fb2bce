"""The training of `halocline train` as a plain loop of torch: what it is measured against.

DistributedDataParallel (gloo), AdamW, clipping, averaged weights, autocast over weights of 32 bits. Standardised
windows lie in memory and are picked at random, with fresh noise; nothing is logged, checked or saved.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from halocline.flow.denoiser import PreconditionedDenoiser, training_loss
from halocline.run.config import RunConfig
from halocline.run.engine import BETAS
from halocline.run.generator import Generator
from halocline.run.loader import Batch
from halocline.run.trainer import schedule

__all__ = ["PlainLoop"]


class PlainLoop:
    """A training by plain torch, in the process group that there is.

    Arguments:
        generator: Untrained; its network is trained.
        batches: Of this rank, for the first steps; later ones draw from their windows.
        ranks: Size of the process group.

    Attributes:
        losses: This rank's part of the loss of each step.
    """

    def __init__(self, generator: Generator, batches: Sequence[Batch], ranks: int) -> None:
        self.config: RunConfig = generator.config
        self.batches, self.ranks, self.step_number = batches, ranks, 0
        self.network: nn.Module = generator.denoiser.network
        parallel = DistributedDataParallel(self.network) if ranks > 1 else self.network
        self.denoiser = PreconditionedDenoiser(parallel, generator.denoiser.path, 1.0, self.config.sigma_given)
        training, halo = self.config.training, generator.lattice.halo
        self.owned = slice(halo, -halo) if halo else slice(None)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=training.learning_rate, betas=BETAS, weight_decay=training.weight_decay
        )
        self.averages = AveragedModel(self.network, multi_avg_fn=self._average)
        fields = [{"x0": batch.x0, "wet": batch.wet, **batch.conditions} for batch in batches]
        self.windows = {name: torch.cat([part[name] for part in fields]) for name in fields[0]}
        self.losses: list[float] = []

    def step(self) -> None:
        """Makes one optimiser step.

        Collective: yes.
        """
        training = self.config.training
        batch = self._batch()
        for group in self.optimiser.param_groups:
            group["lr"] = training.learning_rate * schedule(self.step_number, training)
        with torch.autocast("cpu", torch.bfloat16, enabled=training.precision == "bf16"):
            loss = training_loss(
                self.denoiser, batch.x0, batch.z, batch.t, batch.wet, batch.wet_count,
                conditions=batch.conditions, owned=self.owned,
            ).total  # fmt: skip
        (loss * self.ranks).backward()  # it averages over ranks, our losses are parts of a sum
        nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step_number += 1
        self.averages.update_parameters(self.network)
        self.losses.append(float(loss.detach()))

    def _batch(self) -> Batch:
        if self.step_number < len(self.batches):
            return self.batches[self.step_number]
        given = self.batches[0]
        count = len(given.x0)
        chosen = torch.randint(len(self.windows["x0"]), (count,))
        parts = {name: values[chosen] for name, values in self.windows.items()}
        x0, wet = parts.pop("x0"), parts.pop("wet")
        t = torch.rand(count, dtype=torch.float64)
        return Batch(x0, torch.randn_like(x0), t, wet, given.wet_count, parts)

    @torch.no_grad()
    def _average(self, averages: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], _: object) -> None:
        decay = min(self.config.training.ema, self.step_number / (9 + self.step_number))
        torch._foreach_lerp_(list(averages), list(weights), 1 - decay)
