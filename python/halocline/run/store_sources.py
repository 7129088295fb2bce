"""What a training store has of the files of a model, what it lacks, and whether the two fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halocline.io.models import StateFile, StateSource
from halocline.io.training_store import TrainingStore
from halocline.run.config import DataConfig, RunConfig

__all__ = ["check_settings", "held_out", "lacking", "matched", "settings"]


def held_out(data: DataConfig, years: np.ndarray, runs: np.ndarray | None = None) -> np.ndarray:
    """Whether states of these years, and of these runs of the model where they are given, are for validation only."""
    held = np.zeros(len(years), bool)
    for limits, values in ((data.held_out_years, years), (data.held_out_trajectories, runs)):
        if limits is not None and values is not None:
            held |= (values >= limits[0]) & (values <= limits[1])
    return held


def wanted(data: DataConfig, years: np.ndarray) -> np.ndarray:
    """Whether states of these years are to be trained on, or are held out."""
    first = -np.inf if data.first_year is None else data.first_year
    last = np.inf if data.last_year is None else data.last_year
    return (years >= first) & (years <= last) | held_out(data, years)


def lacking(
    origin: Sequence[Sequence[int]], files: Mapping[int, StateFile], source: StateSource, data: DataConfig
) -> np.ndarray:
    """Numbers of the states, in the order of the files, that a store lacks.

    Arguments:
        origin: Of each record of the store, the number of its file and of the state in it.
        files: Those files, as far as they are here; see `matched`.
        source: All states of the model.
        data: Names the years.

    Raises:
        ValueError: There is no state in the years wanted.
    """
    absent = np.ones(len(source), bool)
    for number, state in origin:
        if number in files:
            absent[files[number].first + state] = False
    fit = wanted(data, source.stamps.year)
    if not fit.any():
        raise ValueError(
            f"data.states have {len(source)} states of years {source.stamps.year.min()} to "
            f"{source.stamps.year.max()}, none of which lies in the years wanted: widen data.first_year, "
            "data.last_year or data.held_out_years."
        )
    return np.flatnonzero(absent & fit)


def matched(remembered: Sequence[Mapping[str, Any]], files: Sequence[StateFile], store: Path) -> dict[int, StateFile]:
    """Finds the files that were taken in among those that are here; one that was moved is known by its content.

    Returns:
        Number of the file in the store, to the file.

    Raises:
        ValueError: A file has changed since.
    """
    here = {str(file.path): file for file in files}
    found = {n: here.pop(entry["path"]) for n, entry in enumerate(remembered) if entry["path"] in here}
    for n, file in found.items():
        if not file.is_as(remembered[n]):
            raise ValueError(
                f"File {file.path}, or one of the same states, has changed since it was taken into training store "
                f"{store}: restore it, or remove the store to have it made again."
            )
    away = [n for n in range(len(remembered)) if n not in found]
    contents = {file.digest: file for file in here.values()} if away else {}
    return found | {n: contents.pop(d) for n in away if (d := remembered[n]["digest"]) in contents}


def settings(config: RunConfig) -> dict[str, Any]:
    """What the content of a store depends on, apart from the states and their years."""
    data = config.data
    return {
        "data.variables": list(data.variables), "data.parameters": list(data.parameters),
        "data.equation_of_state": data.equation_of_state, "data.coefficients": dict(data.coefficients),
        "data.free_surface": data.free_surface, "data.coarsen": data.coarsen,
        "lattice.tile": list(config.lattice.tile), "data.forcing": list(data.forcing),
    }  # fmt: skip


def check_settings(config: RunConfig, store: TrainingStore) -> None:
    """Refuses a store of other settings.

    Raises:
        ValueError: One differs, or states lie outside of the years wanted; the sentence names it.
    """
    # A store older than these settings is not coarsened, and has no forcing.
    made = {"data.coarsen": 1, "data.forcing": []} | store.manifest["settings"]
    now = settings(config)
    if not set(config.training.scales) <= set(store.scales):
        made["training.scales"], now["training.scales"] = list(store.scales), list(config.training.scales)
    if config.coarse.factor not in store.scales:
        made["scales (of training.scales and coarse.factor)"] = list(store.scales)
        now["scales (of training.scales and coarse.factor)"] = config.store_scales
    for name, value in now.items():
        if made[name] != value:
            raise ValueError(
                f"Training store {store.path} was made with {name} = {made[name]}, but now it is {value}: name another "
                "data.store, or remove this one to have it made again."
            )
    years = store.records.year
    beyond = years[~wanted(config.data, years)]
    if beyond.size:
        raise ValueError(
            f"Training store {store.path} has {beyond.size} states of years {beyond.min()} to {beyond.max()}, which "
            "data.first_year, data.last_year and data.held_out_years leave out: name another data.store, or widen them."
        )
