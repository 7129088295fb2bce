"""States that lie in files: found and dated once, read in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from halocline.io.calendar import Stamps

__all__ = ["StateFile", "StateSource", "trajectories"]

PIECES, PIECE = 16, 1 << 14  # what the digest of a file looks at: pieces, bytes each


@dataclass(frozen=True)
class StateFile:
    """A file, and which of the states it holds.

    Attributes:
        path: Of the file; of parts, or of files that each hold some variables, the first.
        first: Number of its first state among all.
        count: Number of its states.
        others: All files that hold these states, if there are more than one.
    """

    path: Path
    first: int
    count: int
    others: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that hold these states."""
        return self.others or (self.path,)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.paths)

    @property
    def changed(self) -> int:
        """When the files were last written to, ns since 1970."""
        return max(path.stat().st_mtime_ns for path in self.paths)

    @cached_property
    def digest(self) -> str:
        """Of size and of pieces from the first byte to the last: an archive is too large to be read for this."""
        made = hashlib.sha256()
        for path in self.paths:
            size = path.stat().st_size
            made.update(str(size).encode())
            with path.open("rb") as file:
                for piece in range(PIECES):
                    file.seek(max(0, size - PIECE) * piece // (PIECES - 1))
                    made.update(file.read(PIECE))
        return made.hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Returns what is remembered of it."""
        return {
            "path": str(self.path), "bytes": self.bytes, "changed": self.changed, "digest": self.digest,
            "records": self.count,
        }  # fmt: skip

    def is_as(self, remembered: Mapping[str, Any]) -> bool:
        """Whether it is what it was when it was remembered: not written to since, or with the same content."""
        if (self.bytes, self.changed) == (remembered["bytes"], remembered["changed"]):
            return True
        return bool(self.digest == remembered["digest"])


@dataclass(frozen=True, eq=False)
class StateSource:
    """States in the order of their files.

    Attributes:
        files: Which file has which.
        stamps: When they are.
        parameters: Physical parameters by name, shape (state) each.
        read: From numbers of states, ascending, to the states. Collective: no.
    """

    files: Sequence[StateFile]
    stamps: Stamps
    parameters: Mapping[str, np.ndarray]
    read: Callable[[np.ndarray], Any]

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in {path for file in self.files for path in file.paths})


def trajectories(time: np.ndarray) -> np.ndarray:
    """Numbers the runs that states belong to: another one begins wherever time does not go on.

    Arguments:
        time: Days, NaN if unknown, shape (state).
    """
    with np.errstate(invalid="ignore"):
        begins = ~(np.diff(time) > 0)
    return np.concatenate([[0], np.cumsum(begins)]) if len(time) else np.zeros(0, np.int64)
