"""Files that appear under their name whole or not at all.

A file is written under a temporary name in the same folder, forced to disk, and moved into place by the
operating system in one step. A reader sees the old file or the new one, never half of one, and a failure
leaves the old one as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["atomic_path", "atomic_paths"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def atomic_path(path: Path | str, needed: int | None = None) -> Iterator[Path]:
    """Gives a temporary name to write to, and moves the file to `path` when the block ends.

    Arguments:
        path: Final name.
        needed: Size of the file, bytes, if known: a disk with less free space is refused at once.

    Raises:
        OSError: The file could not be written; nothing is left under the temporary name, and what
            was under the final name before is still there. Other exceptions of the block pass.

    Collective: no.
    """
    with atomic_paths([path], needed) as temporaries:
        yield temporaries[0]


@contextlib.contextmanager
def atomic_paths(paths: Sequence[Path | str], needed: int | None = None) -> Iterator[list[Path]]:
    """Does the same for files that belong together: all are complete before the first is moved.

    Collective: no.
    """
    finals = [Path(path) for path in paths]
    temporaries = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in finals]
    try:
        _check_folder(finals[0], needed)
        yield temporaries
        for temporary in temporaries:
            _force_to_disk(temporary)
        for temporary, path in zip(temporaries, finals, strict=True):
            os.replace(temporary, path)
        with contextlib.suppress(OSError):  # some network file systems refuse it; the files are in place
            _force_to_disk(finals[0].parent)
    except (OSError, RuntimeError) as error:
        # The netCDF and torch libraries report a failed write as a RuntimeError.
        raise _explain(error, finals[0], _written(temporaries), needed) from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _check_folder(path: Path, needed: int | None) -> None:
    """Refuses a folder that is missing or has too little space."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"folder {path.parent} does not exist")
    if needed is not None and needed > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, "too little free space")


def _force_to_disk(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _written(temporaries: Sequence[Path]) -> int:
    """Bytes written so far."""
    return sum(path.stat().st_size for path in temporaries if path.exists())


def _explain(
    error: OSError | RuntimeError, path: Path, written: int, needed: int | None
) -> OSError:
    """Turns a failure into a sentence with the file, the space and the remedy."""
    number = error.errno if isinstance(error, OSError) else None
    reason = str((isinstance(error, OSError) and error.strerror) or error)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"Cannot write {path}: {reason}; create it or choose another folder.")
    free = shutil.disk_usage(path.parent).free
    wanted = "" if needed is None else f" of {needed} needed"
    # A library's own error has no number; what interrupts a write that has begun is a disk, quota or limit.
    full = number in _FULL or (number is None and written > 0)
    remedy = (
        "free space, raise the quota or file-size limit, or choose another folder"
        if full
        else "check permission and space of the folder, or choose another one"
    )
    explained = OSError(
        f"Cannot write {path} ({reason}): {written} bytes{wanted} were written, {free} are free in "
        f"{path.parent}; {remedy}."
    )
    explained.errno = number
    return explained
