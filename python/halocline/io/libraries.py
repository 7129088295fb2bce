"""netCDF4 in a model's process, which has a libnetcdf of its own.

The libraries of an executable come first when symbols are looked up: netCDF4's extension would call the model's
libnetcdf instead of the one in its wheel, which is another version, and crash. Loaded with RTLD_DEEPBIND it keeps to
its own. Only netCDF4 is loaded so, and only there: C++ libraries do not all bear it.
"""

import os
import sys
from pathlib import Path

__all__ = ["load_netcdf"]

THEIRS = ("libnetcdf", "libhdf5")


def load_netcdf() -> None:
    """Imports netCDF4, bound to its own libraries where the process holds others already. Collective: no."""
    if "netCDF4" in sys.modules:
        return
    flags = sys.getdlopenflags()
    if _holds(THEIRS):
        sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        import netCDF4  # noqa: F401
    finally:
        sys.setdlopenflags(flags)


def _holds(names: tuple[str, ...]) -> bool:
    """Whether this process has loaded a library with one of these beginnings."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(Path(line.split()[-1]).name.startswith(names) for line in lines if "/" in line)
