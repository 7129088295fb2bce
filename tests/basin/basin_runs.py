"""A finished run of the embedded host, and how to find and read what belongs to it."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 60  # one run takes a second or two; a hanging one must not hold the suite


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, exit code and what it printed."""

    folder: Path
    code: int
    out: str
    err: str

    def restart(self, kt: int) -> Path:
        """Path of the restart of step kt."""
        return self.folder / f"t_{kt:08d}_restart.nc"

    def diagnostics(self) -> np.ndarray:
        """The series of diagnostics, one field per column."""
        path = self.folder / "t_diagnostics.csv"
        return np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))


Runner = Callable[..., Run]  # run(folder, ranks=1, **changes of namelist groups)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads all variables of a netCDF file, without the time axis of length one."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_mask(False)
        fields = {name: v[...] for name, v in file.variables.items()}
        timed = {n for n, v in file.variables.items() if v.dimensions[:1] == ("time_counter",)}
    return {name: f[0] if name in timed else f for name, f in fields.items()}


def installed_program() -> Path | None:
    """The program in the environment's folder of programs."""
    folders = (Path(sysconfig.get_path("scripts")), Path(sys.prefix) / "bin")
    found = [folder / "basin.x" for folder in folders if (folder / "basin.x").is_file()]
    return found[0] if found else None


def built(pattern: str) -> list[Path]:
    """Matches below <repository>/build, the newest last."""
    found = (REPOSITORY / "build").glob(f"**/{pattern}")
    return sorted(found, key=lambda path: path.stat().st_mtime)
