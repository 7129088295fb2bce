"""Diagnostics of whole states: the same functions for files and for a running model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.diagnostics import DIAGNOSTICS, Diagnostic, DiagnosticOptions, diagnose
from halocline.physics.geometry import Geometry
from halocline.physics.ice import ICE, ICE_DIAGNOSTICS, ICE_JUDGED, ICE_ONE_SIDED, ICE_RESOLUTION, diagnose_ice
from halocline.physics.seawater import EquationOfState, equation_of_state
from halocline.physics.verdict import ONE_SIDED, RESOLUTION, Thresholds
from halocline.run.config import DataConfig

__all__ = ["CATALOGUE", "JUDGED", "ONLINE", "diagnose_fields", "diagnose_tiles", "eos_of", "learn_thresholds"]

CHUNK = 8  # states diagnosed at once: their fields stay in cache, and memory does not grow with the archive

OCEAN = frozenset(("temperature", "salinity", "velocity_u", "velocity_v", "sea_level"))

CATALOGUE: Mapping[str, Diagnostic] = {**DIAGNOSTICS, **ICE_DIAGNOSTICS}
"""Unit and meaning of all that `diagnose_tiles` returns."""

JUDGED = (
    "nonfinite_cells",
    "unstable_fraction",
    "temperature_volume_mean",
    "salinity_volume_mean",
    "temperature_deep",
    "temperature_bottom",
    "salinity_deep",
    "salinity_bottom",
    "kinetic_energy",
    "sea_level_rms",
    "gyre_transport_max",
    "channel_transport",
    "overturning_max",
    *ICE_JUDGED,
)
"""Diagnostics that make a verdict: integrals and water masses, whose limits a few states can teach."""


ONLINE = (
    *JUDGED,
    "temperature_mean",
    "salinity_mean",
    "heat_content",
    "salt_content",
    "sea_level_mean",
    "sea_level_min",
    "sea_level_max",
)
"""What is computed and recorded of a running model: what is judged, and what costs next to nothing beside it."""


def eos_of(data: DataConfig) -> EquationOfState:
    """Returns the equation of state that a configuration names."""
    return equation_of_state(data.equation_of_state, **data.coefficients)


def diagnose_fields(
    fields: Mapping[str, np.ndarray],
    grid: Grid,
    lattice: Lattice,
    data: DataConfig,
    comm: Communicator | Serial | None = None,
) -> dict[str, Tensor]:
    """Diagnoses states on the global grid, distributed over tiles.

    Arguments:
        fields: Variable to array of shape (member, k, j, i), NaN or anything on land.
        grid: Geometry and masks.
        lattice: Tiles over which sums are made, in lattice order.
        data: Names the equation of state and the kind of free surface.
        comm: Ranks that share the tiles; one if left out.

    Collective: yes.
    """
    layout = Layout.build(lattice, comm or Serial())
    geometry = Geometry.build(grid, layout)
    count = len(next(iter(fields.values())))
    parts = []
    for first in range(0, count, CHUNK):
        tiles = {
            name: torch.as_tensor(layout.cut(np.asarray(x[first : first + CHUNK]))).transpose(0, 1)
            for name, x in fields.items()
        }
        parts.append(diagnose_tiles(tiles, geometry, layout, data))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def diagnose_tiles(
    tiles: Mapping[str, Tensor],
    geometry: Geometry,
    layout: Layout,
    data: DataConfig,
    names: Collection[str] = tuple(CATALOGUE),
) -> dict[str, Tensor]:
    """Diagnoses states that lie on tiles: those of a file, cut, and those of a running model, as they come.

    Arguments:
        tiles: Variable to tensor of shape (member, tile, k, j, i), float32 or float64, NaN or anything on land.
        geometry: Owned cells.
        layout: Who owns which tile.
        data: Names the equation of state and the kind of free surface.
        names: Diagnostics that are wanted.

    Returns:
        Diagnostic to float64 tensor, shape (member, ...), the same bits on every rank and every layout; that of the
        ocean where there are ocean fields, that of the sea ice where there are those.

    Collective: yes.
    """
    result: dict[str, Tensor] = {}
    if OCEAN & set(tiles):
        options = DiagnosticOptions(free_surface=data.free_surface)  # type: ignore[arg-type]
        result |= diagnose(tiles, geometry, layout, eos_of(data), options, names)
    if ICE & set(tiles):
        ice = diagnose_ice(tiles, geometry, layout)
        result |= {name: x for name, x in ice.items() if name in names}
    return result


def learn_thresholds(values: Mapping[str, np.ndarray]) -> Thresholds:
    """Learns the limits of the verdict from the diagnostics of the training states.

    Arguments:
        values: Diagnostic to array of shape (state, ...).

    Collective: no.
    """
    judged = {name: x for name, x in values.items() if name in JUDGED}
    return Thresholds.from_samples(
        {k: v for k, v in judged.items() if np.isfinite(v).all()},
        resolution={**RESOLUTION, **ICE_RESOLUTION},
        one_sided=(*ONE_SIDED, *ICE_ONE_SIDED),
    )
