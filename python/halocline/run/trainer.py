"""The training loop: steps, checkpoints, validation, signals."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halocline.flow.censored import censored_loss
from halocline.flow.denoiser import Loss, PreconditionedDenoiser, training_loss
from halocline.flow.first_guess import first_guess_loss, relative_target
from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Communicator, Serial
from halocline.run.checkpoints import Checkpoint, mark_best, remove_old, write_checkpoint
from halocline.run.config import TrainingConfig, write_config
from halocline.run.engine import Engine
from halocline.run.forecast_validation import validate_forecast
from halocline.run.generator import Generator, with_weights
from halocline.run.loader import Batch, WindowLoader
from halocline.run.memory import resident
from halocline.run.progress import Reporter
from halocline.run.run_folder import fingerprints, save_generator
from halocline.run.training_log import LossByNoise, TrainingLog
from halocline.run.validation import validate

__all__ = ["Stopped", "Trainer"]

WINDOW = 50  # steps over which the loss is averaged
LEAST = 1e-2  # loss that counts as no lower: an untrained network has about 1, and states without weather reach 1e-5
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # a queue's, when the time is over
TRY_AGAIN = 75  # exit code: EX_TEMPFAIL of sysexits.h


class Stopped(RuntimeError):
    """The job was told to end; every rank raises it by itself, so that it need not be agreed upon."""

    agreed = True
    exit_code = TRY_AGAIN


class Failed(RuntimeError):
    """The training cannot go on; every rank raises it by itself."""

    agreed = True


@dataclass
class History:
    """Whether the loss still falls, on means of `WINDOW` steps.

    Attributes:
        recent: Last losses.
        lowest: Least mean so far.
        best: Least score in validation so far.
    """

    recent: deque[float]
    lowest: float = math.inf
    best: float = math.inf

    @classmethod
    def start(cls, saved: Mapping[str, Any] | None = None) -> History:
        saved = saved or {"recent": [], "lowest": math.inf, "best": math.inf}
        return cls(deque(saved["recent"], WINDOW), saved["lowest"], saved["best"])

    def to_dict(self) -> dict[str, Any]:
        return {"recent": list(self.recent), "lowest": self.lowest, "best": self.best}

    @property
    def mean(self) -> float:
        return float(np.mean(self.recent))

    def add(self, loss: float) -> None:
        self.recent.append(loss)
        if len(self.recent) == WINDOW:
            self.lowest = min(self.lowest, self.mean)


class Trainer:
    """Weights in an engine, and the loop that moves them.

    Arguments:
        generator: Untrained; its network becomes the engine's.
        store: Data that the loader reads, and held-out states.
        folder: Run folder.
        comm: All ranks.
        device: Of this rank.

    The averages forget the start: their decay grows to `ema`.

    Collective: yes.
    """

    def __init__(
        self,
        generator: Generator,
        store: TrainingStore,
        folder: Path,
        comm: Communicator | Serial,
        device: torch.device,
    ) -> None:
        self.generator, self.store, self.folder, self.comm, self.device = generator, store, folder, comm, device
        self.config = generator.config.training
        network = generator.denoiser.network
        self.shapes: dict[str, Sequence[int]] = {name: list(p.shape) for name, p in network.named_parameters()}
        self.engine = Engine.start(network, self.config, comm, device)
        path, given = generator.denoiser.path, generator.config.sigma_given
        self.denoiser = PreconditionedDenoiser(self.engine.network, path, 1.0, given).to(device)
        self.guess = None if generator.guess is None else generator.guess.denoiser.to(device).eval()
        halo = generator.lattice.halo
        self.owned = slice(halo, -halo) if halo else slice(None)
        self.step, self.history, self.saved = 0, History.start(), time.monotonic()
        self.checkpoint: Path | None = None
        self.overdue = False
        self.stop: signal.Signals | None = None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to a checkpoint, of any layout.

        Collective: yes.
        """
        with self.comm.together():
            self.engine.shards.restore(checkpoint.read, checkpoint.step)
        self.step, self.checkpoint = checkpoint.step, checkpoint.folder
        self.history = History.start(checkpoint.manifest["history"])

    def run(self, loader: WindowLoader) -> None:
        """Trains to the configured step, with checkpoints; SIGTERM or SIGUSR1 writes one more and ends.

        Raises:
            Stopped: The job was told to end.
            Failed: Loss or gradient are not finite, or the loss has grown far beyond its lowest.

        Collective: yes.
        """
        config, root = self.config, self.comm.is_root
        noise = LossByNoise()
        with (
            listening() as signals,
            TrainingLog(self.folder, self.step, root) as log,
            Reporter("training", config.steps, self.step, root) as reporter,
        ):
            while self.step < config.steps:
                began = time.monotonic()
                told = self.advance(loader, noise, signals)
                rate = config.batch / (time.monotonic() - began)
                log.write(self.step, told | {"samples_per_second": rate} | noise.values(self.comm))
                reporter.advance(f"loss {self.history.mean:.4f}, {rate:.0f} samples/s")
                self._check_divergence()
                better = self._validate(log)
                if self.overdue or self.stop or better or self.step == config.steps:
                    log.flush()
                    self._save(better)
                if self.stop and self.step < config.steps:
                    raise Stopped(
                        f"Stopped by {self.stop.name} at step {self.step} of {config.steps}: the same command goes on "
                        "from there."
                    )

    def advance(self, loader: WindowLoader, noise: LossByNoise, signals: Sequence[int]) -> dict[str, float]:
        """Makes one optimiser step and returns what there is to say of it.

        Sets `overdue` and `stop`, the same on every rank.

        Raises:
            Failed: Loss or gradient are not finite; nothing of this step is saved.

        Collective: yes.
        """
        waited = loader.waited
        self.denoiser.train()
        local = sum(self._micro_batch(batch, noise) for batch in self._read(loader))
        overdue = time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes
        # A queue may send its signal to one rank only, and clocks differ.
        news = [local, overdue, loader.waited - waited, *(number in signals for number in SIGNALS)]
        loss, late, waited, *stops = self.comm.sum_arrays(np.array(news, float))
        rate = self.config.learning_rate * schedule(self.step, self.config)
        norm = self.engine.step(rate) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            raise Failed(
                f"The loss is {loss} and the norm of its gradient {norm} at step {self.step + 1}, expected finite "
                f"numbers; {self._last_good}: lower training.learning_rate and choose another output."
            )
        self.overdue, self.stop = late > 0, next((n for n, told in zip(SIGNALS, stops, strict=True) if told), None)
        self.step += 1
        self.engine.shards.average(min(self.config.ema, self.step / (9 + self.step)))
        self.history.add(float(loss))
        return {
            "loss": float(loss), "gradient_norm": norm, "learning_rate": rate, "waited": waited / self.comm.size,
            "memory": resident() / 2**20,
        }  # fmt: skip

    def _read(self, loader: WindowLoader) -> list[Batch]:
        """Reads the windows of a step; where one rank cannot, all save what they have and end.

        Collective: yes.
        """
        try:
            with self.comm.together():
                return loader.batch(self.step)
        except (ValueError, OSError):
            if self.step:
                self._save(False)
            raise

    def _micro_batch(self, batch: Batch, noise: LossByNoise) -> float:
        """Adds the gradient of a micro-batch and returns its part of the loss."""
        loss = self._loss(batch)
        self.engine.backward(loss.total)
        noise.add(batch.t, loss.per_sample.cpu(), batch.wet[..., self.owned, self.owned].sum((1, 2, 3)))
        return float(loss.total.detach())

    def _loss(self, batch: Batch) -> Loss:
        """The loss that the configuration asks for, of a micro-batch."""
        here = {name: x.to(self.device) for name, x in batch.conditions.items()}
        x0, z, t, wet = (x.to(self.device) for x in (batch.x0, batch.z, batch.t, batch.wet))
        total, owned = batch.wet_count, self.owned
        if self.generator.config.forecast.loss == "gaussian":
            return first_guess_loss(self.denoiser, x0, wet, total, here, owned)
        if self.guess is not None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                x0, here = relative_target(self.guess, x0, wet, here)
        if batch.bounds is None:
            return training_loss(self.denoiser, x0, z, t, wet, total, conditions=here, owned=owned)
        return censored_loss(self.denoiser, x0, z, t, wet, total, batch.bounds.to(self.device), here, owned)

    @property
    def _last_good(self) -> str:
        return f"the last good checkpoint is {self.checkpoint}" if self.checkpoint else "there is no checkpoint yet"

    def _check_divergence(self) -> None:
        """Ends a training whose loss has grown far beyond its lowest; of a likelihood, whose exponential has."""
        forecast = self.generator.config.forecast
        factor = self.config.divergence
        if forecast.likelihood:
            lowest = self.history.lowest
            limit, words = lowest + math.log(factor), f"ln(training.divergence = {factor:g}) above its lowest"
        else:
            lowest = max(self.history.lowest, LEAST)
            limit, words = factor * lowest, f"training.divergence = {factor:g} times its lowest"
        if self.history.mean > limit:
            raise Failed(
                f"The loss is {self.history.mean:.4g} at step {self.step} (mean of {WINDOW} steps), expected at most "
                f"{words}, {lowest:.4g}; {self._last_good}: lower training.learning_rate and choose another output."
            )

    def _validate(self, log: TrainingLog) -> bool:
        """Compares generated with held-out states now and then; returns whether they were never closer.

        Collective: yes.
        """
        every = self.config.validate_steps
        if not every or self.step % every:
            return False
        weights = gather_averages(self.engine, self.shapes, self.comm)
        generator = with_weights(self.generator, weights, self.step)
        check = validate_forecast if generator.config.forecast else validate
        scores = check(generator, self.store, self.comm, self.config.validation_members, self.config.seed)
        log.scores(self.step, scores)
        better = scores["score"] < self.history.best
        self.history.best = min(self.history.best, scores["score"])
        return better

    def _save(self, best: bool) -> None:
        """Writes a checkpoint and the generator that samples, and removes old checkpoints.

        Collective: yes.
        """
        generator = replace(self.generator, step=self.step)
        about = {
            "config": write_config(generator.config), "grid": generator.grid.fingerprint(),
            "fitted": fingerprints(generator), "history": self.history.to_dict(),
        }  # fmt: skip
        written = write_checkpoint(self.folder, self.step, self.engine.shards, self.shapes, about, self.comm)
        with self.comm.together():
            if self.comm.is_root:
                save_generator(self.folder, generator, written.whole("averages"))
                if best:
                    mark_best(self.folder, self.step, self.history.best)
                remove_old(self.folder, self.config.keep)
        self.checkpoint, self.saved = written.folder, time.monotonic()

    def close(self) -> None:
        """Lets go of the engine."""
        self.engine.close()


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collects what SIGTERM and SIGUSR1 tell this process, instead of ending it, while the block runs."""
    signals: list[int] = []
    previous = [signal.signal(number, lambda number, frame: signals.append(number)) for number in SIGNALS]
    try:
        yield signals
    finally:
        for number, handler in zip(SIGNALS, previous, strict=True):
            signal.signal(number, handler)


def schedule(step: int, config: TrainingConfig) -> float:
    """Learning rate relative to its highest: linear warm-up, then constant, or a cosine to zero at the last step."""
    warm = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    if config.schedule == "constant":
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))


def gather_averages(
    engine: Engine, shapes: Mapping[str, Sequence[int]], comm: Communicator | Serial
) -> dict[str, torch.Tensor]:
    """Brings the averaged weights together on every rank.

    Collective: yes.
    """
    whole = {name: np.empty(int(np.prod(shape, dtype=np.int64)), np.float32) for name, shape in shapes.items()}
    held = engine.shards.tensors("averages")
    mine = [(piece.name, piece.start, values.cpu().reshape(-1).numpy()) for piece, values in held]
    for part in comm.allgather(mine):
        for name, start, values in part:
            whole[name][start : start + len(values)] = values
    return {name: torch.from_numpy(x.reshape(shapes[name])) for name, x in whole.items()}
