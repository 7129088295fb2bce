"""`halocline train`: learn the states of a model from its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.run.beginning import begin_with
from halocline.run.budget_fit import Budget
from halocline.run.checkpoints import Checkpoint, newest_checkpoint
from halocline.run.config import RunConfig, build, read_config
from halocline.run.data import ensure_store
from halocline.run.dry_run import dry_run
from halocline.run.engine import leave
from halocline.run.first_guess import check_guess, load_guess
from halocline.run.generator import Generator, Parameters, check_window
from halocline.run.increments import Increments
from halocline.run.judging import learn_thresholds
from halocline.run.loader import WindowLoader
from halocline.run.pairs import PairLoader
from halocline.run.run_folder import GUESS, fingerprints, start_run_folder
from halocline.run.targets import Targets
from halocline.run.threads import choose_device, share_cores
from halocline.run.trainer import Trainer
from halocline.state.climatology import Climatology
from halocline.state.state import Centre, Standardisation

__all__ = ["prepare", "train"]

LEAST = 1e-2  # of the scale of departures, in scales of the states

MAY_CHANGE = {"output", "sampling", "data.grid", "data.states", "data.store", "forecast.first_guess"}
"""Settings that a resumed run may change: places (content is compared), beside those of training below."""

TRAINING_MAY_CHANGE = {
    "steps", "checkpoint_minutes", "accumulate", "ranks", "zero", "recompute", "cache", "prefetch", "divergence",
    "keep", "validate_steps", "validation_members",
}  # fmt: skip


def train(config_path: Path, arguments: Sequence[str], comm: Communicator | Serial, dry: bool = False) -> None:
    """Trains a generator, or goes on with the training of a run folder.

    Arguments:
        config_path: YAML configuration.
        arguments: `key=value` overrides.
        comm: All ranks; the batch is shared out over them.
        dry: Say what would be done, and end.

    Raises:
        ValueError, OSError: Wrong configuration, data or run folder.
        RuntimeError: See `Trainer.run`.

    Collective: yes.
    """
    node = comm.split_by_node()
    share_cores(node)
    device = choose_device(node)
    node.free()
    with comm.together():
        config = read_config(config_path, arguments)
        check_ranks(config, comm.size)
        check_window(config)
    if dry:
        dry_run(config, comm)
        return
    folder = Path(config.output)
    checkpoint = resume_from(config, folder, comm)
    store = ensure_store(config, comm)
    with comm.together():
        check_same_grid(store.grid, checkpoint, folder)
        generator = prepare(config, store)
        check_same_data(generator, checkpoint, folder)
        if checkpoint is None:
            begin_with(generator)
        if comm.is_root:
            start_run_folder(folder, generator, again=checkpoint is not None)
    if checkpoint is not None and checkpoint.step >= config.training.steps:
        if comm.is_root:
            print(f"{folder} has already {checkpoint.step} of {config.training.steps} steps: nothing to do.")
        return
    run_training(generator, store, checkpoint, folder, comm, device)


def run_training(
    generator: Generator,
    store: TrainingStore,
    checkpoint: Checkpoint | None,
    folder: Path,
    comm: Communicator | Serial,
    device: torch.device,
) -> None:
    """Trains from the start, or from a checkpoint.

    Collective: yes.
    """
    with comm.together():
        kind = PairLoader if generator.config.forecast else WindowLoader
        loader = kind(store, generator, comm.rank, comm.size)
    trainer, orderly = None, False
    try:
        if comm.is_root and checkpoint is None:
            describe(generator, loader.windows, store.count)
        trainer = Trainer(generator, store, folder, comm, device)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        trainer.run(loader)
        orderly = True
    except Exception as error:
        orderly = comm.size == 1 or getattr(error, "agreed", False)
        raise
    finally:
        loader.close()
        if orderly:  # else the job is about to be ended, and nobody may be waited for
            if trainer is not None:
                trainer.close()
            leave()


def resume_from(config: RunConfig, folder: Path, comm: Communicator | Serial) -> Checkpoint | None:
    """Finds the checkpoint from which this training goes on, if there is one.

    Raises:
        ValueError: The folder is that of a run with other settings, or no checkpoint in it is whole.

    Collective: yes.
    """
    checkpoint, reasons = newest_checkpoint(folder, comm)
    if comm.is_root and checkpoint is not None:
        for reason in reasons:
            print(f"{reason} It is passed over.")
        print(f"going on from {checkpoint.folder}", flush=True)
    with comm.together():
        if checkpoint is not None:
            check_same_run(config, checkpoint.manifest["config"], folder)
    return checkpoint


def prepare(config: RunConfig, store: TrainingStore) -> Generator:
    """Fits the standardisation to the training data and builds the untrained generator.

    Raises:
        ValueError: Configuration and data do not fit.

    Collective: no.
    """
    data = store.records
    seen = ~data.held_out
    names = config.data.parameters
    values = [torch.as_tensor(data.parameters[name][seen]).double() for name in names]
    given = torch.stack(values, dim=1) if values else torch.zeros(int(seen.sum()), 0)
    parameters = Parameters.fit(names, given)
    standardisation, climatology = standardise(config, store, parameters)
    diagnosed = {name: x[seen] for name, x in store.diagnostics().items()}
    season = torch.as_tensor(data.month[seen]).double() / 12 % 1
    targets = Targets.fit(diagnosed, season, parameters.standardise(given), climatology)
    thresholds = learn_thresholds(diagnosed).to_json()
    increments = budget = None
    if config.forecast:
        increments = Increments.from_dict({k: torch.as_tensor(x) for k, x in (store.increments() or {}).items()})
        budget = Budget.from_dict({k: torch.as_tensor(x) for k, x in (store.budget() or {}).items()})
    generator = Generator.build(
        config, store.grid, standardisation, parameters, thresholds, targets, climatology, increments, budget,
        load_guess(config),
    )  # fmt: skip
    check_guess(generator)
    return generator


def standardise(
    config: RunConfig, store: TrainingStore, parameters: Parameters
) -> tuple[Standardisation, Climatology | None]:
    """Takes from the store what is subtracted from states, and what they are divided by.

    Departures from a climatology are scaled by what they leave of the variance. Where that is next to nothing, they
    are mostly what the states cannot tell, so a scale is at least `LEAST` times that of the whole variance.

    Raises:
        ValueError: The store has not learned what is asked for.
    """
    learned, centre = store.statistics(), config.training.centre

    def of(variance: np.ndarray) -> Standardisation:
        plain: Centre = "level" if centre == "level" else "cell"
        return Standardisation.from_moments(store.channels, store.grid, learned.mean, variance, centre=plain)

    whole = of(learned.variance)
    if centre != "conditions":
        return whole, None
    found = store.climatology()
    if found is None:
        raise ValueError(
            f"Training store {store.path} has no climatology of its {store.count} records: give the command once more, "
            "where the store can be written."
        )
    columns = [list(store.records.parameters).index(name) for name in parameters.names]
    points = parameters.standardise(torch.as_tensor(found["values"][:, columns]))
    climatology = Climatology(points, torch.as_tensor(found["coefficients"]))
    variance = np.maximum(found["variance"], LEAST**2 * learned.variance)
    return of(variance), climatology


def describe(generator: Generator, windows: int, states: int) -> None:
    """Says what will be trained on what."""
    grid, lattice = generator.grid, generator.lattice
    weights = sum(p.numel() for p in generator.denoiser.parameters())
    print(
        f"grid {grid.ni} x {grid.nj} x {grid.nk}, {int(grid.tmask.sum())} wet cells, "
        f"{len(lattice.tiles)} tiles of {lattice.tile_i} x {lattice.tile_j} with halo {lattice.halo}\n"
        f"{states} states, {generator.channels.count} channels, {windows} windows; "
        f"network of {weights / 1e6:.2f} million weights",
        flush=True,
    )


def check_ranks(config: RunConfig, ranks: int) -> None:
    """Refuses a job of another size than the configuration says, and a batch that leaves ranks without work.

    Raises:
        ValueError: It is so.
    """
    training = config.training
    if training.ranks not in (0, ranks):
        raise ValueError(
            f"training.ranks is {training.ranks}, but the launcher started {ranks}: start as many, or set "
            "training.ranks=0."
        )
    needed = ranks * training.accumulate
    if training.batch < needed:
        raise ValueError(
            f"training.batch is {training.batch} on {ranks} ranks in {training.accumulate} parts each, expected at "
            f"least {needed}, one window for each: raise training.batch, start fewer ranks, or lower "
            "training.accumulate."
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
        free = section in MAY_CHANGE or key in MAY_CHANGE or (section == "training" and name in TRAINING_MAY_CHANGE)
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


def check_same_grid(grid: Grid, checkpoint: Checkpoint | None, folder: Path) -> None:
    """Refuses to go on with a run of another grid."""
    if checkpoint is not None and checkpoint.manifest["grid"] != grid.fingerprint():
        raise ValueError(
            f"Run folder {folder} was trained on grid {checkpoint.manifest['grid']}, but data.grid is grid "
            f"{grid.fingerprint()}: use the same grid file, or choose another output."
        )


def check_same_data(generator: Generator, checkpoint: Checkpoint | None, folder: Path) -> None:
    """Refuses to go on with other states: what is fitted to them must be what the weights have learned with.

    Raises:
        ValueError: It differs in a bit; the sentence names it.
    """
    if checkpoint is None:
        return
    now, saved = fingerprints(generator), checkpoint.manifest["fitted"]
    changed = [name for name in now if now[name] != saved.get(name)]
    if changed and all(name.startswith(GUESS) for name in changed):
        raise ValueError(
            f"forecast.first_guess has changed since step {checkpoint.step} of {folder}: restore the run folder "
            f"{generator.config.forecast.first_guess} to go on, or choose another output."
        )
    if changed:
        raise ValueError(
            f"data.states have changed since step {checkpoint.step} of {folder} ({', '.join(changed)} differ): restore "
            "them to go on, or choose another output."
        )
