"""Panels on coherence in the report of `halocline evaluate`: modes, and seams by level, distance and variable."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from halocline.run.coherence import Coherence

__all__ = ["draw_coherence"]

COLOURS = {
    "temperature": "#c1440e", "salinity": "#1b7f79", "sea_level": "#5b4b8a", "concentration": "#1b5e8a",
    "thickness": "#7a7a7a",
}  # fmt: skip
LINES = {"i": "-", "j": "--"}
RANGE = (5e-3, 50.0)  # of ratios that are drawn: what lies beyond is as bad


def draw_coherence(axes: np.ndarray, coherence: Coherence, depth: np.ndarray) -> None:
    """Draws four panels, empty ones where something is missing.

    Collective: no.
    """
    draw_modes(axes[0], coherence)
    draw_levels(axes[1], coherence, depth)
    draw_distances(axes[2], coherence)
    draw_variables(axes[3], coherence)


def draw_modes(axis: Axes, coherence: Coherence) -> None:
    """Variance along each mode, along these together, and as a whole."""
    for n, (name, m) in enumerate(coherence.modes.items()):
        ends = (m.leading, m.total)
        values, low, high = (np.append(x, [e[k] for e in ends]) for k, x in enumerate((m.ratio, m.low, m.high)))
        place = np.append(np.arange(len(m.ratio)), [len(m.ratio) + 0.7, len(m.ratio) + 2.2]) + 0.15 * (n - 1)
        errors = np.maximum([values - low, high - values], 0)
        label = f"{name}, {len(m.ratio)} modes: {100 * m.share.sum():.0f} %"
        axis.errorbar(place, values, errors, fmt="o", ms=4, color=COLOURS[name], capsize=2, label=label)
        axis.set_xticks(place - 0.15 * (n - 1), [*map(str, range(1, len(m.ratio) + 1)), "these", "all"])
    if coherence.modes:
        ratio_axis(axis, "y")
        axis.legend(fontsize=8)
        axis.set(title="variance along modes, gen. / ref.", xlabel="mode of the reference")


def draw_levels(axis: Axes, coherence: Coherence, depth: np.ndarray) -> None:
    """Seams of temperature by level."""
    for along, seam in coherence.seams.get("departures", {}).get("temperature", {}).items():
        axis.plot(seam.levels, depth, LINES[along], color=COLOURS["temperature"], label=f"along {along}")
        known = np.isfinite(seam.levels_low + seam.levels_high)
        bounds = (x[known] for x in (seam.levels_low, seam.levels_high))
        axis.fill_betweenx(depth[known], *bounds, color=COLOURS["temperature"], alpha=0.15, lw=0)
    if axis.has_data():
        axis.set_yscale("symlog", linthresh=200.0)
        axis.set_ylim(depth[-1], 0)
        ratio_axis(axis, "x")
        axis.legend(fontsize=8)
        axis.set(title="seams, departures of temperature", xlabel="across edges / inside", ylabel="depth (m)")


def draw_distances(axis: Axes, coherence: Coherence) -> None:
    """What the ratio is on lines of faces off the edge."""
    for name, directions in coherence.seams.get("departures", {}).items():
        for along, seam in directions.items() if name in COLOURS else ():
            label = name if along == min(directions) else None
            axis.plot(seam.distance, seam.lines, LINES[along], color=COLOURS[name], label=label)
    if axis.has_data():
        axis.axvline(0, color="0.6", lw=0.8)
        ratio_axis(axis, "y")
        axis.legend(fontsize=8, title="along i; dashed: along j", title_fontsize=8)
        axis.set(title="differences of departures, gen. / ref.", xlabel="cells from the edge of a tile")


def draw_variables(axis: Axes, coherence: Coherence) -> None:
    """Step of all variables, beside what it is on other lines."""
    labels: list[str] = []
    for name, directions in coherence.seams.get("departures", {}).items():
        for along, seam in directions.items():
            step, place = seam.step, len(labels)
            axis.plot([step.line_low, step.line_high], [place, place], color="0.8", lw=7, solid_capstyle="butt")
            error = np.maximum([[step.value - step.low], [step.high - step.value]], 0)
            axis.errorbar(step.value, place, xerr=error, fmt="o", ms=4, color="#d95f02", capsize=2)
            axis.plot(seam.ratio.value, place, "d", ms=4, mfc="none", color="0.3")
            labels.append(f"{name} {along}")
    if labels:
        axis.set_yticks(range(len(labels)), labels, fontsize=8)
        axis.invert_yaxis()
        ratio_axis(axis, "x")
        axis.set(title="step at edges (dot), elsewhere (bar)", xlabel="diamond: across edges / inside")


def ratio_axis(axis: Axes, which: str) -> None:
    """Logarithmic, with a line at 1 and plain numbers."""
    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    (axis.axvline if which == "x" else axis.axhline)(1.0, color="0.6", lw=0.8)
    low, high = axis.get_xlim() if which == "x" else axis.get_ylim()
    (axis.set_xlim if which == "x" else axis.set_ylim)(max(low, RANGE[0]), min(high, RANGE[1]))
    ticks = axis.xaxis if which == "x" else axis.yaxis
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ticks.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ticks.set_minor_formatter(NullFormatter())
