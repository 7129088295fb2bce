r"""Static stability of the water column.

Two waters are compared at the *same* depth, that of the interface between their cells, with the
model's own equation of state. Interfaces to land do not exist: they count neither as stable nor
as unstable.
"""

import torch
from torch import Tensor

from halocline.mesh.layout import Layout, tile_sums
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import lattice_sum, level_mean
from halocline.physics.seawater import EquationOfState, Water, potential_density

STEP_THRESHOLD = 1.0e-3
"""Density step up to which a column counts as stable, kg/m3. Stored states are rounded to 4 to 6
digits: half a unit of the fourth digit of 10 degC is 5e-3 K, close to 1e-3 kg/m3."""


def density_step(T: Tensor, S: Tensor, gdepw: Tensor, eos: EquationOfState) -> Tensor:
    r"""Returns how much denser the upper water is at each interface between two cells.

    .. math:: \Delta_k = \rho(T_{k-1}, S_{k-1}, z_{w,k}) - \rho(T_k, S_k, z_{w,k}), \qquad k \ge 1

    Positive is unstable. Differentiable, and what a stability constraint should penalise.

    Arguments:
        T: Temperature, degC, shape (..., k, j, i).
        S: Salinity, same shape.
        gdepw: Depth of the top of each cell, m, broadcasting.
        eos: Equation of state.

    Returns:
        Steps, kg/m3, shape (..., k - 1, j, i); unmasked.
    """
    return step_of(eos.water(T, S), gdepw, eos)


def step_of(water: Water, gdepw: Tensor, eos: EquationOfState) -> Tensor:
    """Returns the steps of :func:`density_step` between waters, from ``eos.water``."""
    depth = gdepw[..., 1:, :, :]
    upper = eos.density_of(tuple(x[..., :-1, :, :] for x in water), depth)
    return upper - eos.density_of(tuple(x[..., 1:, :, :] for x in water), depth)


def interfaces(tmask: Tensor) -> Tensor:
    """Returns where both the upper and the lower cell are wet, bool (..., k - 1, j, i)."""
    return tmask[..., :-1, :, :] & tmask[..., 1:, :, :]


def unstable_fraction(
    step: Tensor,
    geometry: Geometry,
    layout: Layout,
    threshold: float = STEP_THRESHOLD,
    stretching: Tensor | float = 1.0,
) -> Tensor:
    r"""Returns the fraction of the wet volume whose upper neighbour is denser.

    .. math:: \frac{\sum_{k \ge 1} V_k\, [\Delta_k > \text{threshold}]}{\sum_{k \ge 0} V_k}

    The volume counted is that of the lower cell of the pair. The denominator is every wet cell and
    no land; the top level, which has no upper neighbour, appears in it alone.

    Arguments:
        step: From :func:`density_step`, kg/m3, shape (member, tile, k - 1, j, i).
        geometry: Owned cells.
        layout: Which tiles are here.
        threshold: Largest step that is still called stable, kg/m3; 0 for the strict sense.
        stretching: Thickness relative to rest, broadcasting.

    Returns:
        Fraction in [0, 1], shape (member,).

    Collective: yes, one sum.
    """
    volume = (geometry.volume_t * stretching).expand(len(step), *geometry.tmask.shape)
    partial = [tile_sums(unstable_volume(step, volume, geometry, threshold), cells=3), tile_sums(volume, cells=3)]
    total, norm = lattice_sum(torch.stack(partial), layout)
    return total / norm


def unstable_volume(step: Tensor, volume: Tensor, geometry: Geometry, threshold: float = STEP_THRESHOLD) -> Tensor:
    """Returns the volume of the cells whose upper neighbour is denser, zero elsewhere.

    Arguments:
        step: From :func:`density_step`, kg/m3, shape (member, tile, k - 1, j, i).
        volume: Of all cells, m3, shape (..., tile, k, j, i).
        geometry: Owned cells.
        threshold: Largest step that is still called stable, kg/m3.

    Collective: no.
    """
    unstable = (step > threshold) & geometry.once("interfaces", lambda: interfaces(geometry.tmask))
    below = torch.where(unstable, volume[..., 1:, :, :], 0.0)
    return torch.nn.functional.pad(below, (0, 0, 0, 0, 1, 0))


def potential_density_profile(
    T: Tensor,
    S: Tensor,
    geometry: Geometry,
    layout: Layout,
    eos: EquationOfState,
    reference_depth: float = 0.0,
) -> Tensor:
    """Returns the mean potential density of each level, volume-weighted.

    Arguments:
        T: Temperature, degC, shape (member, tile, k, j, i); finite on land.
        S: Salinity, same shape.
        geometry: Owned cells.
        layout: Which tiles are here.
        eos: Equation of state of the model.
        reference_depth: Depth to which the water is brought, m.

    Returns:
        Profile, kg/m3, shape (member, k); NaN on levels without a wet cell.

    Collective: yes, one sum.
    """
    density = potential_density(T, S, eos, reference_depth)
    return level_mean(density, geometry.volume_t, layout)


def stratification_profile(step: Tensor, geometry: Geometry, layout: Layout) -> Tensor:
    r"""Returns the mean local density gradient at each interface, positive when stable.

    .. math:: \left\langle -\Delta_k / e_{3w,k} \right\rangle

    averaged by area over the interfaces between two wet cells, waters compared at the interface.

    Arguments:
        step: From :func:`density_step`, kg/m3, shape (member, tile, k - 1, j, i).
        geometry: Owned cells.
        layout: Which tiles are here.

    Returns:
        Profile, kg/m4, shape (member, k - 1); NaN at interfaces without a wet pair.

    Collective: yes, one sum.
    """
    return level_mean(density_gradient(step, geometry), interface_area(geometry), layout)


def density_gradient(step: Tensor, geometry: Geometry) -> Tensor:
    """Returns the density gradient at interfaces, kg/m4, positive when stable; shape of step. Collective: no."""
    return -step / geometry.e3w[..., 1:, :, :]


def interface_area(geometry: Geometry) -> Tensor:
    """Returns the area of the interfaces between two wet cells, m2, shape (tile, k - 1, j, i). Collective: no."""
    return geometry.once("interface_area", lambda: geometry.area_t.unsqueeze(1) * interfaces(geometry.tmask))


def finite_on_land(x: Tensor, mask: Tensor) -> Tensor:
    """Returns x in float64 with zeros on land, whatever stood there; wet NaN stay."""
    return torch.where(mask, x.to(torch.float64), 0.0)
