r"""Layer thickness under a moving sea surface."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import place
from halocline.physics.operators import Window

FreeSurface = Literal["linear", "nonlinear"]


@dataclass(frozen=True)
class Stretching:
    """Layer thickness relative to rest at T, U and V, broadcasting with (member, tile, k, j, i)."""

    t: Tensor
    u: Tensor
    v: Tensor


def stretching(sea_level: Tensor | None, geometry: Geometry, layout: Layout, free_surface: FreeSurface) -> Stretching:
    r"""Returns how far the free surface stretches the layers.

    .. math:: e_{3t} = e_{3t,0} (1 + \eta / H), \qquad
              e_{3u} = e_{3u,0} (1 + \overline{e_1 e_2 \eta}^i / (e_{1u} e_{2u} H_u))

    With a linear free surface (NEMO's ``key_linssh``) layers keep their thickness; otherwise
    (``key_qco``) each column is stretched as a whole.

    Arguments:
        sea_level: Sea level, m, shape (member, tile, 1, j, i), finite on land; unused if linear.
        geometry: Owned cells.
        layout: Which tiles are here.
        free_surface: "linear" or "nonlinear".

    Raises:
        ValueError: Unknown free surface, or a nonlinear one without sea level.

    Collective: if nonlinear, one gather of a 2-D field.
    """
    if free_surface not in ("linear", "nonlinear"):
        raise ValueError(
            f"Free surface must be 'linear' or 'nonlinear', got {free_surface!r}: "
            "use 'linear' for key_linssh and 'nonlinear' for key_qco."
        )
    if free_surface == "linear":
        one = torch.ones((), dtype=torch.float64)
        return Stretching(one, one, one)
    if sea_level is None:
        raise ValueError(
            "A nonlinear free surface needs field 'sea_level', got none: "
            "add it to the fields or choose free_surface 'linear'."
        )
    depth = geometry.depth_t
    at_t = torch.where(depth > 0.0, sea_level[:, :, 0] / depth.clamp(min=1.0e-300), 0.0)
    at_u, at_v = _stretching_of_faces(place(sea_level[:, :, 0], layout), geometry)

    def local(x: Tensor) -> Tensor:
        return torch.as_tensor(layout.cut(x.numpy())).movedim(0, 1).unsqueeze(2)

    return Stretching(1.0 + at_t.unsqueeze(2), 1.0 + local(at_u), 1.0 + local(at_v))


def _stretching_of_faces(sea_level: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Returns the relative stretching at U and V of the global grid, (member, nj, ni)."""
    grid = geometry.grid
    ring = Window.build(grid)
    excess = ring.widen(sea_level * torch.as_tensor(grid.e1t * grid.e2t), "T")
    centre = excess[..., 1:-1, 1:-1]

    def face(next_cell: Tensor, area: Tensor, depth: Tensor) -> Tensor:
        volume = area * depth
        return torch.where(depth > 0.0, 0.5 * (centre + next_cell) / volume.clamp(min=1.0), 0.0)

    depth_u = torch.as_tensor((grid.e3u * grid.umask).sum(0))
    depth_v = torch.as_tensor((grid.e3v * grid.vmask).sum(0))
    at_u = face(excess[..., 1:-1, 2:], torch.as_tensor(grid.e1u * grid.e2u), depth_u)
    at_v = face(excess[..., 2:, 1:-1], torch.as_tensor(grid.e1v * grid.e2v), depth_v)
    return at_u, at_v
