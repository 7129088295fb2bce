"""The emulator rank of the exchange with a model beside it: takes the field and judges nothing.

emulator.py CONFIG NI NJ NK
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halocline.mesh.communicator import Communicator
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run.bridge_config import BridgeConfig
from halocline.run.contract import GO_ON, OK, Judgement
from halocline.run.peer import Peer
from halocline.run.peer_library import divide
from halocline.run.peer_wire import Frame

TAG = 99


class Nothing:
    """Stands in for the emulator."""

    def __init__(self, comm: Communicator, shape: tuple[int, int]) -> None:
        self.layout = Layout.build(Lattice.build(np.ones(shape, bool), shape, 0), comm)

    def differences(self, declaration: object) -> list[str]:
        return []

    def check(self, declaration: object) -> None:
        """Agrees."""

    def check_mask(self, rect: object, mask: object, owner: str) -> list[str]:
        return []

    def observe(self, step: int, time: float, tiles: Mapping[str, np.ndarray]) -> Judgement:
        return Judgement(OK, GO_ON, step, "")

    def finalize(self) -> None:
        """Ends."""


class Timed(Peer):
    """Takes a plain message of the same bytes after each observation."""

    buffer: np.ndarray

    def observe(self, order: Frame) -> None:
        super().observe(order)
        from mpi4py import MPI

        MPI.COMM_WORLD.Recv(self.buffer, 0, TAG)
        MPI.COMM_WORLD.Send(b"", 0, TAG)


def main() -> None:
    ni, nj, nk = (int(word) for word in sys.argv[2:5])
    peer = Timed(divide(), Path(sys.argv[1]))
    peer.buffer = np.zeros(ni * nj * nk)

    def build(config: BridgeConfig, comm: Communicator) -> Any:
        return Nothing(comm, (nj, ni))

    peer.serve(build)


if __name__ == "__main__":
    main()
