"""Forecasts against what happened: a table by forecast, variable and lead, over several starts.

Squares, energies, counts and moments are averaged over starts before roots, ratios, logarithms and fits are taken of
them. Starts are measured one by one, by one rank or by many; what was measured is added in the order of the starts, so
that sums have the same bits on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.run.coherence import plain
from halocline.run.forecast_score_cases import Case, check_hours
from halocline.run.forecast_score_drift import DriftScores, DriftTally
from halocline.run.forecast_score_means import (
    IceScores,
    Means,
    VariableScores,
    ice_scores,
    variable_scores,
)
from halocline.run.forecast_score_measures import TRUTH, Measured, Measures, ScoreOptions
from halocline.run.progress import Reporter

__all__ = ["TRUTH", "ScoreOptions", "Scores", "deal", "score_forecasts", "score_on_ranks", "to_plain"]


@dataclass(frozen=True)
class Scores:
    """The table. Sequences over leads have one entry for each of `leads`, NaN where there is none.

    Attributes:
        leads: Hours of the longest start, without 0.
        starts: How many cases were scored.
        threshold, drift_hours: See `ScoreOptions`.
        wavenumber: Of the spectra, 1/m.
        members: Of each forecast.
        reached: Number of starts of each forecast at each lead.
        variables: Forecast to variable to scores.
        ice: Forecast to scores of extent, volume and edge; only with a concentration.
        drift: Forecast, and the truth, to deformation; only with a drift.
    """

    leads: tuple[float, ...]
    starts: int
    threshold: float
    drift_hours: float
    wavenumber: tuple[float, ...]
    members: Mapping[str, int]
    reached: Mapping[str, tuple[int, ...]]
    variables: Mapping[str, Mapping[str, VariableScores]]
    ice: Mapping[str, IceScores]
    drift: Mapping[str, DriftScores]


def score_forecasts(
    cases: Iterable[Case], grid: Grid, lattice: Lattice | None = None, options: ScoreOptions | None = None
) -> Scores:
    """Scores all forecasts of all starts. Cases are taken one at a time and not kept.

    Arguments:
        cases: Starts; leads are those of the longest, others may end earlier.
        grid: Of all fields.
        lattice: Tiles in whose order sums are taken, with a halo; one tile by default.
        options: Choices; the defaults if left out.

    Raises:
        ValueError: There is no case, or one does not fit the grid, the table of variables or the others.

    Collective: no.
    """
    measures = Measures(grid, lattice, options)
    return add_up([measures.of(case) for case in cases], measures.options)


def score_on_ranks(
    count: int,
    read: Callable[[int], Case],
    grid: Grid,
    comm: Communicator | Serial,
    lattice: Lattice | None = None,
    options: ScoreOptions | None = None,
) -> Scores | None:
    """Scores all forecasts of starts that are dealt to ranks; each reads and measures its own, one at a time.

    Of several starts that cannot be scored the first is heard, whatever the number of ranks.

    Arguments:
        count: Of starts; ranks beyond it wait.
        read: From the number of a start to its case. Not collective.
        grid, lattice, options: See `score_forecasts`.
        comm: Ranks.

    Returns:
        On the root the scores, with the bits of `score_forecasts`; None elsewhere.

    Raises:
        ValueError: See `score_forecasts`, on all ranks.
        Exception: What `read` raised, on all ranks.

    Collective: yes.
    """
    mine = deal(count, comm)
    # Nobody is waited for before all is measured; rank 0, which has as many as anyone, tells how far that is.
    title = "starts scored" if comm.size == 1 else f"starts scored by rank 0 of {comm.size}"
    with comm.together(), Reporter(title, len(mine), 0, comm.is_root) as reporter:
        measures, found = Measures(grid, lattice, options), []
        for number in mine:
            found.append(measures.of(read(number)))
            reporter.advance()
    parts = comm.gather(found)
    with comm.together():
        if parts is None:
            return None
        return add_up([one for part in parts for one in part], measures.options)


def deal(count: int, comm: Communicator | Serial) -> list[int]:
    """Numbers of what this rank does, ascending and one after another: rank after rank they are all in order.

    Rank 0 has the first, and as many as anyone. Collective: no.
    """
    return [int(n) for n in np.array_split(np.arange(count), comm.size)[comm.rank]]


def to_plain(scores: Scores) -> dict[str, Any]:
    """Returns all scores as numbers, lists and words; None where there is no number. Collective: no."""
    return dict(plain(asdict(scores)))


def add_up(found: Sequence[Measured], options: ScoreOptions) -> Scores:
    """Adds what was measured of all starts, in their order, and takes the scores.

    Raises:
        ValueError: There is none, or times or members of one differ from another's.

    Collective: no.
    """
    if not found:
        raise ValueError("There are no forecasts to score, expected at least one start: name some.")
    table = Table(max((one.hours for one in found), key=len), options)
    for one in found:
        table.add(one)
    return table.scores()


class Table:
    """Sums over starts.

    Arguments:
        hours: Of the longest.
        options: Choices that the starts were measured with.
    """

    def __init__(self, hours: tuple[float, ...], options: ScoreOptions) -> None:
        self.hours, self.options = hours, options
        self.starts = 0
        self.members: dict[str, int] = {}
        self.variables: dict[str, dict[str, Means]] = {}
        self.ice: dict[str, Means] = {}
        self.drift: dict[str, DriftTally] = {}
        self.wavenumber: tuple[float, ...] = ()

    def add(self, found: Measured) -> None:
        """Adds a start.

        Raises:
            ValueError: Its times or members differ from those of another.
        """
        check_hours(found.hours, self.hours)
        self._check_members(found.members)
        self.starts += 1
        times = len(self.hours)
        for name, rows_of in found.variables.items():
            means = self.variables.setdefault(name, {})
            for variable, rows in rows_of.items():
                means.setdefault(variable, Means(times)).add(rows)
        for name, rows in found.ice.items():
            self.ice.setdefault(name, Means(times)).add(rows)
        for name, deformed in found.drift.items():
            self.drift.setdefault(name, DriftTally(times)).add(deformed)
        self.wavenumber = found.wavenumber or self.wavenumber

    def _check_members(self, members: Mapping[str, int]) -> None:
        for name, count in members.items():
            if self.members.setdefault(name, count) != count:
                raise ValueError(
                    f"Forecast '{name}' has {count} members at one start and {self.members[name]} at another, expected "
                    "the same: choose as many everywhere."
                )

    def scores(self) -> Scores:
        """Takes roots, ratios and fits."""
        reached = {
            name: tuple(max(means.counts[n] for means in found.values()) for n in range(1, len(self.hours)))
            for name, found in self.variables.items()
        }
        return Scores(
            leads=self.hours[1:],
            starts=self.starts,
            threshold=self.options.threshold,
            drift_hours=self.options.drift_hours,
            wavenumber=self.wavenumber,
            members=dict(self.members),
            reached=reached,
            variables={
                name: {variable: variable_scores(means, self.members[name]) for variable, means in found.items()}
                for name, found in self.variables.items()
            },
            ice={name: ice_scores(means) for name, means in self.ice.items()},
            drift={name: tally.scores() for name, tally in self.drift.items() if tally.known},
        )
