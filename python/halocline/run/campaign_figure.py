"""The picture that a campaign leaves: drift of every member, years to equilibrium, diversity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from halocline.io.atomic import atomic_path
from halocline.run.campaign_config import DRIFTS
from halocline.run.campaign_state import Attempt
from halocline.run.campaign_status import Progress
from halocline.run.campaign_summary import Summary

__all__ = ["draw_campaign"]

COLOURS = {
    "generated": "#d95f02", "rest": "black", "mean": "#1b5e8a", "nearest": "#4daf4a", "interpolated": "#984ea3",
    "extrapolation": "#a6761d",
}  # fmt: skip


def draw_campaign(path: Path, progress: Progress, summaries: Sequence[Summary]) -> None:
    """Draws the report as a PNG.

    Collective: no.
    """
    figure, axes = plt.subplots(2, 3, figsize=(18, 10), layout="constrained")
    for axis, name in zip(axes.flat[:3], progress.limits, strict=False):
        draw_drift(axis, progress, name)
    draw_bars(axes[1, 0], summaries, "years", "model years to equilibrium")
    draw_bars(axes[1, 1], summaries, "gain", "times fewer years than from rest")
    draw_diversity(axes[1, 2], summaries)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")
    plt.close(figure)


def draw_drift(axis: Axes, progress: Progress, name: str) -> None:
    """Absolute drift of every attempt against the years that it was integrated."""
    seen: set[str] = set()
    for member, state in progress.members:
        for attempt in state.attempts if state is not None else ():
            years, drifts = curve(attempt, name)
            if len(years):
                label = None if member.method in seen else member.method
                seen.add(member.method)
                axis.semilogy(years, drifts, ".-", ms=4, lw=0.8, color=COLOURS[member.method], label=label)
    axis.axhline(progress.limits[name], color="grey", ls=":", label="limit")
    axis.set(title=f"drift of {name}", xlabel="model years integrated", ylabel=DRIFTS[name])
    axis.legend()


def curve(attempt: Attempt, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Years at the end of each block whose drift is known, and the drift."""
    years = np.cumsum([block.years for block in attempt.blocks])
    rows = [(year, abs(b.drift[name])) for year, b in zip(years, attempt.blocks, strict=True) if name in b.drift]
    return np.array([year for year, _ in rows]), np.array([value for _, value in rows])


def draw_bars(axis: Axes, summaries: Sequence[Summary], name: str, title: str) -> None:
    """A number of each method with its 95 % interval; hatched where it is a bound."""
    rows = [row for row in summaries if np.isfinite(getattr(row, name))]
    for n, row in enumerate(rows):
        value, low, high = (getattr(row, key) for key in (name, f"{name}_low", f"{name}_high"))
        bound = row.lower_bound or (name == "gain" and row.gain_at_least)
        axis.barh(n, value, color=COLOURS[row.method], alpha=0.7, hatch="//" if bound else None)
        axis.errorbar(value, n, xerr=[[max(0.0, value - low)], [max(0.0, high - value)]], color="black", capsize=4)
    axis.set_yticks(range(len(rows)), [row.method for row in rows])
    axis.set(title=f"{title} (hatched: a bound)", xscale="log" if rows else "linear")


def draw_diversity(axis: Axes, summaries: Sequence[Summary]) -> None:
    """Spread of the accepted states."""
    rows = [row for row in summaries if np.isfinite(row.diversity_temperature)]
    axis.barh(range(len(rows)), [row.diversity_temperature for row in rows], color=[COLOURS[r.method] for r in rows])
    axis.set_yticks(range(len(rows)), [row.method for row in rows])
    axis.set(title="diversity of accepted states: spread of temperature", xlabel="°C")
