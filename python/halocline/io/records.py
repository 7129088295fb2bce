"""A netCDF file that grows by records while others read it, and that survives a kill.

Classic netCDF keeps the number of records in four bytes of the header. A record is written whole before these bytes say
that it is there. So whoever opens the file, at any moment and also after its writer was killed in the middle of a
write, finds every counted record complete; the next writer goes on behind the last one. There are no locks for readers,
unlike in HDF5.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from halocline.io.classic import COUNT_PLACE, record_layout
from halocline.io.modelfile import open_dataset

__all__ = ["RecordFile", "write_all"]

SYNC_INTERVAL = 1.0  # s; forcing to disk matters to other nodes and in a power cut, and may take long on a busy disk


class RecordFile:
    """Appends records to an existing file of 64-bit offset format, as `create_dataset` makes it.

    Arguments:
        path: The file; its record variables have numbers in float64 or bytes.

    Attributes:
        count: Number of records.

    Raises:
        OSError: The file cannot be opened or read, or another process appends to it.

    Collective: no.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced = -SYNC_INTERVAL
        with self._explained():
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 (as long as this object)
        self._handle = self._file.fileno()
        try:
            self._reserve()
            layout = record_layout(path)
            self.count, self._begin, self._stride = layout.count, layout.begin, layout.stride
            self._blank = _blank_record(path, layout.offsets, layout.stride)
        except BaseException:
            self.close()
            raise

    def append(self, values: Mapping[str, ArrayLike]) -> None:
        """Adds a record; variables without a value get their fill value.

        Raises:
            OSError: It could not be written; the records before are unharmed.
        """
        data = bytearray(self._blank.tobytes())  # a copy of the array would leave the padding to chance
        record = np.ndarray((), self._blank.dtype, data)
        for name, value in values.items():
            record[name][...] = value
        lasting = time.monotonic() - self._synced >= SYNC_INTERVAL
        with self._explained():
            write_all(self._handle, data, self._begin + self.count * self._stride)
            if lasting:
                os.fsync(self._handle)
            self._say_count(self.count + 1)
            if lasting:
                os.fsync(self._handle)
                self._synced = time.monotonic()

    def cut(self, count: int) -> None:
        """Forgets all records but the first `count`.

        Raises:
            OSError: The file could not be written.
        """
        # The bytes stay: a reader that has just seen the old count must not run into the end of the file.
        with self._explained():
            self._say_count(min(count, self.count))

    def close(self) -> None:
        """Ends writing; harmless if done twice."""
        if not self._file.closed:
            with contextlib.suppress(OSError):  # all records are written; only a power cut could still lose some
                os.fsync(self._handle)
            self._file.close()

    def _say_count(self, count: int) -> None:
        write_all(self._handle, struct.pack(">i", count), COUNT_PLACE)
        self.count = count

    def _reserve(self) -> None:
        """Keeps other writers out, where the file system can."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"Another run is writing to {self.path}: wait until it has ended, or name another output folder."
            ) from error
        except OSError:
            return

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f"; the {self.count} records in it are unharmed" if hasattr(self, "count") else ""
            raise OSError(
                f"Cannot write {self.path} ({error.strerror}){kept}: free space, raise the quota or the limit of file "
                "sizes, check its permission, or name another output folder."
            ) from error


def write_all(handle: int, data: bytes | bytearray, place: int) -> None:
    """Writes bytes at a place of a file; the system may take them in portions.

    Raises:
        OSError: Not all could be written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, place)
        view, place = view[written:], place + written


def _blank_record(path: Path, offsets: Mapping[str, int], stride: int) -> np.ndarray:
    """A record of fill values, laid out as in the file, numbers big-endian."""
    with open_dataset(path) as dataset:
        variables = {name: dataset.variables[name] for name in offsets}
        formats = [(v.dtype.newbyteorder(">"), v.shape[1:]) for v in variables.values()]
        fills = {name: getattr(v, "_FillValue", None) for name, v in variables.items()}
    layout = {"names": list(offsets), "formats": formats, "offsets": list(offsets.values()), "itemsize": stride}
    record: np.ndarray = np.zeros((), np.dtype(layout))  # type: ignore[call-overload]
    for name, fill in fills.items():
        if fill is not None:
            record[name][...] = fill
    return record
