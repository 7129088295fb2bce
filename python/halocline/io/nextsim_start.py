"""Start files of neXtSIM_DG: a generated state from which the model starts.

The model does not check what it reads: a missing variable ends in `map::at` or a crash, a fill value or ice without
area in nonsense some hours later. So the file is complete and possible by construction:

- concentration in [0, 1], thickness and snow not negative, all three 0 where there is next to no ice (the model would
  remove it and charge the ocean its latent heat); zeros on land;
- damage in (0, 1], 1 intact;
- cell means only: a start without higher DG components begins with piecewise constant ice;
- temperature of the surface not above 0; sea surface as in the example, not below freezing, and at freezing where the
  example has none.

What a network without bounds overshoots is cut, and what contradicts itself is mended by :func:`mend_ice`; a state that
is beyond that is refused. The state has neither temperatures nor the grid's own coordinates: both come from a start or
restart file of the configuration. No file holds the stress: the model neither writes nor reads it, and it builds up
from zero within hours.

Reference: neXtSIM_DG, ``core/src/ParaGridIO.cpp``, ``core/src/PrognosticData.cpp``,
``physics/src/modules/IceThermodynamicsModule/ThermoIce0.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import netCDF4
import numpy as np

from halocline.io.atomic import atomic_path
from halocline.io.checks import check_shape, check_wet, mask_of
from halocline.io.modelfile import create_dataset
from halocline.io.nextsim_files import FILL, STRUCTURE, DGFile
from halocline.io.nextsim_grid import check_sea, is_spherical, read_mask
from halocline.mesh.grid import Grid
from halocline.state.variables import VARIABLES

__all__ = ["NEEDED", "THICKEST", "ice_for_model", "mend_ice", "write_start"]

NEEDED = ("concentration", "thickness", "snow")
"""Without these the model cannot start; damage is intact and velocity zero where they are not given."""

LEAST_CONCENTRATION = 1.0e-12
LEAST_THICKNESS = 0.01
"""Of the ice itself, m: below either the model removes the ice (nextsim_thermo.min_conc, min_thick)."""

LEAST_INTACT = 1.0e-12
"""Smallest `damage` of neXtSIM_DG: the model's own limit."""

THICKEST = 20.0
"""Of the ice itself, m, as a mean over a cell: no ridge field is thicker; where the model has more, it has failed."""

FLOODED = (1025.0 - 917.0) / 330.0
"""Snow by ice, m/m, above which ice is pressed below the water: densities of water, ice, snow, as in the model."""

OVERSHOOT = {"concentration": 0.05, "thickness": 0.05, "snow": 0.02, "damage": 0.05}
"""What a value may lie beyond its bound, in the unit of the variable: more is a fault, not a network's roughness."""

FREEZING = -0.055
"""Freezing point by salinity, degC: the model's own (``LinearFreezing``)."""

SALINITY = 32.0
"""Of a sea surface of which the example says nothing: the model would take 0, and divide by it."""

GEOMETRY = ("mask", "coords", "grid_azimuth")
DIMENSIONS = ("xdim", "ydim", "xvertex", "yvertex", "x_cg", "y_cg", "dg_comp", "dgstress_comp", "ncoords")
"""The reader wants all of them, used or not."""


def write_start(path: Path | str, fields: Mapping[str, np.ndarray], grid: Grid, *, like: Path | str) -> Path:
    """Writes a state as a start file (`model.init_file`), whole or not at all.

    Arguments:
        path: File to write.
        fields: Concentration, thickness, snow and, if they are to be other than intact and at rest, damage (0 intact),
            `ice_u`, `ice_v`, shape (1, nj, ni); what lies on land is not looked at. They are mended by `mend_ice`.
        grid: From `read_grid`.
        like: Start or restart file of the configuration. Its coordinates, dimensions, temperatures and sea surface are
            taken over.

    Returns:
        The file written.

    Raises:
        ValueError: A field is missing, of another shape, not finite in the sea, or impossible; `like` is of another
            grid, lacks something, or has impossible temperatures or salinities.
        FileNotFoundError, OSError: A file cannot be read or written; see `atomic_path`.

    Collective: no, one rank writes.
    """
    example = DGFile(like)
    content = _geometry(example, grid) | ice_for_model(mend_ice(fields, grid), grid) | _temperatures(example, grid)
    with atomic_path(path) as temporary, create_dataset(temporary, "NETCDF4") as dataset:
        dataset.createGroup("structure").setncattr("type", STRUCTURE)
        metadata = dataset.createGroup("metadata")
        metadata.setncattr("type", STRUCTURE)
        metadata.createGroup("configuration")
        data = dataset.createGroup("data")
        for name in DIMENSIONS:
            data.createDimension(name, example.sizes[name])
        for name, values in content.items():
            _write(data, name, values)
    return Path(path)


