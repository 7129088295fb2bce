"""Stands in for halocline.run.bridge in tests of the bridge alone: no generator, no judgement.

HALOCLINE_PYTHON_MODULE=standin_bridge makes the plugin use it. The configuration is a JSON file:

- ``verb``, ``step``, ``rank``: where ``do`` happens (any step, any rank, if left out);
- ``do``: name of an action below; ``error``, ``agreed``, ``status``: of the exception that the action "raise" raises;
- ``verdict``: [level, action] of generate and observe; ``every``: steps between verdicts;
- ``deadline``, ``on_fault``: settings of the bridge.

A verdict's reason lists the sum of every field over this rank's cells.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

Verdict = tuple[int, int, int, str]


class Bridge:
    def __init__(self, comm: MPI.Comm, settings: dict) -> None:
        self.comm, self.settings = comm, settings
        self.deadline = self.generate_deadline = float(settings.get("deadline", 60))
        self.on_fault = settings.get("on_fault", 0)
        self.every = settings.get("every", 1)
        self.fields: dict[str, np.ndarray] = {}
        self.act("start", 0)

    def grid(self, ni, nj, nk, i0, j0, nx, ny, mask, stride) -> None:
        self.act("grid", 0)
        self.shape, self.corner, self.cells = (nk, ny, nx), (j0, i0), (ni, nj, nk)
        self.mask = None if mask is None else strided(mask, 8, self.shape, stride).copy()

    def field(self, name, point, unit, itemsize, levels, data, stride) -> None:
        self.act("field", 0)
        if data is not None:
            self.fields[name] = strided(data, itemsize, (levels, *self.shape[1:]), stride)

    def ready(self, calendar: str, time_step: float, step: int, date: int) -> float:
        self.act("ready", step)
        self.start = step
        return self.deadline

    def generate(self) -> Verdict:
        """Cell (i, j, k) of the globe, counted from 0, gets 10000 k + 100 j + i; land gets 0."""
        self.act("generate", self.start)
        j0, i0 = self.corner
        for array in self.fields.values():
            k, j, i = np.indices(array.shape)
            array[...] = np.where(self.mask[: len(array)] > 0, 10000 * k + 100 * (j + j0) + i + i0, 0)
        return self.verdict(self.start)

    def observe(self, step: int) -> Verdict | None:
        if self.every == 0 or step % self.every:
            return None
        self.act("observe", step)
        return self.verdict(step)

    def finalize(self) -> Verdict:
        self.act("finalize", 0)
        return 3, 0, -1, ""

    def verdict(self, step: int) -> Verdict:
        level, action = self.settings.get("verdict", (0, 0))
        return level, action, step, " ".join(f"{name}={array.sum():.1f}" for name, array in self.fields.items())

    def act(self, verb: str, step: int) -> None:
        wanted = self.settings
        here = {"verb": verb, "step": step, "rank": self.comm.rank}
        if "do" in wanted and all(wanted.get(key, value) == value for key, value in here.items()):
            ACTIONS[wanted["do"]](wanted)


def start(communicator: int, config: str) -> Bridge:
    return Bridge(MPI.Comm.f2py(communicator), json.loads(Path(config).read_text()))


def strided(data: memoryview, itemsize: int, shape: tuple[int, ...], stride: tuple[int, int, int]) -> np.ndarray:
    """A view (k, j, i) of the model's own memory."""
    numbers = np.frombuffer(data, f"f{itemsize}")
    return np.lib.stride_tricks.as_strided(numbers, shape, [itemsize * s for s in reversed(stride)])


def fail(settings: dict) -> None:
    kind = getattr(builtins, settings.get("error", "ValueError"))
    error = kind(5 if kind is SystemExit else "temperature below freezing at (3, 4)")
    error.agreed = settings.get("agreed", True)
    if "status" in settings:
        error.halocline_status = settings["status"]
    raise error


def sleep(settings: dict) -> None:
    time.sleep(60)


def kill(settings: dict) -> None:
    os.kill(os.getpid(), 9)


def odd_arithmetic(settings: dict) -> None:
    """Legitimate in numpy, fatal under floating-point traps."""
    with np.errstate(all="ignore"):
        assert np.isinf(np.ones(1000) / np.zeros(1000)).all()
        assert np.isnan(np.zeros(1000) / np.zeros(1000)).all()
        assert np.isinf(np.full(1000, 1e300) * 1e300).all()
        scores = np.array([-np.inf, -np.inf])
        assert np.isnan(np.exp(scores - scores.max())).all()


def odd_pool(settings: dict) -> None:
    """The same in the threads of torch, which are started here."""
    import torch

    torch.set_num_threads(2)
    assert torch.isinf(torch.ones(1_000_000) / torch.zeros(1_000_000)).all()
    assert torch.isnan(torch.softmax(torch.full((1000, 1000), -torch.inf), 1)).all()


def small_numbers(settings: dict) -> None:
    """Numbers below 1e-308 exist, whatever the model does with its own."""
    assert np.all(np.full(1000, 1e-300) * 1e-10 > 0)


def load_openmp(settings: dict) -> None:
    """Loads a copy of the compiler's runtime under the name of another one."""
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "libgomp" in line)
    ctypes.CDLL(shutil.copy(path, os.path.abspath("libiomp5.so")))


ACTIONS = {
    "raise": fail, "sleep": sleep, "kill": kill, "odd arithmetic": odd_arithmetic, "odd pool": odd_pool,
    "small numbers": small_numbers, "load openmp": load_openmp,
}  # fmt: skip
