"""Runs a command during which something happens: ``accident.py KIND RANK CALL ARGUMENTS…``.

KIND names what happens and where, on rank RANK at the beginning of the CALL-th step:

- train-kill, sample-kill: the process is killed, as by a full memory;
- train-raise, sample-raise: an exception that no other rank knows of;
- train-mistake: a KeyError that all ranks agree on;
- train-nan, sample-nan: the weights are no longer numbers;
- train-stop, train-SIGTERM, train-SIGUSR1: the signal, as at the end of a queue's time;
- train-full: from now on no file takes a byte.

In all of them a step of training takes one minute by the clock that the checkpoints follow.
"""

import itertools
import os
import resource
import signal
import sys
from types import SimpleNamespace
from typing import Any

from halocline.__main__ import app
from halocline.flow.tiled import TiledDenoiser
from halocline.mesh.communicator import world
from halocline.run import trainer


def main() -> None:
    kind, rank, call, *arguments = sys.argv[1:]
    where, _, what = kind.partition("-")
    owner, name = {"train": (trainer.Trainer, "advance"), "sample": (TiledDenoiser, "__call__")}[where]
    step, calls = getattr(owner, name), itertools.count(1)
    minutes = SimpleNamespace(now=0)
    here = os.environ.get("OMPI_COMM_WORLD_RANK", "0") == rank
    trainer.time = SimpleNamespace(monotonic=lambda: 60.0 * minutes.now)

    def stepping(*args, **options):
        minutes.now += 1
        if next(calls) == int(call):
            if what == "mistake":
                world().agree(KeyError("a name nobody knows") if here else None)
            elif here:
                happen(what, args[0])
        return step(*args, **options)

    setattr(owner, name, stepping)
    app(arguments, prog_name="halocline")


def happen(what: str, owner: Any) -> None:
    if what == "raise":
        raise RuntimeError("The disk of this node is gone.")
    if what == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    elif what == "nan":
        next(owner.denoiser.network.parameters()).data.fill_(float("nan"))
    else:
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGTERM}.get(what) or signal.Signals[what])


main()
