"""States cut into blocks, a few tiles of some members at a time: what diagnostics need of them stays in cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from halocline.physics import circulation, stability
from halocline.physics.free_surface import Stretching
from halocline.physics.geometry import BLOCK, Geometry
from halocline.physics.seawater import EquationOfState, Water
from halocline.physics.water import Box, volume_in

__all__ = ["POINTS", "Block", "Choices", "State"]

POINTS = {"temperature": "t", "salinity": "t", "velocity_u": "u", "velocity_v": "v", "sea_level": "t"}
"""The fields that are diagnosed, and the points where they live."""


@dataclass(frozen=True)
class Choices:
    """What contributions depend on beside the state.

    Arguments:
        eos: Equation of state of the model.
        step_threshold: Largest upward density step that is called stable, kg/m3.
        reference_depth: Of the potential density, m.
        boxes: Name to the box of water, one that holds some.
    """

    eos: EquationOfState
    step_threshold: float
    reference_depth: float
    boxes: Mapping[str, Box]


@dataclass(frozen=True, eq=False)
class State:
    """States on some tiles.

    Arguments:
        fields: Variable to values as they came, shape (member, tile, k, j, i); deep levels may be missing.
        geometry: Of these tiles.
        stretch: Layer thickness relative to rest.
        choices: See there.
        means: Level means of the tracers whose spread is asked for, shape (member, k).
    """

    fields: Mapping[str, Tensor]
    geometry: Geometry
    stretch: Stretching
    choices: Choices
    means: Mapping[str, Tensor]

    @property
    def members(self) -> int:
        """Their number."""
        return len(next(iter(self.fields.values())))

    def blocks(self) -> Iterator[list[Block]]:
        """Cuts the states: some tiles, and of these some members."""
        for tiles, geometry in self.geometry.blocks:
            width = max(1, BLOCK // geometry.tmask.numel())
            members = (slice(first, first + width) for first in range(0, self.members, width))
            yield [self._block(part, tiles, geometry) for part in members]

    def _block(self, members: slice, tiles: slice, geometry: Geometry) -> Block:
        fields = {name: x[members, tiles] for name, x in self.fields.items()}
        means = {name: x[members] for name, x in self.means.items()}
        return Block(fields, geometry, self.stretch.of(members, tiles), self.choices, means)


class Block(State):
    """States that are worked on at once. What several contributions share is computed when first asked for."""

    def __getitem__(self, name: str) -> Tensor:
        """A field in float64, with all levels and zero on land."""
        if name not in self._complete:
            x, geometry = self.fields[name], self.geometry
            mask: Tensor = getattr(geometry, f"{POINTS[name]}mask")
            mask = geometry.wet.unsqueeze(1) if name == "sea_level" else mask
            missing = mask.shape[1] - x.shape[2]
            x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
            self._complete[name] = stability.finite_on_land(x, mask)
        return self._complete[name]

    @cached_property
    def _complete(self) -> dict[str, Tensor]:
        return {}

    @property
    def at_rest(self) -> bool:
        """Whether no layer is stretched, so that volumes are those of the geometry."""
        return self.stretch.t.ndim == 0

    @cached_property
    def volume(self) -> Tensor:
        """Volume of the T cells that count, m3."""
        return self.geometry.volume_t if self.at_rest else self.geometry.volume_t * self.stretch.t

    def volume_in(self, box: str) -> Tensor:
        """The same in a box, zero elsewhere."""
        chosen = self.choices.boxes[box]
        if self.at_rest:
            return volume_in(chosen, self.geometry)
        if box not in self._volumes:
            inside = self.geometry.once(("inside", chosen), lambda: chosen.select(self.geometry).to(torch.float64))
            self._volumes[box] = self.volume * inside
        return self._volumes[box]

    @cached_property
    def _volumes(self) -> dict[str, Tensor]:
        return {}

    @cached_property
    def water(self) -> Water:
        """What density needs of temperature and salinity."""
        return self.choices.eos.water(self["temperature"], self["salinity"])

    @cached_property
    def step(self) -> Tensor:
        """How much denser the upper water is at each interface, kg/m3."""
        return stability.step_of(self.water, self.geometry.gdepw, self.choices.eos)

    def unstable(self, threshold: float) -> Tensor:
        """Volumes of the cells whose upper neighbour is denser."""
        return stability.unstable_volume(self.step, self.volume, self.geometry, threshold)

    @property
    def potential_density(self) -> Tensor:
        """Volume at rest times density at the reference depth."""
        return self.choices.eos.density_of(self.water, self.choices.reference_depth) * self.geometry.volume_t

    @property
    def stratification(self) -> Tensor:
        """Area times density gradient at the interfaces."""
        geometry = self.geometry
        return stability.density_gradient(self.step, geometry) * stability.interface_area(geometry)

    def spread(self, tracer: str) -> Tensor:
        """Volume times squared distance from the level's mean."""
        anomaly = self[tracer] - self.means[tracer][:, None, :, None, None].nan_to_num()
        return anomaly * anomaly * self.volume

    @property
    def energy(self) -> Tensor:
        """Volume times twice the kinetic energy per mass."""
        return circulation.energy_of_cells(self["velocity_u"], self["velocity_v"], self.geometry, self.stretch)

    @property
    def area(self) -> Tensor:
        """Area of the wet columns that count."""
        return self.geometry.area_t.unsqueeze(1)

    @property
    def columns(self) -> Tensor:
        """Transport along i of each column, (member, j, i, tile)."""
        return circulation.transport_of_columns(self["velocity_u"], self.geometry, self.stretch).movedim(1, -1)

    @property
    def rows(self) -> Tensor:
        """Transport along j of each row, (member, k, j, tile)."""
        return circulation.transport_of_rows(self["velocity_v"], self.geometry, self.stretch).movedim(1, -1)

    @property
    def nonfinite(self) -> Tensor:
        """Numbers of wet values that are NaN or infinite, (member, tile)."""
        total = np.zeros((self.members, len(self.geometry.tmask)))
        for name in self.fields:
            finite = np.isfinite(self[name].numpy())
            if not finite.all():
                total += (~finite).sum((2, 3, 4))
        return torch.from_numpy(total)
