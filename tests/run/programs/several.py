"""Runs several commands in one launch: ``several.py '[["sample", …], …]'``.

Rank 0 prints at the end, as JSON, how each command ended on each rank: [status, stdout, stderr]. An error that one
rank keeps to itself aborts the launch, so the line does not appear.
"""

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from mpi4py import MPI

from halocline.__main__ import app


def end_of(arguments: list[str]) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            app(arguments, prog_name="halocline")
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), err.getvalue()


results = [MPI.COMM_WORLD.gather(end_of(arguments)) for arguments in json.loads(sys.argv[1])]
if MPI.COMM_WORLD.rank == 0:
    print("results:", json.dumps(results), flush=True)
