"""`halocline serve` with a stand-in for the emulator: it compares every cell it gets, and fails on demand.

    standin.py CONFIG

The configuration's `run` names a JSON file: ni, nj, nk, tile [j, i], land [j, i] (corner without sea), and what to do:
"do" {"at": step, "rank": emulator rank or null for all, "what": see `act`}.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

from halocline.mesh.communicator import Communicator
from halocline.mesh.grid import box_grid
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rect, tile_rectangles
from halocline.run import peer, peer_cells
from halocline.run.bridge_config import BridgeConfig
from halocline.run.contract import ContractError, Declaration, Judgement

GENERATED_STEP = 7


class StandIn:
    """Has the methods of `halocline.run.emulator.Emulator`."""

    def __init__(self, config: BridgeConfig, comm: Communicator) -> None:
        self.case = json.loads(Path(config.run).read_text())
        self.do = self.case.get("do", {})
        ni, nj, nk = (self.case[axis] for axis in ("ni", "nj", "nk"))
        levels = np.full((nj, ni), nk)
        land_j, land_i = self.case.get("land", (0, 0))
        levels[:land_j, :land_i] = 0
        self.grid = box_grid(nk, nj, ni, levels=levels)
        lattice = Lattice.from_grid(self.grid, self.case["tile"], 0)
        if comm.size > lattice.count:
            raise ValueError(f"{comm.size} ranks, {lattice.count} tiles")
        self.layout = Layout.build(lattice, comm)
        self.rects = [rect for rank, rect in tile_rectangles(self.layout) if rank == comm.rank]
        self.before = 0
        self.act("build")

    def differences(self, declaration: Declaration) -> list[str]:
        nk, nj, ni = self.grid.shape
        axes = {"i": (declaration.ni, ni), "j": (declaration.nj, nj), "k": (declaration.nk, nk)}
        lines = [f"Grid along {a}: the model has {x} cells, the emulator {y}." for a, (x, y) in axes.items() if x != y]
        units = {"temperature": "degC", "sea_level": "m"}
        lines += [f"Field {f.name}: unit '{f.unit}'." for f in declaration.fields if f.unit != units[f.name]]
        return lines + [f"Calendar '{declaration.calendar}'."] * (declaration.calendar != "360_day")

    def check(self, declaration: Declaration) -> None:
        if lines := self.differences(declaration):
            raise ContractError.of(lines)
        self.declaration = declaration
        _, nj, ni = self.grid.shape
        self.held = np.zeros((nj, ni), bool)
        for rect in declaration.rectangles:
            if rect is not None:
                self.held[rect.j0 : rect.j1, rect.i0 : rect.i1] = True

    def check_mask(self, rect: Rect, mask: np.ndarray, owner: str) -> list[str]:
        expected = self.grid.tmask[:, rect.j0 : rect.j1, rect.i0 : rect.i1]
        if expected.shape != mask.shape or (mask == expected).all():
            return []
        return [f"Mask of {owner}: {(mask != expected).sum()} cells differ."]

    def generate(self, date: int) -> tuple[dict[str, np.ndarray], Judgement]:
        assert date == 10101
        self.act("generate")
        tiles = {}
        for field in self.declaration.fields:
            order = ("temperature", "sea_level").index(field.name)
            tiles[field.name] = self.expected(order, field.levels, GENERATED_STEP, self.grid.wet)
        if self.do.get("at") == "send":
            tiles = {name: x[:, :, 1:] for name, x in tiles.items()}  # cannot be sent
        return tiles, self.judgement(0)

    def observe(self, step: int, time: float, tiles: dict[str, np.ndarray]) -> Judgement:
        assert time == 3600.0 * step
        self.act(step)
        if step == 1000:
            self.before = memory()
        for field in self.declaration.fields:
            order = ("temperature", "sea_level").index(field.name)
            expected = self.expected(order, field.levels, step, self.held)
            if tiles[field.name].dtype != f"f{field.bytes}" or not np.array_equal(tiles[field.name], expected):
                wrong = np.argwhere(tiles[field.name] != expected)
                raise AssertionError(f"{field.name}, step {step}: {len(wrong)} cells differ, first {wrong[:1]}")
        return self.judgement(step)

    def finalize(self) -> None:
        self.layout.comm.barrier()
        if self.before:
            print(f"emulator grew by {memory() - self.before} kB", flush=True)

    def expected(self, order: int, levels: int, step: int, where: np.ndarray) -> np.ndarray:
        """Values of model.c on this rank's tiles, zero where the model has no cell."""
        nk, nj, ni = self.grid.shape
        k, j, i = np.ogrid[:levels, :nj, :ni]
        whole = ((((order * 8 + step % 8) * nk + k) * nj + j) * ni + i + 1) * where
        tiles = np.zeros((len(self.rects), levels, *self.case["tile"]))
        for tile, rect in zip(tiles, self.rects, strict=True):
            tile[:, : rect.shape[0], : rect.shape[1]] = whole[:, rect.j0 : rect.j1, rect.i0 : rect.i1]
        return tiles

    def judgement(self, step: int) -> Judgement:
        level, action = self.case.get("verdicts", {}).get(str(step), (0, 0))
        return Judgement(level, action, step, f"verdict of step {step}")

    def act(self, at: object) -> None:
        """Does what the case asks for."""
        do, rank = self.do, self.layout.comm.rank
        if do.get("at") != at or do.get("rank") not in (None, rank):
            return
        if do["what"] == "raise":
            raise KeyError("the emulator has raised")
        if do["what"] == "exit":
            sys.exit(0)
        if do["what"] == "leave":
            os._exit(0)
        if do["what"] == "finish":
            MPI.Finalize()
            os._exit(0)
        if do["what"] in ("SIGKILL", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, do["what"]))
            time.sleep(10)
        if do["what"] == "sleep":
            time.sleep(do.get("seconds", 60))
        if do["what"] == "wait":
            limit = time.monotonic() + 20
            while not Path(do["file"]).exists():
                assert time.monotonic() < limit, "the model does not go on"
                time.sleep(0.01)


def memory() -> int:
    """Resident memory, kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


if __name__ == "__main__":
    case = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else {}
    peer.LONGEST = peer_cells.LONGEST = int(case.get("longest", peer_cells.LONGEST))
    peer.serve(Path(sys.argv[1]), (), StandIn)
