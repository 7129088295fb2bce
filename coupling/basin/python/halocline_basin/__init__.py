"""The embedded host ocean, driven from Python.

The package wraps the Fortran model `coupling/basin` in the calling process: the same code, the
same bits as the program `basin.x`. One ocean per process; arrays run (k, j, i) as everywhere.

    import halocline_basin as basin

    basin.init("namelist")
    basin.step(240)
    temperature = basin.get("tn")    # (nz, ny, nx), degC
    basin.finalize()

MPI is initialised by `init` unless mpi4py has done so. Under a launcher all functions except
`shape`, `kt` and `time_step` are collective over MPI_COMM_WORLD; fields live on rank 0.
"""

import os

import numpy as np
import numpy.typing as npt

from halocline_basin.face import basin_face as _ocean

__all__ = ["finalize", "get", "init", "kt", "run", "save", "set", "shape", "step", "time_step"]


def init(namelist: str | os.PathLike[str]) -> None:
    """Builds the ocean that a namelist file describes and sets its start.

    Raises:
        RuntimeError: The settings or the restart are wrong.
    """
    _check(_ocean.face_init(os.fspath(namelist)))


def step(steps: int) -> None:
    """Advances the ocean by a number of steps, without output.

    Raises:
        RuntimeError: The ocean blew up, or Halocline asks to stop.
    """
    _check(_ocean.face_step(steps))


def run() -> None:
    """Runs to the end that the namelist names and writes all its output.

    Raises:
        RuntimeError: The ocean blew up, a file cannot be written, or Halocline asks to stop; all is written then.
    """
    _check(_ocean.face_run())


def save() -> None:
    """Writes a restart of the present state into the folder cn_output.

    Raises:
        RuntimeError: The file cannot be written.
    """
    _check(_ocean.face_save())


def get(name: str) -> npt.NDArray[np.float64]:
    """Copies a field out, land zero.

    Arguments:
        name: tn (degC), sn (g/kg), un, vn (m/s), sshn (m).

    Returns:
        Shape (nz, ny, nx), for sshn (ny, nx).

    Raises:
        RuntimeError: There is no such field.
    """
    nz, ny, nx = shape()
    levels = 1 if name == "sshn" else nz
    field = np.zeros((levels, ny, nx))
    _check(_ocean.face_get(name, field.T))  # the transpose is Fortran's (i, j, k), same memory
    return field[0] if name == "sshn" else field


def set(name: str, field: npt.NDArray[np.float64]) -> None:
    """Replaces a field; land values are ignored, velocities follow from the rest at the next step.

    Arguments:
        name: tn (degC), sn (g/kg), un, vn (m/s), sshn (m).
        field: Shape (nz, ny, nx), for sshn (ny, nx).

    Raises:
        RuntimeError: There is no such field, or its shape is wrong.
    """
    values = np.array(field, dtype=np.float64, ndmin=3, order="C")
    _check(_ocean.face_set(name, values.T))


def shape() -> tuple[int, int, int]:
    """Returns the global size (nz, ny, nx)."""
    nx, ny, nz = _ocean.face_shape()
    return int(nz), int(ny), int(nx)


def kt() -> int:
    """Returns the number of steps since the start of year 1."""
    return int(_ocean.face_time()[0])


def time_step() -> float:
    """Returns the length of a step in seconds."""
    return float(_ocean.face_time()[1])


def finalize() -> None:
    """Parts from Halocline, frees the ocean, and MPI if `init` started it; no further call is possible then.

    Raises:
        RuntimeError: Halocline failed at the end.
    """
    _check(_ocean.face_finalize())


def _check(result: bytes | tuple[object, ...]) -> None:
    """Raises the sentence that a call left; the wrapper may return changed arguments before it."""
    text = result[-1] if isinstance(result, tuple) else result
    assert isinstance(text, bytes)
    if sentence := text.decode().strip("\0 "):
        raise RuntimeError(sentence)
