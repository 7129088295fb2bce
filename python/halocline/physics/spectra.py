r"""Power spectra of two-dimensional fields on a rectangular window without land.

Serial: the field is whole. Spectra are one-sided densities scaled so that their integral is the
variance of the windowed anomaly (Parseval's theorem): with taper "none" that is the variance of
the field itself.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Taper = Literal["none", "hann"]


@dataclass(frozen=True)
class Spectrum:
    """Power per wavenumber.

    Arguments:
        wavenumber: Cycles per metre, positive, shape (n,).
        power: Density, unit of the field squared times m, shape (..., n).
        width: Width of each wavenumber band, 1/m, shape (n,): variance = sum(power * width).
    """

    wavenumber: NDArray[np.float64]
    power: NDArray[np.float64]
    width: NDArray[np.float64]


def largest_wet_rectangle(wet: ArrayLike) -> tuple[slice, slice]:
    """Finds the largest rectangle of a mask without land.

    Returns:
        (rows, columns) as slices; of equal ones the first found from the south.

    Raises:
        ValueError: The mask has no wet cell.
    """
    mask = np.asarray(wet, dtype=bool)
    if not mask.any():
        raise ValueError("Mask must have a wet cell, got none: choose a wet level.")
    heights = np.zeros(mask.shape[1], dtype=int)
    best, window = 0, (slice(0, 0), slice(0, 0))
    for j, row in enumerate(mask):
        heights = np.where(row, heights + 1, 0)
        for i in range(len(heights)):
            low = np.minimum.accumulate(heights[i:])
            areas = low * np.arange(1, len(low) + 1)
            n = int(areas.argmax())
            if areas[n] > best:
                best = int(areas[n])
                window = (slice(j + 1 - int(low[n]), j + 1), slice(i, i + n + 1))
    return window


def _windowed(field: ArrayLike, wet: ArrayLike | None, rows: slice, columns: slice) -> NDArray[np.float64]:
    """Cuts the window and refuses land in it."""
    values = np.asarray(field, dtype=np.float64)[..., rows, columns]
    if min(values.shape[-2:]) < 1 or max(values.shape[-2:]) < 2:
        raise ValueError(f"Spectral window must hold at least two cells, got {values.shape[-2:]}: widen it.")
    land = None if wet is None else ~np.asarray(wet, dtype=bool)[rows, columns]
    if (land is not None and land.any()) or not np.isfinite(values).all():
        raise ValueError(
            f"Spectral window rows {rows.start}:{rows.stop}, columns {columns.start}:"
            f"{columns.stop} must hold finite wet values only, got land or NaN: "
            "use largest_wet_rectangle."
        )
    return values


def _taper(n: int, taper: Taper) -> NDArray[np.float64]:
    """Returns a taper of unit mean square."""
    if taper not in ("none", "hann"):
        raise ValueError(f"Taper must be 'none' or 'hann', got {taper!r}: choose one of them.")
    if taper == "none":
        return np.ones(n)
    # Periodic Hann on cell centres: never zero, so a window of two cells still has power.
    weights = 1.0 - np.cos(2.0 * np.pi * (np.arange(n) + 0.5) / n)
    return weights / np.sqrt(np.mean(weights**2))


def zonal_spectrum(
    field: ArrayLike,
    spacing: float,
    wet: ArrayLike | None = None,
    rows: slice = slice(None),
    columns: slice = slice(None),
    taper: Taper = "none",
) -> Spectrum:
    r"""Computes the spectrum along i, averaged over the rows of a window.

    .. math:: P(\kappa_m) = \frac{c_m}{n\, \Delta\kappa}
              \overline{ \left|\hat x_m\right|^2 / n }^{\,j}, \qquad \kappa_m = \frac{m}{n \Delta x}

    with c = 2, or 1 at the Nyquist wavenumber of an even n. The mean of each row is removed.

    Arguments:
        field: Shape (..., nj, ni), any unit.
        spacing: Mean distance of two columns, m.
        wet: Mask, shape (nj, ni); the window may not contain land.
        rows: Window along j.
        columns: Window along i.
        taper: "none" for a cyclic window, "hann" otherwise.

    Returns:
        Spectrum at m = 1 ... n // 2.

    Raises:
        ValueError: Land or NaN in the window, a window of one cell, or an unknown taper.
    """
    values = _windowed(field, wet, rows, columns)
    n = values.shape[-1]
    anomaly = (values - values.mean(-1, keepdims=True)) * _taper(n, taper)
    energy = np.abs(np.fft.rfft(anomaly)) ** 2 / n**2
    fold = np.where((2 * np.arange(energy.shape[-1])) % n == 0, 1.0, 2.0)
    step = 1.0 / (n * spacing)
    power = (energy * fold).mean(-2) / step
    wavenumber = np.arange(1, n // 2 + 1) * step
    return Spectrum(wavenumber, power[..., 1:], np.full(n // 2, step))


def isotropic_spectrum(
    field: ArrayLike,
    spacing: float,
    wet: ArrayLike | None = None,
    rows: slice = slice(None),
    columns: slice = slice(None),
    taper: Taper = "none",
) -> Spectrum:
    r"""Computes the spectrum over |wavenumber| of a window of nearly square cells.

    Energy :math:`|\hat x|^2 / (n_i n_j)^2` is gathered in rings of width 1 / (n spacing), with n
    the longer side, around the rounded radius. The window mean is removed. Rings beyond the Nyquist
    wavenumber of the spacing hold the corners, so that the total is the variance.

    Arguments:
        field: Shape (..., nj, ni), any unit.
        spacing: Mean size of a cell, m.
        wet: Mask, shape (nj, ni); the window may not contain land.
        rows: Window along j.
        columns: Window along i.
        taper: "none" for a window cyclic both ways, "hann" otherwise.

    Returns:
        Spectrum at rings 1, 2, ... .

    Raises:
        ValueError: Land or NaN in the window, a window of one cell, or an unknown taper.
    """
    values = _windowed(field, wet, rows, columns)
    nj, ni = values.shape[-2:]
    anomaly = values - values.mean((-2, -1), keepdims=True)
    anomaly = anomaly * _taper(nj, taper)[:, None] * _taper(ni, taper)
    energy = np.abs(np.fft.fft2(anomaly)) ** 2 / (nj * ni) ** 2
    step = 1.0 / (max(nj, ni) * spacing)
    radius = np.hypot(np.fft.fftfreq(nj, spacing)[:, None], np.fft.fftfreq(ni, spacing)[None, :])
    # The rings are counted on the longer side, so nothing but the mean falls into ring 0.
    ring = np.rint(radius / step).astype(int).ravel()
    count = int(ring.max())
    flat = energy.reshape(-1, nj * ni)
    total = np.stack([np.bincount(ring, weights=row, minlength=count + 1) for row in flat])
    power = total[:, 1:].reshape(*values.shape[:-2], count) / step
    return Spectrum(np.arange(1, count + 1) * step, power, np.full(count, step))
