"""The picture that `halocline evaluate` leaves: profiles, sections of error, maps, spectra, water masses, coherence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cmocean
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from halocline.io.atomic import atomic_path
from halocline.run.coherence_figure import draw_coherence
from halocline.run.generator import Generator
from halocline.run.statistics import surface_spectrum

if TYPE_CHECKING:
    from halocline.run.evaluate import Comparison

__all__ = ["draw_report"]

GENERATED, REFERENCE = "#d95f02", "#1b5e8a"


def draw_report(path: Path, comparison: Comparison, generator: Generator) -> None:
    """Draws the report as a PNG.

    Collective: no.
    """
    figure, axes = plt.subplots(4, 4, figsize=(17, 16), layout="constrained")
    depth = generator.grid.gdept_1d
    draw_profiles(axes[0, 0], comparison, "temperature", "°C", depth)
    draw_profiles(axes[0, 1], comparison, "salinity", "", depth)
    draw_level_errors(axes[0, 2], comparison, depth)
    draw_water_masses(axes[0, 3], comparison, generator)
    draw_maps(axes[1], figure, comparison, "temperature", cmocean.cm.thermal, "°C")
    draw_spectrum(axes[1, 3], comparison, generator)
    draw_maps(axes[2], figure, comparison, "sea_level", cmocean.cm.balance, "m")
    draw_season(axes[2, 3], comparison)
    draw_coherence(axes[3], comparison.coherence, depth)
    for axis in axes.flat:
        if not axis.has_data():
            axis.set_axis_off()
    count, states = len(comparison.generated.month), len(comparison.reference.month)
    figure.suptitle(f"{count} generated states (orange) against {states} reference states (blue)")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")
    plt.close(figure)


def draw_profiles(
    axis: Axes, comparison: Comparison, name: str, unit: str, depth: np.ndarray
) -> None:
    """Horizontal mean and standard deviation of each level."""
    for values, colour in ((comparison.expected, REFERENCE), (comparison.diagnosed, GENERATED)):
        if f"{name}_mean" not in values:
            return
        mean, std = (values[f"{name}_{s}"].mean(axis=0) for s in ("mean", "std"))
        axis.plot(mean, depth, color=colour)
        axis.plot(mean + std, depth, color=colour, lw=0.8, ls="--")
        axis.plot(mean - std, depth, color=colour, lw=0.8, ls="--")
    depth_axis(axis, depth)
    axis.set(title=f"{name}: mean ± std over each level", xlabel=unit)


def depth_axis(axis: Axes, depth: np.ndarray) -> None:
    """Depth downwards, with room for the upper ocean."""
    axis.set_yscale("symlog", linthresh=200.0)
    axis.set_ylim(depth[-1], 0)
    axis.set_ylabel("depth (m)")


def draw_level_errors(axis: Axes, comparison: Comparison, depth: np.ndarray) -> None:
    """Error of the mean temperature of each level and month."""
    if "temperature" not in comparison.scores:
        return
    months = np.unique(comparison.generated.month)
    error = np.full((12, len(depth)), np.nan)
    for month in months:
        chosen = comparison.generated.fields["temperature"][comparison.generated.month == month]
        difference = chosen.mean(axis=0) - comparison.climatology["temperature"][month - 1]
        wet = np.isfinite(difference)
        level_count = wet.sum(axis=(1, 2))
        mean = np.where(wet, difference, 0).sum(axis=(1, 2)) / np.maximum(level_count, 1)
        error[month - 1, : len(mean)] = np.where(level_count > 0, mean, np.nan)
    limit = max(np.nanmax(np.abs(error)), 1e-12)
    levels = np.arange(len(depth))
    mesh = axis.pcolormesh(
        np.arange(1, 13), levels, error.T, cmap=cmocean.cm.balance, vmin=-limit, vmax=limit
    )
    axis.figure.colorbar(mesh, ax=axis, label="°C")
    axis.invert_yaxis()
    axis.set(title="error of the mean profile, temperature", xlabel="month", ylabel="level")


def draw_water_masses(axis: Axes, comparison: Comparison, generator: Generator) -> None:
    """Volume of water by temperature and salinity: reference filled, generated as contours."""
    fields = comparison.reference.fields
    if not {"temperature", "salinity"} <= set(fields):
        return
    volume = generator.grid.cell_volume
    edges = [wide_edges(fields[name]) for name in ("salinity", "temperature")]
    reference, generated = (
        census(states.fields, volume, edges)
        for states in (comparison.reference, comparison.generated)
    )
    filled = np.log10(np.where(reference > 0, reference, np.nan)).T
    axis.pcolormesh(*edges, filled, cmap=cmocean.cm.deep)
    centres = [0.5 * (e[1:] + e[:-1]) for e in edges]
    axis.contour(*centres, generated.T, levels=[1e-5, 1e-4, 1e-3, 1e-2], colors=GENERATED, linewidths=0.8)
    axis.set(title="water masses by volume", xlabel="salinity", ylabel="temperature (°C)")


def wide_edges(field: np.ndarray, bins: int = 60) -> np.ndarray:
    """Bin edges over the range of a field."""
    return np.linspace(np.nanmin(field), np.nanmax(field) + 1e-9, bins + 1)


def census(fields: Any, volume: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """Fraction of the volume in each bin of salinity and temperature."""
    S, T = fields["salinity"], fields["temperature"]
    weights = np.broadcast_to(volume[: T.shape[1]], T.shape)
    wet = np.isfinite(T) & np.isfinite(S)
    count, _, _ = np.histogram2d(S[wet], T[wet], bins=edges, weights=weights[wet])
    return np.asarray(count / weights[wet].sum())


def draw_maps(
    axes: np.ndarray, figure: Any, comparison: Comparison, name: str, colours: Any, unit: str
) -> None:
    """Surface field: a member, the reference of its month, the difference."""
    if name not in comparison.scores:
        return
    known = np.flatnonzero(np.isin(comparison.generated.month, comparison.reference.month))[0]
    month = comparison.generated.month[known]
    member = comparison.generated.fields[name][known, 0]
    reference = comparison.climatology[name][month - 1, 0]
    low, high = np.nanmin(reference), np.nanmax(reference)
    limit = max(float(np.nanmax(np.abs(member - reference))), 1e-12)
    panels = (
        (f"{name}, member {known}, month {month}", member, colours, low, high),
        ("reference, month's mean", reference, colours, low, high),
        ("difference", member - reference, cmocean.cm.balance, -limit, limit),
    )
    for axis, (title, field, cmap, low, high) in zip(axes[:3], panels, strict=True):
        mesh = axis.pcolormesh(field, cmap=cmap, vmin=low, vmax=high)
        figure.colorbar(mesh, ax=axis, label=unit)
        axis.set(title=title, xlabel="i", ylabel="j", aspect="equal")


def draw_spectrum(axis: Axes, comparison: Comparison, generator: Generator) -> None:
    """Isotropic spectrum of surface temperature in the largest rectangle without land."""
    spectrum = surface_spectrum(comparison.generated, comparison.reference, generator.grid)
    if not spectrum:
        return
    cycles_per_km = 1e3 * np.array(spectrum["wavenumber"])
    for side, colour in (("reference", REFERENCE), ("generated", GENERATED)):
        axis.loglog(cycles_per_km, spectrum[side], color=colour)
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set(title="spectrum of surface temperature", xlabel="cycles per km", ylabel="°C² m")


def draw_season(axis: Axes, comparison: Comparison) -> None:
    """Mean surface temperature of each state by month."""
    for states, values, colour in (
        (comparison.reference, comparison.expected, REFERENCE),
        (comparison.generated, comparison.diagnosed, GENERATED),
    ):
        if "temperature_mean" in values:
            axis.plot(states.month, values["temperature_mean"][:, 0], "o", ms=4, color=colour, alpha=0.6)
    axis.set(title="mean surface temperature by month", xlabel="month", ylabel="°C")
