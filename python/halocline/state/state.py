r"""Named fields as channels of a tile batch, and their standardisation.

A channel is one level of one variable. Channels run variable by variable, surface first:

.. math:: x_c = (X_c - m_c(j, i)) / s_c

with `m` the reference (a mean of the training states) and `s` one scale per channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.grid import Grid
from halocline.mesh.layout import Layout
from halocline.state.variables import Variable, variable

Centre = Literal["cell", "level"]


@dataclass(frozen=True)
class Channel:
    """One level of one variable; the level is 0 for surface variables."""

    variable: Variable
    level: int
    index: int


@dataclass(frozen=True)
class Channels:
    """Maps named fields to channels and back.

    Attributes:
        variables: Rows of the variable table, in channel order.
        channels: Levels that have a wet cell at the variable's point.
        nk: Levels of the grid.
        unstaggered: Whether the grid has all its points where T points lie.
    """

    variables: tuple[Variable, ...]
    channels: tuple[Channel, ...]
    nk: int
    unstaggered: bool = False

    @classmethod
    def build(cls, names: Sequence[str], grid: Grid) -> Channels:
        """Lists the channels of variables on a grid.

        Arguments:
            names: Names from the variable table, in the order wanted.
            grid: Gives the levels that have a wet cell.

        Raises:
            ValueError: A name is unknown, repeated, or nowhere wet; or there is none.
        """
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"Variables are {list(names)}, expected one or more different names: correct the list."
            )
        variables = tuple(variable(name) for name in names)
        channels: list[Channel] = []
        for row in variables:
            mask = grid.mask(row.point) if row.is_3d else grid.mask(row.point)[:1]
            levels = np.flatnonzero(mask.any(axis=(1, 2)))
            if not levels.size:
                raise ValueError(
                    f"Variable {row.name} has no wet {row.point} point, expected at least one: "
                    f"leave it out or check {row.point.lower()}mask of the grid."
                )
            for level in levels:
                channels.append(Channel(row, int(level), len(channels)))
        return cls(variables, tuple(channels), grid.nk, grid.unstaggered)

    @property
    def count(self) -> int:
        """Number of channels."""
        return len(self.channels)

    @property
    def points(self) -> tuple[str, ...]:
        """Point of the C-grid of each channel; "T" for all where the grid is not staggered."""
        return tuple("T" if self.unstaggered else channel.variable.point for channel in self.channels)

    @property
    def signs(self) -> tuple[int, ...]:
        """Factor of each channel on crossing the north fold."""
        return tuple(channel.variable.sign for channel in self.channels)

    def mask(self, grid: Grid) -> np.ndarray:
        """Returns where each channel is sea, shape (channel, nj, ni), bool."""
        return np.stack([grid.mask(c.variable.point)[c.level] for c in self.channels])

    def describe(self, index: int) -> str:
        """Names a channel for people."""
        channel = self.channels[index]
        level = f" level {channel.level}" if channel.variable.is_3d else ""
        return f"{channel.variable.name}{level}"

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Names the fields of a state.

        Arguments:
            x: Shape (..., channel, j, i).

        Returns:
            Variable name to field of shape (..., k, j, i): all levels of the grid, zero on those that
            have no wet cell; one level for surface variables.

        Raises:
            ValueError: The number of channels differs.

        Collective: no.
        """
        if x.shape[-3] != self.count:
            raise ValueError(
                f"State has {x.shape[-3]} channels, expected {self.count} of "
                f"{', '.join(row.name for row in self.variables)}: use the channels it was made with."
            )
        fields = {}
        for row in self.variables:
            levels, indices = self._places(row)
            nk = self.nk if row.is_3d else 1
            field = x.new_zeros(*x.shape[:-3], nk, *x.shape[-2:])
            field[..., levels, :, :] = x[..., indices, :, :]
            fields[row.name] = field
        return fields

    def join(self, fields: Mapping[str, Tensor | np.ndarray]) -> Tensor:
        """Stacks named fields to a state; the reverse of `split`.

        Arguments:
            fields: Variable name to field of shape (..., k, j, i), one level for surface variables;
                other names are ignored.

        Returns:
            Shape (..., channel, j, i).

        Raises:
            ValueError: A field is missing or has another number of levels.

        Collective: no.
        """
        parts = []
        for row in self.variables:
            if row.name not in fields:
                raise ValueError(
                    f"Field {row.name} is missing, got {', '.join(fields) or 'none'}: add it or leave "
                    "it out of the variables."
                )
            field = torch.as_tensor(fields[row.name])
            nk = self.nk if row.is_3d else 1
            if field.ndim < 3 or field.shape[-3] != nk:
                raise ValueError(
                    f"Field {row.name} has shape {tuple(field.shape)}, expected (..., {nk}, j, i): "
                    "give all levels of the grid, one for surface variables."
                )
            parts.append(field[..., self._places(row)[0], :, :])
        return torch.cat(parts, dim=-3)

    def _places(self, row: Variable) -> tuple[list[int], list[int]]:
        """Levels and channel numbers of a variable."""
        mine = [channel for channel in self.channels if channel.variable is row]
        return [c.level for c in mine], [c.index for c in mine]


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Maps states to unit scale and back; land is exactly 0 on both sides.

    Attributes:
        reference: What is subtracted, shape (channel, nj, ni), or (tile, channel, j, i) after `cut`;
            float64, 0 on land.
        scale: What is divided by, shape (channel), float64.
        mask: True in the sea, shape of `reference`.
    """

    reference: Tensor
    scale: Tensor
    mask: Tensor

    @classmethod
    def fit(
        cls,
        channels: Channels,
        states: Tensor | np.ndarray,
        grid: Grid,
        *,
        centre: Centre = "cell",
        floor: float = 1.0e-3,
    ) -> Standardisation:
        r"""Learns reference and scale from states.

        .. math:: s_c^2 = \langle (X_c - m_c)^2 \rangle

        with the mean over time and over wet cells, weighted by their areas. The reference is the mean over
        time of each cell, or over time and wet cells of each level.

        A level that hardly varies would blow rounding up to unit size, so `s` is at least `floor` times the
        largest scale of the same variable, and 1 where the whole variable is constant.

        Arguments:
            channels: Channels of the states.
            states: Physical units, shape (time, channel, nj, ni); land is not looked at.
            grid: Gives masks and areas.
            centre: "cell" or "level".
            floor: Least ratio to the largest scale of the variable, in (0, 1].

        Raises:
            ValueError: A wet value is not finite, the shape differs, or an option is wrong.

        Collective: no.
        """
        x = np.asarray(states, np.float64)
        mask = channels.mask(grid)
        _check_states(x, mask, channels)
        x = np.where(mask, x, 0.0)
        mean = x.mean(axis=0)
        return cls.from_moments(channels, grid, mean, ((x - mean) ** 2).mean(axis=0), centre=centre, floor=floor)

    @classmethod
    def from_moments(
        cls,
        channels: Channels,
        grid: Grid,
        mean: np.ndarray,
        variance: np.ndarray,
        *,
        centre: Centre = "cell",
        floor: float = 1.0e-3,
    ) -> Standardisation:
        """Takes reference and scale from the mean and variance over time of each cell; see `fit`.

        Arguments:
            mean, variance: Physical units and their square, shape (channel, nj, ni); land is not looked at.

        Raises:
            ValueError: An option is wrong.

        Collective: no.
        """
        if centre not in get_args(Centre):
            raise ValueError(f"centre is '{centre}', expected {' or '.join(get_args(Centre))}.")
        if not 0.0 < floor <= 1.0:
            raise ValueError(f"floor is {floor}, expected a ratio in (0, 1].")
        mask = channels.mask(grid)
        weight = area_weights(channels, grid)
        reference, spread = np.where(mask, mean, 0.0), np.where(mask, variance, 0.0)
        if centre == "level":
            level = np.where(mask, (reference * weight).sum(axis=(1, 2), keepdims=True), 0.0)
            spread = spread + (reference - level) ** 2
            reference = level
        scale = np.sqrt((spread * weight).sum(axis=(1, 2)))
        scale = _raise_to_floor(scale, np.abs(reference).max(axis=(1, 2)), channels, floor)
        return cls(*(torch.as_tensor(value) for value in (reference, scale, mask)))

    def forward(self, x: Tensor | np.ndarray) -> Tensor:
        """Standardises physical values, shape (..., channel, j, i); computed in float64, returned as x's type."""
        x = torch.as_tensor(x)
        departure = torch.where(self.mask, x.double(), self.reference) - self.reference
        return (departure / self._factor).to(x.dtype)

    def inverse(self, x: Tensor | np.ndarray) -> Tensor:
        """Returns physical values of standardised ones; computed in float64, returned as x's type."""
        x = torch.as_tensor(x)
        value = self.reference + x.double() * self._factor
        return torch.where(self.mask, value, 0.0).to(x.dtype)

    @property
    def _factor(self) -> Tensor:
        return self.scale[:, None, None]

    def cut(self, layout: Layout) -> Standardisation:
        """Returns the same for states of this rank's tiles, (member, tile, channel, j, i).

        Positions of a tile outside the grid are land.

        Collective: no.
        """
        reference = torch.as_tensor(layout.cut(self.reference.cpu().numpy()))
        mask = torch.as_tensor(layout.cut(self.mask.cpu().numpy().astype(np.uint8))) > 0
        return replace(self, reference=reference, mask=mask)

    def to(self, device: torch.device | str) -> Standardisation:
        """Moves it to a device."""
        return Standardisation(
            self.reference.to(device), self.scale.to(device), self.mask.to(device)
        )

    def to_dict(self) -> dict[str, Tensor]:
        """Returns its tensors, for the checkpoint."""
        return {"reference": self.reference, "scale": self.scale, "mask": self.mask}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor]) -> Standardisation:
        """Restores it from `to_dict`.

        Raises:
            ValueError: A tensor is missing.
        """
        expected = ("reference", "scale", "mask")
        if missing := [name for name in expected if name not in tensors]:
            raise ValueError(
                f"Standardisation lacks {', '.join(missing)}, expected {', '.join(expected)}: "
                "the checkpoint is of another version."
            )
        return cls(*(tensors[name] for name in expected))


