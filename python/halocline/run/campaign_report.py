r"""The report of a campaign: what each kind of start has cost until the model had settled.

Years of a member are all that were integrated for it, rejected starts and spin-ups before an extrapolation included. A
member that never settled counts with the years that it was allowed, at least: a lower bound. For a method

.. math::
    \bar y = \frac{1}{N} \sum_n y_n, \qquad g = \frac{\bar y_\mathrm{rest}}{\bar y},

and 95 % intervals are percentiles over bootstrap samples: members are drawn with replacement, separately for each
parameter value; a gain compares the same draws of both methods, since members of one number share the model's seed.
Diversity is the standard deviation over accepted members of one parameter value, its root mean square over the volume.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from halocline.io.atomic import atomic_path
from halocline.run.campaign_config import Member
from halocline.run.campaign_desk import Desk
from halocline.run.campaign_figure import draw_campaign
from halocline.run.campaign_state import State
from halocline.run.campaign_status import Progress

__all__ = ["Summary", "report", "summarise"]

SAMPLES, SEED = 2000, 0  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percentiles
FOLDER = "report"
Pairs = Sequence[tuple[Member, State]]


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
        gain, gain_low, gain_high: Times fewer years than from rest; NaN without it.
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
    gain: float
    gain_low: float
    gain_high: float
    gain_at_least: bool
    cpu_hours: float
    diversity_temperature: float
    diversity_salinity: float


def report(desk: Desk) -> str:
    """Writes report.png, members.csv, summary.csv and report.txt, and returns the text.

    Raises:
        OSError: A file cannot be written.

    Collective: no.
    """
    folder = Path(desk.config.output)
    progress = Progress.read(folder)
    pairs = [(member, state) for member, state in progress.members if state is not None]
    spreads = {method: diversity(desk, pairs, method) for method in desk.config.methods}
    summaries = summarise(progress, spreads)
    (folder / FOLDER).mkdir(exist_ok=True)
    text = table_text(summaries, progress) + reasons_text(pairs)
    write_text(folder / FOLDER / "report.txt", text)
    write_text(folder / FOLDER / "members.csv", members_csv(progress, pairs))
    write_text(folder / FOLDER / "summary.csv", csv_text([asdict(row) for row in summaries]))
    draw_campaign(folder / FOLDER / "report.png", progress, summaries)
    return f"{text}\nreport: {folder / FOLDER}"


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
            table[values.index(member.parameters), member.number] = years_of(state, config.max_years)
    return table


def years_of(state: State, most: int) -> float:
    """Years to equilibrium of a member; at least those that it was allowed where it never settled."""
    if state.outcome == "accepted":
        return state.years
    return max(state.years, float(most)) if state.outcome in ("rejected", "exhausted") else math.nan


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


def diversity(desk: Desk, pairs: Pairs, method: str) -> tuple[float, float]:
    """Spread of the accepted states of a method in temperature, degC, and salinity, 1e-3; mean over parameters."""
    spreads = []
    for values in desk.config.parameters or ({},):
        accepted = [(m, s) for m, s in pairs if (m.method, m.parameters, s.outcome) == (method, values, "accepted")]
        if len(accepted) > 1:
            spreads.append([spread(desk, accepted, name) for name in ("temperature", "salinity")])
    t, s = np.mean(spreads, axis=0) if spreads else (math.nan, math.nan)
    return float(t), float(s)


def spread(desk: Desk, accepted: Pairs, name: str) -> float:
    """Standard deviation over members, its root mean square over the volume."""
    folder, grid = Path(desk.config.output), desk.generator.grid
    x = np.stack([desk.read(folder / m.name / s.last.blocks[-1].restart)[name] for m, s in accepted])
    weight = grid.cell_volume * grid.tmask
    return float(np.sqrt((x.var(axis=0, ddof=1) * weight).sum() / weight.sum()))


def table_text(summaries: Sequence[Summary], progress: Progress) -> str:
    """The table that ends a campaign."""
    limits = ", ".join(f"{name} {limit:.3g}" for name, limit in progress.limits.items())
    table = Table(title=f"settled: drift over {progress.config.block_years} years within {limits}")
    columns = ("start", "accepted", "rejected", "exhausted", "not ended", "starts\ngiven up", "years to\nequilibrium",
               "95 %", "times fewer\nthan rest", "95 %", "CPU hours\nper member", "spread T\n°C",
               "spread S\n1e-3")  # fmt: skip
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left")
    for row in summaries:
        years, gain = number(row.years, ">" if row.lower_bound else ""), number(row.gain, gain_sign(row))
        table.add_row(
            row.method, str(row.accepted), str(row.rejected), str(row.exhausted), str(row.failed + row.unfinished),
            str(row.starts_rejected), years, both(row.years_low, row.years_high), gain,
            both(row.gain_low, row.gain_high),
            number(row.cpu_hours), number(row.diversity_temperature), number(row.diversity_salinity),
        )  # fmt: skip
    stream = io.StringIO()
    Console(file=stream, width=160).print(table)
    return stream.getvalue()


def gain_sign(row: Summary) -> str:
    """Marks bounds: rest never settled, so the gain is at least this; or this start did not, so at most."""
    if row.gain_at_least == row.lower_bound:
        return "~" if row.lower_bound else ""
    return ">" if row.gain_at_least else "<"


def number(value: float, sign: str = "") -> str:
    """Three digits; nothing where there is no number."""
    return f"{sign}{value:.3g}" if math.isfinite(value) else "-"


def both(low: float, high: float) -> str:
    """An interval."""
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else "-"


def reasons_text(pairs: Pairs) -> str:
    """Every rejected start, and why."""
    lines = [
        f"{member.name}, start {n + 1}: {attempt.rejected}\n"
        for member, state in pairs for n, attempt in enumerate(state.attempts) if attempt.rejected
    ]  # fmt: skip
    lines += [
        f"{member.name}: {s.outcome}, {s.reason}\n" for member, s in pairs if s.outcome in ("exhausted", "failed")
    ]
    return "".join(lines)


def members_csv(progress: Progress, pairs: Pairs) -> str:
    """One row for each member that has begun."""
    rows = []
    for member, state in pairs:
        last = state.last.blocks[-1] if state.last.blocks else None
        drifts = {f"drift_{name}": last.drift.get(name, "") if last else "" for name in progress.limits}
        rows.append(
            {"method": member.method, **member.parameters, "member": member.number, "outcome": state.outcome,
             "years": state.years, "years_to_equilibrium": years_of(state, progress.config.max_years),
             "attempts": len(state.attempts), "cpu_hours": state.cpu_seconds / 3600,
             "verdict": last.verdict if last else state.last.verdict, **drifts, "reason": state.reason}
        )  # fmt: skip
    return csv_text(rows)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table with a header; a header alone has no meaning, and nothing is empty."""
    if not rows:
        return ""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)
