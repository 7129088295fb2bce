"""How long a classic netCDF file must be.

The netCDF library reads what a truncated classic file lacks as zeros, without an error. Zeros are land in a
restart, so the length is checked against the header before anything is read.

Reference: NetCDF classic format specification, Unidata; numbers are big-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes"]

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 1, 9: 2, 10: 4, 11: 8, 12: 8}


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
        length = file.seek(0, 2)
        file.seek(4)
        try:
            expected = _Header(file, magic[3]).length()
        except (struct.error, KeyError, IndexError):
            return max(1, 4 - length)  # the header itself is cut
        return max(0, expected - length)


class _Header:
    """Walks through a header; `version` is 1, 2 (64-bit offsets) or 5 (64-bit data)."""

    def __init__(self, file: BinaryIO, version: int) -> None:
        self.file = file
        self.count_format = ">q" if version == 5 else ">i"
        self.offset_format = ">i" if version == 1 else ">q"

    def length(self) -> int:
        """Length of the file that the header describes."""
        records = self._count()
        sizes = [self._skip_name_then_count() for _ in range(self._list())]
        self._skip_attributes()
        variables = [self._variable(sizes) for _ in range(self._list())]
        fixed = [begin + size for begin, size, is_record in variables if not is_record]
        in_records = [(begin, size) for begin, size, is_record in variables if is_record]
        if not in_records or records <= 0:
            return max(fixed, default=0)
        # Records are padded to 4 bytes, unless there is a single variable of records.
        stride = sum(size + (-size % 4 if len(in_records) > 1 else 0) for _, size in in_records)
        last = max(begin + size for begin, size in in_records)
        return max([*fixed, last + (records - 1) * stride])

    def _variable(self, sizes: list[int]) -> tuple[int, int, bool]:
        """Offset and bytes of a variable (of one record, if it has records)."""
        self._skip_name()
        dimensions = [sizes[self._count()] for _ in range(self._count())]
        self._skip_attributes()
        size = _TYPE_SIZES[self._number(">i")]
        self._count()  # the stored size, which overflows for large variables
        for dimension in dimensions:
            size *= dimension or 1
        return self._number(self.offset_format), size, bool(dimensions) and dimensions[0] == 0

    def _skip_attributes(self) -> None:
        for _ in range(self._list()):
            self._skip_name()
            size = _TYPE_SIZES[self._number(">i")] * self._count()
            self.file.seek(size + -size % 4, 1)

    def _list(self) -> int:
        """Number of entries of a list; its tag is not needed."""
        self._number(">i")
        return self._count()

    def _skip_name(self) -> None:
        size = self._count()
        self.file.seek(size + -size % 4, 1)

    def _skip_name_then_count(self) -> int:
        self._skip_name()
        return self._count()

    def _count(self) -> int:
        return self._number(self.count_format)

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self.file.read(struct.calcsize(form)))[0]
        return number
