r"""Flips and quarter turns of windows on a C-grid: a turned trajectory is one of the turned model.

A window is flipped along i, then along j, then transposed; each is done or not, which gives the eight symmetries of the
square, numbered flip_i + 2 flip_j + 4 transposed. With N cells along i, u on the east face of a cell,

.. math::
    T'(j, i) = T(j, N - 1 - i), \qquad u'(j, i) = -u(j, N - 2 - i), \qquad v'(j, i) = v(j, N - 1 - i)

under a flip along i: what was the west face of a cell, which belonged to its neighbour, is its east face now. So
windows come with one cell more on every side than they leave with. Transposition exchanges u and v, and with them U and
V points: u'(j, i) = v(i, j).

A tensor at cell centres has the components xx, yy and xy: each flip turns the sign of xy, transposition exchanges xx
and yy.

Where an odd number of the three is done the picture is a mirror image: vorticity changes its sign, and the Coriolis
parameter must, so the flow is one of the other hemisphere. A network must be told which symmetry it sees. The other
four, turns by quarters of a circle, leave the equations of motion as they are where the Coriolis parameter is the same
everywhere: what is learned from turned states holds for those that are not, and nothing needs to be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from halocline.state.state import Channels

__all__ = ["ChannelSymmetry", "allowed"]

FLIP_I, FLIP_J, TRANSPOSE = 1, 2, 4
NONE = -1  # in place of a partner: transposition would lose this channel
_TRANSPOSED = {"T": "T", "U": "V", "V": "U", "F": "F", "W": "W"}
_NUMBERS = {
    "none": (0,),
    "turns": (0, FLIP_I + FLIP_J, FLIP_I + TRANSPOSE, FLIP_J + TRANSPOSE),
    "flips": (0, 1, 2, 3),
    "all": tuple(range(8)),
}


def allowed(which: str, tile: Sequence[int], channels: Channels) -> tuple[int, ...]:
    """Lists the numbers of the symmetries that windows may be given.

    Arguments:
        which: "none", "turns" (by quarters of a circle), "flips", or "all" of both.
        tile: Owned cells (j, i).
        channels: Of the states.

    Raises:
        ValueError: The first is none of these, or quarter turns are wanted of a tile that is not square, or of a
            component of a vector without the other at its level.

    Collective: no.
    """
    if which not in _NUMBERS:
        raise ValueError(f"training.symmetries is {which!r}, expected one of {', '.join(_NUMBERS)}: correct it.")
    if all(number < TRANSPOSE for number in _NUMBERS[which]):
        return _NUMBERS[which]
    if tile[0] != tile[1]:
        raise ValueError(
            f"training.symmetries is {which}, and lattice.tile {tile[0]} x {tile[1]}, expected a square, which a "
            "quarter turn maps to itself: choose a square tile, or training.symmetries=flips."
        )
    partners = ChannelSymmetry.for_channels(channels).partners
    if NONE in partners:
        raise ValueError(
            f"training.symmetries is {which}, but {channels.describe(partners.index(NONE))} has no other component "
            "at that level, which takes its place in a quarter turn: name both in data.variables, and where no face "
            "of the other is open, choose training.symmetries=flips."
        )
    return _NUMBERS[which]


@dataclass(frozen=True)
class ChannelSymmetry:
    """Turns windows of some channels.

    Attributes:
        points: Point of the C-grid of each channel.
        along: Axis along which a channel is a component of a vector: "i", "j", "ij" for xy of a tensor, or "" for
            scalars, xx and yy.
        partners: Channel that takes the place of each under transposition: itself, the other component, the same
            quantity on the other faces, or -1 for none.
    """

    points: tuple[str, ...]
    along: tuple[str, ...]
    partners: tuple[int, ...]

    @classmethod
    def build(cls, points: Sequence[str], signs: Sequence[int], partners: Sequence[int]) -> ChannelSymmetry:
        """Describes channels.

        Arguments:
            points: In {"T", "U", "V", "F", "W"}.
            signs: -1 for components of vectors, +1 for all others, masks of faces among them.
            partners: See the attributes; of two partners at T points the first is the component along i.

        Raises:
            ValueError: Partners do not name each other, or lie at points that transposition does not exchange; or a
                component at neither U nor V points has no partner to tell its axis.
        """
        along = []
        for channel, (point, sign, partner) in enumerate(zip(points, signs, partners, strict=True)):
            if partner != NONE and (partners[partner] != channel or points[partner] != _TRANSPOSED[point]):
                raise ValueError(
                    f"Channel {channel} at {point} points has channel {partner} for its partner, expected one at "
                    f"{_TRANSPOSED[point]} points that names it in turn: correct the partners."
                )
            if sign < 0 and point not in "UV" and partner in (NONE, channel):
                raise ValueError(
                    f"Channel {channel} is a component of a vector at {point} points without the other, so that its "
                    "axis is unknown: name its partner."
                )
            first = point == "U" or (point != "V" and channel < partner)
            along.append("" if sign > 0 else "i" if first else "j")
        return cls(tuple(points), tuple(along), tuple(partners))

    @classmethod
    def for_channels(cls, channels: Channels) -> ChannelSymmetry:
        """Describes the channels of a state; a component whose other is not there cannot be transposed."""
        places = {(c.variable.name, c.level): c.index for c in channels.channels}
        others = {"u": "v", "v": "u", "xx": "yy", "yy": "xx"}
        partners, mixed = [], []
        for channel in channels.channels:
            row = channel.variable
            stem, _, axis = row.name.rpartition("_")
            partner = places.get((f"{stem}_{others.get(axis)}", channel.level), NONE)
            partners.append(partner if row.sign < 0 or row.point in "UV" or axis in ("xx", "yy") else channel.index)
            mixed.append(axis == "xy")
        built = cls.build(channels.points, channels.signs, partners)
        return replace(built, along=tuple("ij" if xy else a for xy, a in zip(mixed, built.along, strict=True)))

    def apply(self, x: Tensor, number: int) -> Tensor:
        """Turns windows.

        Arguments:
            x: Shape (..., channel, wj + 2, wi + 2), numbers in main memory.
            number: Of the symmetry, in [0, 8).

        Returns:
            Shape (..., channel, wj, wi), with wj and wi exchanged under transposition.

        Raises:
            ValueError: There is no such symmetry, or a component of a vector is to be transposed without the other.

        Collective: no.
        """
        if not 0 <= number < 8:
            raise ValueError(f"Symmetry number is {number}, expected one of 0 to 7: flip_i + 2 flip_j + 4 transposed.")
        values = x.numpy()  # which, unlike torch, takes no threads beside that of a loader that reads ahead
        wj, wi = (size - 2 for size in values.shape[-2:])
        flipped = values[..., :: -1 if number & FLIP_J else 1, :: -1 if number & FLIP_I else 1]
        turned = np.empty((*values.shape[:-2], wj, wi), values.dtype)
        for channel, (first_j, first_i) in enumerate(self._starts(number)):
            part = flipped[..., channel, first_j : first_j + wj, first_i : first_i + wi]
            np.multiply(part, self._sign(channel, number), out=turned[..., channel, :, :])
        return torch.from_numpy(self._transposed(turned) if number & TRANSPOSE else turned)

    def _starts(self, number: int) -> list[tuple[int, int]]:
        """First row and column of each channel: faces and corners lie one cell further on a flipped axis."""
        return [
            (1 + (point in "VF" and bool(number & FLIP_J)), 1 + (point in "UF" and bool(number & FLIP_I)))
            for point in self.points
        ]

    def _sign(self, channel: int, number: int) -> int:
        flips = (number & bit for bit, axis in ((FLIP_I, "i"), (FLIP_J, "j")) if axis in self.along[channel])
        return -1 if sum(map(bool, flips)) % 2 else 1

    def _transposed(self, x: np.ndarray) -> np.ndarray:
        if NONE in self.partners:
            raise ValueError(
                f"Channel {self.partners.index(NONE)} has no partner to take its place in a quarter turn: add the "
                "other component to data.variables, or choose training.symmetries=flips."
            )
        return x[..., list(self.partners), :, :].swapaxes(-1, -2)
