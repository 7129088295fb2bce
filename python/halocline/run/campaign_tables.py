"""The tables of a campaign's report as text."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from halocline.run.campaign_status import Progress
from halocline.run.campaign_summary import Summary

__all__ = ["table_text", "values_text"]

WIDTH = 190


def table_text(summaries: Sequence[Summary], progress: Progress) -> str:
    """The table that ends a campaign."""
    limits = ", ".join(f"{name} {limit:.3g}" for name, limit in progress.limits.items())
    table = Table(title=f"settled: drift over {progress.config.window_years} years within {limits}")
    columns = ("start", "accepted", "rejected", "exhausted", "not ended", "starts\ngiven up", "years to\nequilibrium",
               "95 %", "years\nintegrated", "times fewer\nthan rest", "95 %", "CPU hours\nper member", "spread T\n°C",
               "spread S\n1e-3")  # fmt: skip
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left", no_wrap=not n)
    for row in summaries:
        years, gain = number(row.years, ">" if row.lower_bound else ""), number(row.gain, gain_sign(row))
        table.add_row(
            row.method, str(row.accepted), str(row.rejected), str(row.exhausted), str(row.failed + row.unfinished),
            str(row.starts_rejected), years, both(row.years_low, row.years_high), number(row.integrated), gain,
            both(row.gain_low, row.gain_high),
            number(row.cpu_hours), number(row.diversity_temperature), number(row.diversity_salinity),
        )  # fmt: skip
    return text_of(table)


def values_text(progress: Progress, tables: Mapping[str, np.ndarray]) -> str:
    """Mean model years to equilibrium of each kind of start at each parameter value, with its standard error.

    Arguments:
        progress: The campaign.
        tables: Kind of start to years, shape (parameter value, member), NaN where a member has not ended.
    """
    table = Table(title="model years to equilibrium by parameter value (mean ± standard error over members)")
    table.add_column("start", no_wrap=True)
    for values in progress.config.parameters:
        table.add_column("\n".join(f"{name} {value:g}" for name, value in values.items()), justify="right")
    for method, years in tables.items():
        table.add_row(method, *(with_error(row[np.isfinite(row)]) for row in years))
    return text_of(table)


def with_error(years: np.ndarray) -> str:
    """Mean and standard error."""
    if not years.size:
        return "-"
    error = years.std(ddof=1) / math.sqrt(years.size) if years.size > 1 else math.nan
    return f"{years.mean():.0f} ± {error:.0f}" if math.isfinite(error) else f"{years.mean():.0f}"


def text_of(table: Table) -> str:
    """Draws a table."""
    stream = io.StringIO()
    Console(file=stream, width=WIDTH).print(table)
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
