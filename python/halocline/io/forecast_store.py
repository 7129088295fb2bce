"""The file of a forecast: a zarr group that all ranks write tile by tile, and that xarray opens at any time.

::

    FORECAST.zarr/VARIABLE   (member, time, y, x), float32, a chunk is one tile of one member and time; NaN on land,
                             and where nothing has been written yet
    FORECAST.zarr/time       hours since the start, which is time 0
    FORECAST.zarr/complete   (member): number of the last time that is whole, -1: none
    FORECAST.zarr/verdict    (member, time): see `VERDICTS`
    FORECAST.zarr/mask       (y, x): 1 sea, 0 land

What lies behind `complete` may hold a part of the step that was under way when a job ended. The attributes tell what
the forecast is one of, so that it can be gone on with.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from halocline import __version__
from halocline.mesh.layout import Layout
from halocline.state.variables import variable

__all__ = ["VERDICTS", "ForecastStore", "create_forecast"]

FORMAT = 2  # 1 had no verdict

VERDICTS: Mapping[str, int] = MappingProxyType({"not_judged": -1, "ok": 0, "suspect": 1, "reject": 2})
"""What stands for a verdict in a file."""


def create_forecast(
    path: Path,
    names: Sequence[str],
    mask: np.ndarray,
    tile: tuple[int, int],
    members: int,
    hours: np.ndarray,
    start: np.datetime64,
    about: Mapping[str, Any],
) -> None:
    """Makes the group with nothing written, in place of an unfinished one of the same name.

    Arguments:
        path: Folder to make.
        names: Variables.
        mask: Sea, shape (nj, ni).
        tile: Cells of a tile (j, i).
        members: Number of members.
        hours: Times since the start, shape (time), the first 0.
        start: When it is.
        about: What the forecast is one of, text and numbers.

    Raises:
        OSError: It cannot be written.

    Collective: no, one rank.
    """
    with quiet():
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        group = zarr.open_group(part, mode="w")
        group.attrs["Conventions"] = "CF-1.11"
        group.attrs["history"] = f"halocline {__version__} forecast"
        group.attrs["format"] = FORMAT
        group.attrs["forecast"] = json.dumps(dict(about), sort_keys=True)
        for name in names:
            row, shape = variable(name), (members, len(hours), *mask.shape)
            array = group.create_array(
                name, shape=shape, chunks=(1, 1, *tile), dtype="float32", fill_value=np.nan,
                dimension_names=("member", "time", "y", "x"), compressors=[ZstdCodec(level=1), Crc32cCodec()],
            )  # fmt: skip
            attributes = {"units": row.unit, "long_name": row.long_name, "standard_name": row.standard_name}
            array.attrs.update({k: v for k, v in attributes.items() if v})
        since = str(start.astype("datetime64[s]")).replace("T", " ")
        clock = {"units": f"hours since {since}", "calendar": "standard"}
        put(group, "time", hours.astype(np.float64), ("time",), clock)
        put(group, "member", np.arange(members), ("member",), {"long_name": "number of the member"})
        put(group, "complete", np.full(members, -1), ("member",), {"long_name": "number of the last complete time"})
        flags = {"flag_values": list(VERDICTS.values()), "flag_meanings": " ".join(VERDICTS)}
        verdict = {"long_name": "verdict: whether the state lies within the range of the training states", **flags}
        put(group, "verdict", np.full((members, len(hours)), -1, np.int8), ("member", "time"), verdict)
        put(group, "mask", mask.astype(np.int8), ("y", "x"), {"long_name": "1 sea, 0 land"})
        zarr.consolidate_metadata(part)
        part.rename(path)


def put(group: zarr.Group, name: str, values: np.ndarray, dimensions: Sequence[str], about: Mapping[str, Any]) -> None:
    """Writes a small array, in chunks of a member each where ranks write parts of it."""
    chunks = (1, *values.shape[1:]) if name in ("complete", "verdict") else values.shape
    array = group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype, dimension_names=dimensions)
    array[...] = values
    array.attrs.update(about)


class ForecastStore:
    """A forecast that is being made. Every rank opens it by itself, and writes the tiles that it owns.

    Arguments:
        path: Of the group.

    Raises:
        ValueError: There is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with quiet():
                self._group = zarr.open_group(path, mode="r+", use_consolidated=False)
            found = self._group.attrs.get("format")
        except (OSError, ValueError) as error:
            raise ValueError(f"Output {path} is no forecast ({type(error).__name__}): name another output.") from error
        if found != FORMAT:
            raise ValueError(f"Output {path} has forecast format {found}, expected {FORMAT}: name another output.")

    @property
    def about(self) -> dict[str, Any]:
        """What the forecast is one of."""
        return dict(json.loads(str(self._group.attrs["forecast"])))

    def array(self, name: str) -> Any:
        """One of the arrays."""
        return self._group[name]

    def complete(self) -> np.ndarray:
        """Number of the last complete time of each member, -1: none, shape (member)."""
        return np.asarray(self.array("complete")[...])

    def write(self, name: str, time: int, members: Sequence[int], x: np.ndarray, layout: Layout) -> None:
        """Writes a variable on this rank's tiles.

        Arguments:
            name: Of the variable.
            time: Number of the time.
            members: Their numbers.
            x: Shape (member, tile, j, i), NaN on land.
            layout: Who owns which tile.

        Raises:
            OSError: The disk is full.

        Collective: no.
        """
        array, lattice = self.array(name), layout.lattice
        nj, ni = array.shape[-2:]
        with told(self.path):
            for n, member in enumerate(members):
                for tile, (J, I) in enumerate(lattice.tiles[layout.local].tolist()):
                    j, i = J * lattice.tile_j, I * lattice.tile_i
                    rows, columns = min(lattice.tile_j, nj - j), min(lattice.tile_i, ni - i)
                    array[member, time, j : j + rows, i : i + columns] = x[n, tile, :rows, :columns]

    def read(self, name: str, time: int, members: Sequence[int], layout: Layout) -> np.ndarray:
        """Reads what `write` wrote, 0 beyond the grid. Collective: no."""
        array, lattice = self.array(name), layout.lattice
        x = np.zeros((len(members), len(layout.local), *lattice.tile), np.float32)
        for n, member in enumerate(members):
            for tile, (J, I) in enumerate(lattice.tiles[layout.local].tolist()):
                j, i = J * lattice.tile_j, I * lattice.tile_i
                part = array[member, time, j : j + lattice.tile_j, i : i + lattice.tile_i]
                x[n, tile, : part.shape[0], : part.shape[1]] = part
        return x

    def read_states(self, names: Sequence[str], time: int, members: Sequence[int], layout: Layout) -> np.ndarray:
        """Reads members at a time, shape (member, tile, variable, j, i), 0 on land. Collective: no."""
        return np.nan_to_num(np.stack([self.read(name, time, members, layout) for name in names], axis=2), nan=0.0)

    def judged(self, time: int, members: Sequence[int], verdicts: Sequence[str]) -> None:
        """Keeps the verdicts on a time of some members. Collective: no, one rank."""
        with told(self.path):
            for member, verdict in zip(members, verdicts, strict=True):
                self.array("verdict")[member, time] = VERDICTS[verdict]

    def count(self, time: int, members: Sequence[int]) -> None:
        """Says that a time of some members is whole. Collective: no, one rank, after all have written."""
        with told(self.path):
            for member in members:
                self.array("complete")[member] = time


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turns a failed write into a sentence."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(path).free
        raise OSError(
            f"Cannot write to forecast {path} ({error.strerror or error}): {free} bytes are free there; its complete "
            "steps are safe. Free space and give the same command again."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leaves out zarr's warning that other programs may not read consolidated metadata: xarray does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        yield
