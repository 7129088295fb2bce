"""The coarse level of a cascade: coarse states for the members of a team, generated or read.

A generator that was trained with `coarse.factor` above 1 is told a coarse state of the whole basin (`run.context`). It
comes from where `sampling.coarse` says:

- the run folder of a generator of coarse states (`data.coarsen`): its members are those that `halocline sample` makes
  of it with the same seed, months, parameters and convection;
- a file of states on the coarse grid: member m takes record m modulo their number, which must stand at its month.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halocline.io.models import read_states
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.layout import Layout
from halocline.run.context import CoarseContext
from halocline.run.generator import Generator
from halocline.run.run_folder import load_generator
from halocline.run.sample_options import SampleOptions, told_to_members
from halocline.run.teams import Team, form_team, usable

__all__ = ["Generate", "check_coarse", "coarse_states"]

Fields = dict[str, np.ndarray]
"""Variable to array of shape (member, k, NJ, NI), physical units, 0 on land."""
Generate = Callable[[Generator, Layout, Team, SampleOptions, bool, Communicator | Serial | None], Fields | None]
"""`halocline.run.sample.generate`."""

SAME = 1e-9  # relative: coarsening by 2 twice rounds otherwise than coarsening by 4


def check_coarse(generator: Generator) -> None:
    """Refuses to sample without the coarse states that the network is told.

    Raises:
        ValueError: sampling.coarse is not set.
    """
    factor = generator.config.coarse.factor
    if factor > 1 and not generator.config.sampling.coarse:
        raise ValueError(
            f"The run was trained with coarse.factor={factor} and needs coarse states to sample, but sampling.coarse "
            f"is not set: name the run folder of a generator trained on the same files with data.coarsen="
            f"{factor * generator.config.data.coarsen}, or a file of states on the coarse grid."
        )


def coarse_states(
    generator: Generator, context: CoarseContext, team: Team, options: SampleOptions, generate: Generate
) -> Tensor:
    """Makes or reads the coarse states of a team's members.

    Arguments:
        generator: Of the fine states.
        context: What it is told.
        team: Which members, on which ranks.
        options: Seed, months, parameters, convection.
        generate: `halocline.run.sample.generate`.

    Returns:
        Standardised as the network is told them, without noise, shape (member, channel, NJ, NI), on every rank.

    Raises:
        ValueError, OSError: There is no such run folder or file, it does not fit, or a member has diverged.

    Collective: yes, over the team.
    """
    place = Path(generator.config.sampling.coarse)
    with team.comm.together():
        check_coarse(generator)
        weights = generator.weights(*told_to_members(generator, options, team.members))
        coarse = open_coarse(place, generator, context) if place.is_dir() else None
        fields = None if coarse is not None else read_coarse(place, context, team, options)
    if coarse is not None:
        fields = share_out(coarse, team, options, generate)
    assert fields is not None
    return standardised(context, fields, weights)


def standardised(context: CoarseContext, fields: Mapping[str, np.ndarray], weights: list[list[float]]) -> Tensor:
    """Standardises coarse states of members, shape (member, channel, NJ, NI)."""
    x = context.channels.join(fields).flatten(2).numpy()
    cells = np.arange(x.shape[-1])
    made = [context.standardise(state, cells, row) for state, row in zip(x, weights, strict=True)]
    return torch.from_numpy(np.stack(made)).unflatten(2, (context.grid.nj, context.grid.ni))


def open_coarse(place: Path, generator: Generator, context: CoarseContext) -> Generator:
    """Loads the generator of coarse states and holds it against the fine one.

    Raises:
        FileNotFoundError, ValueError: It is none, or of another grid, or lacks a variable.
    """
    coarse = load_generator(place)
    check_coarse(coarse)
    if not alike(coarse.grid, context.grid):
        raise ValueError(
            f"sampling.coarse names {place}, a generator of states on {coarse.grid.nj} x {coarse.grid.ni} cells, "
            f"expected one on the grid of this run coarsened by {context.factor}, {context.grid.nj} x "
            f"{context.grid.ni} cells: train it on the same files with "
            f"data.coarsen={context.factor * generator.config.data.coarsen}."
        )
    names = [row.name for row in context.channels.variables]
    if missing := [name for name in names if name not in coarse.config.data.variables]:
        raise ValueError(
            f"sampling.coarse names {place}, whose states have no {', '.join(missing)}, expected {', '.join(names)}: "
            "train it with these data.variables."
        )
    return coarse


def alike(grid: Grid, other: Grid) -> bool:
    """Whether two grids have the same sea, with the same places, areas and thicknesses up to rounding."""
    if grid.tmask.shape != other.tmask.shape or not np.array_equal(grid.tmask, other.tmask):
        return False
    pairs = [(g.glamt, g.gphit, g.e1t * g.e2t, g.e3t) for g in (grid, other)]
    return all(np.allclose((a - b) * grid.wet, 0, atol=SAME * np.abs(b).max()) for a, b in zip(*pairs, strict=True))


def read_coarse(place: Path, context: CoarseContext, team: Team, options: SampleOptions) -> Fields:
    """Reads the coarse states of a team's members from a file.

    Raises:
        FileNotFoundError, OSError: There is no such file, or it cannot be read.
        ValueError: It is of another grid, lacks a variable, or a state stands at another month than its member.
    """
    if not place.exists():
        raise FileNotFoundError(
            f"sampling.coarse names {place}, which does not exist: name the run folder of a generator of coarse "
            "states, or a file of them."
        )
    names = tuple(row.name for row in context.channels.variables)
    states = read_states((str(place),), names, context.grid)
    chosen = [member % len(states) for member in team.members]
    for member, record in zip(team.members, chosen, strict=True):
        if states.month[record] != options.month(member):
            raise ValueError(
                f"State {record} of sampling.coarse, {place}, stands at month {states.month[record]}, but member "
                f"{member} that it is for stands at month {options.month(member)}: set months to those of the states, "
                f"months=[{','.join(str(month) for month in states.month[:12])}]."
            )
    return {name: np.nan_to_num(field[chosen]) for name, field in states.fields.items()}


def share_out(coarse: Generator, team: Team, options: SampleOptions, generate: Generate) -> Fields:
    """Generates the coarse states of a team's members on as many of its ranks as there is work for.

    Raises:
        ValueError: A member has diverged, or the parameters are not those of the coarse generator.

    Collective: yes, over the team.
    """
    comm, tiles = team.comm, coarse.lattice.count
    part = comm.split(0 if comm.rank < usable(comm.size, tiles, len(team.members)) else None, comm.rank)
    with comm.together():  # collective over the part only, whose ranks fail together
        made = None if part is None else generate_on(part, coarse, team.members, options, generate)
    if part is not None:
        part.free()
    fields: Fields = comm.broadcast(made)
    return fields


def generate_on(
    comm: Communicator | Serial,
    coarse: Generator,
    members: tuple[int, ...],
    options: SampleOptions,
    generate: Generate,
) -> Fields | None:
    """Generates members on these ranks; returns them on the root, in their order.

    Collective: yes.
    """
    group = form_team(comm, coarse.lattice.count, len(members))
    mine = Team(group.comm, tuple(members[n] for n in group.members))
    fields = generate(coarse, Layout.build(coarse.lattice, group.comm), mine, options, False, comm)
    parts = comm.gather((group.members, fields) if group.comm.is_root else None)
    group.comm.free()
    if parts is None:
        return None
    found = [part for part in parts if part is not None]
    order = np.argsort(np.concatenate([numbers for numbers, _ in found]))
    return {name: np.concatenate([x[name] for _, x in found])[order] for name in found[0][1]}
