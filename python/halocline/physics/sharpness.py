r"""Sharpness of fields: energy of gradients on tiles, spectra in a window, energy of small scales over the sea.

.. math:: G = \frac{\sum_f A_f (\delta x / e)^2}{\sum_f A_f}

over the faces f between wet cells, with :math:`\delta x` the difference of the two, e their distance and :math:`A_f`
the area around the face. A forecast that keeps its sharpness has the energy that the model has at the same lead: a
ratio of 1.

Fine scales are the last third of the wavenumbers that the spacing resolves, up to the Nyquist wavenumber. Their energy
is a mean over overlapping windows (P. D. Welch, 1967, doi:10.1109/TAU.1967.1161901).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from halocline.mesh.halo import HaloPlan
from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import global_sum
from halocline.physics.spectra import Spectrum, isotropic_spectrum, largest_wet_rectangle
from halocline.physics.stability import finite_on_land

__all__ = ["Faces", "FineScales", "Window", "log_power"]

FINE = 2.0 / 3.0
"""Share of the resolved wavenumbers that is not fine."""

SIDE = 16
"""Cells along a window of fine scales: enough for five bands, small enough for straits and bays."""


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces east and north of every owned cell whose both sides are wet; made by `build`.

    Attributes:
        plan: Fills the rim of a field of this point and sign.
        mask: Sea, shape (tile, 1, j, i).
        area_i, area_j: Around the eastern and northern face, m2; zero where one side is dry, shape (tile, 1, j, i).
        distance_i, distance_j: Of the two points, m.
    """

    plan: HaloPlan
    mask: Tensor
    area_i: Tensor
    area_j: Tensor
    distance_i: Tensor
    distance_j: Tensor

    @classmethod
    def build(cls, geometry: Geometry, layout: Layout, point: str = "T", sign: int = 1) -> Faces:
        """Finds the faces.

        Faces across a north fold are there once from each side.

        Arguments:
            geometry: Owned cells.
            layout: Which tiles are here; of a lattice with a halo.
            point, sign: Of the variable, as in the table of variables.

        Raises:
            ValueError: The lattice has no halo.

        Collective: yes.
        """
        with layout.comm.together():
            if layout.lattice.halo < 1:
                raise ValueError("Lattice has a halo of 0 cells, expected at least 1: gradients need neighbours.")
        name = point.lower()
        mask: Tensor = getattr(geometry, f"{name}mask")[:, :1]
        owned: Tensor = getattr(geometry, f"owned_{name}").unsqueeze(1)
        sizes = [getattr(geometry, f"{e}{name}").unsqueeze(1) for e in ("e1", "e2")]
        static = torch.cat([mask.to(torch.float64), *sizes], dim=1)[None]
        filled = HaloPlan.build(layout, [point] * 3, [1] * 3).fill(static)
        centre, east, north = (x.unbind(2) for x in _sides(filled, layout.lattice.halo))
        between = [[0.5 * (c + n) for c, n in zip(centre, beyond, strict=True)] for beyond in (east, north)]
        wet = [(centre[0] * beyond[0]) for beyond in (east, north)]
        area_i, area_j = (
            (w * e1 * e2).transpose(0, 1) * owned for w, (_, e1, e2) in zip(wet, between, strict=True)
        )
        plan = HaloPlan.build(layout, [point], [sign])
        distance_i, distance_j = between[0][1].transpose(0, 1), between[1][2].transpose(0, 1)
        return cls(plan, mask, area_i, area_j, distance_i, distance_j)

    def energy(self, x: Tensor) -> Tensor:
        """Returns G of each member; a value that is not finite in a wet cell makes it NaN.

        Arguments:
            x: Owned cells, shape (member, tile, 1, j, i).

        Returns:
            Unit of x squared per m2, float64, shape (member,).

        Collective: yes, one exchange and one sum.
        """
        layout = self.plan.layout
        filled = self.plan.fill(finite_on_land(x, self.mask))
        centre, east, north = _sides(filled, layout.lattice.halo)
        steps_i = self._squares(east - centre, self.distance_i, self.area_i)
        steps_j = self._squares(north - centre, self.distance_j, self.area_j)
        total = global_sum(steps_i + steps_j, layout)
        return total / global_sum(self.area_i + self.area_j, layout)

    @staticmethod
    def _squares(difference: Tensor, distance: Tensor, area: Tensor) -> Tensor:
        steps = torch.where(area > 0, difference, 0.0) / torch.where(area > 0, distance, 1.0)
        return area * steps**2


