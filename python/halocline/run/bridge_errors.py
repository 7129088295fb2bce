"""Errors inside a model's process: what they are called, and what they leave behind."""

from __future__ import annotations

import traceback
from pathlib import Path

from halocline.run.contract import USAGE
from halocline.run.outputs import make_folder

__all__ = ["UsageError", "write_traceback"]


class UsageError(ValueError):
    """The model called a verb with wrong arguments."""

    halocline_status = USAGE


def write_traceback(folder: Path, rank: int, where: str, error: BaseException) -> None:
    """Leaves a file that says where an error came from, and notes its name in `error.traceback_file`.

    An error that all ranks share is written by the one on which it happened. Where the folder cannot be written, the
    error keeps no name, and its sentence must do.

    Arguments:
        folder: Output of the bridge.
        rank: This one, in the model's communicator.
        where: Verb, step, field.
        error: As caught.

    Collective: no.
    """
    origin = getattr(error, "origin", 0) if getattr(error, "agreed", False) else rank
    path = folder / f"traceback_rank_{origin:04d}.txt"
    try:
        if origin == rank:
            make_folder(folder)
            text = "".join(traceback.format_exception(error))
            path.write_text(f"Rank {rank}, {where}: {type(error).__name__}: {error}\n\n{text}")
        error.traceback_file = str(path)  # type: ignore[attr-defined]
    except OSError:
        return
