"""The filling of a training store: what is new, written by all ranks, counted when it is on disk."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halocline.io import training_store as stores
from halocline.io.models import StateSource, trajectories
from halocline.io.store import save_grid
from halocline.io.training_store import TrainingStore
from halocline.mesh.coarsen import coarsen_grid
from halocline.mesh.communicator import Communicator, Serial
from halocline.mesh.grid import Grid
from halocline.mesh.lattice import Lattice
from halocline.run.config import RunConfig, write_config
from halocline.run.judging import diagnose_fields
from halocline.run.outputs import make_folder
from halocline.run.progress import Reporter
from halocline.run.store_sources import check_settings, held_out, lacking, matched, settings
from halocline.state.coarsening import Coarsening
from halocline.state.state import Channels

__all__ = ["Filling"]

BLOCK, BLOCK_BYTES = 8, 1 << 28  # records that a rank reads at once, unless they take more than that, float64
COMMIT = 20.0  # s after which what has been written is counted
STAMPS = ("season", "year", "month", "time")


@dataclass
class Filling:
    """The making of a store, or of what it lacks. The root alone keeps the manifest.

    Arguments:
        config: Names variables, years, tiles, scales.
        path: Of the store.
        grid: Of the model.
        source: Its states.
        comm: Ranks that share the work.
    """

    config: RunConfig
    path: Path
    grid: Grid
    source: StateSource
    comm: Communicator | Serial

    def run(self) -> None:
        """Writes the states that the store lacks; one that has nothing yet does not stay where that fails.

        Collective: yes.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self._fill()
        except Exception:
            if self.comm.is_root and self.path in made and not (self.path / stores.MANIFEST).exists():
                remove(made)
            raise

    def _fill(self) -> None:
        comm, found = self.comm, None
        with comm.together():
            self.channels = Channels.build(self.config.data.stored, self.grid)
            self.lattice = Lattice.from_grid(self.grid, self.config.lattice.tile, self.config.lattice.halo)
            if comm.is_root:
                self.manifest = self._begin()
                self.files = matched(self.manifest["sources"], self.source.files, self.path)
                new = lacking(self.manifest["origin"], self.files, self.source, self.config.data)
                found = new, self.manifest["count"], self.manifest["scales"]
        new, count, scales = comm.broadcast(found)
        if not len(new):
            return
        with comm.together():  # a store that is there may have more scales than are asked for now
            self.coarse = {s: Coarsening.build(self.grid, s, self.channels) for s in scales if s != 1}
            if comm.is_root:
                self._make_room(len(new))
        self._take_in(new, count)

    def _begin(self) -> dict[str, Any]:
        """Reads the manifest, or begins one. On the root.

        Raises:
            ValueError: The store is of another grid or of other settings, or the folder holds something else.
        """
        if (self.path / stores.MANIFEST).exists():
            store = TrainingStore.open(self.path)
            check_settings(self.config, store)
            if store.grid.fingerprint() != self.grid.fingerprint():
                raise ValueError(
                    f"Training store {self.path} was made on grid {store.grid.fingerprint()}, but data.grid is grid "
                    f"{self.grid.fingerprint()}: name another data.store."
                )
            return dict(store.manifest)
        stores.check_vacant(self.path)
        data = self.config.data
        return {
            "variables": data.stored, "scales": self.config.store_scales,
            "chunk": self.config.lattice.tile, "grid": self.grid.fingerprint(), "settings": settings(self.config),
            "count": 0, "sources": [], "origin": [], "parameters": {name: [] for name in data.parameters},
            "records": {name: [] for name in (*STAMPS, "trajectory", "held_out")},
            "config": write_config(self.config),
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }  # fmt: skip

    def _make_room(self, number: int) -> None:
        """Makes the arrays, unless they are there, large enough for new records. On the root."""
        count = self.manifest["count"]
        with stores.explained(self.path):
            if not count:
                make_folder(self.path.parent)  # a file there is named, whichever comes first
                make_folder(self.path)
                save_grid(self.grid, self.path / "grid.nc")
                grids = {1: self.grid, **{scale: coarsen_grid(self.grid, scale) for scale in self.coarse}}
                sizes = {scale: (grid.nj, grid.ni) for scale, grid in grids.items()}
                stores.create_arrays(self.path, sizes, self.channels.count, self.config.lattice.tile)
            stores.resize_arrays(self.path, count + number)

    def _take_in(self, new: np.ndarray, count: int) -> None:
        """Writes new states, a block per rank at a time, and counts them now and then.

        Arguments:
            new: Their numbers.
            count: Records that the store has.

        Collective: yes.
        """
        comm, counted, begun = self.comm, 0, time.monotonic()
        values = self.channels.count * self.grid.nj * self.grid.ni * self.config.data.coarsen**2  # as they are read
        block = max(1, min(BLOCK, BLOCK_BYTES // (8 * values)))
        with comm.together():
            writer = stores.Writer(self.path)
            rows = self._diagnostics_so_far(count) if comm.is_root else []
        with Reporter("data", len(new), 0, comm.is_root) as reporter:
            for first in range(0, len(new), block * comm.size):
                mine = first + comm.rank * block
                with comm.together():
                    found = self._write(writer, new[mine : mine + block], count + mine)
                parts = comm.gather(found)
                rows += [row for part in parts or () for row in part]
                done = min(len(new), first + block * comm.size)
                for _ in range(done - first):
                    reporter.advance()
                if done == len(new) or comm.broadcast(time.monotonic() - begun > COMMIT):
                    with comm.together():
                        if comm.is_root:
                            self._count(new[counted:done], rows)
                    counted, begun = done, time.monotonic()

    def _write(self, writer: stores.Writer, mine: np.ndarray, place: int) -> list[dict[str, np.ndarray]]:
        """Writes a block of states behind each other and returns the diagnostics of each."""
        if not len(mine):
            return []
        states = self.source.read(mine)
        x = self.channels.join(states.fields).double()
        x = torch.where(torch.as_tensor(self.channels.mask(self.grid)), x, 0.0)
        if not bool(x.isfinite().all()):
            raise ValueError(f"States {mine.tolist()} of data.states have wet values that are not finite: mend them.")
        with stores.explained(self.path):
            writer.write(1, place, x.float().numpy())
            for scale, coarsening in self.coarse.items():
                writer.write(scale, place, coarsening.apply(x).float().numpy())
        found = diagnose_fields(states.fields, self.grid, self.lattice, self.config.data)
        return [{name: v[n].numpy() for name, v in found.items()} for n in range(len(mine))]

    def _diagnostics_so_far(self, count: int) -> list[dict[str, np.ndarray]]:
        """Those of the records that are counted. On the root."""
        if not count:
            return []
        table = TrainingStore.open(self.path).diagnostics()
        return [{name: x[n] for name, x in table.items()} for n in range(count)]

    def _count(self, taken: np.ndarray, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Counts states that have been written. On the root.

        Arguments:
            taken: Their numbers.
            rows: Diagnostics of all records.
        """
        stamps, records, parameters = self.source.stamps.take(taken), self.manifest["records"], self.source.parameters
        for name in STAMPS:
            records[name] += getattr(stamps, name).tolist()
        records["trajectory"] = trajectories(np.array(records["time"], float)).tolist()
        year, run = np.array(records["year"]), np.array(records["trajectory"])
        records["held_out"] = held_out(self.config.data, year, run).tolist()
        for name, x in parameters.items():
            self.manifest["parameters"][name] += x[taken].tolist()
        self._remember(taken)
        self.manifest["count"] += len(taken)
        with stores.explained(self.path):
            table = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            stores.save_table(self.path / stores.DIAGNOSTICS, table)
            stores.write_manifest(self.path, self.manifest)

    def _remember(self, taken: np.ndarray) -> None:
        """Notes which files states came from. On the root."""
        sources, numbers = self.manifest["sources"], {file.path: n for n, file in self.files.items()}
        for file in self.source.files:
            mine = taken[(taken >= file.first) & (taken < file.first + file.count)] - file.first
            if not len(mine):
                continue
            if file.path not in numbers:
                numbers[file.path] = len(sources)
                self.files[len(sources)] = file
                sources.append(file.to_dict())
            self.manifest["origin"] += [[numbers[file.path], n] for n in mine.tolist()]


def remove(made: Sequence[Path]) -> None:
    """Removes a store that was begun, and the folders above it that were made for it, if nothing else is in them.

    Arguments:
        made: The store, and those folders from the inside out.
    """
    shutil.rmtree(made[0], ignore_errors=True)
    with contextlib.suppress(OSError):
        for folder in made[1:]:
            folder.rmdir()
