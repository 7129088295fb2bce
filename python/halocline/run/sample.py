"""`halocline sample`: noise to states, on any number of ranks, with the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halocline.flow.noise import Noise
from halocline.flow.sampler import Sampler
from halocline.flow.tiled import TiledDenoiser
from halocline.inference.guidance import Told
from halocline.inference.primal_dual import PrimalDualSampler
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.layout import Layout
from halocline.physics.convection import adjust_columns
from halocline.physics.geometry import Geometry
from halocline.run.cascade import check_coarse, coarse_states
from halocline.run.config import apply_overrides, build, parse_overrides
from halocline.run.constraints import Constrained
from halocline.run.context import stream_of
from halocline.run.generator import Generator
from halocline.run.judging import eos_of
from halocline.run.outputs import check_file
from halocline.run.progress import Reporter
from halocline.run.run_folder import load_generator
from halocline.run.sample_files import merge, show, write
from halocline.run.sample_options import SampleOptions, requested_parameters, told_to_members
from halocline.run.samplers import plain_sampler
from halocline.run.teams import Team, form_team
from halocline.state.state import Channels, Standardisation
from halocline.state.variables import VARIABLES, Variable

__all__ = ["SampleOptions", "generate", "generate_tiles", "requested_parameters", "sample"]

AT_BOUND = ("concentration", "thickness", "snow", "damage")
"""Variables that lie at a bound over whole seas, such as those without ice."""

BEYOND = 1e-3
"""Distance to which other variables may pass a bound, in units of the bounds' width: 0.055 degC for temperature."""


