"""Stands in for halocline.run.bridge: generates numbers that name their cell, keeps what it sees.

The configuration is a JSON file: ``reject``: [step, action]; ``generated``: [level, action]; ``fail``: a verb that
raises.
Everything heard goes to heard_RRRR.json, fields of an observed step to seen_RRRR_SSSS.npz.
"""

import json
from pathlib import Path

import numpy as np
from mpi4py import MPI

SEED = {"temperature": 1e4, "salinity": 2e4, "velocity_u": 3e4, "velocity_v": 4e4, "sea_level": 5e4}


class Bridge:
    def __init__(self, comm: MPI.Comm, settings: dict) -> None:
        self.rank, self.settings, self.fields = comm.rank, settings, {}
        self.deadline = self.generate_deadline = 60.0
        self.on_fault = 0
        self.heard: dict = {"size": comm.size}

    def grid(self, ni, nj, nk, i0, j0, nx, ny, mask, stride) -> None:
        self.shape, self.corner = (nk, ny, nx), (j0, i0)
        self.mask = strided(mask, 8, self.shape, stride).copy()
        self.heard |= {"globe": [ni, nj, nk], "corner": [i0, j0], "cells": [nx, ny], "sea": int(self.mask.sum())}

    def field(self, name, point, unit, itemsize, levels, data, stride) -> None:
        self.fields[name] = strided(data, itemsize, (levels, *self.shape[1:]), stride)
        self.heard.setdefault("fields", {})[name] = [point, unit, levels]

    def ready(self, calendar, time_step, step, date) -> float:
        self.heard |= {"calendar": calendar, "time_step": time_step, "step": step, "date": date}
        self.fail("ready")
        return self.deadline

    def generate(self):
        level, action = self.settings.get("generated", (0, 0))
        for name, array in self.fields.items():
            if action == 0:
                k, j, i = np.indices(array.shape)
                value = SEED[name] + 1000 * k + 100 * (j + self.corner[0]) + i + self.corner[1]
                array[...] = value * (self.mask[: len(array)] > 0)
        return level, action, self.heard["step"], "a sentence on the generated state"

    def observe(self, step):
        self.fail("observe")
        np.savez(f"seen_{self.rank:04d}_{step:04d}.npz", **self.fields)
        at, action = self.settings.get("reject", (-1, 0))
        return (2, action, step, f"a sentence on step {step}") if step == at else (0, 0, step, "")

    def finalize(self):
        Path(f"heard_{self.rank:04d}.json").write_text(json.dumps(self.heard))
        return 3, 0, -1, ""

    def fail(self, verb: str) -> None:
        if self.settings.get("fail") == verb:
            error = RuntimeError(f"provoked in {verb}")
            error.agreed = True
            raise error


def start(communicator: int, config: str) -> Bridge:
    return Bridge(MPI.Comm.f2py(communicator), json.loads(Path(config).read_text()))


def strided(data: memoryview, itemsize: int, shape: tuple[int, ...], stride: tuple[int, int, int]) -> np.ndarray:
    numbers = np.frombuffer(data, f"f{itemsize}")
    return np.lib.stride_tricks.as_strided(numbers, shape, [itemsize * s for s in reversed(stride)])
