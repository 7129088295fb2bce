"""The small script that stands for neXtSIM_DG, its configuration and its start file."""

import stat
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from fake_model import CONFIG, MODEL, NI, NJ, sea

from halocline.run.ice_model import Case, start_of


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "model").write_text(MODEL.format(python=sys.executable, nj=NJ, ni=NI))
    (tmp_path / "model").chmod((tmp_path / "model").stat().st_mode | stat.S_IXUSR)
    (tmp_path / "case.cfg").write_text(CONFIG)
    (tmp_path / "atm.nc").touch()
    return Case(tmp_path / "model", tmp_path / "case.cfg", start_of(tmp_path / "case.cfg"), 4.0)


@pytest.fixture
def like(tmp_path: Path) -> Path:
    """A start file of the configuration."""
    sizes = {"xdim": NI, "ydim": NJ, "xvertex": NI + 1, "yvertex": NJ + 1, "x_cg": NI + 1, "y_cg": NJ + 1,
             "dg_comp": 3, "dgstress_comp": 3, "ncoords": 2}  # fmt: skip
    corner = np.stack(np.meshgrid(5e3 * np.arange(NI + 1.0), 5e3 * np.arange(NJ + 1.0)), axis=-1)
    centre = corner[:-1, :-1] + 2.5e3
    values = {"x": centre[..., 0], "y": centre[..., 1], "grid_azimuth": 0 * centre[..., 0], "mask": sea(),
              "tsurf": -10.0, "sst": -1.7, "sss": 32.0, "cice": 0.8, "hice": 1.0, "hsnow": 0.1, "damage": 0.5,
              "u": 0.1, "v": 0.0}  # fmt: skip
    with netCDF4.Dataset(tmp_path / "like.nc", "w") as file:
        for group in ("structure", "metadata"):
            file.createGroup(group).type = "parametric_rectangular"
        data = file.createGroup("data")
        for key, size in sizes.items():
            data.createDimension(key, size)
        data.createVariable("coords", "f8", ("yvertex", "xvertex", "ncoords"))[:] = corner
        for key, x in values.items():
            data.createVariable(key, "f8", ("ydim", "xdim"))[:] = x
    return tmp_path / "like.nc"
