"""What a training says of itself while it runs: a table per step, and the same for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from torch import Tensor

from halocline.io.atomic import atomic_path
from halocline.mesh.communicator import Communicator, Serial

__all__ = ["LossByNoise", "TrainingLog"]

FLUSH = 1.0  # s between lines forced out to whoever watches


class TrainingLog:
    """Context manager that writes `training.csv`, `validation.csv` and `tensorboard/` of a run folder.

    Rows are appended as they come, so that they can be watched and outlive a kill. A resumed run first drops the rows
    behind the step it goes on from, and a last row that was cut off.

    Arguments:
        folder: Run folder.
        step: Steps made before.
        speaks: Whether this rank writes.
    """

    def __init__(self, folder: Path, step: int, speaks: bool) -> None:
        self.folder, self.step, self.speaks = folder, step, speaks
        self._tables: dict[str, Table] = {}
        self._board: Any = None

    def __enter__(self) -> TrainingLog:
        if self.speaks:
            from torch.utils.tensorboard import SummaryWriter  # takes a second

            self._tables = {name: Table(self.folder / f"{name}.csv", self.step) for name in ("training", "validation")}
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1, flush_secs=10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.speaks:
            with self._going_on():
                for table in self._tables.values():
                    table.close()
                self._board.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds what there is to say of a step. Collective: no."""
        self._add("training", step, values)

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the result of a validation. Collective: no."""
        self._add("validation", step, values)

    def flush(self) -> None:
        """Forces out all rows: those up to a checkpoint must not be younger than it. Collective: no."""
        if self.speaks:
            with self._going_on():
                for table in self._tables.values():
                    table.flush()

    def _add(self, name: str, step: int, values: Mapping[str, float]) -> None:
        if not self.speaks:
            return
        with self._going_on():
            self._tables[name].add(step, values)
            for key, value in values.items():
                if np.isfinite(value):
                    self._board.add_scalar(f"{name}/{key}", value, step)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Ends the log where it cannot be written: a training is worth more, and checkpoints speak for themselves."""
        try:
            yield
        except OSError as error:
            print(f"The log in {self.folder} ends here: it cannot be written ({error}).", flush=True)
            self.speaks = False


class Table:
    """A file of comma-separated values, one row per step; the first row decides on the columns."""

    def __init__(self, path: Path, last: int) -> None:
        self.path = path
        self.columns = keep_rows(path, last)
        self._file: TextIO | None = None
        self._flushed = time.monotonic()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a row; a value that the first row did not have is left out, one that is missing stays empty."""
        if self._file is None:
            self._file = self.path.open("a")
        if not self.columns:
            self.columns = ["step", *values]
            print(*self.columns, sep=",", file=self._file)
        row = {"step": str(step)} | {name: f"{value:.9g}" for name, value in values.items() if np.isfinite(value)}
        print(*(row.get(name, "") for name in self.columns), sep=",", file=self._file)
        if time.monotonic() - self._flushed > FLUSH:
            self.flush()

    def flush(self) -> None:
        """Forces out the rows."""
        if self._file is not None:
            self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left."""
        if self._file is not None:
            self._file.close()


def keep_rows(path: Path, last: int) -> list[str]:
    """Drops rows behind a step, and those that are not whole; returns the columns, none where there is no row."""
    if not path.exists():
        return []
    kept = 0
    with path.open() as old, atomic_path(path) as temporary, temporary.open("w") as new:
        header = old.readline()
        columns = header.rstrip().split(",")
        new.write(header)
        for row in old:
            step, *values = row.rstrip().split(",")
            if row.endswith("\n") and len(values) + 1 == len(columns) and step.isdigit() and int(step) <= last:
                new.write(row)
                kept += 1
    if not kept:
        path.unlink()
    return columns if kept else []


class LossByNoise:
    """Mean loss of the samples of a step by their path time, in bins of equal width.

    Arguments:
        bins: Number of bins of t in [0, 1].
    """

    def __init__(self, bins: int = 5) -> None:
        self.bins = bins
        self._sums = np.zeros((2, bins))

    def add(self, t: Tensor, per_sample: Tensor, count: Tensor) -> None:
        """Adds samples.

        Arguments:
            t: Path time, shape (sample).
            per_sample: Mean loss over the wet values of each, shape (sample).
            count: Number of these values, shape (sample).

        Collective: no.
        """
        where = np.minimum((t.double().numpy() * self.bins).astype(int), self.bins - 1)
        weight = count.double().numpy()
        np.add.at(self._sums, (0, where), per_sample.double().numpy() * weight)
        np.add.at(self._sums, (1, where), weight)

    def values(self, comm: Communicator | Serial) -> dict[str, float]:
        """Returns the means over all ranks since the last call, NaN where a bin has had no sample.

        Collective: yes.
        """
        total, weight = comm.sum_arrays(self._sums)
        self._sums = np.zeros((2, self.bins))
        with np.errstate(invalid="ignore"):
            means = total / weight
        edges = np.linspace(0, 1, self.bins + 1)
        return {f"loss_t{a:.1f}-{b:.1f}": float(m) for a, b, m in zip(edges, edges[1:], means, strict=False)}
