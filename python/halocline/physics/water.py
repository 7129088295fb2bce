r"""Water masses and contents: what the ocean holds, by level, by box and in all."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from halocline.constants import RCP, RHO0
from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import global_sum


@dataclass(frozen=True)
class Box:
    """A region of water by latitude and depth, or everything outside it.

    Arguments:
        latitude: Largest |latitude|, degrees.
        top: Upper limit of the depth of T points, m.
        bottom: Lower limit, m, exclusive.
        outside: Take the complement.
    """

    latitude: float = 90.0
    top: float = 0.0
    bottom: float = float("inf")
    outside: bool = False

    def __post_init__(self) -> None:
        if not self.top < self.bottom:
            raise ValueError(
                f"Box must have top < bottom, got {self.top} and {self.bottom} m: "
                "give depths in metres, positive downwards."
            )

    def select(self, geometry: Geometry) -> Tensor:
        """Returns the wet cells of the box, bool (tile, k, j, i)."""
        near = geometry.gphit.abs().unsqueeze(1) < self.latitude + (self.latitude >= 90.0)
        inside = near & (geometry.gdept >= self.top) & (geometry.gdept < self.bottom)
        return (~inside if self.outside else inside) & geometry.tmask


DEEP = Box(latitude=30.0, top=500.0, bottom=1500.0)
"""Water below the thermocline of low latitudes. Box of DINO-Fusion's table."""

BOTTOM = Box(latitude=30.0, top=0.0, bottom=1500.0, outside=True)
"""All water but the upper 1500 m of low latitudes. Box of DINO-Fusion's table."""


def select_box(box: Box, geometry: Geometry, layout: Layout) -> Tensor:
    """Returns the wet cells of a box, or of the first wider box that holds any.

    A basin may lie outside a box. Then the latitude limit is dropped; if that is empty too, the
    basin is shallower than the box and the lower half of its depth is taken.

    Returns:
        bool (tile, k, j, i), the same choice on every rank.

    Collective: yes, up to three reductions.
    """
    return filled_box(box, geometry, layout).select(geometry)


def filled_box(box: Box, geometry: Geometry, layout: Layout) -> Box:
    """Returns a box, or the first wider one that holds water; see :func:`select_box`.

    Collective: yes, up to three reductions when first asked for a box, none later.
    """
    return geometry.once(("filled", box), lambda: _filled_box(box, geometry, layout))


def _filled_box(box: Box, geometry: Geometry, layout: Layout) -> Box:
    for candidate in (box, replace(box, latitude=90.0)):
        if float(global_sum((geometry.volume_t * candidate.select(geometry)).unsqueeze(0), layout)) > 0.0:
            return candidate
    return Box(top=0.5 * float(layout.maximum((geometry.gdept * geometry.tmask).flatten(1).amax(1))))


def volume_in(box: Box, geometry: Geometry) -> Tensor:
    """Returns the volume at rest of the cells of a box, zero elsewhere, m3, (tile, k, j, i). Collective: no."""
    return geometry.once(("volume", box), lambda: geometry.volume_t * box.select(geometry))


def heat_content(T: Tensor, volume: Tensor, layout: Layout) -> Tensor:
    r"""Returns :math:`\rho_0 c_p \sum T V`, J above 0 degC, shape (member,).

    Arguments:
        T: Temperature, degC, shape (member, tile, k, j, i), finite on land.
        volume: Volume of the cells that count, zero on land, m3, broadcasting.
        layout: Which tiles are here.

    Collective: yes.
    """
    return RHO0 * RCP * global_sum(T * volume, layout)


def salt_content(S: Tensor, volume: Tensor, layout: Layout) -> Tensor:
    r"""Returns :math:`\rho_0 \sum S V / 1000`, kg of salt, shape (member,); see heat_content.

    Collective: yes.
    """
    return 1.0e-3 * RHO0 * global_sum(S * volume, layout)


def drift(first: Tensor, second: Tensor, years: float) -> Tensor:
    """Returns the change of a diagnostic per year of model time.

    Raises:
        ValueError: The second state is not later than the first.
    """
    if not years > 0.0:
        raise ValueError(
            f"Drift needs a positive time between two states, got {years} years: pass the earlier state first."
        )
    return (torch.as_tensor(second) - torch.as_tensor(first)) / years
