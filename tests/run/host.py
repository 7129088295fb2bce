"""A stand-in for one rank of a model: arrays with halos as Fortran has them, and their memory as C hands it over."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from case import OCEAN, Case

from halocline.mesh.grid import Grid
from halocline.mesh.rearrange import Rect
from halocline.run.bridge import Bridge
from halocline.state.variables import VARIABLES

UNTOUCHED = -7e30  # what halos and unfilled cells hold


def write_config(folder: Path, case: Case, **keys: Any) -> Path:
    """Writes the bridge's YAML file."""
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump({"run": str(case.run), "output": str(folder / "halocline"), **keys}))
    return path


class Model:
    """One rank: a rectangle of the grid, or none, and fields with a halo around it.

    Arguments:
        grid: Whole grid.
        rect: This rank's cells.
        names: Fields.
        dtype: Of the fields.
        halo: Width of the halo of the fields; the mask has none.
    """

    def __init__(
        self, grid: Grid, rect: Rect | None, names: Sequence[str] = OCEAN, dtype: str = "f8", halo: int = 2
    ) -> None:
        self.grid, self.rect, self.halo = grid, rect, halo
        self.arrays: dict[str, np.ndarray] = {}
        for name in names:
            rows, columns = (0, 0) if rect is None else rect.shape
            shape = (self.levels(name), rows + 2 * halo, columns + 2 * halo)
            self.arrays[name] = np.full(shape, UNTOUCHED, dtype)

    def levels(self, name: str) -> int:
        return self.grid.nk if VARIABLES[name].is_3d else 1

    def inner(self, name: str) -> np.ndarray:
        """The cells of a field without halo, in place."""
        h = self.halo
        return self.arrays[name][:, h:-h, h:-h] if h else self.arrays[name]

    def put(self, fields: dict[str, np.ndarray]) -> None:
        """Takes this rank's cells of global fields (levels, nj, ni)."""
        if self.rect is not None:
            for name in self.arrays:
                self.inner(name)[...] = self.cut(fields[name])

    def cut(self, field: np.ndarray) -> np.ndarray:
        assert self.rect is not None
        return field[:, self.rect.j0 : self.rect.j1, self.rect.i0 : self.rect.i1]

    def declare(self, bridge: Bridge, **changes: Any) -> None:
        """Calls grid and field; `changes` replaces arguments of `grid`, or those of a field: name=dict(unit=…)."""
        rect = self.rect or Rect(0, 0, 0, 0)
        ny, nx = rect.shape
        mask = None if self.rect is None else np.ascontiguousarray(self.cut(self.grid.tmask), "f8")
        nk, nj, ni = self.grid.shape
        told = {"ni": ni, "nj": nj, "nk": nk, "i0": rect.i0, "j0": rect.j0, "nx": nx, "ny": ny}
        told |= {"mask": None if mask is None else mask.data.cast("B"), "stride": (1, nx, nx * ny)}
        bridge.grid(**{**told, **{key: value for key, value in changes.items() if key in told}})
        for name in self.arrays:
            self.register(bridge, name, **changes.get(name, {}))

    def register(self, bridge: Bridge, name: str, **changes: Any) -> None:
        """Calls field for the array that stands in `arrays` now."""
        row, x = VARIABLES[name], self.arrays[name]
        told = {"point": row.point, "unit": row.unit, "itemsize": x.itemsize, "levels": self.levels(name)}
        told |= {"data": None, "stride": (1, 1, 1)}
        if self.rect is not None:
            told |= {"data": span(self.inner(name), x), "stride": (1, x.shape[2], x.shape[1] * x.shape[2])}
        bridge.field(name, **{**told, **changes})

    def ready(self, bridge: Bridge, calendar: str = "360_day", step: int = 0, date: int = 10101) -> float:
        return bridge.ready(calendar, 3600.0, step, date)

    def start(self, bridge: Bridge) -> "Model":
        """All verbs up to ready."""
        self.declare(bridge)
        self.ready(bridge)
        return self


def span(inner: np.ndarray, whole: np.ndarray) -> memoryview:
    """Bytes of an array from the first cell of a view of it to the last."""
    low, high = np.lib.array_utils.byte_bounds(inner)
    first = low - np.lib.array_utils.byte_bounds(whole)[0]
    return whole.reshape(-1).view(np.uint8).data[first : first + high - low]
