"""The picture that a comparison of forecasts leaves: maps, errors by lead, calibration, ranks, spectra, scaling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from halocline.io.atomic import atomic_path
from halocline.mesh.grid import Grid
from halocline.run.forecast_maps_figure import Example, draw_maps
from halocline.run.forecast_scores import TRUTH, Scores
from halocline.state.variables import VARIABLES

__all__ = ["draw_forecasts"]

FORECAST, REFERENCE = "#d95f02", "#1b5e8a"
OTHERS = ("#1b7f79", "#7a7a7a", "#b58900", "#5b4b8a", "#a6761d", "#c2a5cf")
VARIABLE_COLOURS = ("#332288", "#44aa99", "#cc6677", "#88ccee", "#999933", "#882255")
DAY = 24.0  # hours
SECONDS = 86400.0  # of a day

Styles = dict[str, dict[str, Any]]


def draw_forecasts(path: Path, scores: Scores, grid: Grid, example: Example) -> None:
    """Draws the report as a PNG.

    Arguments:
        path: Of the picture.
        scores: Of all forecasts; that of the example is orange, the truth blue.
        grid: Of all fields.
        example: For the maps; spectra and ranks are drawn at its lead.

    Raises:
        ValueError: The example's forecast or lead is not there.

    Collective: no.
    """
    names = list(scores.variables[example.forecast])
    figure = plt.figure(figsize=(22, 23), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[12.2, 10.8])[:, 0]
    maps, sides = panels_of(top)
    rows = bottom.subplots(3, max(len(names), 6), squeeze=False)
    styles, lead = styles_of(scores, example.forecast), nearest(scores.leads, example.lead)
    draw_maps(maps, example, grid)
    draw_calibration(sides[0], scores, example.forecast)
    draw_ranks(sides[1], scores, example.forecast, lead)
    draw_moments(sides[2], scores, styles, example.forecast, lead)
    draw_exponents(sides[3], scores, styles, lead)
    for name, *axes in zip(names, *rows[:, : len(names)], strict=True):
        draw_errors(axes[0], scores, name, styles)
        draw_sharpness(axes[1], scores, name, styles)
        draw_spectra(axes[2], scores, name, styles, lead)
    rows[0, 0].legend(fontsize=8)
    for axis in figure.axes:
        if not axis.has_data():
            axis.set_axis_off()
    count = scores.members[example.forecast]
    figure.suptitle(
        f"{example.forecast}, {count} member{'s' if count > 1 else ''} (orange), against {scores.starts} "
        f"start{'s' if scores.starts > 1 else ''} of the model (blue); "
        f"maps, ranks, deformation and spectra at {scores.leads[lead]:g} h",
        fontsize=15,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")
    plt.close(figure)


def panels_of(figure: Any) -> tuple[np.ndarray, list[Axes]]:
    """Twelve maps, shape (3, 4), and four panels beside them, the last two in one row."""
    cells = figure.add_gridspec(3, 6, width_ratios=[1, 1, 1, 1, 0.75, 0.75])
    maps = np.array([[figure.add_subplot(cells[j, i]) for i in range(4)] for j in range(3)])
    sides = [figure.add_subplot(cells[j, 4:]) for j in range(2)] + [figure.add_subplot(cells[2, i]) for i in (4, 5)]
    return maps, sides


def nearest(leads: Sequence[float], lead: float) -> int:
    """Number of the lead nearest to one."""
    return int(np.abs(np.asarray(leads) - lead).argmin())


def styles_of(scores: Scores, forecast: str) -> Styles:
    """Colours: the forecast in front, the others behind it."""
    others = [name for name in scores.members if name != forecast]
    styles: Styles = {name: {"color": OTHERS[n % len(OTHERS)], "lw": 1.3} for n, name in enumerate(others)}
    styles[forecast] = {"color": FORECAST, "lw": 2.2, "zorder": 3}
    styles[TRUTH] = {"color": REFERENCE, "lw": 2.0, "zorder": 2.5}
    return styles


def draw_errors(axis: Axes, scores: Scores, name: str, styles: Styles) -> None:
    """CRPS, and RMSE of the mean dashed, against lead."""
    days = np.asarray(scores.leads) / DAY
    for forecast, found in scores.variables.items():
        if name in found:
            axis.plot(days, found[name].crps, label=forecast, **styles[forecast])
            axis.plot(days, found[name].rmse, ls="--", **styles[forecast])
    unit = VARIABLES[name].unit
    axis.set_title(f"{name}: CRPS, RMSE (dashed)", fontsize=10)
    axis.set(xlabel="lead (days)", ylabel="" if unit == "1" else unit)
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)


def draw_sharpness(axis: Axes, scores: Scores, name: str, styles: Styles) -> None:
    """Energy of gradients, and of fine scales dashed, over the truth's."""
    days = np.asarray(scores.leads) / DAY
    for forecast, found in scores.variables.items():
        if name in found:
            axis.plot(days, found[name].sharpness, **styles[forecast])
            axis.plot(days, found[name].fine_scales, ls="--", **styles[forecast])
    axis.axhline(1.0, color=REFERENCE, lw=1)
    axis.axhspan(0.8, 1.2, color=REFERENCE, alpha=0.1, lw=0)
    axis.set_ylim(0, min(max(axis.get_ylim()[1], 1.3), 1.8))
    axis.set_xlim(left=0)
    axis.set_title(f"{name}: gradients, fine scales (dashed)", fontsize=10)
    axis.set(xlabel="lead (days)", ylabel="energy / truth's")


