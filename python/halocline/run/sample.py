"""`halocline sample`: noise to states, on any number of ranks, with the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halocline import __version__
from halocline.flow.noise import Noise
from halocline.flow.sampler import (
    AncestralSampler,
    DDIMSampler,
    EulerSampler,
    HeunSampler,
    Sampler,
)
from halocline.flow.tiled import TiledDenoiser
from halocline.flow.times import uniform_times
from halocline.io.nemo import write_states
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.layout import Layout
from halocline.physics.convection import adjust_columns
from halocline.physics.geometry import Geometry
from halocline.run.config import apply_overrides, build, parse_overrides
from halocline.run.generator import Generator, load_generator
from halocline.run.judging import eos_of
from halocline.run.progress import Reporter
from halocline.run.teams import Team, form_team
from halocline.state.variables import VARIABLES

__all__ = ["SampleOptions", "generate", "sample"]

MONTHS = tuple(range(1, 13))


@dataclass(frozen=True)
class SampleOptions:
    """Options of `halocline sample`; see its help."""

    members: int = 12
    seed: int = 0
    output: str = "states.nc"
    months: tuple[int, ...] = MONTHS
    parameters: dict[str, float] = field(default_factory=dict)
    sampling: dict[str, int | str] = field(default_factory=dict)
    convection: bool = True
    ranks_per_member: int = 0

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members is {self.members}, expected at least 1.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected an integer in [0, 2^32).")
        if not self.months or not set(self.months) <= set(MONTHS):
            raise ValueError(f"months is {list(self.months)}, expected numbers from 1 to 12.")

    def month(self, member: int) -> int:
        """Month at whose end a member stands."""
        return self.months[member % len(self.months)]


def sample(run: Path, arguments: Sequence[str], comm: Communicator | Serial) -> None:
    """Samples states and writes them to one file.

    Collective: yes.
    """
    with comm.together():
        overrides = parse_overrides(arguments)
        options = build(SampleOptions, apply_overrides({}, overrides), "")
        check_folder(Path(options.output).absolute().parent)
        generator = load_generator(run, options.sampling)
        requested_parameters(generator, options)  # refused here, while all ranks listen
    torch.set_num_threads(1)  # one thread per rank: part of what fixes the bits
    team = form_team(comm, len(generator.lattice.tiles), options.members, options.ranks_per_member)
    layout = Layout.build(generator.lattice, team.comm)
    fields = generate(generator, layout, team, options, comm.is_root)
    parts = comm.gather((team.members, fields) if team.comm.is_root else None)
    with comm.together():
        if parts is not None:
            write(generator, options, merge([p for p in parts if p is not None], options.members))
            print(f"{options.members} members written to {options.output}", flush=True)


def check_folder(folder: Path) -> None:
    """Refuses a folder that cannot take the output, before hours are spent on it.

    Raises:
        OSError: It does not exist or may not be written to.
    """
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(
            f"Folder {folder} of the output does not exist or may not be written to: create it or choose another."
        )


def generate(
    generator: Generator, layout: Layout, team: Team, options: SampleOptions, speaks: bool
) -> dict[str, np.ndarray] | None:
    """Generates the members of a team.

    Returns:
        On the team's root: variable to array of shape (member, k, nj, ni), physical units, zero on
        land; None elsewhere.

    Collective: yes, over the team.
    """
    months = torch.tensor([options.month(m) for m in team.members]).double()
    parameters = requested_parameters(generator, options).expand(len(team.members), -1)
    denoiser = generator.tiled(layout, months / 12 % 1, parameters)
    noise = keyed_noise(generator, layout, team.members, options.seed, denoiser.mask)
    steps = generator.config.sampling.steps
    with Reporter("sampling", steps, speaks=speaks) as reporter:
        sampler = build_sampler(generator, denoiser, noise, lambda step, t, s: reporter.advance())
        x = sampler(noise(0))
    x = generator.standardisation.cut(layout).inverse(x.double())
    tiles = generator.channels.split(x)
    if options.convection and {"temperature", "salinity"} <= set(tiles):
        adjust(tiles, generator, layout)
    return collect(tiles, generator, layout)


def requested_parameters(generator: Generator, options: SampleOptions) -> Tensor:
    """Returns the physical parameters to generate for, shape (1, parameter).

    Raises:
        ValueError: One is missing or unknown.
    """
    names = generator.parameters.names
    if set(options.parameters) != set(names):
        raise ValueError(
            f"parameters are {sorted(options.parameters) or 'not given'}, expected a value for each of "
            f"{list(names) or 'none (the run was trained without)'}: add parameters.NAME=VALUE."
        )
    return torch.tensor([[options.parameters[name] for name in names]], dtype=torch.float64)


def keyed_noise(
    generator: Generator, layout: Layout, members: Sequence[int], seed: int, mask: Tensor
) -> Callable[[int], Tensor]:
    """Returns the draws of the sampler, zero on land: draw 0 is the start, draw n + 1 belongs to step n."""
    channels = generator.channels
    noise = Noise.build(layout, channels.points, channels.signs)
    return lambda draw: noise.draw(seed, members, 0, draw) * mask


def build_sampler(
    generator: Generator,
    denoiser: TiledDenoiser,
    noise: Callable[[int], Tensor],
    progress: Callable[[int, float, float], None],
) -> Sampler:
    """Builds the sampler that the configuration names, on a uniform grid of path time."""
    sampling = generator.config.sampling
    times = uniform_times(sampling.steps)
    if sampling.sampler == "ancestral":
        return AncestralSampler(denoiser, times, noise, progress=progress)
    kinds = {"euler": EulerSampler, "heun": HeunSampler, "ddim": DDIMSampler}
    return kinds[sampling.sampler](denoiser, times, progress=progress)


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


def collect(
    tiles: dict[str, Tensor], generator: Generator, layout: Layout
) -> dict[str, np.ndarray] | None:
    """Bounds the variables and brings all tiles to the root as (member, k, nj, ni)."""
    result = {}
    for name, x in tiles.items():
        bounded = x.clamp(*VARIABLES[name].bounds).float()
        whole = layout.collect(bounded)
        if whole is not None:
            result[name] = whole
    return result or None


def merge(
    parts: Sequence[tuple[tuple[int, ...], dict[str, np.ndarray]]], members: int
) -> dict[str, np.ndarray]:
    """Puts the members of all teams in order."""
    first = parts[0][1]
    whole = {k: np.empty((members, *v.shape[1:]), np.float32) for k, v in first.items()}
    for indices, fields in parts:
        for name, values in fields.items():
            whole[name][list(indices)] = values
    return whole


def write(generator: Generator, options: SampleOptions, fields: dict[str, np.ndarray]) -> None:
    """Writes the states with what is needed to make them again."""
    sampling = generator.config.sampling
    write_states(
        Path(options.output),
        fields,
        generator.grid,
        months=[options.month(m) for m in range(options.members)],
        attributes={
            "title": "Ocean states generated by Halocline",
            "source": f"halocline {__version__}, training step {generator.step}",
            "seed": options.seed,
            "sampler": f"{sampling.sampler}, {sampling.steps} steps",
            "convective_adjustment": "yes" if options.convection else "no",
            **{f"parameter_{k}": v for k, v in options.parameters.items()},
        },
    )
