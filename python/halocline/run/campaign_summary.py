r"""What a campaign comes to: model years to equilibrium of each kind of start.

Years to equilibrium are those up to the end of the first block of the stretch whose drift was small, rejected starts
and spin-ups before an extrapolation included; the rest of that stretch is the test, as long for each kind of start, and
is counted in the years integrated. A member that never settled counts with the years that it was allowed, at least: a
lower bound. For a method

.. math::
    \bar y = \frac{1}{N} \sum_n y_n, \qquad g = \frac{\bar y_\mathrm{rest}}{\bar y},

and 95 % intervals are percentiles over bootstrap samples: members are drawn with replacement, separately for each
parameter value; a gain compares the same draws of both methods, since members of one number share the model's seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halocline.run.campaign_config import CampaignConfig
from halocline.run.campaign_state import State
from halocline.run.campaign_status import Progress

__all__ = ["Summary", "summarise", "years_of", "years_table"]

SAMPLES, SEED = 2000, 0  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Summary:
    """What came of a kind of start.

    Attributes:
        method: Kind of start.
        members: That have ended.
        accepted, rejected, exhausted, failed, unfinished: Members by outcome.
        starts_rejected: Starts that were given up, those of accepted members included.
        years, years_low, years_high: Mean model years to equilibrium, 95 % interval.
        lower_bound: Whether a member never settled: the truth is above.
        integrated: Mean model years integrated.
        gain, gain_low, gain_high: Times fewer years to equilibrium than from rest; NaN without it.
        gain_at_least: Whether it is rest that never settled.
        cpu_hours: Of the model and of making starts, mean per member.
        diversity_temperature, diversity_salinity: Spread of accepted states, degC and 1e-3; NaN for fewer than two.
    """

    method: str
    members: int
    accepted: int
    rejected: int
    exhausted: int
    failed: int
    unfinished: int
    starts_rejected: int
    years: float
    years_low: float
    years_high: float
    lower_bound: bool
    integrated: float
    gain: float
    gain_low: float
    gain_high: float
    gain_at_least: bool
    cpu_hours: float
    diversity_temperature: float
    diversity_salinity: float


def summarise(progress: Progress, spreads: Mapping[str, tuple[float, float]]) -> list[Summary]:
    """Sums up each method.

    Arguments:
        progress: The campaign.
        spreads: Diversity in temperature and salinity by method.

    Collective: no.
    """
    tables = {method: years_table(progress, method) for method in progress.config.methods}
    draws = bootstrap(tables)
    return [summary(progress, method, tables, draws, spreads[method]) for method in progress.config.methods]


def summary(
    progress: Progress, method: str, tables: Mapping[str, np.ndarray], draws: Mapping[str, np.ndarray],
    spread: tuple[float, float],
) -> Summary:  # fmt: skip
    """Sums up one method; see `Summary`."""
    every = [state for member, state in progress.members if member.method == method]
    states = [state for state in every if state is not None]
    outcomes = Counter(state.outcome for state in states)
    gain, low, high = math.nan, math.nan, math.nan
    if "rest" in draws:
        gain = mean(tables["rest"]) / mean(tables[method])
        low, high = interval(draws["rest"] / draws[method])
    return Summary(
        method, sum(outcomes[name] for name in ("accepted", "rejected", "exhausted", "failed")),
        outcomes["accepted"], outcomes["rejected"], outcomes["exhausted"], outcomes["failed"],
        outcomes[""] + len(every) - len(states),
        sum(bool(attempt.rejected) for state in states for attempt in state.attempts),
        mean(tables[method]), *interval(draws[method]), unsettled(states),
        float(np.mean([state.years for state in states])) if states else math.nan,
        gain, low, high, unsettled([s for m, s in progress.members if s is not None and m.method == "rest"]),
        float(np.mean([state.cpu_seconds for state in states]) / 3600) if states else math.nan, *spread,
    )  # fmt: skip


def unsettled(states: Sequence[State]) -> bool:
    """Whether some have ended without an equilibrium."""
    return any(state.outcome in ("rejected", "exhausted") for state in states)


def years_table(progress: Progress, method: str) -> np.ndarray:
    """Years to equilibrium, shape (parameter value, member); NaN where a member has not ended."""
    config = progress.config
    values = list(config.parameters or ({},))
    table = np.full((len(values), config.members), np.nan)
    for member, state in progress.members:
        if member.method == method and state is not None:
            table[values.index(member.parameters), member.number] = years_of(state, config)
    return table


def years_of(state: State, config: CampaignConfig) -> float:
    """Years to equilibrium of a member; at least those that it was allowed where it never settled."""
    if state.outcome == "accepted":
        return state.years - (config.window_blocks + config.settled_blocks - 2) * config.block_years
    return max(state.years, float(config.max_years)) if state.outcome in ("rejected", "exhausted") else math.nan


def bootstrap(tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean years of samples of members, the same draws for all methods, shape (sample)."""
    rng = np.random.Generator(np.random.Philox(key=SEED))
    shape = next(iter(tables.values())).shape
    drawn = rng.integers(0, shape[1], (SAMPLES, *shape))
    rows = np.arange(shape[0])[:, None]
    return {method: np.array([mean(table[rows, d]) for d in drawn]) for method, table in tables.items()}


def mean(table: np.ndarray) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = table[np.isfinite(table)]
    return float(known.mean()) if known.size else math.nan


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of bootstrap samples."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, INTERVAL) if known.size else (math.nan, math.nan)
    return float(low), float(high)