def _check_states(x: np.ndarray, mask: np.ndarray, channels: Channels) -> None:
    """Refuses states of another shape, and wet values that are not finite."""
    if x.ndim != 4 or x.shape[0] == 0 or x.shape[1:] != mask.shape:
        raise ValueError(
            f"States have shape {x.shape}, expected (time, {', '.join(map(str, mask.shape))}) with at "
            "least one time: check variables and grid."
        )
    bad = ~np.isfinite(x) & mask
    if bad.any():
        time, channel, j, i = (int(n) for n in np.argwhere(bad)[0])
        raise ValueError(
            f"{channels.describe(channel)} is {x[time, channel, j, i]} at j={j}, i={i}, time index {time} "
            f"({int(bad.sum())} such wet values in all), expected a finite number: mend or leave out "
            "that state."
        )


def area_weights(channels: Channels, grid: Grid) -> np.ndarray:
    """Share of each wet cell in the area of its level, (channel, nj, ni); 0 on land and for repeated cells.

    Collective: no.
    """
    weight = channels.mask(grid) * _areas(channels, grid)
    return weight / weight.sum(axis=(1, 2), keepdims=True)


def _areas(channels: Channels, grid: Grid) -> np.ndarray:
    """Cell areas at each channel's point, (channel, nj, ni), m2; 0 for repeated cells of a folded row."""
    j, i = np.arange(grid.nj)[:, None], np.arange(grid.ni)
    areas = {}
    for point in set(channels.points):
        source, _ = grid.edges.canonical(point, j, i)
        letter = "t" if point == "W" else point.lower()
        area = getattr(grid, f"e1{letter}") * getattr(grid, f"e2{letter}")
        areas[point] = np.where(source == j * grid.ni + i, area, 0.0)
    return np.stack([areas[point] for point in channels.points])


def _raise_to_floor(
    scale: np.ndarray, size: np.ndarray, channels: Channels, floor: float
) -> np.ndarray:
    """Applies the floor variable by variable; `size` is the largest reference of each channel."""
    scale = scale.copy()
    for row in channels.variables:
        mine = [channel.index for channel in channels.channels if channel.variable is row]
        largest = scale[mine].max()
        # The mean of equal numbers differs from them by rounding, 1e-16 of their size each time.
        varies = largest > 1e-12 * size[mine].max()
        scale[mine] = np.maximum(scale[mine], floor * largest) if varies else 1.0
    return scale
