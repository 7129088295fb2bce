"""The training loop: steps, checkpoints, signals."""

from __future__ import annotations

import copy
import csv
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halocline.flow.denoiser import training_loss
from halocline.io.atomic import atomic_path
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.config import TrainingConfig
from halocline.run.generator import Generator, save_checkpoint
from halocline.run.progress import Reporter
from halocline.run.training_data import TrainingData

__all__ = ["Trainer"]


@dataclass
class Trainer:
    """Weights, their average and the optimiser, and the loop that moves them.

    The average is an exponential one with a decay that grows to `ema`, so that it forgets the start.
    """

    generator: Generator
    config: TrainingConfig
    device: torch.device

    def __post_init__(self) -> None:
        self.network = self.generator.denoiser.network
        self.generator.denoiser.to(self.device)
        self.averaged = copy.deepcopy(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=self.config.weight_decay,
        )
        self.step = 0

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes back to a checkpoint."""
        self.network.load_state_dict(saved["weights"])
        self.averaged = {k: v.to(self.device) for k, v in saved["averaged"].items()}
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step = saved["step"]

    def run(self, data: TrainingData, folder: Path, comm: Communicator | Serial) -> None:
        """Trains to the configured step, with checkpoints; SIGTERM writes one more and ends.

        Raises:
            RuntimeError: Loss or gradient are not finite, or the job was told to stop.

        Collective: yes.
        """
        first, saved_at, log = self.step, time.monotonic(), []
        with listening() as signals, Reporter("training", self.config.steps, first, comm.is_root) as reporter:
            while self.step < self.config.steps:
                loss = self.advance(data, comm)
                log.append((self.step, loss))
                reporter.advance(f"loss {np.mean([value for _, value in log[-50:]]):.4f}")
                overdue = time.monotonic() - saved_at > 60 * self.config.checkpoint_minutes
                # A queue may send its signal to one rank only, and clocks differ.
                overdue, stop = comm.sum_arrays(np.array([overdue, bool(signals)], float)) > 0
                if overdue or stop or self.step == self.config.steps:
                    self.save(folder, log, comm)
                    saved_at, log = time.monotonic(), []
                if stop and self.step < self.config.steps:
                    raise agreed_error(
                        f"Stopped by SIGTERM at step {self.step} of {self.config.steps}: the same command "
                        "goes on from there."
                    )
        if first == self.step and comm.is_root:
            print(f"{folder} has already {self.step} of {self.config.steps} steps: nothing to do.")

    def advance(self, data: TrainingData, comm: Communicator | Serial) -> float:
        """Makes one optimiser step and returns the loss of the global batch.

        Raises:
            RuntimeError: Loss or gradient are not finite, on all ranks; the weights are those before the step.

        Collective: yes, one reduction of the gradient.
        """
        loss = self._gradient(data, comm)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise agreed_error(
                f"The loss is {loss} and the norm of its gradient {norm} at step {self.step + 1}, expected "
                "finite numbers; the last checkpoint holds good weights: lower training.learning_rate and choose "
                "another output."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * schedule(self.step, self.config)
        self.optimiser.step()
        self.step += 1
        self._average()
        return loss

    def _gradient(self, data: TrainingData, comm: Communicator | Serial) -> float:
        """Computes loss and gradient of the global batch, the same numbers on every rank."""
        config = self.config
        batch = data.batch(config.seed, self.step, config.batch, comm.rank, comm.size)
        self.generator.denoiser.train()
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = training_loss(
                self.generator.denoiser,
                batch.x0.to(self.device),
                batch.z.to(self.device),
                batch.t.to(self.device),
                batch.wet.to(self.device),
                batch.wet_count,
                conditions={k: v.to(self.device) for k, v in batch.conditions.items()},
                owned=data.owned,
            )
        loss.total.backward()
        return sum_gradients(self.network, loss.total.detach(), comm)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            self.averaged[name].lerp_(value, 1 - decay)

    def save(self, folder: Path, log: list[tuple[int, float]], comm: Communicator | Serial) -> None:
        """Writes the checkpoint and the losses since the last one.

        Collective: yes, rank 0 writes and all learn of a failure.
        """
        with comm.together():
            if comm.is_root:
                training = {
                    "weights": self.network.state_dict(),
                    "averaged": self.averaged,
                    "optimiser": self.optimiser.state_dict(),
                }
                save_checkpoint(folder, replace(self.generator, step=self.step), training)
                write_log(folder / "training.csv", log)


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collects what SIGTERM tells this process, instead of ending it, while the block runs."""
    signals: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, previous)


def write_log(path: Path, log: list[tuple[int, float]]) -> None:
    """Adds steps and losses to a table, whole or not at all; what a resumed run repeats is replaced."""
    rows: list[list[str]] = []
    if path.exists() and log:
        rows = [r for r in csv.reader(path.open()) if r and r[0].isdigit() and int(r[0]) < log[0][0]]
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss"])
        writer.writerows(rows)
        writer.writerows([step, f"{loss:.6g}"] for step, loss in log)


def agreed_error(text: str) -> RuntimeError:
    """Makes an error that every rank raises by itself, so that it need not be agreed upon."""
    error = RuntimeError(text)
    error.agreed = True  # type: ignore[attr-defined]
    return error


def schedule(step: int, config: TrainingConfig) -> float:
    """Learning rate relative to its highest: linear warm-up, then a cosine to zero at the last step."""
    warm = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))


def sum_gradients(network: nn.Module, loss: Tensor, comm: Communicator | Serial) -> float:
    """Adds gradients and loss of all ranks; the loss is already divided by the global wet count.

    Collective: yes.
    """
    if comm.size == 1:
        return float(loss)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients] + [loss.reshape(1)])
    total = torch.from_numpy(comm.sum_arrays(flat.double().cpu().numpy())).to(flat)
    offset = 0
    for gradient in gradients:
        gradient.copy_(total[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()
    return float(total[-1])
