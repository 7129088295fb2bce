r"""Diagnostics of a sea-ice state: the same functions judge a generated state and a running model.

With concentration :math:`c`, volume per cell area :math:`h`, snow volume per cell area :math:`s`, damage
:math:`d`, drift :math:`(u, v)` and cell area :math:`A`,

.. math::

    \text{area} = \sum c A, \quad \text{volume} = \sum h A, \quad
    \text{mean over ice of } x = \sum x c A / \sum c A

Thickness is a cell mean, so its mean over ice is volume by area. Means over ice are 0 where there is no ice.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.diagnostics import Diagnostic
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import global_mean, global_sum
from halocline.physics.stability import finite_on_land

__all__ = ["ICE", "ICE_DIAGNOSTICS", "ICE_JUDGED", "ICE_ONE_SIDED", "ICE_RESOLUTION", "diagnose_ice"]

EXTENT_CONCENTRATION = 0.15
"""A cell with at least this concentration counts as covered: what passive microwave sees, the common definition."""

BOUND_TOLERANCE = 1e-6
"""Distance within which a value lies on its bound: above the rounding of float32, far below what ice does."""

ICE_DIAGNOSTICS: Mapping[str, Diagnostic] = {
    "ice_nonfinite_cells": Diagnostic("1", "wet cells of all ice fields that are NaN or infinite"),
    "ice_thickness_max": Diagnostic("m", "largest volume per cell area"),
    "ice_speed_max": Diagnostic("m s-1", "largest drift speed"),
    "ice_area": Diagnostic("m2", "area of the ice"),
    "ice_extent": Diagnostic("m2", "area of the cells with a concentration of at least 0.15"),
    "ice_volume": Diagnostic("m3", "volume of the ice"),
    "snow_volume": Diagnostic("m3", "volume of the snow on it"),
    "ice_thickness_mean": Diagnostic("m", "mean thickness over ice, volume by area"),
    "ice_damage_mean": Diagnostic("1", "mean damage over ice"),
    "ice_speed_mean": Diagnostic("m s-1", "mean drift speed over ice; over the sea if there is no concentration"),
    "concentration_on_zero": Diagnostic("1", "fraction of the sea's area where the concentration is 0"),
    "concentration_on_one": Diagnostic("1", "fraction of the sea's area where the concentration is 1"),
    "damage_on_zero": Diagnostic("1", "fraction of the sea's area where the damage is 0"),
    "damage_on_one": Diagnostic("1", "fraction of the sea's area where the damage is 1"),
}
"""What :func:`diagnose_ice` can return; cells before sums, since the first check that fails is told."""

ICE_JUDGED = (
    "ice_nonfinite_cells",
    "ice_thickness_max",
    "ice_speed_max",
    "ice_area",
    "ice_volume",
    "snow_volume",
    "ice_thickness_mean",
    "ice_damage_mean",
    "ice_speed_mean",
)
"""Diagnostics that make a verdict. The extent jumps cell by cell where the sea is all but covered, and how many cells
lie on a bound depends on how the training files were rounded: both are told, not judged."""

ICE_ONE_SIDED = ("ice_nonfinite_cells", "ice_thickness_max", "ice_speed_max")
"""Diagnostics of which less is never worse."""

ICE_RESOLUTION: Mapping[str, float] = {
    "ice_nonfinite_cells": 0.0,
    # Ice at rest and ice that creeps are equally physical, and so are freshly healed and freshly broken ice.
    "ice_speed_mean": 0.01,
    "ice_speed_max": 0.1,
    "ice_damage_mean": 0.05,
}
"""Smallest extent of the training states that is taken seriously, in the diagnostic's unit; see `verdict`."""

_POINTS = {"concentration": "t", "thickness": "t", "snow": "t", "damage": "t", "ice_u": "u", "ice_v": "v"}

ICE = frozenset(_POINTS)
"""Variables that :func:`diagnose_ice` knows."""


