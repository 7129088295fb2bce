"""One file of recorded traffic."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

__all__ = ["EventFile"]


class EventFile:
    """Arrays of an event on one rank, read when asked for; failures name the file.

    Raises:
        FileNotFoundError, OSError: The file is missing or damaged.

    Collective: no.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> EventFile:
        with self._explained():
            self._file = np.load(self.path, allow_pickle=False)
        self.files: list[str] = self._file.files
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getitem__(self, name: str) -> np.ndarray:
        with self._explained():
            array: np.ndarray = self._file[name]
        return array

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Makes a sentence of what numpy and zip say of a damaged file."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"Recorded event {self.path} is missing: restore it.") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise OSError(f"Recorded event {self.path} cannot be read ({error}): restore it.") from error
