"""A start file of a small configuration of neXtSIM_DG."""

from pathlib import Path

import netCDF4
import numpy as np

NJ, NI = 4, 6


def sea() -> np.ndarray:
    mask = np.ones((NJ, NI), bool)
    mask[0], mask[2, 3] = False, False
    return mask


def write_start_file(path: Path, **fields: float) -> Path:
    """Writes coordinates, mask, and fields of one value each."""
    sizes = {"xdim": NI, "ydim": NJ, "xvertex": NI + 1, "yvertex": NJ + 1, "x_cg": NI + 1, "y_cg": NJ + 1,
             "dg_comp": 3, "dgstress_comp": 3, "ncoords": 2}  # fmt: skip
    corner = np.stack(np.meshgrid(5e3 * np.arange(NI + 1.0), 5e3 * np.arange(NJ + 1.0)), axis=-1)
    centre = corner[:-1, :-1] + 2.5e3
    values = {"x": centre[..., 0], "y": centre[..., 1], "grid_azimuth": 0 * centre[..., 0], "mask": sea()}
    with netCDF4.Dataset(path, "w") as file:
        for group in ("structure", "metadata"):
            file.createGroup(group).type = "parametric_rectangular"
        data = file.createGroup("data")
        for key, size in sizes.items():
            data.createDimension(key, size)
        data.createVariable("coords", "f8", ("yvertex", "xvertex", "ncoords"))[:] = corner
        for key, x in (values | fields).items():
            data.createVariable(key, "f8", ("ydim", "xdim"))[:] = x
    return path
