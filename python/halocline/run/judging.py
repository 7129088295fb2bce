"""Diagnostics and verdict of whole states: the same functions offline and, later, in the running model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from halocline.io.nemo import States
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.physics.diagnostics import DiagnosticOptions, diagnose
from halocline.physics.geometry import Geometry
from halocline.physics.seawater import EquationOfState, equation_of_state
from halocline.physics.verdict import Thresholds
from halocline.run.config import DataConfig, RunConfig

__all__ = ["JUDGED", "diagnose_fields", "eos_of", "learn_thresholds"]

CHUNK = 8  # states diagnosed at once: their fields stay in cache, and memory does not grow with the archive

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
)
"""Diagnostics that make a verdict: integrals and water masses, whose limits a few states can teach."""


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
    options = DiagnosticOptions(free_surface=data.free_surface)  # type: ignore[arg-type]
    count = len(next(iter(fields.values())))
    parts = []
    for first in range(0, count, CHUNK):
        tiles = {
            name: torch.as_tensor(
                layout.cut(np.nan_to_num(np.asarray(x[first : first + CHUNK], np.float64)))
            ).transpose(0, 1)
            for name, x in fields.items()
        }
        parts.append(diagnose(tiles, geometry, layout, eos_of(data), options))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def learn_thresholds(config: RunConfig, grid: Grid, states: States) -> Thresholds:
    """Learns the limits of the verdict from the training states.

    Collective: no.
    """
    lattice = Lattice.from_grid(grid, config.lattice.tile, config.lattice.halo)
    values = diagnose_fields(states.fields, grid, lattice, config.data)
    judged = {k: v.numpy() for k, v in values.items() if k in JUDGED}
    return Thresholds.from_samples({k: v for k, v in judged.items() if np.isfinite(v).all()})
