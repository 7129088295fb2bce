"""`halocline train`: learn the states of a model from its output."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from halocline.flow.denoiser import training_loss
from halocline.io.atomic import atomic_path
from halocline.io.nemo import States
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.run.config import RunConfig, TrainingConfig, build, read_config
from halocline.run.generator import (
    Generator,
    load_checkpoint,
    save_checkpoint,
    start_run_folder,
)
from halocline.run.judging import learn_thresholds
from halocline.run.progress import Reporter
from halocline.run.threads import share_cores
from halocline.run.training_data import (
    TrainingData,
    fit_parameters,
    load_states,
    parameter_table,
)
from halocline.state.state import Channels, Standardisation

__all__ = ["Trainer", "train"]

MAY_CHANGE = {"output", "sampling"}  # settings that a resumed run may change, beside those of training below
TRAINING_MAY_CHANGE = {"steps", "checkpoint_minutes"}


def train(config_path: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Trains a generator, or goes on with the training of a run folder.

    Arguments:
        config_path: YAML configuration.
        arguments: `key=value` overrides.
        comm: All ranks; the batch is shared out over them.

    Raises:
        ValueError, OSError: Wrong configuration, data or run folder.

    Collective: yes.
    """
    with comm.together():
        config = read_config(config_path, arguments)
        folder = Path(config.output)
        saved = load_checkpoint(folder) if (folder / "checkpoint.pt").exists() else None
        if saved is not None:
            check_same_run(config, saved["config"], folder)
        if config.training.batch < comm.size:
            raise ValueError(
                f"training.batch is {config.training.batch} on {comm.size} ranks, expected at least one "
                "sample per rank: raise training.batch or start fewer ranks."
            )
        grid, states = load_states(config)
        check_same_grid(grid, saved, folder)
        generator, data = prepare(config, grid, states)
    share_cores(comm.size)
    trainer = Trainer(generator, config.training)
    if saved is not None:
        trainer.restore(saved)
    elif comm.is_root:
        describe(generator, data, len(states.season))
    with comm.together():
        if comm.is_root:
            start_run_folder(folder, generator)
    trainer.run(data, folder, comm)


def prepare(config: RunConfig, grid: Grid, states: States) -> tuple[Generator, TrainingData]:
    """Standardises the states and builds the untrained generator and its data."""
    channels = Channels.build(config.data.variables, grid)
    fields = channels.join(states.fields)
    standardisation = Standardisation.fit(channels, fields, grid, centre=config.training.centre)  # type: ignore[arg-type]
    thresholds = learn_thresholds(config, grid, states).to_json()
    parameters = fit_parameters(states, config)
    generator = Generator.build(config, grid, standardisation, parameters, thresholds)
    data = TrainingData(
        generator,
        np.asarray(standardisation.forward(fields)),
        torch.as_tensor(np.asarray(states.season)),
        parameter_table(states, config.data.parameters),
    )
    return generator, data


def describe(generator: Generator, data: TrainingData, states: int) -> None:
    """Says what will be trained on what."""
    grid, lattice = generator.grid, generator.lattice
    weights = sum(p.numel() for p in generator.denoiser.parameters())
    print(
        f"grid {grid.ni} x {grid.nj} x {grid.nk}, {int(grid.tmask.sum())} wet cells, "
        f"{len(lattice.tiles)} tiles of {lattice.tile_i} x {lattice.tile_j} with halo {lattice.halo}\n"
        f"{states} states, {generator.channels.count} channels, {len(data)} windows; "
        f"network of {weights / 1e6:.2f} million weights",
        flush=True,
    )


def check_same_run(config: RunConfig, saved_text: str, folder: Path) -> None:
    """Refuses to go on with a run of other settings.

    Raises:
        ValueError: A setting differs; the sentence names it.
    """
    saved = flatten(dataclasses.asdict(build(RunConfig, yaml.safe_load(saved_text), "")))
    now = flatten(dataclasses.asdict(config))
    for key in saved | now:
        section, _, name = key.partition(".")
        free = section in MAY_CHANGE or (section == "training" and name in TRAINING_MAY_CHANGE)
        if not free and saved.get(key) != now.get(key):
            raise ValueError(
                f"Run folder {folder} was trained with {key} = {saved.get(key)}, but now it is {now.get(key)}: "
                "restore the setting to go on, or choose another output."
            )


def flatten(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Turns nested dictionaries into one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{where}{key}.") if isinstance(value, dict) else {where + key: value}
    return flat


def check_same_grid(grid: Grid, saved: dict[str, Any] | None, folder: Path) -> None:
    """Refuses to go on with a run of another grid."""
    if saved is not None and saved["grid"] != grid.fingerprint():
        raise ValueError(
            f"Run folder {folder} was trained on grid {saved['grid']}, but data.grid is grid "
            f"{grid.fingerprint()}: use the same grid file, or choose another output."
        )


@dataclass
class Trainer:
    """Weights, their average and the optimiser, and the loop that moves them.

    The average is an exponential one with a decay that grows to `ema`, so that it forgets the start.
    """

    generator: Generator
    config: TrainingConfig

    def __post_init__(self) -> None:
        self.network = self.generator.denoiser.network
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
            RuntimeError: The loss is not finite, or the job was told to stop.

        Collective: yes.
        """
        first, saved_at, log = self.step, time.monotonic(), []
        with listening() as signals, Reporter("training", self.config.steps, first, comm.is_root) as reporter:
            while self.step < self.config.steps:
                loss = self.advance(data, comm)
                if not math.isfinite(loss):
                    raise agreed_error(
                        f"The loss is {loss} at step {self.step}: lower training.learning_rate; the last "
                        f"good state is {folder / 'checkpoint.pt'}."
                    )
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

        Collective: yes, one reduction of the gradient.
        """
        config = self.config
        batch = data.batch(config.seed, self.step, config.batch, comm.rank, comm.size)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * schedule(self.step, config)
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
        total = sum_gradients(self.network, loss.total.detach(), comm)
        nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimiser.step()
        self.step += 1
        self._average()
        return total

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
