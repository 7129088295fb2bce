import netCDF4
import numpy as np
import pytest

from halocline.io.classic import missing_bytes

FORMATS = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA")


def write(path, kind, records):
    with netCDF4.Dataset(path, "w", format=kind) as file:
        file.title = "odd length"
        file.createDimension("t", None)
        file.createDimension("x", 3)
        file.createVariable("scalar", "f8", ())[...] = 1.0
        file.createVariable("fixed", "i2", ("x",))[:] = [1, 2, 3]
        for name in ("a", "b")[: 1 + records % 2]:
            file.createVariable(name, "i1", ("t", "x"))[:] = np.ones((records, 3))
    return path.read_bytes()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("records", [0, 1, 2, 3])
def test_complete_file_lacks_nothing_and_a_cut_one_does(tmp_path, kind, records):
    path = tmp_path / "a.nc"
    whole = write(path, kind, records)
    assert missing_bytes(path) == 0
    # The last bytes may be padding, never more than 3.
    for cut in (4, 20, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[: len(whole) - cut])
        assert missing_bytes(path) > 0, cut


def test_other_formats_are_left_to_their_library(tmp_path):
    path = tmp_path / "a.nc"
    write(path, "NETCDF4", 2)
    assert missing_bytes(path) == 0
    path.write_text("no netCDF at all")
    assert missing_bytes(path) == 0
