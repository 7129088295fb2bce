"""All diagnostics of an ocean state in one call.

The same functions constrain a sample, judge a generated state and judge a running model.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.blocks import POINTS, Choices, State
from halocline.physics.contributions import CONTRIBUTIONS, TRACERS, tell
from halocline.physics.formulas import FORMULAS, Totals
from halocline.physics.free_surface import FreeSurface, stretching
from halocline.physics.geometry import Geometry
from halocline.physics.seawater import EquationOfState
from halocline.physics.stability import STEP_THRESHOLD, finite_on_land
from halocline.physics.water import BOTTOM, DEEP, Box, drift, filled_box


@dataclass(frozen=True)
class Diagnostic:
    """Unit and meaning of an entry of :func:`diagnose`; ``dims`` follow the member dimension."""

    unit: str
    meaning: str
    dims: tuple[str, ...] = ()


DIAGNOSTICS: Mapping[str, Diagnostic] = {
    "nonfinite_cells": Diagnostic("1", "wet cells of all fields that are NaN or infinite"),
    "unstable_fraction": Diagnostic(
        "1", "fraction of the wet volume whose upper neighbour is denser by more than the threshold"
    ),
    "unstable_fraction_strict": Diagnostic("1", "the same with threshold 0"),
    "potential_density": Diagnostic("kg m-3", "mean surface-referenced density", ("k",)),
    "stratification": Diagnostic("kg m-4", "mean density gradient, stable positive", ("w",)),
    "temperature_mean": Diagnostic("degC", "volume mean of each level", ("k",)),
    "temperature_std": Diagnostic("degC", "standard deviation within each level", ("k",)),
    "temperature_volume_mean": Diagnostic("degC", "mean over the ocean"),
    "temperature_deep": Diagnostic("degC", "mean of the deep box"),
    "temperature_bottom": Diagnostic("degC", "mean of the bottom box"),
    "salinity_mean": Diagnostic("1e-3", "volume mean of each level", ("k",)),
    "salinity_std": Diagnostic("1e-3", "standard deviation within each level", ("k",)),
    "salinity_volume_mean": Diagnostic("1e-3", "mean over the ocean"),
    "salinity_deep": Diagnostic("1e-3", "mean of the deep box"),
    "salinity_bottom": Diagnostic("1e-3", "mean of the bottom box"),
    "heat_content": Diagnostic("J", "heat above 0 degC"),
    "heat_content_per_area": Diagnostic("J m-2", "heat above 0 degC per wet surface area"),
    "salt_content": Diagnostic("kg", "mass of salt"),
    "sea_level_mean": Diagnostic("m", "area mean"),
    "sea_level_rms": Diagnostic("m", "root of the area mean of squares"),
    "sea_level_min": Diagnostic("m", "lowest"),
    "sea_level_max": Diagnostic("m", "highest"),
    "kinetic_energy": Diagnostic("m2 s-2", "mean kinetic energy per mass"),
    "velocity_u_max": Diagnostic("m s-1", "largest |u|"),
    "velocity_v_max": Diagnostic("m s-1", "largest |v|"),
    "barotropic_streamfunction": Diagnostic("Sv", "at F points, see circulation", ("j", "i")),
    "gyre_transport_max": Diagnostic("Sv", "largest barotropic streamfunction outside the channel"),
    "gyre_transport_min": Diagnostic("Sv", "smallest, likewise"),
    "channel_transport": Diagnostic("Sv", "net transport around a domain cyclic along i"),
    "overturning_streamfunction": Diagnostic("Sv", "below each level, at V rows", ("k", "j")),
    "overturning_max": Diagnostic("Sv", "largest overturning streamfunction"),
    "overturning_min": Diagnostic("Sv", "smallest"),
}
"""What :func:`diagnose` can return; salinity in the unit of the model's equation of state."""


@dataclass(frozen=True)
class DiagnosticOptions:
    """Choices that change what the diagnostics mean.

    Arguments:
        free_surface: "linear" (``key_linssh``), "nonlinear" (``key_qco``) or "top_layer" (the embedded
            host): which layers the sea level stretches.
        step_threshold: Largest upward density step that is called stable, kg/m3.
        reference_depth: Of the potential density, m.
        deep: Box of the deep water.
        bottom: Box of the bottom water.
    """

    free_surface: FreeSurface = "linear"
    step_threshold: float = STEP_THRESHOLD
    reference_depth: float = 0.0
    deep: Box = DEEP
    bottom: Box = BOTTOM


