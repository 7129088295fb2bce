"""Where things lie in a classic netCDF file, and how long it must be.

The netCDF library reads what a truncated classic file lacks as zeros, without an error. Zeros are land in a
restart, so the length is checked against the header before anything is read.

Reference: NetCDF classic format specification, Unidata; numbers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["COUNT_PLACE", "RecordLayout", "missing_bytes", "record_layout"]

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 1, 9: 2, 10: 4, 11: 8, 12: 8}

COUNT_PLACE = 4
"""Byte of the file at which the number of records stands."""


@dataclass(frozen=True)
class RecordLayout:
    """Where the records of a file lie.

    Attributes:
        count: Number of records.
        begin: Byte at which the first one begins.
        stride: Bytes from one to the next.
        offsets: Variable to its first byte in a record.
    """

    count: int
    begin: int
    stride: int
    offsets: dict[str, int]


def record_layout(path: Path) -> RecordLayout:
    """Reads where the records of a classic netCDF file lie, which must have variables with records.

    Raises:
        OSError: The file cannot be read.

    Collective: no.
    """
    with path.open("rb") as file:
        header = _Header(file, file.read(4)[3])
    records = [variable for variable in header.variables if variable.is_record]
    begin = min(variable.begin for variable in records)
    return RecordLayout(header.records, begin, header.stride, {v.name: v.begin - begin for v in records})


def missing_bytes(path: Path) -> int:
    """Returns how many bytes a classic netCDF file is shorter than its header says; 0 for other formats.

    Raises:
        OSError: The file cannot be read.

    Collective: no.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3:] not in (b"\x01", b"\x02", b"\x05"):
            return 0
        try:
            expected = _Header(file, magic[3]).length()
        except (struct.error, KeyError, IndexError):
            return max(1, COUNT_PLACE - file.seek(0, 2))  # the header itself is cut
        length = file.seek(0, 2)  # after the header, which may be that of a growing file
        return max(0, expected - length)


@dataclass(frozen=True)
class _Variable:
    """Offset and bytes of a variable (of one record, if it has records)."""

    name: str
    begin: int
    size: int
    is_record: bool


class _Header:
    """Walks through a header; `version` is 1, 2 (64-bit offsets) or 5 (64-bit data)."""

    def __init__(self, file: BinaryIO, version: int) -> None:
        self.file = file
        self.count_format = ">q" if version == 5 else ">i"
        self.offset_format = ">i" if version == 1 else ">q"
        self.records = self._count()
        sizes = [self._skip_name_then_count() for _ in range(self._list())]
        self._skip_attributes()
        self.variables = [self._variable(sizes) for _ in range(self._list())]

    @property
    def stride(self) -> int:
        """Bytes of a record."""
        sizes = [variable.size for variable in self.variables if variable.is_record]
        # Each variable is padded to 4 bytes, unless there is a single one.
        return sum(size + (-size % 4 if len(sizes) > 1 else 0) for size in sizes)

    def length(self) -> int:
        """Length of the file that the header describes."""
        ends = {kind: [v.begin + v.size for v in self.variables if v.is_record is kind] for kind in (True, False)}
        if not ends[True] or self.records <= 0:
            return max(ends[False], default=0)
        return max([*ends[False], max(ends[True]) + (self.records - 1) * self.stride])

    def _variable(self, sizes: list[int]) -> _Variable:
        name = self._name()
        dimensions = [sizes[self._count()] for _ in range(self._count())]
        self._skip_attributes()
        size = _TYPE_SIZES[self._number(">i")]
        self._count()  # the stored size, which overflows for large variables
        for dimension in dimensions:
            size *= dimension or 1
        return _Variable(name, self._number(self.offset_format), size, bool(dimensions) and dimensions[0] == 0)

    def _skip_attributes(self) -> None:
        for _ in range(self._list()):
            self._name()
            size = _TYPE_SIZES[self._number(">i")] * self._count()
            self.file.seek(size + -size % 4, 1)

    def _list(self) -> int:
        """Number of entries of a list; its tag is not needed."""
        self._number(">i")
        return self._count()

    def _name(self) -> str:
        size = self._count()
        return self.file.read(size + -size % 4)[:size].decode(errors="replace")

    def _skip_name_then_count(self) -> int:
        self._name()
        return self._count()

    def _count(self) -> int:
        return self._number(self.count_format)

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self.file.read(struct.calcsize(form)))[0]
        return number
