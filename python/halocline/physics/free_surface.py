r"""Layer thickness under a moving sea surface."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import place
from halocline.physics.operators import Window

FreeSurface = Literal["linear", "nonlinear", "top_layer"]


@dataclass(frozen=True)
class Stretching:
    """Layer thickness relative to rest at T, U and V, broadcasting with (member, tile, k, j, i)."""

    t: Tensor
    u: Tensor
    v: Tensor

    def of(self, members: slice, tiles: slice) -> "Stretching":
        """Returns that of some members and tiles."""
        return Stretching(*(x[members, tiles] if x.ndim else x for x in (self.t, self.u, self.v)))


def stretched(x: Tensor, by: Tensor) -> Tensor:
    """Multiplies by a part of a `Stretching`; layers at rest cost nothing."""
    return x * by if by.ndim else x


def stretching(sea_level: Tensor | None, geometry: Geometry, layout: Layout, free_surface: FreeSurface) -> Stretching:
    r"""Returns how far the free surface stretches the layers.

    - "linear" (NEMO's ``key_linssh``): layers keep their thickness.
    - "nonlinear" (NEMO's ``key_qco``): each column is stretched as a whole,

      .. math:: e_{3t} = e_{3t,0} (1 + \eta / H), \qquad
                e_{3u} = e_{3u,0} (1 + \overline{e_1 e_2 \eta}^i / (e_{1u} e_{2u} H_u)).

    - "top_layer" (the embedded host): the first layer takes up the sea level, faces are those at rest,

      .. math:: e_{3t,1} = e_{3t,1,0} + \eta, \qquad e_{3u} = e_{3u,0}.

    Arguments:
        sea_level: Sea level, m, shape (member, tile, 1, j, i), finite on land; unused if linear.
        geometry: Owned cells.
        layout: Which tiles are here.
        free_surface: One of the three names.

    Raises:
        ValueError: Unknown free surface, or sea level is needed and missing.

    Collective: if nonlinear, one gather of a 2-D field.
    """
    if free_surface not in get_args(FreeSurface):
        raise ValueError(
            f"Free surface must be 'linear', 'nonlinear' or 'top_layer', got {free_surface!r}: use 'linear' for "
            "key_linssh, 'nonlinear' for key_qco and 'top_layer' for the embedded host."
        )
    one = torch.ones((), dtype=torch.float64)
    if free_surface == "linear":
        return Stretching(one, one, one)
    if sea_level is None:
        raise ValueError(
            f"Free surface {free_surface!r} needs field 'sea_level', got none: "
            "add it to the fields or choose free_surface 'linear'."
        )
    if free_surface == "top_layer":
        return Stretching(_stretching_of_top_layer(sea_level, geometry), one, one)
    return _stretching_of_columns(sea_level, geometry, layout)


def _stretching_of_top_layer(sea_level: Tensor, geometry: Geometry) -> Tensor:
    """Returns the thickness of T cells relative to rest, (member, tile, k, j, i): 1 below the first level."""
    top = 1.0 + sea_level / geometry.e3t[:, :1]
    return torch.cat([top, torch.ones(()).to(top).expand(len(top), *geometry.e3t[:, 1:].shape)], dim=2)


def _stretching_of_columns(sea_level: Tensor, geometry: Geometry, layout: Layout) -> Stretching:
    """Returns the stretching of whole columns. Collective: yes, one gather of a 2-D field."""
    depth = geometry.depth_t
    at_t = torch.where(depth > 0.0, sea_level[:, :, 0] / depth.clamp(min=1.0e-300), 0.0)
    at_u, at_v = _stretching_of_faces(place(sea_level[:, :, 0], layout), geometry)

    def local(x: Tensor) -> Tensor:
        return torch.as_tensor(layout.cut(x.numpy())).movedim(0, 1).unsqueeze(2)

    return Stretching(1.0 + at_t.unsqueeze(2), 1.0 + local(at_u), 1.0 + local(at_v))


def _stretching_of_faces(sea_level: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Returns the relative stretching at U and V of the global grid, (member, nj, ni)."""
    grid = geometry.grid
    ring = geometry.once("ring", lambda: Window.build(grid))
    excess = ring.widen(sea_level * torch.as_tensor(grid.e1t * grid.e2t), "T")
    centre = excess[..., 1:-1, 1:-1]

    def face(next_cell: Tensor, area: Tensor, depth: Tensor) -> Tensor:
        volume = area * depth
        return torch.where(depth > 0.0, 0.5 * (centre + next_cell) / volume.clamp(min=1.0), 0.0)

    depth_u = geometry.once("depth_u", lambda: torch.as_tensor((grid.e3u * grid.umask).sum(0)))
    depth_v = geometry.once("depth_v", lambda: torch.as_tensor((grid.e3v * grid.vmask).sum(0)))
    at_u = face(excess[..., 1:-1, 2:], torch.as_tensor(grid.e1u * grid.e2u), depth_u)
    at_v = face(excess[..., 2:, 1:-1], torch.as_tensor(grid.e1v * grid.e2v), depth_v)
    return at_u, at_v
