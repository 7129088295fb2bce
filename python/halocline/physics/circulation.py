r"""Flow: energy, sea level, streamfunctions, transports.

Positive transport is towards growing i or j; in the northern hemisphere a clockwise gyre has a
positive barotropic streamfunction. On a rotated grid "zonal" means along i and "northward" along
j.
"""

import numpy as np
import torch
from torch import Tensor

from halocline.constants import SVERDRUP
from halocline.mesh.layout import Layout, tile_sums
from halocline.physics.free_surface import Stretching, stretched
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import add_along, global_mean, lattice_sum, place


def kinetic_energy(u: Tensor, v: Tensor, geometry: Geometry, layout: Layout, stretch: Stretching) -> Tensor:
    r"""Returns the mean kinetic energy per mass, m2/s2.

    .. math:: \frac{\sum \tfrac12 u^2 V_u + \sum \tfrac12 v^2 V_v}{\sum V_t}

    Each component is summed at its own point, nothing is interpolated.

    Arguments:
        u: Velocity at U, m/s, shape (member, tile, k, j, i), finite on land.
        v: Velocity at V, m/s, same shape.
        geometry: Owned cells.
        layout: Which tiles are here.
        stretch: Layer thickness relative to rest.

    Returns:
        Shape (member,).

    Collective: yes, one sum.
    """
    volume = (geometry.volume_t * stretch.t).expand_as(u)
    partial = [tile_sums(energy_of_cells(u, v, geometry, stretch), cells=3), tile_sums(volume, cells=3)]
    energy, norm = lattice_sum(torch.stack(partial), layout)
    return 0.5 * energy / norm


def energy_of_cells(u: Tensor, v: Tensor, geometry: Geometry, stretch: Stretching) -> Tensor:
    """Returns volume times twice the kinetic energy per mass at U and V of each cell, m5/s2, shape of u.

    Collective: no.
    """
    return stretched(u * u * geometry.volume_u, stretch.u) + stretched(v * v * geometry.volume_v, stretch.v)


def depth_transport(u: Tensor, geometry: Geometry, layout: Layout, stretch: Stretching) -> Tensor:
    r"""Returns the transport along i of every column, :math:`e_{2u} \sum_k e_{3u} u`, m3/s.

    Arguments:
        u: Velocity at U, m/s, shape (member, tile, k, j, i), finite on land.
        geometry: Owned cells.
        layout: Which tiles are here.
        stretch: Layer thickness relative to rest.

    Returns:
        Global field, shape (member, nj, ni).

    Collective: yes, one gather.
    """
    return place(transport_of_columns(u, geometry, stretch), layout)


def transport_on_grid(columns: np.ndarray, layout: Layout) -> Tensor:
    """Returns the depth transport of the globe from that of all tiles in lattice order, (tile, member, j, i).

    Collective: no.
    """
    return torch.from_numpy(layout.assemble(columns))


def transport_of_columns(u: Tensor, geometry: Geometry, stretch: Stretching) -> Tensor:
    """Returns the transport along i of every column, m3/s, shape (member, tile, j, i). Collective: no."""
    return add_along(stretched(u * geometry.section_u, stretch.u), 2) * geometry.e2u


def barotropic_streamfunction(transport: Tensor, geometry: Geometry) -> Tensor:
    r"""Integrates the depth transport to a streamfunction at F points, in Sv.

    .. math:: \psi_{j} = \sum_{j' > j} U_{j'}, \qquad U = -\delta_j \psi

    The northern wall carries zero, so a re-entrant channel shows on its southern wall. On a folded
    grid there is no northern wall and the southern one carries zero: :math:`\psi_j = -\sum_{j' \le
    j} U_{j'}`.

    Arguments:
        transport: From :func:`depth_transport`, m3/s, shape (member, nj, ni).
        geometry: Any rank's geometry.

    Returns:
        Streamfunction, shape (member, nj, ni).

    Collective: no.
    """
    if geometry.grid.fold:
        return -transport.cumsum(-2) / SVERDRUP
    total = transport.flip(-2).cumsum(-2).flip(-2)
    return (total - transport) / SVERDRUP


