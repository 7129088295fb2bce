"""Grids and states of either model, told apart by what is in the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from halocline.io import nemo, nextsim
from halocline.io.nemo import States
from halocline.io.state_files import StateFile, StateSource, trajectories
from halocline.mesh.grid import Grid

__all__ = ["StateFile", "StateSource", "open_states", "read_grid", "read_states", "trajectories"]


def read_grid(path: Path | str) -> Grid:
    """Reads the grid of a NEMO configuration (mesh_mask, domain_cfg) or of neXtSIM_DG (start or restart file).

    Raises: see `nemo.read_grid` and `nextsim.read_grid`.

    Collective: no.
    """
    return nextsim.read_grid(path) if nextsim.is_dg(path) else nemo.read_grid(path)


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


def _module(paths: str | Path | Iterable[str | Path]) -> ModuleType:
    """The module that reads such files."""
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return nextsim if given and nextsim.holds_nextsim(given[0]) else nemo
