"""Constraints of a job: built from the configuration, followed while samples are made, and shown."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halocline.flow.denoiser import Denoiser
from halocline.inference.constraint import Moments, Stability, Water
from halocline.inference.guidance import GuidedDenoiser, Multipliers, PenalisedState, Told
from halocline.inference.observation import Given
from halocline.inference.strict import StrictDenoiser, WithinMeans
from halocline.io.atomic import atomic_path
from halocline.io.nemo import read_states
from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.run.generator import Generator
from halocline.run.judging import eos_of
from halocline.state.state import Standardisation

__all__ = ["BOUND", "Constrained", "draw_rows", "write_rows"]

BOUND = 2.0  # of level means in the strict mode, standard deviations: 96 % of the spread of a Gaussian is kept
STRENGTHS = {"state": 1.0, "estimate": 4.0, "multipliers": 0.5}  # unless sampling.constraint_strength says otherwise
COLUMNS = ("t", "member", "residual", "multiplier")


@dataclass(frozen=True, eq=False)
class Constrained:
    """A denoiser that meets what the configuration asks, or the one it was made from.

    Attributes:
        denoiser: For the sampler.
        multipliers: Of the denoiser, where it has some.
        strict: Where every sample has to satisfy the constraints.
        told: What was missed at each evaluation.
    """

    denoiser: Denoiser
    multipliers: Multipliers | None = None
    strict: StrictDenoiser | None = None
    told: Told = field(default_factory=Told)

    @classmethod
    def build(
        cls,
        denoiser: Denoiser,
        generator: Generator,
        layout: Layout,
        season: Tensor,
        parameters: Tensor,
        members: Sequence[int] = (0,),
    ) -> Constrained:
        """Wraps a denoiser as `generator.config.sampling` says.

        Arguments:
            denoiser: Of a distributed state.
            generator: Gives targets, grid and configuration.
            layout: Who owns which tile.
            season: Fraction of the year, shape (member).
            parameters: Physical parameters, shape (member, parameter).
            members: Their numbers.

        Raises:
            ValueError: The generator has no targets for a constraint, no temperature and salinity, or no such fields as
                are given.
            OSError: The file of given fields cannot be read.

        Collective: no.
        """
        sampling, told = generator.config.sampling, Told()
        asked = sampling.asked
        standardisation = generator.standardise(layout, season, parameters)
        given = given_of(generator, layout, members, standardisation) if sampling.given else None
        if not asked and given is None:
            return cls(denoiser)
        water = water_of(generator, layout, standardisation) if asked else None
        standard = generator.parameters.standardise(parameters)

        def moments(kind: str) -> Moments:
            assert water is not None
            return Moments(kind, water, *generator.targets.of(kind, season, standard, generator.climatology))

        means = [moments(kind) for kind in asked if kind in ("ts", "c1", "c2")]
        stability = Stability(water) if water is not None and "stability" in asked else None
        strength = sampling.constraint_strength or STRENGTHS[sampling.constraint_form]
        multipliers = None
        if means and sampling.constraint_form == "state":
            denoiser = PenalisedState(denoiser, means[0], strength, told)
        elif means or stability or given:
            if sampling.constraint_form == "multipliers":
                multipliers = Multipliers(step=strength)
            mean = means[0] if means else None
            denoiser = GuidedDenoiser(denoiser, mean, stability, strength, multipliers, told, given)
        if water is None or "strict" not in asked:
            return cls(denoiser, multipliers, None, told)
        within = WithinMeans(moments("ts"), BOUND) if generator.targets.coefficients else None
        strict = StrictDenoiser(denoiser, water, within, None if means or given else told)
        return cls(strict, multipliers, strict, told)


def water_of(generator: Generator, layout: Layout, standardisation: Standardisation) -> Water:
    """Returns what measures the water of a generator's states.

    Raises:
        ValueError: They have no temperature or salinity.
    """
    data = generator.config.data
    if missing := {"temperature", "salinity"} - set(data.variables):
        raise ValueError(
            f"sampling.constraints needs {' and '.join(sorted(missing))}, got states of {', '.join(data.variables)}: "
            "set sampling.constraints=none, or train with these variables."
        )
    return Water(
        generator.channels, standardisation, Geometry.build(generator.grid, layout), layout,
        eos_of(data), data.free_surface,  # type: ignore[arg-type]
    )  # fmt: skip


def given_of(
    generator: Generator, layout: Layout, members: Sequence[int], standardisation: Standardisation
) -> Given:
    """Reads the fields that `sampling.given` names.

    Raises:
        ValueError, OSError: The file cannot be read, lacks a field, or is of another grid.
    """
    sampling, channels = generator.config.sampling, generator.channels
    names = tuple(name for name in sampling.given_variables.split("+") if name)
    if not names or not set(names) <= set(generator.config.data.variables):
        raise ValueError(
            f"sampling.given_variables is '{sampling.given_variables}', expected some of "
            f"{', '.join(generator.config.data.variables)}, joined by '+'."
        )
    states = read_states((sampling.given,), names, generator.grid)
    chosen = [member % len(states.month) for member in members]
    size = (generator.grid.nj, generator.grid.ni)
    levels = {row.name: channels.nk if row.is_3d else 1 for row in channels.variables}
    fields = {name: np.zeros((len(members), count, *size)) for name, count in levels.items()}
    fields |= {name: np.nan_to_num(states.fields[name][chosen]).astype(float) for name in names}
    x = torch.as_tensor(layout.cut(channels.join(fields).numpy())).transpose(0, 1)
    asked = torch.tensor([c.variable.name in names and c.level < sampling.given_levels for c in channels.channels])
    known = standardisation.mask & asked[:, None, None]
    error = torch.tensor(sampling.given_error, dtype=torch.float64)
    return Given(standardisation.forward(x.double()), known, error, layout)


def write_rows(path: Path, rows: Sequence[tuple[float, int, float, float]]) -> None:
    """Writes residuals and multipliers of every evaluation as comma-separated values. Collective: no."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([f"{t:.6g}", member, f"{r:.6g}", f"{p:.6g}"] for t, member, r, p in rows)


def draw_rows(path: Path, rows: Sequence[tuple[float, int, float, float]], title: str) -> None:
    """Draws residuals and multipliers of every member along path time. Collective: no."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    table = np.array(rows, float).reshape(-1, len(COLUMNS))
    told = np.isfinite(table[:, 3]).any()
    figure, axes = plt.subplots(1, 1 + told, figsize=(5 + 4 * told, 3.6), squeeze=False, constrained_layout=True)
    labels = ("residual of level means, rms (spreads)", "multipliers, rms")
    for axis, column, label in zip(axes[0], (2, 3), labels, strict=False):
        for member in np.unique(table[:, 1]):
            mine = table[table[:, 1] == member]
            axis.plot(mine[:, 0], mine[:, column], color="tab:blue", alpha=0.5, linewidth=0.8)
        axis.set(xlabel="path time, 1 noise, 0 state", ylabel=label, xlim=(1, 0))
        axis.grid(alpha=0.3)
    axes[0, 0].set_yscale("log")
    axes[0, 0].axhline(1.0, color="black", linewidth=0.8, linestyle="--")
    figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)