def sample(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Samples states and writes them to one file.

    Collective: yes.
    """
    with comm.together():
        overrides = parse_overrides(arguments)
        options = build(SampleOptions, apply_overrides({}, overrides), "")
        check_file(Path(options.output))
        generator = load_generator(run, options.sampling)
        if generator.config.forecast:
            raise ValueError(f"{run} makes forecasts, not states: use `halocline forecast`.")
        check_coarse(generator)
        wanted = requested_parameters(generator, options)  # refused here, while all ranks listen
        for text in generator.parameters.beyond(wanted[0]) if comm.is_root else ():
            print(f"halocline: warning: {text}", flush=True)
    torch.set_num_threads(1)  # one thread per rank: part of what fixes the bits
    team = form_team(comm, len(generator.lattice.tiles), options.members, options.ranks_per_member)
    layout = Layout.build(generator.lattice, team.comm)
    told = Told()
    fields = generate(generator, layout, team, options, comm.is_root, comm, told)
    parts = comm.gather((team.members, fields, told.rows) if team.comm.is_root else None)
    with comm.together():
        if parts is not None:
            made = [part for part in parts if part is not None]
            write(generator, options, merge([part[:2] for part in made], options.members))
            print(f"{options.members} members written to {options.output}", flush=True)
            show(generator, options, [row for part in made for row in part[2]])


def generate(
    generator: Generator,
    layout: Layout,
    team: Team,
    options: SampleOptions,
    speaks: bool,
    everyone: Communicator | Serial | None = None,
    told: Told | None = None,
) -> dict[str, np.ndarray] | None:
    """Generates the members of a team and brings them to its root.

    Arguments: see `generate_tiles`.

    Returns:
        On the team's root: variable to array of shape (member, k, nj, ni), physical units, zero on
        land; None elsewhere.

    Raises:
        ValueError: A member has diverged.

    Collective: yes, over all teams.
    """
    tiles = generate_tiles(generator, layout, team, options, speaks, everyone, told)
    fields = {name: layout.collect(x) for name, x in tiles.items()}
    return {name: x for name, x in fields.items() if x is not None} or None


def generate_tiles(
    generator: Generator,
    layout: Layout,
    team: Team,
    options: SampleOptions,
    speaks: bool,
    everyone: Communicator | Serial | None = None,
    told: Told | None = None,
    coarse: Tensor | None = None,
) -> dict[str, Tensor]:
    """Generates the members of a team where they will stay: on its tiles.

    Arguments:
        generator: Trained generator.
        layout: Who owns which tile, over the team.
        team: Which members to make.
        options: Seed, months, parameters, convection.
        speaks: Whether this rank reports progress.
        everyone: All teams, which end together where a member of one diverges; the team if left out.
        told: Is given what constraints have missed at each evaluation.
        coarse: Standardised coarse states that the members are told, shape (member, channel, NJ, NI); those that
            `sampling.coarse` names if left out.

    Returns:
        Variable to the numbers that files hold: float32, shape (member, tile, k, j, i), physical units, zero on land.

    Raises:
        ValueError: A member has diverged, or there are no coarse states for a network that is told some.
        OSError: The coarse states cannot be read.

    Collective: yes, over all teams.
    """
    season, parameters = told_to_members(generator, options, team.members)
    with (everyone or team.comm).together():
        context = context_on_tiles(generator, layout, team, options, coarse)
    plain = generator.tiled(layout, season, parameters, context)
    with team.comm.together():
        constrained = Constrained.build(plain, generator, layout, season, parameters, team.members)
    noise = keyed_noise(generator, layout, team.members, options.seed, plain.mask)
    steps = generator.config.sampling.steps
    with Reporter("sampling", steps, speaks=speaks) as reporter:
        sampler = build_sampler(generator, constrained, noise, lambda step, t, s: reporter.advance())
        x = sampler(noise(0))
    with (everyone or team.comm).together():
        if constrained.strict is not None:
            x = constrained.strict.finish(x)
    if told is not None:
        told.rows += [(t, team.members[n], r, p) for t, n, r, p in constrained.told.rows]
    standardisation = generator.standardise(layout, season, parameters)
    x = standardisation.inverse(x.double())
    with (everyone or team.comm).together():
        check_bounds(x, standardisation, generator.channels, layout, team.members)
    tiles = {name: value.clamp(*VARIABLES[name].bounds) for name, value in generator.channels.split(x).items()}
    if (options.convection or constrained.strict is not None) and {"temperature", "salinity"} <= set(tiles):
        adjust(tiles, generator, layout)
    return {name: value.float() for name, value in tiles.items()}


def context_on_tiles(
    generator: Generator, layout: Layout, team: Team, options: SampleOptions, coarse: Tensor | None
) -> Tensor | None:
    """Makes or reads coarse states, adds noise and cuts them; see `CoarseContext.on_tiles`. None where none are told.

    Arguments and raises: see `generate_tiles`.

    Collective: yes, over the team, whose ranks fail together.
    """
    if generator.config.coarse.factor == 1:
        return None
    context = generator.coarse_context()
    if coarse is None:
        coarse = coarse_states(generator, context, team, options, generate)
    return context.on_tiles(layout, coarse, options.seed, stream_of(generator.config.data), team.members)


def check_bounds(
    x: Tensor, standardisation: Standardisation, channels: Channels, layout: Layout, members: Sequence[int]
) -> None:
    """Refuses members with values that no sea can have; small excursions are left to be cut off.

    Arguments:
        x: Physical states, shape (member, tile, channel, j, i).
        standardisation: Of these tiles; gives sea and scale.
        channels: Names the channels.
        layout: Gives the place of a tile.
        members: Numbers of the members.

    Raises:
        ValueError: A wet value is not finite, or too far beyond the bounds of its variable.

    Collective: no.
    """
    rows = [channel.variable for channel in channels.channels]
    beyond = [allowance(row, float(scale)) for row, scale in zip(rows, standardisation.scale, strict=True)]
    low = x.new_tensor([row.bounds[0] - far for row, far in zip(rows, beyond, strict=True)])
    high = x.new_tensor([row.bounds[1] + far for row, far in zip(rows, beyond, strict=True)])
    possible = x.isfinite() & (x >= low[:, None, None]) & (x <= high[:, None, None])
    bad = standardisation.mask & ~possible
    if not bad.any():
        return
    member, tile, channel, j, i = (int(n) for n in bad.nonzero()[0])
    lattice, row = layout.lattice, rows[channel]
    J, I = (int(n) for n in lattice.tiles[layout.local[tile]])
    raise ValueError(
        f"Member {members[member]} diverged: {channels.describe(channel)} is "
        f"{float(x[member, tile, channel, j, i]):.4g} {row.unit} at j={J * lattice.tile_j + j}, "
        f"i={I * lattice.tile_i + i}, expected {row.bounds[0]:g} to {row.bounds[1]:g}: take more sampling.steps, "
        "another sampling.sampler, or train longer."
    )


def allowance(row: Variable, scale: float) -> float:
    """Distance to which a variable may pass its bounds, in its unit.

    Where the truth lies at a bound, or there is only one, a network that has learned it scatters around it: by less
    than the standard deviation of the training states, `scale`.
    """
    width = row.bounds[1] - row.bounds[0]
    return scale if row.name in AT_BOUND or math.isinf(width) else BEYOND * width


def keyed_noise(
    generator: Generator, layout: Layout, members: Sequence[int], seed: int, mask: Tensor
) -> Callable[[int], Tensor]:
    """Returns the draws of the sampler, zero on land: draw 0 is the start, draw n + 1 belongs to step n."""
    channels = generator.channels
    noise, stream = Noise.build(layout, channels.points, channels.signs), stream_of(generator.config.data)
    start = generator.config.sampling.noise
    return lambda draw: noise.draw(seed, members, stream, draw) * (mask if draw or start == 1 else start * mask)


def build_sampler(
    generator: Generator,
    constrained: Constrained | TiledDenoiser,
    noise: Callable[[int], Tensor],
    progress: Callable[[int, float, float], None],
) -> Sampler:
    """Builds the sampler that the configuration names, with its constraints.

    Arguments:
        generator: Gives the configuration.
        constrained: The denoiser, with its constraints where there are some.
        noise: Function of the draw number.
        progress: Called after each step.
    """
    if isinstance(constrained, TiledDenoiser):
        constrained = Constrained(constrained)
    sampling = generator.config.sampling
    sampler = plain_sampler(sampling, constrained.denoiser, noise, progress)
    if constrained.multipliers is None:
        return sampler
    return PrimalDualSampler(
        sampler, constrained.multipliers, sampling.corrections, sampling.correction_size, noise, progress
    )


def adjust(tiles: dict[str, Tensor], generator: Generator, layout: Layout) -> None:
    """Mixes unstable columns in place; see `halocline.physics.convection`.

    Stable are the numbers that are written: rounding them to float32 may make a column unstable by a hair, which
    is then mixed again. A column that is stable keeps its bits.
    """
    geometry = Geometry.build(generator.grid, layout)
    levels = tiles["temperature"].shape[-3]
    e3t, gdepw, tmask = (
        x[..., :levels, :, :] for x in (geometry.e3t, geometry.gdepw, geometry.tmask)
    )
    eos = eos_of(generator.config.data)
    T, S = tiles["temperature"].float(), tiles["salinity"].float()
    for _ in range(levels):  # each pass merges layers, of which there are no more
        mixed = tuple(x.float() for x in adjust_columns(T.double(), S.double(), e3t, gdepw, tmask, eos))
        settled = torch.equal(mixed[0], T) and torch.equal(mixed[1], S)
        T, S = mixed
        if settled:
            break
    tiles["temperature"], tiles["salinity"] = T, S
