"""What a comparison of forecasts leaves for people and programs: a picture, a table, and words on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from halocline.constants import DAY
from halocline.io.atomic import atomic_path
from halocline.mesh.grid import Grid
from halocline.run.forecast_figure import draw_forecasts, nearest
from halocline.run.forecast_maps_figure import Example
from halocline.run.forecast_scores import TRUTH, Scores, to_plain
from halocline.run.outputs import make_folder, table_console
from halocline.state.variables import VARIABLES

__all__ = ["leave_report", "print_scores", "write_scores"]

COLUMNS = 5  # leads on the terminal
SLOPE = "slope of ln error on ln spread"
RANGE = "  90 %, starts drawn anew"


def leave_report(folder: Path, scores: Scores, grid: Grid, example: Example, console: Console | None = None) -> None:
    """Writes `report.png` and `table.json` into a folder, and prints the table.

    Arguments:
        folder: Made if it is not there.
        scores: From `score_forecasts`.
        grid: Of all fields.
        example: Start, forecast and lead of the maps.
        console: The terminal by default, with lines that run on where it is narrower than the tables.

    Raises:
        OSError: The folder or a file cannot be written.
        ValueError: The example's forecast or lead is not there.

    Collective: no, one rank writes.
    """
    make_folder(folder)
    write_scores(folder / "table.json", scores)
    draw_forecasts(folder / "report.png", scores, grid, example)
    console = console or table_console()
    print_scores(scores, example.forecast, console)
    console.print(f"picture: {folder / 'report.png'}, table: {folder / 'table.json'}")


def write_scores(path: Path, scores: Scores) -> None:
    """Writes all scores as JSON. Collective: no."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(to_plain(scores), indent=1) + "\n")


def print_scores(scores: Scores, forecast: str, console: Console) -> None:
    """Prints errors of all forecasts, what else is known of one, amounts of ice, and deformation.

    Arguments:
        scores: From `score_forecasts`.
        forecast: The one that is looked at more closely.
        console: Where.

    Collective: no.
    """
    leads = chosen(scores.leads)
    for title, key in (("CRPS (one member: mean absolute error)", "crps"), ("RMSE of the ensemble mean", "rmse")):
        console.print(error_table(scores, leads, f"{title}, {scores.starts} starts", key))
    console.print(shape_table(scores, forecast, leads))
    if scores.ice:
        console.print(ice_table(scores, leads))
    if scores.drift:
        console.print(drift_table(scores))
    short = {name: count for name, counts in scores.reached.items() if (count := counts[-1]) < scores.starts}
    for name, count in short.items():
        console.print(f"{name}: {count} of {scores.starts} starts reach {scores.leads[-1]:g} h")


def chosen(leads: Sequence[float]) -> list[int]:
    """Numbers of a few leads: the first, the last, and some between, each about as much longer than the one before."""
    wanted = np.geomspace(leads[0], leads[-1], COLUMNS)
    return sorted({nearest(leads, lead) for lead in wanted})


def heads(table: Table, scores: Scores, leads: Sequence[int], *first: str) -> Table:
    """Adds the columns of a table by lead."""
    for head in first:
        table.add_column(head, no_wrap=True)
    for n in leads:
        hours = scores.leads[n]
        table.add_column(f"{hours:g} h" if hours < 48 else f"{hours / 24:g} d", justify="right", no_wrap=True)
    return table


def error_table(scores: Scores, leads: Sequence[int], title: str, key: str) -> Table:
    """One error of all forecasts; the least of each lead in bold."""
    table = heads(Table(title=title, box=SIMPLE_HEAD), scores, leads, "variable", "forecast, members")
    for name in dict.fromkeys(v for found in scores.variables.values() for v in found):
        rows = {forecast: getattr(found[name], key) for forecast, found in scores.variables.items() if name in found}
        unit = "" if VARIABLES[name].unit == "1" else f" ({VARIABLES[name].unit})"
        for k, (forecast, row) in enumerate(rows.items()):
            cells = (best(row[n], min(other[n] for other in rows.values())) for n in leads)
            table.add_row(name + unit if k == 0 else "", f"{forecast}, {scores.members[forecast]}", *cells)
        table.add_section()
    return table