def mend_ice(fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
    """Makes a state possible that a network made nearly so.

    Values a little beyond their bounds are cut to them (`OVERSHOOT`). Where ice is thicker than `THICKEST` over its own
    area, because next to no concentration came with a thickness, concentration is raised: the volume is kept. Snow is
    no heavier than the ice carries (`FLOODED`): the model would turn the rest into ice in its first step.

    Arguments:
        fields, grid: As for `write_start`.

    Returns:
        All of the fields, float64.

    Raises:
        ValueError: A field is of another shape, not finite in the sea, or farther beyond its bounds; or a cell mean of
            the thickness is above `THICKEST`.

    Collective: no.
    """
    mended = {name: _inside(name, x, grid) for name, x in fields.items()}
    if not {"concentration", "thickness"} <= set(mended):
        return mended
    concentration, thickness = mended["concentration"], mended["thickness"]
    if (thickness > THICKEST).any():
        _, j, i = (int(n) for n in np.argwhere(thickness > THICKEST)[0])
        raise ValueError(
            f"thickness of the state is {thickness[0, j, i]:g} m at j={j}, i={i}, the first of "
            f"{int((thickness > THICKEST).sum())} cells above {THICKEST:g} m: the state is not one of ice; "
            "take another."
        )
    covered = concentration > LEAST_CONCENTRATION
    mended["concentration"] = np.where(covered, np.maximum(concentration, thickness / THICKEST), concentration)
    if "snow" in mended:
        mended["snow"] = np.minimum(mended["snow"], FLOODED * thickness)
    return mended


def _inside(name: str, x: np.ndarray, grid: Grid) -> np.ndarray:
    """A field cut to the bounds of its variable if it is not far beyond them, 0 on land, (1, nj, ni).

    Raises:
        ValueError: It is far beyond, not finite in the sea, or of another shape.
    """
    low, high = VARIABLES[name].bounds
    margin, values = OVERSHOOT.get(name, 0.0), np.asarray(x, np.float64)
    near = (values >= low - margin) & (values <= high + margin)
    return _sea_values(name, np.where(near, np.clip(values, low, high), values), grid)[None]


def ice_for_model(fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
    """Makes the ice of a state one that the model can carry, under the model's names, float64 (nj, ni).

    The same arithmetic, to the bit, as in the output module of coupling/nextsim, which starts the model in memory.

    Arguments:
        fields, grid: As for `write_start`.

    Raises:
        ValueError: A field is missing, of another shape, or not finite in the sea.

    Collective: no.
    """
    if missing := [name for name in NEEDED if name not in fields]:
        raise ValueError(
            f"The state lacks {', '.join(missing)}, which neXtSIM requires at the start; got "
            f"{', '.join(fields) or 'nothing'}: train with these data.variables."
        )
    ice = {name: _sea_values(name, fields.get(name), grid) for name in (*NEEDED, "damage", "ice_u", "ice_v")}
    positive = {name: np.where(ice[name] > 0.0, ice[name], 0.0) for name in NEEDED}
    concentration, thickness, snow = np.minimum(positive["concentration"], 1.0), positive["thickness"], positive["snow"]
    bare = (concentration <= LEAST_CONCENTRATION) | (thickness <= LEAST_THICKNESS * concentration)
    intact = np.minimum(np.maximum(1.0 - ice["damage"], LEAST_INTACT), 1.0)
    return {
        "cice": np.where(bare, 0.0, concentration),
        "hice": np.where(bare, 0.0, thickness),
        "hsnow": np.where(bare, 0.0, snow),
        "damage": intact,
        "u": ice["ice_u"],
        "v": ice["ice_v"],
    }


def _sea_values(name: str, x: np.ndarray | None, grid: Grid) -> np.ndarray:
    """A field in float64, 0 on land and where it is not given, (nj, ni)."""
    if x is None:
        return np.zeros((grid.nj, grid.ni))
    row = VARIABLES[name]
    where = f"{name} of the state"
    check_shape(row, np.shape(x), grid, where)
    values = np.asarray(x, np.float64)
    check_wet(row, values[None], grid, where)
    return np.where(mask_of(row, grid), values, 0.0)[0]


def _geometry(example: DGFile, grid: Grid) -> dict[str, np.ndarray]:
    """Mask and coordinates of the example.

    Raises:
        ValueError: It is of another grid, or lacks a dimension or variable.
    """
    if missing := [name for name in DIMENSIONS if name not in example.sizes]:
        raise ValueError(
            f"File {example.path} lacks dimensions {', '.join(missing)}, expected {', '.join(DIMENSIONS)}: take a "
            "restart that the model wrote."
        )
    check_sea(read_mask(example), grid, example.path, "name a file of the same configuration for `like`")
    centres = ("longitude", "latitude") if is_spherical(example) else ("x", "y")
    return {name: example.read(name) for name in (*GEOMETRY, *centres)}


def _temperatures(example: DGFile, grid: Grid) -> dict[str, np.ndarray]:
    """Surface temperature and sea surface of the example, possible and without fill values.

    Raises:
        ValueError: A value in the sea is missing, NaN or impossible.
    """
    content = {}
    sea = np.where(grid.tmask[0], 1.0, 0.0)
    for name, low, high in (("tsurf", -100.0, np.inf), ("sst", -5.0, 50.0), ("sss", 0.0, 100.0)):
        if name != "tsurf" and name not in example:
            continue
        x = example.read_mean(name)
        with np.errstate(invalid="ignore"):
            wrong = grid.tmask[0] & ~((x > low) & (x < high))
        if wrong.any():
            j, i = (int(n) for n in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name} of {example.path} is {x[j, i]:g} at j={j}, i={i}, the first of {int(wrong.sum())} cells of "
                f"sea outside ({low:g}, {high:g}): the model would fail there; name another file for `like`."
            )
        content[name] = np.where(grid.tmask[0] | (x == 0.0), x, 0.0)  # the model's zeros with their sign
    content.setdefault("sss", SALINITY * sea)
    freezing = FREEZING * content["sss"]
    content.setdefault("sst", freezing)
    content["sst"] = np.where(grid.tmask[0] & (content["sst"] < freezing), freezing, content["sst"])
    return {**content, "tsurf": np.where(content["tsurf"] > 0.0, 0.0, content["tsurf"])}


def _write(data: netCDF4.Group, name: str, values: np.ndarray) -> None:
    dimensions = ("yvertex", "xvertex", "ncoords") if values.ndim == 3 else ("ydim", "xdim")
    if not (np.abs(values) < FILL).all():
        raise ValueError(f"{name} to be written has values that are not finite: mend the file named for `like`.")
    data.createVariable(name, "f8", dimensions, fill_value=False)[:] = values
