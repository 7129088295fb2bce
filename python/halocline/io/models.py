"""Grids and states of either model, told apart by what is in the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from halocline.io import nemo, nextsim
from halocline.io.nemo import States
from halocline.io.nextsim_moorings import is_moorings_grid, read_moorings_grid
from halocline.io.state_files import StateFile, StateSource, trajectories
from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.grid import Grid
from halocline.state.coarsening import Coarsening
from halocline.state.state import Channels
from halocline.state.variables import VARIABLES

__all__ = [
    "StateFile", "StateSource", "coarsened_source", "open_states", "read_grid", "read_states", "trajectories",
]  # fmt: skip


def read_grid(path: Path | str) -> Grid:
    """Reads the grid of NEMO (mesh_mask, domain_cfg), of neXtSIM_DG (start or restart file) or of Moorings.

    Raises: see `nemo.read_grid`, `nextsim.read_grid` and `nextsim_moorings.read_moorings_grid`.

    Collective: no.
    """
    if nextsim.is_dg(path):
        return nextsim.read_grid(path)
    return read_moorings_grid(path) if is_moorings_grid(path) else nemo.read_grid(path)


def read_states(
    paths: str | Path | Iterable[str | Path],
    variables: Sequence[str],
    grid: Grid,
    *,
    first_year: int | None = None,
    last_year: int | None = None,
    parameters: Sequence[str] = (),
) -> States:
    """Reads states of NEMO, of neXtSIM, or that Halocline wrote; all files of one kind, that of the first.

    Arguments and raises: see `nemo.read_states` and `nextsim.read_states`.

    Collective: no.
    """
    years = {"first_year": first_year, "last_year": last_year}
    return _module(paths).read_states(paths, variables, grid, **years, parameters=parameters)


def open_states(
    paths: str | Path | Iterable[str | Path],
    variables: Sequence[str],
    grid: Grid,
    *,
    parameters: Sequence[str] = (),
) -> StateSource:
    """Finds states, to be read in parts.

    Arguments and raises: see `nemo.read_states` and `nextsim.read_states`.

    Collective: no.
    """
    return _module(paths).open_states(paths, variables, grid, parameters=parameters)


def coarsened_source(
    source: StateSource, variables: Sequence[str], grid: Grid, factor: int
) -> tuple[Grid, StateSource]:
    """Makes states coarser by a factor as they are read; see `state.coarsening`.

    Arguments:
        source: States on the grid.
        variables: Those that it reads.
        grid: Of the states.
        factor: Of 2, 4, 8.

    Returns:
        The coarse grid, and a source of the same states of the same files on it, fields float64.

    Raises:
        ValueError: The grid cannot be coarsened by this factor.

    Collective: no.
    """
    channels, coarse = Channels.build(variables, grid), coarsen_grid(grid, factor)
    coarsening = Coarsening.build(grid, factor, channels)
    masks = {name: coarse.mask(VARIABLES[name].point) for name in variables}

    def read(chosen: np.ndarray) -> States:
        states: States = source.read(chosen)
        fields = channels.split(coarsening.apply(channels.join(states.fields).double()))
        sea = {name: masks[name][: field.shape[-3]] for name, field in fields.items()}
        return replace(states, fields={name: np.where(sea[name], x.numpy(), np.nan) for name, x in fields.items()})

    return coarse, replace(source, read=read)


def _module(paths: str | Path | Iterable[str | Path]) -> ModuleType:
    """The module that reads such files."""
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return nextsim if given and nextsim.holds_nextsim(given[0]) else nemo
