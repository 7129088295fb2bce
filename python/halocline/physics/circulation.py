r"""Flow: energy, sea level, streamfunctions, transports.

Positive transport is towards growing i or j; in the northern hemisphere a clockwise gyre has a
positive barotropic streamfunction. On a rotated grid "zonal" means along i and "northward" along
j.
"""

import torch
from torch import Tensor

from halocline.constants import SVERDRUP
from halocline.mesh.layout import Layout
from halocline.physics.free_surface import Stretching
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import add_along, global_mean, global_sum, place


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
    energy_u = 0.5 * u * u * geometry.volume_u * stretch.u
    energy_v = 0.5 * v * v * geometry.volume_v * stretch.v
    volume = (geometry.volume_t * stretch.t).expand_as(u)
    energy, norm = global_sum(torch.stack([energy_u + energy_v, volume]), layout)
    return energy / norm


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
    layers = u * geometry.e3u * geometry.umask * stretch.u
    return place(add_along(layers, 2) * geometry.e2u, layout)


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
    first = _first_row_beyond_channel(geometry)
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
    flux = v * geometry.e3v * geometry.vmask * stretch.v
    flux = flux * (geometry.e1v * geometry.owned_v).unsqueeze(1)
    rows = _sum_of_tile_rows(add_along(flux, -1), geometry, layout)
    return rows.cumsum(-2) / SVERDRUP


def _sum_of_tile_rows(x: Tensor, geometry: Geometry, layout: Layout) -> Tensor:
    """Adds tiles of one lattice row, west to east: (member, tile, k, tile_j) to (member, k, nj)."""
    lattice = layout.lattice
    member, _, nk, tile_j = x.shape
    tiles: dict[int, Tensor] = {}
    for local, values in layout.comm.allgather((layout.local, x.detach())):
        tiles.update({int(tile): values[:, n] for n, tile in enumerate(local)})
    height = -(-geometry.grid.nj // tile_j) * tile_j
    total = x.new_zeros(member, nk, height)
    for tile in sorted(tiles):
        first = int(lattice.tiles[tile][0]) * tile_j
        total[..., first : first + tile_j] += tiles[tile]
    return total[..., : geometry.grid.nj]


def sea_level_statistics(sea_level: Tensor, geometry: Geometry, layout: Layout) -> dict[str, Tensor]:
    """Returns mean, rms, minimum and maximum of the sea level over the wet area, m.

    Arguments:
        sea_level: Shape (member, tile, 1, j, i), finite on land.
        geometry: Owned cells.
        layout: Which tiles are here.

    Collective: yes, one sum and two extrema.
    """
    area = geometry.area_t.unsqueeze(1)
    squares = torch.stack([sea_level, sea_level**2], dim=1).flatten(0, 1)
    mean, mean_square = global_mean(squares, area, layout).unflatten(0, (-1, 2)).unbind(1)
    wet = geometry.wet.unsqueeze(1)
    high = torch.where(wet, sea_level, -torch.inf).flatten(2).amax(-1)
    low = torch.where(wet, sea_level, torch.inf).flatten(2).amin(-1)
    return {
        "sea_level_mean": mean,
        "sea_level_rms": mean_square.sqrt(),
        "sea_level_min": layout.minimum(low),
        "sea_level_max": layout.maximum(high),
    }


def largest_magnitude(x: Tensor, layout: Layout) -> Tensor:
    """Returns max |x| over all cells, shape (member,); x finite on land, (member, tile, k, j, i).

    Collective: yes, one maximum.
    """
    return layout.maximum(x.abs().flatten(2).amax(-1))