def draw_spectra(axis: Axes, scores: Scores, name: str, styles: Styles, lead: int) -> None:
    """Isotropic spectra at one lead."""
    per_km = 1e3 * np.asarray(scores.wavenumber)
    for forecast, found in scores.variables.items():
        if name not in found:
            continue
        if found[name].spectrum[lead]:
            axis.loglog(per_km, found[name].spectrum[lead], **styles[forecast])
        if found[name].true_spectrum[lead] and scores.variables[forecast] is next(iter(scores.variables.values())):
            axis.loglog(per_km, found[name].true_spectrum[lead], **styles[TRUTH])
    if axis.has_data():
        axis.xaxis.set_minor_formatter(NullFormatter())
        unit = VARIABLES[name].unit
        label = "m" if unit == "1" else f"({unit})² m"
        axis.set_title(f"{name}: spectrum", fontsize=10)
        axis.set(xlabel="cycles per km", ylabel=label)


def draw_calibration(axis: Axes, scores: Scores, forecast: str) -> None:
    """Ratio of spread to skill against lead."""
    days = np.asarray(scores.leads) / DAY
    for n, (name, found) in enumerate(scores.variables[forecast].items()):
        if np.isfinite(found.spread_skill).any():
            axis.plot(days, found.spread_skill, label=name, color=VARIABLE_COLOURS[n % len(VARIABLE_COLOURS)], lw=1.6)
    if axis.has_data():
        axis.axhline(1.0, color="0.5", lw=0.8)
        axis.axhspan(0.9, 1.1, color="0.5", alpha=0.15, lw=0)
        axis.set_ylim(0, max(axis.get_ylim()[1], 1.5))
        axis.set_xlim(left=0)
        axis.legend(fontsize=8, ncols=2)
        axis.set(title="spread / skill (1: calibrated)", xlabel="lead (days)")


def draw_ranks(axis: Axes, scores: Scores, forecast: str, lead: int) -> None:
    """Rank histograms at one lead, 1 where flat."""
    if scores.members[forecast] < 2:
        return
    for n, (name, found) in enumerate(scores.variables[forecast].items()):
        frequency = np.asarray(found.frequency[lead])
        if len(frequency):
            edges = np.arange(len(frequency) + 1) - 0.5
            label = f"{name}: {found.departure[lead]:.2f}"
            colour = VARIABLE_COLOURS[n % len(VARIABLE_COLOURS)]
            axis.stairs(frequency * len(frequency), edges, baseline=None, label=label, color=colour, lw=1.6)
    if axis.has_data():
        axis.axhline(1.0, color="0.5", lw=0.8)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8, ncols=2, title="departure from flatness", title_fontsize=8)
        axis.set(title="ranks of the truth (1: flat)", xlabel="members below the truth")


def draw_moments(axis: Axes, scores: Scores, styles: Styles, forecast: str, lead: int) -> None:
    """Moments of the deformation against length, in units of the truth's at the least length."""
    units = None
    for name in (TRUTH, forecast):
        found = scores.drift.get(name)
        if found is None or not found.moments[lead]:
            continue
        lengths, moments = np.asarray(found.lengths[lead]) / 1e3, np.asarray(found.moments[lead])
        units = moments[:, :1] if units is None else units
        for row, symbol in zip(moments / units, ("o", "s", "^"), strict=True):
            axis.loglog(lengths, row, marker=symbol, ms=4, **styles[name])
    if axis.has_data():
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title("moments of deformation", fontsize=10)
        axis.set(xlabel="length (km); q = 1 (dot), 2, 3", ylabel="relative to the truth's smallest")


def draw_exponents(axis: Axes, scores: Scores, styles: Styles, lead: int) -> None:
    """Scaling exponents of all forecasts, with the mean rate in the legend."""
    for name in (TRUTH, *scores.members):
        found = scores.drift.get(name)
        if found is not None and np.isfinite(found.beta[lead]).all():
            label = f"{name}: {SECONDS * found.rate[lead]:.3f}/day"
            axis.plot([0, 1, 2, 3], [0.0, *found.beta[lead]], marker="o", ms=4, label=label, **styles[name])
    if axis.has_data():
        axis.set_ylim(top=1.6 * axis.get_ylim()[1])
        axis.legend(fontsize=8, title="mean deformation", title_fontsize=8, loc="upper left")
        axis.set_title("scaling exponents β(q)", fontsize=10)
        axis.set(xlabel="q", xticks=[0, 1, 2, 3])
