"""The C library that divides a job's ranks between a model and the emulator beside it."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from halocline.run.contract import START

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["Sides", "StartError", "divide", "start_deadline"]

NAME = "halocline"
"""By which emulator ranks are known in `halocline_split`."""


class StartError(RuntimeError):
    """MPI, the library or the other programs of the job are not as they must be."""

    def __init__(self, sentence: str, status: int = START) -> None:
        super().__init__(sentence)
        self.halocline_status = status


class Sides(NamedTuple):
    """A divided job.

    Attributes:
        joint: Communicator of all ranks of all programs.
        emulators: That of the emulator ranks.
        sharing: Ranks, this one included, that may run on the cores of this one.
    """

    joint: MPI.Comm
    emulators: MPI.Comm
    sharing: int


def start_deadline() -> float:
    """Longest wait for other programs at the start, s; `divide` has checked that it is one."""
    return float(os.environ.get("HALOCLINE_START_DEADLINE", "300"))


def divide() -> Sides:
    """Calls `halocline_split` as an emulator rank.

    Raises:
        StartError: The library is missing or calls another MPI, a program of the job does not call `halocline_split`,
            or there is no other program.

    Collective: yes, over MPI_COMM_WORLD.
    """
    from mpi4py import MPI

    library = _open()
    theirs, ours = library.halocline_mpi_version().decode(), MPI.Get_library_version().rstrip("\0")
    if theirs != ours:
        raise StartError(
            f"mpi4py calls another MPI library ({ours.strip()}) than libhalocline ({theirs.strip()}): rebuild it with "
            "MPICC=mpicc pip install --force-reinstall --no-binary mpi4py mpi4py."
        )
    part, joint, sharing = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    status = library.halocline_split(MPI.COMM_WORLD.py2f(), NAME.encode(), ctypes.byref(part))
    if status:
        raise StartError(library.halocline_message().decode(errors="replace"), status)
    library.halocline_joint(ctypes.byref(joint), ctypes.byref(sharing))
    sides = Sides(MPI.Comm.f2py(joint.value), MPI.Comm.f2py(part.value), sharing.value)
    if sides.joint.Get_size() == sides.emulators.Get_size():
        raise StartError(
            "No rank of this job runs a model: start both in one command, such as "
            "mpirun -n 4 ./model : -n 2 halocline serve CONFIG; a model on another MPI library counts as another job."
        )
    return sides


def _open() -> ctypes.CDLL:
    path = Path(os.environ.get("HALOCLINE_LIBRARY") or Path(sys.prefix) / "lib" / "libhalocline.so")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise StartError(
            f"Library {path} cannot be loaded ({error}): install halocline anew, or name the library in the "
            "environment variable HALOCLINE_LIBRARY."
        ) from error
    for name in ("halocline_mpi_version", "halocline_message"):
        getattr(library, name).restype = ctypes.c_char_p
    return library
