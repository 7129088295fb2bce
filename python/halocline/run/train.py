"""`halocline train`: learn the states of a model from its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from halocline.io.nemo import States
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.run.config import RunConfig, build, read_config
from halocline.run.generator import Generator, load_checkpoint, start_run_folder
from halocline.run.judging import learn_thresholds
from halocline.run.threads import choose_device, share_cores
from halocline.run.trainer import Trainer
from halocline.run.training_data import (
    TrainingData,
    fit_parameters,
    load_states,
    parameter_table,
)
from halocline.state.state import Channels, Standardisation

__all__ = ["prepare", "train"]

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
    node = comm.split_by_node()
    share_cores(node)
    device = choose_device(node)
    node.free()
    with comm.together():
        config = read_config(config_path, arguments)
        folder = Path(config.output)
        saved = load_checkpoint(folder) if (folder / "checkpoint.pt").exists() else None
        if saved is not None:
            check_same_run(config, saved["config"], folder)
        check_batch(config, comm.size)
        grid, states = load_states(config)
        check_same_grid(grid, saved, folder)
        generator, data = prepare(config, grid, states)
        check_same_data(generator, saved, folder)
    trainer = Trainer(generator, config.training, device)
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


def check_batch(config: RunConfig, ranks: int) -> None:
    """Refuses a batch that leaves ranks without work."""
    if config.training.batch < ranks:
        raise ValueError(
            f"training.batch is {config.training.batch} on {ranks} ranks, expected at least one "
            "sample per rank: raise training.batch or start fewer ranks."
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


def check_same_data(generator: Generator, saved: dict[str, Any] | None, folder: Path) -> None:
    """Refuses to go on with other states: what is fitted to them must be what the weights have learned with.

    Raises:
        ValueError: It differs in a bit; the sentence names it.
    """
    if saved is None:
        return
    parameters = {"mean": generator.parameters.mean, "scale": generator.parameters.scale}
    now = {"standardisation": generator.standardisation.to_dict(), "parameters": parameters}
    differing = [
        f"{name} of {group}"
        for group, tensors in now.items()
        for name, tensor in tensors.items()
        if name not in saved[group] or not torch.equal(tensor, saved[group][name])
    ]
    if differing:
        raise ValueError(
            f"The states of data.states have changed since step {saved['step']} of run folder {folder} "
            f"({', '.join(differing)}): restore them to go on, or choose another output."
        )
