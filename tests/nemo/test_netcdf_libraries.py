"""A model brings its own libnetcdf into the process; netCDF4 must not call it."""

import ctypes.util
import sys
from pathlib import Path

import pytest
from nemo_tools import run

READ_BACK = """
import halocline.io, netCDF4
with netCDF4.Dataset("file.nc", "w") as dataset:
    dataset.createDimension("x", 3)
    dataset.createVariable("v", "f8", ("x",), zlib=True)[:] = [1, 2, 3]
with netCDF4.Dataset("file.nc") as dataset:
    assert dataset["v"][:].tolist() == [1, 2, 3]
"""


def test_netcdf_of_the_model_is_left_alone(tmp_path: Path) -> None:
    library = ctypes.util.find_library("netcdf")
    if library is None:
        pytest.skip("no libnetcdf on this system")
    status, output = run(sys.executable, "-c", READ_BACK, cwd=tmp_path, LD_PRELOAD=library)
    assert status == 0, output
