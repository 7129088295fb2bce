"""The halo exchange: owned cells to windows, and its adjoint.

The exchange is linear. `fill` gives every window position the value of the cell it shows (`Lattice.source`), times the
channel's sign where the fold was crossed, and zero where nothing lies; on a folded grid this includes owned cells that
repeat others, so `fill` also projects. `adjoint` is its transpose: each value of a window is added to the cell that it
shows. These additions run in the order of the lattice, whoever owns what, so gradients too have the same bits in any
layout.

One message goes to each neighbouring rank per call, with all members, tiles and channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halocline.mesh.halo_tables import HaloTables, build_tables
from halocline.mesh.layout import Layout

_FILL, _ADJOINT = 1, 2  # message tags: a forward and a backward exchange may be under way at once


@dataclass
class Pending:
    """An exchange under way: its buffers and requests. Made by `HaloPlan.start`, used up by `HaloPlan.finish`."""

    x: Tensor
    inbox: np.ndarray
    outbox: np.ndarray
    requests: list[Any]
    version: int | None
    finished: bool = field(default=False)


@dataclass(frozen=True, eq=False)
class HaloPlan:
    """Fills the halos of tile batches. Built once by `build`, immutable, free of buffers.

    Arguments:
        layout: Tiles and their owners.
        points, signs: Of each channel.
        tables: What moves; see `halo_tables`.
    """

    layout: Layout
    points: tuple[str, ...]
    signs: tuple[int, ...]
    tables: HaloTables

    @classmethod
    def build(cls, layout: Layout, points: Sequence[str], signs: Sequence[int]) -> "HaloPlan":
        """Works out what moves for channels at given points of the C-grid.

        Arguments:
            layout: Tiles and their owners.
            points: Point of each channel, in {"T", "U", "V", "F", "W"}.
            signs: +1, or -1 for vector components, of each channel.

        Raises:
            ValueError: Numbers of points and signs differ, a point or sign is unknown, or ranks disagree.

        Collective: yes.
        """
        points, signs = tuple(points), tuple(int(sign) for sign in signs)
        with layout.comm.together():
            if len(points) != len(signs) or not set(signs) <= {1, -1}:
                raise ValueError(
                    f"Halo plan of {len(points)} points and signs {signs}: give one sign, 1 or -1, per channel."
                )
        if len(set(layout.comm.allgather((points, signs)))) > 1:
            raise ValueError("Channels differ between ranks: build the halo plan from the same variables everywhere.")
        return cls(layout, points, signs, build_tables(layout, points, signs))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.points)

    @property
    def neighbours(self) -> list[int]:
        """Ranks that get a message from this one."""
        return self.tables.outbox.ranks

    def bytes_per_fill(self, members: int, itemsize: int = 4) -> int:
        """Counts the bytes that this rank sends in one fill. Collective: no."""
        return members * self.tables.outbox.size * itemsize

    def fill(self, x: Tensor) -> Tensor:
        """Fills the halos; differentiable.

        Arguments:
            x: Owned cells, shape (member, tile, channel, tile_j, tile_i), float32 or float64.

        Returns:
            Windows, shape (member, tile, channel, wj, wi).

        Raises:
            ValueError: Shape or type is not the plan's.

        Collective: yes.
        """
        if x.requires_grad and torch.is_grad_enabled():
            return _Fill.apply(x, self)
        return self.finish(self.start(x))

    def start(self, x: Tensor) -> Pending:
        """Sends this rank's rims and returns at once; x must not change until `finish`. Not differentiable.

        Collective: yes, as one with `finish`.
        """
        x = self._checked(x, self.layout.lattice.tile)
        members, dtype = len(x), x.numpy().dtype
        tables, comm = self.tables, self.layout.comm
        inbox = np.empty(members * tables.inbox.size, dtype)
        outbox = np.empty(members * tables.outbox.size, dtype)
        requests = [comm.receive(part, rank, _FILL) for rank, part in tables.inbox.parts(inbox, members)]
        tables.pack(outbox, x.numpy(), members)
        requests += [comm.send(part, rank, _FILL) for rank, part in tables.outbox.parts(outbox, members)]
        return Pending(x, inbox, outbox, requests, _version(x))

    def finish(self, pending: Pending) -> Tensor:
        """Receives the other ranks' rims and returns the windows; see `fill`.

        Raises:
            RuntimeError: This exchange was finished before, or x has changed since its start: the halo is stale.
        """
        x, members = pending.x, len(pending.x)
        if pending.finished:
            raise RuntimeError("Halo exchange was finished twice, expected once: start a new one for a new state.")
        pending.finished = True
        windows = x.new_empty((members, *self._shape(self.layout.lattice.window)))
        self.tables.local(windows.numpy(), x.numpy(), members)
        self.layout.comm.wait(pending.requests)
        if _version(x) != pending.version:
            raise RuntimeError("State was changed while its halo was under way: finish the exchange first.")
        self.tables.unpack(windows.numpy(), pending.inbox, members)
        return windows

    def adjoint(self, windows: Tensor) -> Tensor:
        """Adds each window value to the cell it shows: the transpose of `fill`; differentiable.

        Arguments:
            windows: Shape (member, tile, channel, wj, wi), float32 or float64.

        Returns:
            Owned cells, shape (member, tile, channel, tile_j, tile_i).

        Raises:
            ValueError: Shape or type is not the plan's.

        Collective: yes.
        """
        if windows.requires_grad and torch.is_grad_enabled():
            return _Adjoint.apply(windows, self)
        w, comm = self._checked(windows, self.layout.lattice.window), self.layout.comm
        members, dtype = len(w), w.numpy().dtype
        come = np.empty(members * self.tables.outbox.size, dtype)  # what fill sends comes back, and the reverse
        go = np.empty(members * self.tables.inbox.size, dtype)
        requests = [comm.receive(part, rank, _ADJOINT) for rank, part in self.tables.outbox.parts(come, members)]
        self.tables.pack_adjoint(go, w.numpy(), members)
        requests += [comm.send(part, rank, _ADJOINT) for rank, part in self.tables.inbox.parts(go, members)]
        owned = w.new_empty((members, *self._shape(self.layout.lattice.tile)))
        self.tables.keep(owned.numpy(), w.numpy(), members)
        comm.wait(requests)
        self.tables.add(owned.numpy(), w.numpy(), members, other=come, add=True)
        return owned

    def _shape(self, cells: tuple[int, int]) -> tuple[int, ...]:
        return (len(self.layout.local), self.channels, *cells)

    def _checked(self, x: Tensor, cells: tuple[int, int]) -> Tensor:
        """A contiguous tensor that shares x's memory where it can; an error before any message if it does not fit."""
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"Halo exchange got {x.dtype}, expected float32 or float64: convert the state first.")
        if x.ndim != 5 or tuple(x.shape[1:]) != self._shape(cells):
            expected = ", ".join(map(str, self._shape(cells)))
            raise ValueError(
                f"Halo exchange got shape {tuple(x.shape)}, expected (member, {expected}): "
                "pass this rank's tiles as (member, tile, channel, j, i), with the channels of the plan."
            )
        if x.device.type != "cpu":
            raise ValueError(f"Halo exchange got a tensor on {x.device}, expected the CPU: copy it there and back.")
        return x.detach().contiguous()


def _version(x: Tensor) -> int | None:
    """How often a tensor was written to; None where torch does not count."""
    return None if x.is_inference() else x._version


class _Fill(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: HaloPlan) -> Tensor:
        ctx.plan = plan
        return plan.finish(plan.start(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.plan.adjoint(gradients[0]), None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, windows: Tensor, plan: HaloPlan) -> Tensor:
        ctx.plan = plan
        return plan.adjoint(windows.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.plan.fill(gradients[0]), None
