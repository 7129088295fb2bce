"""Where a job may leave its files: refused at once, not after hours of work."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

__all__ = ["check_file", "make_folder", "table_console"]

TABLE_WIDTH = 140  # characters of a line in which the tables of `halocline evaluate` are whole


def check_file(path: Path) -> None:
    """Refuses a file that cannot be written.

    Arguments:
        path: File to write; it may exist.

    Raises:
        OSError: The path is a folder, or its own folder does not exist or may not be written to.
    """
    if path.is_dir():
        raise OSError(f"Output {path} is a folder, expected a file: add its name, such as {path / 'output.nc'}.")
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(
            f"Folder {folder} of the output does not exist or may not be written to: create it or choose another."
        )


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, unless it is there.

    Raises:
        OSError: It cannot be made, or may not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"Folder {folder} cannot be made ({error.strerror}): choose another output.") from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"Folder {folder} may not be written to: choose another output.")


def table_console() -> Console:
    """A console for tables of results, 140 characters wide at least.

    On a narrower terminal, in a pipe, or in the log of a job, where 80 are taken for granted, a table would be
    squeezed until its numbers lose digits; a line that runs on loses none. Under mpirun there are no escape codes: it
    gives its ranks a terminal of their own, wherever its own output goes.
    """
    console = Console(force_terminal=False if "OMPI_COMM_WORLD_SIZE" in os.environ else None)
    console.width = max(console.width, TABLE_WIDTH)
    return console
