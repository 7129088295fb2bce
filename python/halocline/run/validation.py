r"""Validation of a training: statistics of generated states beside those of states that were never learned from.

States are generated with the averaged weights for months spread over the year, without convective adjustment, and
compared with the held-out states of these months; with training states where none are held out. A network that is told
coarse states is told theirs. Let x be a standardised state: its difference from the reference of the standardisation,
in units of the variable's scale on that level. With angle brackets for means over the wet cells of a level by area,
primes for the states that are compared with, hats for means over the states of a month, and overbars for means over
months and the levels of a variable,

.. math::
    \mathrm{bias}^2 = \overline{(\hat{m} - \hat{m}')^2}, \quad m = \langle x \rangle, \qquad
    \mathrm{spread}^2 = \overline{\ln^2 (s / s')}, \quad s^2 = \hat{\langle (x - m)^2 \rangle}

so a bias of 1 is an error as large as what the variable does there, and a spread of 0.1 are states about 10 % too rough
or too smooth. Standard deviations below `LEAST` count as `LEAST`: a level that hardly varies may do so as it likes.
The score, of which 0 is perfect, is the mean over variables of bias + spread, plus `WEIGHT` for each percentage point
by which the statically unstable fraction of the volume differs. Sums are made in lattice order, so that the numbers do
not depend on the number of ranks; no rank holds more of a state than its tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import level_sum
from halocline.run.coarse_windows import coarse_records
from halocline.run.generator import Generator
from halocline.run.judging import diagnose_tiles
from halocline.run.sample import SampleOptions, generate_tiles
from halocline.run.teams import Team, by_some, form_team, usable
from halocline.state.state import Standardisation, area_weights

__all__ = ["validate"]

RECORDS = 6  # of a month that are compared with, at most
LEAST = 0.1  # standard deviation
WEIGHT = 0.1  # of a percentage point: ten of them are as bad as a bias of 1 in all variables
UNSTABLE = "unstable_fraction"


def validate(
    generator: Generator, store: TrainingStore, comm: Communicator | Serial, members: int, seed: int
) -> dict[str, float]:
    """Compares generated with held-out states; see the module.

    Arguments:
        generator: With the weights to be tested.
        store: Of its training.
        comm: All ranks; those that find no work wait.
        members: States to generate.
        seed: Of their noise.

    Returns:
        By name; all are infinite where a state has diverged, as those of an untrained network do.

    Collective: yes.
    """
    workers = usable(comm.size, generator.lattice.count, members)
    return by_some(comm, workers, lambda part: compare(generator, store, part, members, seed))


@dataclass(frozen=True)
class Ruler:
    """What states on these tiles are measured with.

    Attributes:
        layout: Who owns which tile.
        standardisation: Of this rank's tiles.
        weight: Share of each cell in the area of its level, shape (tile, channel, j, i).
    """

    layout: Layout
    standardisation: Standardisation
    weight: Tensor

    @classmethod
    def build(cls, generator: Generator, layout: Layout) -> Ruler:
        """Cuts what the generator knows of the whole grid. Collective: no."""
        weight = layout.cut(area_weights(generator.channels, generator.grid))
        return cls(layout, generator.standardisation.cut(layout), torch.as_tensor(weight))

    def moments(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of a standardised state over the wet cells of each channel.

        Arguments:
            x: Physical units, shape (tile, channel, j, i).

        Returns:
            Shape (channel) each, float64.

        Collective: yes, over the layout.
        """
        standard = self.standardisation.forward(x.double())
        mean = level_sum(standard * self.weight, self.layout)
        variance = level_sum((standard - mean[:, None, None]).square() * self.weight, self.layout)
        return mean.numpy(), variance.numpy()


@dataclass(frozen=True)
class Summary:
    """Statistics of one state.

    Attributes:
        month: At whose end it stands.
        mean: Over the wet cells of each channel by area, of the standardised state, shape (channel).
        variance: About these means, shape (channel).
        unstable: Fraction of the volume, NaN where temperature and salinity are not there.
    """

    month: int
    mean: np.ndarray
    variance: np.ndarray
    unstable: float


def compare(
    generator: Generator, store: TrainingStore, comm: Communicator | Serial, members: int, seed: int
) -> dict[str, float]:
    """Generates, reads, and compares.

    Collective: yes.
    """
    held, month = np.asarray(store.records.held_out, bool), np.asarray(store.records.month)
    pool = np.flatnonzero(held if held.any() else ~held)
    if comm.is_root and not held.any():
        say(
            "No states are held out: generated ones are compared with those of the training, which cannot tell "
            "learning from memory; set data.held_out_years."
        )
    months = spread(sorted(set(month[pool].tolist())), members)
    parameters = {name: float(np.mean(store.records.parameters[name][pool])) for name in generator.parameters.names}
    options = SampleOptions(members, seed, months=months, parameters=parameters, convection=False)
    team = form_team(comm, generator.lattice.count, members)
    ruler = Ruler.build(generator, Layout.build(generator.lattice, team.comm))
    chosen = [int(n) for m in months for n in pool[month[pool] == m][:RECORDS]]
    expected = references(ruler, store, team, chosen, comm)
    result = scores(generator, expected, expected)
    try:
        with comm.together():
            coarse = told(generator, store, pool, options, team)
        result = scores(generator, generated(generator, ruler, team, options, comm, coarse), expected)
    except ValueError as error:
        if "diverged" not in str(error):
            raise
        result = dict.fromkeys(result, math.inf)
    team.comm.free()
    return result


