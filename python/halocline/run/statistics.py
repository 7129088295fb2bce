"""Statistics of sets of states, generated and reference side by side, as plain numbers for a table."""

from __future__ import annotations

import numpy as np

from halocline.io.nemo import States
from halocline.mesh.grid import Grid
from halocline.physics.spectra import isotropic_spectrum, largest_wet_rectangle
from halocline.state.variables import VARIABLES

__all__ = ["level_statistics", "listed", "surface_spectrum", "volumes"]

SMALLEST = 4  # cells of a window's shorter side: less has no spectrum to speak of


def level_statistics(
    generated: States, reference: States, grid: Grid
) -> dict[str, dict[str, list[float | None]]]:
    """Mean and standard deviation within each level of all 3-D variables, averaged over states.

    Weighted by the volumes of the cells at rest, at the variable's own point.

    Returns:
        NAME_mean and NAME_std to "generated" and "reference": a number per level, in the variable's unit; None
        where there is no water.

    Collective: no.
    """
    result: dict[str, dict[str, list[float | None]]] = {}
    for name in (name for name in generated.fields if VARIABLES[name].is_3d):
        weight = volumes(grid, VARIABLES[name].point)
        sides = {
            "generated": moments(generated.fields[name], weight),
            "reference": moments(reference.fields[name], weight),
        }
        for n, moment in enumerate(("mean", "std")):
            result[f"{name}_{moment}"] = {side: listed(values[n]) for side, values in sides.items()}
    return result


def volumes(grid: Grid, point: str) -> np.ndarray:
    """Volumes of the cells of T, U or V points at rest, 0 on land, shape (nk, nj, ni), m3."""
    e1, e2, e3 = (getattr(grid, f"{factor}{point.lower()}") for factor in ("e1", "e2", "e3"))
    return np.asarray(e1 * e2 * e3 * grid.mask(point))


def moments(field: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation within each level, averaged over states; NaN where there is no weight.

    Arguments:
        field: Shape (state, k, nj, ni), anything on land.
        weight: Shape (k, nj, ni), 0 on land.

    Returns:
        Mean and standard deviation, shape (k) each.
    """
    total = weight.sum(axis=(1, 2))
    share = np.divide(weight, total[:, None, None], out=np.zeros_like(weight), where=weight > 0)
    means, deviations = [], []
    for state in field:  # one by one: an archive in float64 need not fit into memory
        x = np.where(weight > 0, state, 0.0).astype(np.float64)
        mean = (x * share).sum(axis=(1, 2))
        means.append(mean)
        deviations.append(np.sqrt(((x - mean[:, None, None]) ** 2 * share).sum(axis=(1, 2))))
    dry = total == 0
    mean, deviation = (np.where(dry, np.nan, np.mean(values, axis=0)) for values in (means, deviations))
    return mean, deviation


def surface_spectrum(generated: States, reference: States, grid: Grid) -> dict[str, list[float]]:
    """Isotropic spectra of surface temperature in the largest rectangle without land, averaged over states.

    Returns:
        "wavenumber" in cycles per metre, "generated" and "reference" in degC2 m; nothing where there is no surface
        temperature or no room.

    Collective: no.
    """
    rows, columns = largest_wet_rectangle(grid.tmask[0])
    if "temperature" not in generated.fields or min(rows.stop - rows.start, columns.stop - columns.start) < SMALLEST:
        return {}
    spacing = float(np.sqrt(grid.e1t * grid.e2t)[rows, columns].mean())
    result: dict[str, list[float]] = {}
    for side, states in (("generated", generated), ("reference", reference)):
        surface = states.fields["temperature"][:, 0]
        spectrum = isotropic_spectrum(surface, spacing, None, rows, columns, taper="hann")
        result["wavenumber"] = spectrum.wavenumber.tolist()
        result[side] = spectrum.power.mean(axis=0).tolist()
    return result


def listed(values: np.ndarray) -> list[float | None]:
    """Numbers for a file that knows no NaN."""
    return [value if np.isfinite(value) else None for value in values.tolist()]