def gyre_transport(psi: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Returns the largest and the smallest value of the barotropic streamfunction, Sv.

    Rows of a re-entrant channel (every column wet) and those south of it are left out, where the
    streamfunction holds the channel's transport. A grid re-entrant to its last row keeps all.

    Returns:
        (max, min), each of shape (member,).

    Collective: no.
    """
    first = geometry.once("beyond_channel", lambda: _first_row_beyond_channel(geometry))
    return psi[..., first:, :].amax((-2, -1)), psi[..., first:, :].amin((-2, -1))


def _first_row_beyond_channel(geometry: Geometry) -> int:
    grid = geometry.grid
    if grid.fold or not grid.periodic_i:
        return 0
    open_rows = [j for j in range(grid.nj) if bool(grid.wet[j].all())]
    last = open_rows[-1] if open_rows else -1
    return last + 1 if last + 1 < grid.nj else 0


def channel_transport(transport: Tensor) -> Tensor:
    r"""Returns the net transport around a domain that is cyclic along i, Sv.

    The sum over j of the depth transport, averaged over all columns i. Without divergence every
    column carries the same; the mean removes the swell of the free surface.

    Arguments:
        transport: From :func:`depth_transport`, m3/s, shape (member, nj, ni).

    Returns:
        Shape (member,).

    Collective: no.
    """
    columns = add_along(transport, -2)
    return add_along(columns, -1) / (columns.shape[-1] * SVERDRUP)


def overturning_streamfunction(v: Tensor, geometry: Geometry, layout: Layout, stretch: Stretching) -> Tensor:
    r"""Integrates the transport along j over i and downwards, in Sv.

    .. math:: \Psi_{k,j} = \sum_{k' \le k} \sum_i e_{1v} e_{3v} v

    is the transport along +j above the bottom of level k: positive where shallow water moves
    towards larger j and deep water back.

    Arguments:
        v: Velocity at V, m/s, shape (member, tile, k, j, i), finite on land.
        geometry: Owned cells.
        layout: Which tiles are here.
        stretch: Layer thickness relative to rest.

    Returns:
        Streamfunction, shape (member, nk, nj).

    Collective: yes, one gather of one column per tile.
    """
    rows = transport_of_rows(v, geometry, stretch)
    return overturning_of_rows(layout.gather(rows.movedim(1, -1)), layout)


def transport_of_rows(v: Tensor, geometry: Geometry, stretch: Stretching) -> Tensor:
    """Returns the transport along j of every row of a tile, m3/s, shape (member, tile, k, j). Collective: no."""
    width = (geometry.e1v * geometry.owned_v).unsqueeze(1)
    flux = stretched(v * geometry.section_v, stretch.v) * width
    return add_along(flux.mT.contiguous(), -2)


def overturning_of_rows(rows: np.ndarray, layout: Layout) -> Tensor:
    """Adds tiles of one lattice row, west to east, and integrates downwards.

    Arguments:
        rows: From :func:`transport_of_rows`, of all tiles in lattice order, shape (tile, member, k, tile_j).
        layout: Of these tiles.

    Returns:
        Streamfunction, Sv, shape (member, nk, nj).

    Collective: no.
    """
    lattice = layout.lattice
    *shape, tile_j = rows.shape[1:]
    total = np.zeros((*shape, len(lattice.index) * tile_j))
    for first, values in zip(lattice.tiles[:, 0] * tile_j, rows, strict=True):
        total[..., first : first + tile_j] += values
    return torch.from_numpy(total[..., : lattice.nj]).cumsum(-2) / SVERDRUP


def sea_level_statistics(sea_level: Tensor, geometry: Geometry, layout: Layout) -> dict[str, Tensor]:
    """Returns mean, rms, minimum and maximum of the sea level over the wet area, m.

    Arguments:
        sea_level: Shape (member, tile, 1, j, i), finite on land.
        geometry: Owned cells.
        layout: Which tiles are here.

    Collective: yes, two sums and two extrema.
    """
    area = geometry.area_t.unsqueeze(1)
    low, high = wet_range(sea_level, geometry)
    return {
        "sea_level_mean": global_mean(sea_level, area, layout),
        "sea_level_rms": global_mean(sea_level**2, area, layout).sqrt(),
        "sea_level_min": layout.minimum(low),
        "sea_level_max": layout.maximum(high),
    }


def wet_range(x: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Returns the smallest and the largest wet value of each tile, (member, tile, 1, j, i) to (member, tile); infinite
    where there is none. Collective: no."""
    wet = geometry.wet.unsqueeze(1)
    low = torch.where(wet, x, torch.inf).flatten(2).amin(-1)
    return low, torch.where(wet, x, -torch.inf).flatten(2).amax(-1)


def largest_magnitude(x: Tensor, layout: Layout) -> Tensor:
    """Returns max |x| over all cells, shape (member,); x finite on land, (member, tile, k, j, i).

    Collective: yes, one maximum.
    """
    return layout.maximum(largest_of_tiles(x))


def largest_of_tiles(x: Tensor) -> Tensor:
    """Returns max |x| of each tile, (member, tile, k, j, i) to (member, tile). Collective: no."""
    low, high = torch.aminmax(x.flatten(2), dim=-1)
    return torch.maximum(low.abs(), high.abs())
