"""The training store: states of a model as compressed, checksummed chunks that match the tiles.

::

    STORE/manifest.json           what is complete: sources, records, provenance; written last, whole or not at all
    STORE/grid.nc                 geometry and masks
    STORE/states/scale_1/…        zarr, (record, channel, j, i), float32, physical units, 0 on land
    STORE/states/scale_2/…        the same, coarsened, where asked for
    STORE/statistics.npz          over the records that are not held out
    STORE/diagnostics.npz         of each record
    STORE/climatology.npz         mean by season and parameters, where a training has asked for it
    STORE/increments.npz          changes over the leads of a forecast, where a training has asked for them
    STORE/budget.npz              growth of the ice volume over these leads, ranges and roughness of states, likewise

A chunk holds all channels of one record on one tile, with a checksum. Records that the manifest does not count are not
there, whatever lies in the arrays: a run that was killed leaves nothing that could be taken for data.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from halocline import __version__
from halocline.io.atomic import atomic_path
from halocline.io.store import load_grid
from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.grid import Grid
from halocline.state.state import Channels

__all__ = [
    "BUDGET", "CLIMATOLOGY", "DIAGNOSTICS", "INCREMENTS", "MANIFEST", "STATISTICS", "Records", "Statistics",
    "TrainingStore", "Writer", "check_vacant", "create_arrays", "explained", "resize_arrays", "save_table",
    "write_manifest",
]  # fmt: skip

FORMAT = 1
MANIFEST, STATISTICS, DIAGNOSTICS = "manifest.json", "statistics.npz", "diagnostics.npz"
CLIMATOLOGY, INCREMENTS, BUDGET = "climatology.npz", "increments.npz", "budget.npz"
DAMAGE = (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile)  # what a damaged table raises


@dataclass(frozen=True, eq=False)
class Records:
    """What is known of each state; arrays over records, as in `States`.

    Attributes:
        trajectory: Number of the run of the model that a state belongs to: of files whose times follow each other.
        held_out: Whether it is for validation only.
    """

    season: np.ndarray
    year: np.ndarray
    month: np.ndarray
    time: np.ndarray
    trajectory: np.ndarray
    held_out: np.ndarray
    parameters: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of the records that are not held out.

    Attributes:
        mean, variance: Over records, shape (channel, nj, ni), float64, 0 on land.
        minimum, maximum: Over records and wet cells, shape (channel).
        increment_mean, increment_deviation: Of the change from one record of a trajectory to the next, per `lead`, over
            records and wet cells, shape (channel); NaN where there are none.
        lead: Usual (median) time between such records, days; NaN where there are none.
        held_out: Flags of all records at the time, shape (record).
    """

    mean: np.ndarray
    variance: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    increment_mean: np.ndarray
    increment_deviation: np.ndarray
    lead: float
    held_out: np.ndarray