def diagnose_ice(fields: Mapping[str, Tensor], geometry: Geometry, layout: Layout) -> dict[str, Tensor]:
    """Computes every diagnostic that the given fields allow.

    The drift speed is that of the two components stored for a cell. On a C-grid they are the ones of its east and of
    its north face.

    Arguments:
        fields: Any of ``concentration`` [1], ``thickness``, ``snow`` [m, volumes per cell area], ``damage`` [1, 0
            intact], ``ice_u``, ``ice_v`` [m/s] on owned cells, shape (member, tile, 1, j, i). Other names are passed
            over. Values on land do not matter.
        geometry: Owned cells.
        layout: Which tiles are here.

    Returns:
        Name (see ``ICE_DIAGNOSTICS``) to float64 tensor, shape (member,), the same bits on every rank and every layout.

    Raises:
        ValueError: A field has the wrong shape, or none is known.

    Collective: yes.
    """
    with layout.comm.together():
        state, nonfinite = _prepare(fields, geometry)
    result = {"ice_nonfinite_cells": global_sum(nonfinite, layout)}
    result |= _amounts(state, geometry, layout)
    if {"ice_u", "ice_v"} <= set(state):
        result |= _drift(state, geometry, layout)
    for name in ("concentration", "damage"):
        if name in state:
            result |= _on_bounds(name, state[name], geometry, layout)
    return {name: result[name] for name in ICE_DIAGNOSTICS if name in result}


def _prepare(fields: Mapping[str, Tensor], geometry: Geometry) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the known fields, zero on land, and the count of non-finite values."""
    tile, _, nj, ni = geometry.tmask.shape
    state: dict[str, Tensor] = {}
    nonfinite = torch.zeros(1, tile, 1, nj, ni, dtype=torch.float64)
    for name in (name for name in _POINTS if name in fields):
        x = fields[name]
        if x.ndim != 5 or tuple(x.shape[1:]) != (tile, 1, nj, ni):
            raise ValueError(
                f"Field {name!r} must have shape (member, {tile}, 1, {nj}, {ni}), got {tuple(x.shape)}: pass owned "
                "cells of a surface field, without halo."
            )
        mask: Tensor = getattr(geometry, f"{_POINTS[name]}mask")[:, :1]
        state[name] = finite_on_land(x, mask)
        nonfinite = nonfinite + (~torch.isfinite(state[name])).to(torch.float64)
    if not state:
        raise ValueError(
            f"Fields must include one of {', '.join(_POINTS)}, got {', '.join(fields) or 'none'}: use the names of "
            "the variable table."
        )
    return state, nonfinite


def _amounts(state: Mapping[str, Tensor], geometry: Geometry, layout: Layout) -> dict[str, Tensor]:
    """Areas, volumes and means over ice."""
    area = geometry.area_t.unsqueeze(1)
    result = {}
    for name, source in (("ice_area", "concentration"), ("ice_volume", "thickness"), ("snow_volume", "snow")):
        if source in state:
            result[name] = global_sum(state[source] * area, layout)
    if "thickness" in state:
        result["ice_thickness_max"] = layout.maximum(state["thickness"].flatten(2).amax(-1))
    if "concentration" not in state:
        return result
    covered = (state["concentration"] >= EXTENT_CONCENTRATION).to(torch.float64)
    result["ice_extent"] = global_sum(covered * area, layout)
    if "thickness" in state:
        result["ice_thickness_mean"] = _ratio(result["ice_volume"], result["ice_area"])
    if "damage" in state:
        broken = global_sum(state["damage"] * state["concentration"] * area, layout)
        result["ice_damage_mean"] = _ratio(broken, result["ice_area"])
    return result


def _drift(state: Mapping[str, Tensor], geometry: Geometry, layout: Layout) -> dict[str, Tensor]:
    """Mean and largest speed."""
    u, v = state["ice_u"], state["ice_v"]
    speed = (u * u + v * v).sqrt()
    weight = geometry.area_t.unsqueeze(1) * state.get("concentration", torch.ones_like(speed))
    total, norm = global_sum(torch.stack([speed * weight, weight.expand_as(speed)]), layout)
    return {
        "ice_speed_mean": _ratio(total, norm),
        "ice_speed_max": layout.maximum(speed.flatten(2).amax(-1)),
    }


def _on_bounds(name: str, x: Tensor, geometry: Geometry, layout: Layout) -> dict[str, Tensor]:
    """Fractions of the sea where a fraction is 0, and where it is 1."""
    area = geometry.area_t.unsqueeze(1)
    return {
        f"{name}_on_zero": global_mean((x <= BOUND_TOLERANCE).to(torch.float64), area, layout),
        f"{name}_on_one": global_mean((x >= 1.0 - BOUND_TOLERANCE).to(torch.float64), area, layout),
    }


def _ratio(total: Tensor, norm: Tensor) -> Tensor:
    """Divides where there is ice; 0 elsewhere, NaN where either is."""
    return torch.where(norm == 0.0, total * 0.0, total / torch.where(norm == 0.0, 1.0, norm))
