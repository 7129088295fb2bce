"""Runs `halocline serve` with a stand-in for what serves: ``beside.py KIND``.

The last rank fails in the way that KIND names, the others wait for it as a model waits for an answer.
"""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from halocline.__main__ import app

kind = sys.argv[1]


def serve(config: Path) -> None:
    if kind == "early":  # before MPI is set up
        raise FileNotFoundError(f"Configuration {config} does not exist.")
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if kind != "farewell" and comm.rank == comm.size - 1:
        fail()
    comm.barrier()


def fail() -> None:
    if kind == "contract":
        error = ValueError("Grid along i: the model has 9 cells, the generator 8.")
        error.halocline_status = 4  # type: ignore[attr-defined]
        raise error
    if kind == "mistake":
        raise KeyError("a name nobody knows")
    if kind == "exit":
        sys.exit(0)
    os.kill(os.getpid(), signal.SIGINT)


sys.modules["halocline.run.peer"] = SimpleNamespace(serve=serve)  # type: ignore[assignment]
app(["serve", "bridge.yaml"], prog_name="halocline")