@cache
def say(text: str) -> None:
    """Prints a text the first time."""
    print(text, flush=True)


def spread(months: list[int], members: int) -> tuple[int, ...]:
    """Chooses months spread over those that there are."""
    count = min(members, len(months))
    return tuple(months[n * len(months) // count] for n in range(count))


def told(
    generator: Generator, store: TrainingStore, pool: np.ndarray, options: SampleOptions, team: Team
) -> Tensor | None:
    """Coarse states of the records that members are compared with, one after another; None if none are told.

    Raises:
        ValueError: A chunk is missing or damaged.

    Collective: no.
    """
    if generator.config.coarse.factor == 1:
        return None
    month, records = np.asarray(store.records.month)[pool], []
    for member in team.members:
        alike = pool[month == options.month(member)][:RECORDS]
        records.append(int(alike[member // len(options.months) % len(alike)]))
    return coarse_records(generator, store, records)


def generated(
    generator: Generator,
    ruler: Ruler,
    team: Team,
    options: SampleOptions,
    comm: Communicator | Serial,
    coarse: Tensor | None = None,
) -> list[Summary]:
    """Generates states and summarises each, in the order of the members.

    Collective: yes.
    """
    layout = ruler.layout
    fields = generate_tiles(generator, layout, team, options, False, comm, coarse=coarse)
    unstable = np.full(len(team.members), math.nan)
    if {"temperature", "salinity"} <= set(fields):
        geometry = Geometry.build(generator.grid, layout)
        found = diagnose_tiles(fields, geometry, layout, generator.config.data, (UNSTABLE,))
        unstable = found[UNSTABLE].numpy()
    made = {}
    for n, member in enumerate(team.members):
        x = generator.channels.join({name: field[n] for name, field in fields.items()})
        made[member] = Summary(options.month(member), *ruler.moments(x), float(unstable[n]))
    return in_order(made, team, comm)


def references(
    ruler: Ruler, store: TrainingStore, team: Team, records: list[int], comm: Communicator | Serial
) -> list[Summary]:
    """Reads states and summarises each, in the order of the records; teams take them in turn.

    Collective: yes.
    """
    with comm.together():
        unstable = store.diagnostics().get(UNSTABLE, np.full(store.count, math.nan))
    first, teams = comm.rank // team.comm.size, comm.size // team.comm.size
    found = {}
    for turn in range(0, len(records), teams):  # the same number for all teams: they fail together
        number = turn + first
        with comm.together():
            x = read_tiles(store, records[number], ruler.layout) if number < len(records) else None
        if x is not None:
            record = records[number]
            month = int(store.records.month[record])
            found[number] = Summary(month, *ruler.moments(torch.as_tensor(x)), float(unstable[record]))
    return in_order(found, team, comm)


def in_order(found: dict[int, Summary], team: Team, comm: Communicator | Serial) -> list[Summary]:
    """Brings together what the teams have found, on every rank, by number.

    Collective: yes.
    """
    parts = comm.allgather(found if team.comm.is_root else {})
    whole = {number: summary for part in parts for number, summary in part.items()}
    return [whole[number] for number in sorted(whole)]


def read_tiles(store: TrainingStore, record: int, layout: Layout) -> np.ndarray:
    """Reads a state on this rank's tiles, shape (tile, channel, tile_j, tile_i), physical units, 0 beyond the grid.

    Raises:
        ValueError: A chunk is missing or damaged.

    Collective: no.
    """
    lattice = layout.lattice
    x = np.zeros((len(layout.local), store.channels.count, *lattice.tile), np.float32)
    for tile, (J, I) in zip(x, lattice.tiles[layout.local].tolist(), strict=True):
        block = store.block(1, record, J, I)
        tile[:, : block.shape[1], : block.shape[2]] = block
    return x


def scores(generator: Generator, made: list[Summary], reference: list[Summary]) -> dict[str, float]:
    """Compares two sets of states; see the module."""
    months = sorted({state.month for state in made})
    bias = by_month(made, months, "mean") - by_month(reference, months, "mean")
    variances = [np.maximum(by_month(states, months, "variance"), LEAST**2) for states in (made, reference)]
    ratio = 0.5 * np.log(variances[0] / variances[1])
    result: dict[str, float] = {}
    for row in generator.channels.variables:
        mine = [channel.index for channel in generator.channels.channels if channel.variable is row]
        result[f"bias_{row.name}"] = float(np.sqrt(np.mean(bias[:, mine] ** 2)))
        result[f"spread_{row.name}"] = float(np.sqrt(np.mean(ratio[:, mine] ** 2)))
    score = sum(result.values()) / len(generator.channels.variables)
    unstable = [100 * float(by_month(states, months, "unstable").mean()) for states in (made, reference)]
    if np.isfinite(unstable).all():
        result["unstable_percent"], result["unstable_percent_reference"] = unstable
        score += WEIGHT * abs(unstable[0] - unstable[1])
    return {"score": score, **result}


def by_month(states: list[Summary], months: list[int], name: str) -> np.ndarray:
    """Means of a statistic over the states of each month, shape (month, ...)."""
    return np.stack([np.mean([getattr(s, name) for s in states if s.month == m], axis=0) for m in months])