def best(value: float, least: float) -> str:
    """A number, bold if it is the least."""
    return f"[bold]{value:.4g}[/bold]" if value == least else f"{value:.4g}"


def shape_table(scores: Scores, forecast: str, leads: Sequence[int]) -> Table:
    """Calibration, sharpness and bounds of one forecast."""
    table = Table(title=f"{forecast}: calibration, sharpness (1: as the truth), bounds", box=SIMPLE_HEAD)
    heads(table, scores, leads, "variable", "what")
    for name, row in scores.variables[forecast].items():
        lines: list[tuple[str, list[str]]] = [
            ("bias", [f"{row.bias[n]:.2g}" for n in leads]),
            ("spread / skill", [f"{row.spread_skill[n]:.2f}" for n in leads]),
            (RANGE, [span(row.ranges["spread_skill"][n]) for n in leads]),
            (SLOPE, [f"{row.spread_slope[n]:.2f}" if np.isfinite(row.spread_slope[n]) else "" for n in leads]),
            ("gradients / truth's", [f"{row.sharpness[n]:.2f}" for n in leads]),
            ("fine scales / truth's", [f"{row.fine_scales[n]:.2f}" for n in leads]),
            (RANGE, [span(row.ranges["fine_scales"][n]) for n in leads]),
        ]
        lines = [(what, cells) for what, cells in lines if any(cells)]
        for side, end in (("lower", 0), ("upper", 1)):
            if np.isfinite(VARIABLES[name].bounds[end]) and max(getattr(row, f"true_{side}")) > 0:
                pairs = zip(getattr(row, side), getattr(row, f"true_{side}"), strict=True)
                shares = [f"{100 * mine:.3g} ({100 * truth:.3g})" for mine, truth in pairs]
                lines.append((f"on {side} bound, % (truth)", [shares[n] for n in leads]))
        if max(row.violations) != 0.0:
            lines.append(("beyond bounds, %", [f"{100 * row.violations[n]:.2g}" for n in leads]))
        for k, (what, cells) in enumerate(lines):
            table.add_row(name if k == 0 else "", what, *cells)
        table.add_section()
    return table


def span(ends: Sequence[float]) -> str:
    """Two ends, or nothing."""
    return f"{ends[0]:.2f}–{ends[1]:.2f}" if ends else ""


def ice_table(scores: Scores, leads: Sequence[int]) -> Table:
    """Edge, presence and amounts of all forecasts."""
    title = f"ice: edge at a concentration of {scores.threshold:g}, and biases of amounts"
    table = heads(Table(title=title, box=SIMPLE_HEAD), scores, leads, "what", "forecast")
    rows = (
        ("edge error of a member, 1000 km²", "iiee", 1e-9), ("probability score, 1000 km²", "sps", 1e-9),
        ("Brier score of presence", "brier", 1.0), ("extent, 1000 km²", "extent_bias", 1e-9),
        ("volume, km³", "volume_bias", 1e-9),
    )  # fmt: skip
    for what, key, factor in rows:
        for k, (name, found) in enumerate(scores.ice.items()):
            cells = (f"{factor * getattr(found, key)[n]:.3g}" for n in leads)
            table.add_row(what if k == 0 else "", name, *cells)
        table.add_section()
    return table


def drift_table(scores: Scores) -> Table:
    """Deformation at the last lead that all have."""
    known = [np.isfinite(found.rate) for found in scores.drift.values()]
    n = int(np.flatnonzero(np.all(known, axis=0)).max(initial=0))
    title = f"deformation of {scores.drift_hours:g} h drift, {scores.leads[n]:g} h"
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("forecast", no_wrap=True)
    for head in ("β(1)", "β(2)", "β(3)", "β(3) / β(1)", "mean, 1/day", "tail"):
        table.add_column(head, justify="right", no_wrap=True)
    for name in (TRUTH, *(name for name in scores.drift if name != TRUTH)):
        found = scores.drift[name]
        beta = found.beta[n]
        numbers = (*beta, beta[2] / beta[0] if beta[0] else float("nan"), DAY * found.rate[n], found.tail[n])
        table.add_row(name, *(f"{x:.3g}" for x in numbers))
    return table