def _sides(filled: Tensor, halo: int) -> tuple[Tensor, Tensor, Tensor]:
    """Owned cells of windows, and those one to the east and one to the north."""
    nj, ni = (size - 2 * halo for size in filled.shape[-2:])
    return (
        filled[..., halo : halo + nj, halo : halo + ni],
        filled[..., halo : halo + nj, halo + 1 : halo + 1 + ni],
        filled[..., halo + 1 : halo + 1 + nj, halo : halo + ni],
    )


@dataclass(frozen=True)
class Window:
    """A rectangle without land on which spectra are taken. Serial: fields are whole.

    Attributes:
        rows, columns: Slices of the grid.
        spacing: Mean size of a cell, m.
    """

    rows: slice
    columns: slice
    spacing: float

    @classmethod
    def largest(cls, wet: ArrayLike, size: ArrayLike) -> Window:
        """Takes the largest rectangle of a mask.

        Arguments:
            wet: Sea, shape (nj, ni).
            size: Width of the cells, m, same shape.

        Raises:
            ValueError: The mask has no wet cell.
        """
        rows, columns = largest_wet_rectangle(wet)
        return cls(rows, columns, float(np.asarray(size)[rows, columns].mean()))

    def power(self, field: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns wavenumbers up to Nyquist's, 1/m, and the isotropic power of each field.

        The window is not cyclic: a Hann taper is laid over it.

        Arguments:
            field: Shape (..., nj, ni), any unit.

        Returns:
            Shapes (n,) and (..., n); power in the unit squared times m.

        Raises:
            ValueError: Land or NaN in the window.
        """
        found: Spectrum = isotropic_spectrum(field, self.spacing, None, self.rows, self.columns, taper="hann")
        resolved = found.wavenumber <= 0.5 / self.spacing * (1.0 + 1e-9)
        return found.wavenumber[resolved], found.power[..., resolved]


def log_power(power: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """Adds up the logarithms of spectra: the geometric mean, exp(sum / count), is what GenSIM draws.

    No single field decides it, as one with a storm decides the arithmetic mean; ice at rest, which has no power at all,
    is left out.

    Arguments:
        power: Shape (..., n).

    Returns:
        Sum of logarithms, shape (n,), and number of spectra in it.

    Serial.
    """
    values = np.asarray(power, dtype=np.float64)
    values = values.reshape(-1, values.shape[-1])
    moving = values[(values > 0).all(axis=1)]
    return np.log(moving).sum(axis=0), len(moving)


@dataclass(frozen=True)
class FineScales:
    """Energy of fine scales over the sea: the mean over square windows without land that overlap by three quarters.

    One window as large as coasts allow, tapered, sees little but its middle: of 64 x 64 cells with an island a seventh
    of the sea, where a single lead decides on the energy. Serial: fields are whole.

    Attributes:
        corners: First row and column of each window.
        side: Cells along a window.
        spacing: Mean size of a cell, m.
    """

    corners: tuple[tuple[int, int], ...]
    side: int
    spacing: float

    @classmethod
    def over(cls, wet: ArrayLike, size: ArrayLike) -> FineScales:
        """Covers a sea; where nothing as wide as `SIDE` fits in, with smaller windows.

        Arguments:
            wet: Sea, shape (nj, ni).
            size: Width of the cells, m, same shape.

        Raises:
            ValueError: The mask has no wet cell.
        """
        mask = np.asarray(wet, dtype=bool)
        side = min(SIDE, *(s.stop - s.start for s in largest_wet_rectangle(mask)))
        corners = _corners(mask, side, max(side // 4, 1)) or _corners(mask, side, 1)
        return cls(corners, side, float(np.asarray(size)[mask].mean()))

    def energy(self, field: ArrayLike) -> NDArray[np.float64]:
        """Returns the variance in the last third of the wavenumbers; NaN where windows are of one cell.

        Ratios of energies are taken of arithmetic means: geometric ones fall below the energy of the members by as
        much as their energies differ.

        Arguments:
            field: Shape (..., nj, ni), any unit.

        Returns:
            Shape (...), unit squared.

        Raises:
            ValueError: Land or NaN in a window.
        """
        x = np.asarray(field, dtype=np.float64)
        total = np.zeros(x.shape[:-2])
        if self.side < 2:
            return total + np.nan
        for j, i in self.corners:
            window = Window(slice(j, j + self.side), slice(i, i + self.side), self.spacing)
            wavenumber, power = window.power(x)
            total += power[..., int(np.floor(FINE * len(wavenumber))) :].sum(axis=-1)
        return total / (len(self.corners) * self.side * self.spacing)


def _corners(wet: NDArray[np.bool_], side: int, step: int) -> tuple[tuple[int, int], ...]:
    """First row and column of the squares without land, of those that are a step apart."""
    rows, columns = (range(0, n - side + 1, step) for n in wet.shape)
    return tuple((j, i) for j in rows for i in columns if wet[j : j + side, i : i + side].all())