class TrainingStore:
    """A store that is read; made by `open`. Every rank reads by itself."""

    def __init__(self, path: Path, manifest: Mapping[str, Any], grid: Grid) -> None:
        self.path, self.manifest, self.grid = path, manifest, grid
        self.variables: tuple[str, ...] = tuple(manifest["variables"])
        self.channels = Channels.build(self.variables, grid)
        self.scales: tuple[int, ...] = tuple(manifest["scales"])
        self.chunk: tuple[int, int] = tuple(manifest["chunk"])
        self.count = int(manifest["count"])
        table = {k: np.asarray(v) for k, v in manifest["records"].items()}
        self.records = Records(**table, parameters={k: np.asarray(v) for k, v in manifest["parameters"].items()})
        self._grids: dict[int, Grid] = {1: grid}

    @classmethod
    def open(cls, path: Path | str) -> TrainingStore:
        """Opens a store.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It was written by another version, or is of another grid than it says.

        Collective: no.
        """
        path = Path(path)
        manifest = read_manifest(path)
        grid = load_grid(path / "grid.nc")
        if grid.fingerprint() != manifest["grid"]:
            raise ValueError(
                f"Training store {path} was made on grid {manifest['grid']}, but its grid.nc is grid "
                f"{grid.fingerprint()}: it was mixed from two stores; make it again with `halocline data`."
            )
        return cls(path, manifest, grid)

    def grid_at(self, scale: int) -> Grid:
        """Returns the grid coarsened by a factor."""
        if scale not in self._grids:
            self._grids[scale] = coarsen_grid(self.grid, scale)
        return self._grids[scale]

    def block(self, scale: int, record: int, J: int, I: int) -> np.ndarray:
        """Reads and decodes a chunk, shape (channel, rows, columns), float32, physical units, 0 on land.

        Raises:
            ValueError: It is missing, or does not match its checksum.

        Collective: no.
        """
        if not 0 <= record < self.count:
            raise ValueError(f"Training store {self.path} has {self.count} records, asked for number {record}.")
        array = self._arrays[scale]
        cj, ci = self.chunk
        place = f"{array.store_path}/c/{record}/0/{J}/{I}"
        try:
            x = np.asarray(array[record, :, J * cj : (J + 1) * cj, I * ci : (I + 1) * ci])
        except Exception as error:  # damaged bytes raise whatever they resemble
            raise ValueError(
                f"Chunk {place} of the training store cannot be decoded ({error}): restore that file, or remove "
                f"{self.path} and make it again with `halocline data`."
            ) from error
        if np.isnan(x).any():  # what zarr says of a chunk that is not there
            raise ValueError(
                f"Chunk {place} of the training store is missing: restore that file, or remove {self.path} and make it "
                "again with `halocline data`."
            )
        return x

    @cached_property
    def _arrays(self) -> dict[int, Any]:
        group = zarr.open_group(self.path / "states", mode="r")
        return {scale: group[f"scale_{scale}"] for scale in self.scales}

    def statistics(self) -> Statistics:
        """Reads the statistics.

        Raises:
            ValueError: There are none, or they are of other records: `halocline data` was interrupted.

        Collective: no.
        """
        found = self.statistics_or_none()
        if found is None:
            raise ValueError(
                f"Training store {self.path} has no statistics of its {self.count} records: give `halocline data` once "
                "more, where the files of the model are."
            )
        return found

    def statistics_or_none(self) -> Statistics | None:
        """Reads the statistics; None where there are none, or of other records than are held now."""
        try:
            with np.load(self.path / STATISTICS) as file:
                found = Statistics(**{k: file[k][()] for k in file.files})
        except DAMAGE:
            return None
        shape = (self.channels.count, self.grid.nj, self.grid.ni)
        fits = found.mean.shape == found.variance.shape == shape
        return found if fits and np.array_equal(found.held_out, self.records.held_out) else None

    def climatology(self) -> dict[str, np.ndarray] | None:
        """Reads the climatology; None where there is none, or of other records than are held now.

        Returns:
            "values" (value, parameter); "coefficients" (value, function, channel, nj, ni), float32; "variance" that
            they leave, (channel, nj, ni); "held_out" flags of all records at the time.

        Collective: no.
        """
        return self._table(CLIMATOLOGY, ("values", "coefficients", "variance", "held_out"))

    def whole(self, record: int) -> np.ndarray:
        """Reads a record at the finest scale, shape (channel, nj, ni), 0 on land.

        Raises:
            ValueError: A chunk is missing or damaged.

        Collective: no.
        """
        rows, columns = (-(-n // c) for n, c in zip((self.grid.nj, self.grid.ni), self.chunk, strict=True))
        return np.block([[self.block(1, record, J, I) for I in range(columns)] for J in range(rows)])

    def increments(self) -> dict[str, np.ndarray] | None:
        """Reads the changes over leads; None where there are none, or of other records than are held now.

        Returns:
            "leads" in hours, shape (lead); "scale", their root mean square, shape (lead, channel); "on_bounds", the
            share of values on the lower and on the upper bound, shape (2, channel); "stretched_scale",
            "stretched_level" and "gap" as in `halocline.run.increments.Increments`; "held_out" flags of all records at
            the time.

        Collective: no.
        """
        names = ("leads", "scale", "on_bounds", "stretched_scale", "stretched_level", "gap", "held_out")
        return self._table(INCREMENTS, names)

    def budget(self) -> dict[str, np.ndarray] | None:
        """Reads the budget of ice volume; None where there is none, or of other records than are held now.

        Returns:
            "leads", "growth", "residual", "range", "roughness" as in `halocline.run.budget_fit.Budget`; "held_out"
            flags of all records at the time.

        Collective: no.
        """
        return self._table(BUDGET, ("leads", "growth", "residual", "range", "roughness", "held_out"))

    def _table(self, name: str, entries: Sequence[str]) -> dict[str, np.ndarray] | None:
        try:
            with np.load(self.path / name) as file:
                found = {entry: file[entry] for entry in entries}
        except DAMAGE:
            return None
        return found if np.array_equal(found["held_out"], self.records.held_out) else None

    def diagnostics(self) -> dict[str, np.ndarray]:
        """Reads the diagnostics of all records, shape (record, …) each.

        Raises:
            ValueError: They are damaged, or missing.

        Collective: no.
        """
        try:
            with np.load(self.path / DIAGNOSTICS) as file:
                table = {name: file[name][: self.count] for name in file.files}
        except DAMAGE as error:
            raise ValueError(
                f"Training store {self.path}: {DIAGNOSTICS} cannot be read ({error}): restore that file, or remove the "
                "store and make it again with `halocline data`."
            ) from error
        if any(len(x) != self.count for x in table.values()):
            raise ValueError(
                f"Training store {self.path}: {DIAGNOSTICS} has fewer states than the {self.count} of the store: it is "
                "of another one; restore that file, or remove the store and make it again with `halocline data`."
            )
        return table


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads what a store says of itself."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is no training store: make one with `halocline data`.") from error
    except ValueError as error:
        raise ValueError(f"Training store {path}: {MANIFEST} cannot be read ({error}); make it again.") from error
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"Training store {path} has format {manifest.get('format')}, expected {FORMAT}: it was written by "
            f"Halocline {manifest.get('version', 'unknown')}, this is {__version__}; make it again with "
            "`halocline data`."
        )
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Says what is complete. Collective: no, one rank writes."""
    with atomic_path(path / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, "version": __version__, **manifest}))


def check_vacant(path: Path) -> None:
    """Refuses a folder for a new store that holds something else.

    Raises:
        ValueError: There is more in it than a run that was killed early leaves.
    """
    left = {"grid.nc", "states", DIAGNOSTICS}
    other = [p.name for p in path.iterdir() if p.name not in left and p.suffix != ".part"] if path.is_dir() else []
    if other:
        raise ValueError(
            f"Folder {path} holds {sorted(other)[0]} and is no training store, expected none or an empty one: name "
            "another data.store."
        )


def create_arrays(path: Path, sizes: Mapping[int, tuple[int, int]], channels: int, chunk: tuple[int, int]) -> None:
    """Makes the arrays of a store, without a record yet, in place of any that lie there. Collective: no, one rank."""
    group = zarr.open_group(path / "states", mode="w")
    for scale, (nj, ni) in sizes.items():
        group.create_array(
            f"scale_{scale}", shape=(0, channels, nj, ni), chunks=(1, channels, *chunk), dtype="float32",
            fill_value=np.nan, compressors=[ZstdCodec(level=1), Crc32cCodec()],
        )  # fmt: skip


def resize_arrays(path: Path, count: int) -> None:
    """Makes room for records. Collective: no, one rank."""
    group = zarr.open_group(path / "states", mode="a")
    for _, array in group.arrays():
        array.resize((count, *array.shape[1:]))


class Writer:
    """Writes states to a store; records of different ranks never share a chunk."""

    def __init__(self, path: Path) -> None:
        group = zarr.open_group(path / "states", mode="r+")
        self._arrays = {int(name.removeprefix("scale_")): array for name, array in group.arrays()}

    def write(self, scale: int, first: int, x: np.ndarray) -> None:
        """Writes consecutive records, shape (record, channel, j, i), float32. Collective: no."""
        array = self._arrays[scale]
        _, _, cj, ci = array.chunks
        for n, state in enumerate(x, start=first):  # one chunk at a time, so that a full disk leaves no other under way
            for j in range(0, x.shape[-2], cj):
                for i in range(0, x.shape[-1], ci):
                    array[n, :, j : j + cj, i : i + ci] = state[:, j : j + cj, i : i + ci]


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns a failed write into a sentence, unless it is one."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        free = shutil.disk_usage(path).free
        raise OSError(
            f"Cannot write to training store {path} ({error.strerror}): {free} bytes are free there; what its "
            "manifest counts is safe. Free space and give the same command again."
        ) from error


def save_table(path: Path, table: Mapping[str, Any]) -> None:
    """Writes named arrays, whole or not at all. Collective: no."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **table)
