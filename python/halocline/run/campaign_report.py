"""The report of a campaign: what each kind of start has cost until the model had settled; see `campaign_summary`.

Diversity is the standard deviation over accepted members of one parameter value, its root mean square over the volume.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from halocline.io.atomic import atomic_path
from halocline.run.campaign_config import Member
from halocline.run.campaign_desk import Desk
from halocline.run.campaign_figure import draw_campaign
from halocline.run.campaign_state import State
from halocline.run.campaign_status import Progress
from halocline.run.campaign_summary import summarise, years_of, years_table
from halocline.run.campaign_tables import table_text, values_text

__all__ = ["report"]

FOLDER = "report"
Pairs = Sequence[tuple[Member, State]]


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
    text = table_text(summaries, progress)
    if len(desk.config.parameters) > 1:
        text += values_text(progress, {method: years_table(progress, method) for method in desk.config.methods})
    text += reasons_text(pairs)
    write_text(folder / FOLDER / "report.txt", text)
    write_text(folder / FOLDER / "members.csv", members_csv(progress, pairs))
    write_text(folder / FOLDER / "summary.csv", csv_text([asdict(row) for row in summaries]))
    draw_campaign(folder / FOLDER / "report.png", progress, summaries)
    return f"{text}\nreport: {folder / FOLDER}"


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
             "years": state.years, "years_to_equilibrium": years_of(state, progress.config),
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
