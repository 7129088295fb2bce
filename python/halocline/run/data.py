"""`halocline data`: model output to a training store, by all ranks, resumable, adding only what is new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halocline.io.models import StateSource, coarsened_source, open_states, read_grid, read_states
from halocline.io.nemo import States
from halocline.io.training_store import MANIFEST, TrainingStore, write_manifest
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.run.budget_fit import learn_budget
from halocline.run.config import DataConfig, RunConfig, read_config
from halocline.run.increments import learn_increments
from halocline.run.store_climatology import learn_climatology
from halocline.run.store_filling import Filling
from halocline.run.store_sources import check_settings, held_out
from halocline.run.store_statistics import learn

__all__ = ["data", "ensure_store", "open_model", "read_model", "store_path"]


def data(config_path: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Makes the training store of a configuration, or adds what is new.

    Raises: see `ensure_store`.

    Collective: yes.
    """
    with comm.together():
        config = read_config(config_path, arguments)
    store = ensure_store(config, comm)
    if comm.is_root:
        held = int(store.records.held_out.sum())
        size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
        print(
            f"{store.path}: {store.count} states ({held} held out), {store.channels.count} channels on "
            f"{store.grid.ni} x {store.grid.nj} cells, scales {', '.join(map(str, store.scales))}, "
            f"{size / 2**20:.1f} MiB"
        )


def store_path(config: RunConfig) -> Path:
    """Where the training store of a configuration is."""
    return Path(config.data.store) if config.data.store else Path(config.output) / "data.zarr"


def ensure_store(config: RunConfig, comm: Communicator | Serial) -> TrainingStore:
    """Makes the store, adds what is new, or takes it as it is where the files of the model are absent.

    Nothing in the store depends on the number of ranks. A run that was killed goes on behind the records that its
    manifest counts.

    Raises:
        FileNotFoundError: There is neither a store nor a file that it could be made of.
        OSError: The disk is full; what is counted stays.
        ValueError: Files, store and configuration do not fit each other.

    Collective: yes.
    """
    path = store_path(config)
    with comm.together():
        found = open_sources(config, path)
    if found is None:
        if comm.is_root:
            print(f"the files of data.states are not here; {path} is taken as it is", flush=True)
    else:
        Filling(config, path, *found, comm).run()
    stale, wanting, leads = False, False, config.forecast.leads
    with comm.together():
        if comm.is_root:
            store = TrainingStore.open(path)
            stale = flag(config, store)
            wanting = config.training.centre == "conditions" and store.climatology() is None
            tables = (store.increments(), store.budget())
            known = all(table is not None and tuple(table["leads"].tolist()) == leads for table in tables)
            leads = () if known else leads
    stale, wanting, leads = comm.broadcast((stale, wanting, leads))
    if stale:
        learn(path, comm)
    if wanting:
        learn_climatology(path, comm)
    if leads:
        learn_increments(path, leads, comm)
        learn_budget(path, leads, comm)
    with comm.together():
        return TrainingStore.open(path)


def open_sources(config: RunConfig, path: Path) -> tuple[Grid, StateSource] | None:
    """Opens the files of the model; None where they are absent but there is a store."""
    try:
        return open_model(config.data)
    except FileNotFoundError:
        if (path / MANIFEST).exists():
            return None
        raise


def open_model(data: DataConfig) -> tuple[Grid, StateSource]:
    """Opens grid and states of the model, coarsened where the configuration says so.

    Raises: see `read_grid`, `open_states` and `coarsened_source`.

    Collective: no.
    """
    grid = read_grid(data.grid)
    source = open_states(data.states, data.stored, grid, parameters=data.parameters)
    return (grid, source) if data.coarsen == 1 else coarsened_source(source, data.stored, grid, data.coarsen)


def read_model(
    data: DataConfig,
    grid: Grid,
    paths: Sequence[str] = (),
    first_year: int | None = None,
    last_year: int | None = None,
) -> States:
    """Reads states of the model onto the grid of a generator.

    Arguments:
        data: Of the generator. Where `data.coarsen` is more than 1, the states are coarsened, for which `data.grid`
            must be there.
        grid: Of the generator.
        paths: Files of the model; `data.states` unless given.
        first_year, last_year: Years to keep, inclusive.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The files are not as expected, or no state lies in these years.

    Collective: no.
    """
    paths = tuple(paths) or data.states
    if data.coarsen == 1:
        return read_states(paths, data.variables, grid, first_year=first_year, last_year=last_year)
    fine = read_grid(data.grid)
    _, source = coarsened_source(open_states(paths, data.variables, fine), data.variables, fine, data.coarsen)
    years = source.stamps.year
    low, high = -np.inf if first_year is None else first_year, np.inf if last_year is None else last_year
    chosen = np.flatnonzero((years >= low) & (years <= high))
    if not chosen.size:
        raise ValueError(
            f"No state of {', '.join(paths)}, of years {years.min()} to {years.max()}, lies in years {first_year} to "
            f"{last_year}: widen the choice."
        )
    states: States = source.read(chosen)
    return states


def flag(config: RunConfig, store: TrainingStore) -> bool:
    """Marks the states that are held out by now.

    Returns:
        Whether the statistics have to be learned again.

    Raises:
        ValueError: The store does not fit the configuration, or all states are held out.
    """
    check_settings(config, store)
    held = held_out(config.data, store.records.year, store.records.trajectory)
    if held.all():
        raise ValueError(
            f"data.held_out_years and data.held_out_trajectories hold out all {store.count} states, expected some to "
            "train on: narrow them."
        )
    if (held != store.records.held_out).any():
        store.manifest["records"]["held_out"] = held.tolist()
        write_manifest(store.path, store.manifest)
        return True
    return store.statistics_or_none() is None