def diagnose(
    fields: Mapping[str, Tensor],
    geometry: Geometry,
    layout: Layout,
    eos: EquationOfState,
    options: DiagnosticOptions | None = None,
    names: Collection[str] = tuple(DIAGNOSTICS),
) -> dict[str, Tensor]:
    """Computes the diagnostics that the given fields allow.

    Arguments:
        fields: Any of ``temperature`` [degC], ``salinity``, ``velocity_u``, ``velocity_v`` [m/s]
            and ``sea_level`` [m] on owned cells, shape (member, tile, k, j, i), k = 1 for sea
            level; deep levels without a wet cell may be missing. Other names are passed over.
            Values on land do not matter.
        geometry: Owned cells.
        layout: Which tiles are here.
        eos: Equation of state of the model.
        options: Choices; the defaults if left out.
        names: Diagnostics that are wanted, the same on every rank; others are not computed.

    Returns:
        Name (see ``DIAGNOSTICS``) to float64 tensor, shape (member, ...), the same bits on every
        rank and every layout, whatever else is wanted. Not differentiable; the functions of
        :mod:`~halocline.physics.stability`, :mod:`~halocline.physics.water` and
        :mod:`~halocline.physics.circulation` are.

    Raises:
        ValueError: A field has the wrong shape, or none is known.

    Collective: yes. One message; one more each for a nonlinear free surface and for standard deviations, and some with
    a geometry's first state.
    """
    options = options or DiagnosticOptions()
    with layout.comm.together(), torch.no_grad():
        known = _checked(fields, geometry)
    with torch.no_grad():
        state = _state_of(known, geometry, layout, eos, options)
        wanted = [name for name in DIAGNOSTICS if name in names and _allowed(name, state)]
        needs = {need for name in wanted for need in FORMULAS[name].needs}
        told = _told(state, needs, layout)
        totals = Totals(told, geometry, layout)
        return {name: FORMULAS[name].value(totals) for name in wanted}


def _checked(fields: Mapping[str, Tensor], geometry: Geometry) -> dict[str, Tensor]:
    """Returns the known fields, in the order of the table of points."""
    tile, nk, nj, ni = geometry.tmask.shape
    known = {name: fields[name].detach() for name in POINTS if name in fields}
    for name, x in known.items():
        levels, shape = 1 if name == "sea_level" else nk, tuple(x.shape)
        if len(shape) != 5 or (shape[1], *shape[3:]) != (tile, nj, ni) or shape[2] > levels:
            raise ValueError(
                f"Field {name!r} must have shape (member, {tile}, {levels}, {nj}, {ni}), "
                f"got {shape}: pass owned cells, without halo."
            )
    if not known:
        raise ValueError(
            f"Fields must include one of {', '.join(POINTS)}, got "
            f"{', '.join(fields) or 'none'}: use the names of the variable table."
        )
    return known


def _state_of(
    known: Mapping[str, Tensor], geometry: Geometry, layout: Layout, eos: EquationOfState, options: DiagnosticOptions
) -> State:
    """Chooses the boxes and stretches the layers. Collective: yes, at times."""
    sea_level = None
    if "sea_level" in known and options.free_surface != "linear":
        sea_level = finite_on_land(known["sea_level"], geometry.wet.unsqueeze(1))
    stretch = stretching(sea_level, geometry, layout, options.free_surface)
    boxes = {"deep": options.deep, "bottom": options.bottom}
    boxes = {name: filled_box(box, geometry, layout) for name, box in boxes.items()}
    return State(known, geometry, stretch, Choices(eos, options.step_threshold, options.reference_depth, boxes), {})


def _allowed(name: str, state: State) -> bool:
    """Whether fields and grid allow a diagnostic."""
    needed = {field for need in FORMULAS[name].needs for field in CONTRIBUTIONS[need].fields}
    return needed <= set(state.fields) and (name != "channel_transport" or state.geometry.grid.periodic_i)


def _told(state: State, needs: set[str], layout: Layout) -> dict[str, Tensor]:
    """What the tiles contribute: first what can be summed at once, then the spread about the means of the levels."""
    spread = {name for name in TRACERS if f"{name}_spread" in needs}
    last = {f"{name}_spread" for name in spread}
    first = (needs - last) | {f"{name}_levels" for name in spread} | ({"volume_levels"} if spread else set())
    told = tell(state, first, layout) if first else {}
    if spread:
        means = {name: told[f"{name}_levels"] / told["volume_levels"] for name in spread}
        told |= tell(replace(state, means=means), last, layout)
    return told


def diagnose_drift(first: Mapping[str, Tensor], second: Mapping[str, Tensor], years: float) -> dict[str, Tensor]:
    """Returns the change per year of every diagnostic that two states share, as ``name_drift``.

    Arguments:
        first: Diagnostics of the earlier state.
        second: Diagnostics of the later state, same shapes.
        years: Time between them in years of the model's calendar.

    Raises:
        ValueError: years is not positive.

    Collective: no.
    """
    return {f"{name}_drift": drift(first[name], second[name], years) for name in first if name in second}


def of_member(diagnosis: Mapping[str, Tensor], member: int) -> dict[str, np.ndarray]:
    """Returns the diagnostics of one member as arrays, the form that ``judge`` takes.

    Collective: no.
    """
    return {name: value[member].numpy() for name, value in diagnosis.items()}
