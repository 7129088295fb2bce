"""All diagnostics of an ocean state in one call.

The same functions constrain a sample, judge a generated state and judge a running model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.layout import Layout
from halocline.physics.circulation import (
    barotropic_streamfunction,
    channel_transport,
    depth_transport,
    gyre_transport,
    kinetic_energy,
    largest_magnitude,
    overturning_streamfunction,
    sea_level_statistics,
)
from halocline.physics.free_surface import FreeSurface, Stretching, stretching
from halocline.physics.geometry import Geometry
from halocline.physics.integrals import global_mean, global_sum, level_mean, level_std
from halocline.physics.seawater import EquationOfState
from halocline.physics.stability import (
    STEP_THRESHOLD,
    density_step,
    finite_on_land,
    potential_density_profile,
    stratification_profile,
    unstable_fraction,
)
from halocline.physics.water import (
    BOTTOM,
    DEEP,
    Box,
    drift,
    heat_content,
    salt_content,
    select_box,
)


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

_FIELDS = {"temperature": "t", "salinity": "t", "velocity_u": "u", "velocity_v": "v"}


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
) -> dict[str, Tensor]:
    """Computes every diagnostic that the given fields allow.

    Arguments:
        fields: Any of ``temperature`` [degC], ``salinity``, ``velocity_u``, ``velocity_v`` [m/s]
            and ``sea_level`` [m] on owned cells, shape (member, tile, k, j, i), k = 1 for sea
            level; deep levels without a wet cell may be missing. Other names are passed over.
            Values on land do not matter.
        geometry: Owned cells.
        layout: Which tiles are here.
        eos: Equation of state of the model.
        options: Choices; the defaults if left out.

    Returns:
        Name (see ``DIAGNOSTICS``) to float64 tensor, shape (member, ...), the same bits on every
        rank and every layout.

    Raises:
        ValueError: A field has the wrong shape, or none is known.

    Collective: yes.
    """
    options = options or DiagnosticOptions()
    with layout.comm.together():
        state, nonfinite = _prepare(fields, geometry)
    result = {"nonfinite_cells": global_sum(nonfinite, layout)}
    stretch = stretching(state.get("sea_level"), geometry, layout, options.free_surface)
    for name in ("temperature", "salinity"):
        if name in state:
            result |= _tracer(name, state[name], geometry, layout, stretch, options)
    if {"temperature", "salinity"} <= set(state):
        result |= _column(state, geometry, layout, eos, stretch, options)
    if "sea_level" in state:
        result |= sea_level_statistics(state["sea_level"], geometry, layout)
    if {"velocity_u", "velocity_v"} <= set(state):
        result |= _flow(state["velocity_u"], state["velocity_v"], geometry, layout, stretch)
    return {name: result[name] for name in DIAGNOSTICS if name in result}


def _prepare(fields: Mapping[str, Tensor], geometry: Geometry) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the known fields, complete and zero on land, and the count of non-finite values."""
    tile, nk, nj, ni = geometry.tmask.shape
    points = {**_FIELDS, "sea_level": "t"}
    state: dict[str, Tensor] = {}
    nonfinite = torch.zeros(1, tile, nk, nj, ni, dtype=torch.float64)
    for name in (name for name in points if name in fields):
        x = fields[name]
        levels = 1 if name == "sea_level" else nk
        shape = tuple(x.shape)
        if len(shape) != 5 or (shape[1], *shape[3:]) != (tile, nj, ni) or shape[2] > levels:
            raise ValueError(
                f"Field {name!r} must have shape (member, {tile}, {levels}, {nj}, {ni}), "
                f"got {shape}: pass owned cells, without halo."
            )
        x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, levels - shape[2]))
        mask: Tensor = getattr(geometry, f"{points[name]}mask")
        mask = geometry.wet.unsqueeze(1) if name == "sea_level" else mask
        state[name] = finite_on_land(x, mask)
        broken = (~torch.isfinite(state[name])).to(torch.float64)
        nonfinite = nonfinite + torch.nn.functional.pad(broken, (0, 0, 0, 0, 0, nk - levels))
    if not state:
        raise ValueError(
            f"Fields must include one of {', '.join(points)}, got "
            f"{', '.join(fields) or 'none'}: use the names of the variable table."
        )
    return state, nonfinite


def _tracer(
    name: str,
    x: Tensor,
    geometry: Geometry,
    layout: Layout,
    stretch: Stretching,
    options: DiagnosticOptions,
) -> dict[str, Tensor]:
    volume = geometry.volume_t * stretch.t
    result = {
        f"{name}_mean": level_mean(x, volume, layout),
        f"{name}_std": level_std(x, volume, layout),
        f"{name}_volume_mean": global_mean(x, volume, layout),
    }
    for label, box in (("deep", options.deep), ("bottom", options.bottom)):
        cells = select_box(box, geometry, layout)
        result[f"{name}_{label}"] = global_mean(x, volume * cells, layout)
    if name == "salinity":
        return result | {"salt_content": salt_content(x, volume, layout)}
    area = global_sum(geometry.area_t[None, :, None], layout)
    heat = heat_content(x, volume, layout)
    return result | {"heat_content": heat, "heat_content_per_area": heat / area}


def _column(
    state: Mapping[str, Tensor],
    geometry: Geometry,
    layout: Layout,
    eos: EquationOfState,
    stretch: Stretching,
    options: DiagnosticOptions,
) -> dict[str, Tensor]:
    T, S = state["temperature"], state["salinity"]
    step = density_step(T, S, geometry.gdepw, eos)
    return {
        "unstable_fraction": unstable_fraction(step, geometry, layout, options.step_threshold, stretch.t),
        "unstable_fraction_strict": unstable_fraction(step, geometry, layout, 0.0, stretch.t),
        "potential_density": potential_density_profile(T, S, geometry, layout, eos, options.reference_depth),
        "stratification": stratification_profile(step, geometry, layout),
    }


def _flow(u: Tensor, v: Tensor, geometry: Geometry, layout: Layout, stretch: Stretching) -> dict[str, Tensor]:
    transport = depth_transport(u, geometry, layout, stretch)
    psi = barotropic_streamfunction(transport, geometry)
    high, low = gyre_transport(psi, geometry)
    overturning = overturning_streamfunction(v, geometry, layout, stretch)
    result = {
        "kinetic_energy": kinetic_energy(u, v, geometry, layout, stretch),
        "velocity_u_max": largest_magnitude(u, layout),
        "velocity_v_max": largest_magnitude(v, layout),
        "barotropic_streamfunction": psi,
        "gyre_transport_max": high,
        "gyre_transport_min": low,
        "overturning_streamfunction": overturning,
        "overturning_max": overturning.amax((-2, -1)),
        "overturning_min": overturning.amin((-2, -1)),
    }
    if geometry.grid.periodic_i:
        result["channel_transport"] = channel_transport(transport)
    return result


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
