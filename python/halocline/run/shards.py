"""This rank's part of what is trained: master weights, Adam's moments, averages, by name and place.

DeepSpeed lays the weights of all parameters, one after the other, into flat tensors and gives each rank a piece of
them. Where a piece lies in its parameter is written down here, so that a checkpoint names *parameters and ranges*,
whoever held them: any number of ranks and any stage can read it.

====== ============================ ===============================================
stage  weights and moments          saved and averaged by this rank
====== ============================ ===============================================
0      all of them on each rank     some of the parameters
1, 2   a part on each rank          that part
3      a share of each parameter    that share
====== ============================ ===============================================
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["KINDS", "Piece", "Shards", "quiet"]

MOMENTS = {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"}
KINDS = ("weights", *MOMENTS, "averages")

Read = Callable[[str, str, int, int], Tensor]
"""(kind, parameter, start, count) to values, float32, shape (count)."""


@dataclass(frozen=True)
class Piece:
    """Consecutive values of a parameter, seen in one dimension.

    Attributes:
        name: Of the parameter.
        start: Of its first value here.
        flat: Tensor in which the optimiser has it, float32.
        offset: Of the first value in `flat`.
        count: Number of values.
    """

    name: str
    start: int
    flat: Tensor
    offset: int
    count: int

    def view(self, tensor: Tensor) -> Tensor:
        """Returns this piece of a tensor that is laid out as `flat`, in one dimension unless it is all of it."""
        if self.count == tensor.numel():
            return tensor.detach()
        return tensor.detach()[self.offset : self.offset + self.count]


class Shards:
    """What this rank holds and what it saves; see the table above."""

    def __init__(self, held: Sequence[Piece], owned: Sequence[Piece], optimiser: Any, spread: Callable[[], None]):
        self.held, self.owned = list(held), list(owned)
        self._optimiser = optimiser
        self._spread = spread
        self.averages = [piece.view(piece.flat).clone() for piece in self.owned]

    @classmethod
    def of(cls, network: nn.Module, engine: Any, optimiser: Any, stage: int) -> Shards:
        """Finds out where DeepSpeed has put what.

        Arguments:
            network: The one that was given to DeepSpeed; gives names.
            engine: DeepSpeed's.
            optimiser: Torch's at stage 0, DeepSpeed's around it at the others.
            stage: Of ZeRO.

        Collective: no.
        """
        if stage == 0:
            held = [Piece(name, 0, p, 0, p.numel()) for name, p in network.named_parameters()]
            mine = deal(held, torch.distributed.get_world_size())[torch.distributed.get_rank()]
            return cls(held, mine, optimiser, lambda: None)
        find, spread = (partitioned, spread_partitions) if stage < 3 else (sharded, spread_shards)
        held = [piece for name, p in network.named_parameters() if (piece := find(name, p, optimiser))]
        return cls(held, held, optimiser.optimizer, lambda: spread(optimiser))

    @torch.no_grad()
    def average(self, decay: float) -> None:
        r"""Moves the averages, :math:`\bar w \leftarrow d\,\bar w + (1 - d)\,w`.

        Collective: no.
        """
        now = [piece.view(piece.flat) for piece in self.owned]
        torch._foreach_lerp_(self.averages, now, 1.0 - decay)

    def tensors(self, kind: str) -> Iterator[tuple[Piece, Tensor]]:
        """Yields piece and values, count of them in any shape, of all that this rank saves of a kind.

        Collective: no.
        """
        for piece, average in zip(self.owned, self.averages, strict=True):
            if kind == "averages":
                yield piece, average
            else:
                flat = piece.flat if kind == "weights" else self._state(piece.flat, MOMENTS[kind])
                yield piece, piece.view(flat)

    @torch.no_grad()
    def restore(self, read: Read, step: int) -> None:
        """Takes weights, moments and averages from a checkpoint.

        Arguments:
            read: Returns a range of a parameter.
            step: Optimiser steps behind them.

        Collective: yes, weights are spread to all ranks.
        """
        for piece in self.held:
            take(piece.view(piece.flat), read, "weights", piece)
            self._make_state(piece.flat, step)
            for kind, key in MOMENTS.items():
                take(piece.view(self._state(piece.flat, key)), read, kind, piece)
        for piece, average in zip(self.owned, self.averages, strict=True):
            take(average, read, "averages", piece)
        with quiet():
            self._spread()

    def _state(self, flat: Tensor, key: str) -> Tensor:
        state = self._optimiser.state.get(flat) or {}
        if key not in state:  # before the first step
            self._make_state(flat, 0)
        return self._optimiser.state[flat][key]

    def _make_state(self, flat: Tensor, step: int) -> None:
        state = self._optimiser.state[flat]
        for key in MOMENTS.values():
            if key not in state:
                state[key] = torch.zeros_like(flat)
        state["step"] = torch.tensor(float(step), device=flat.device)

    def bytes(self, parameters: Sequence[nn.Parameter]) -> dict[str, int]:
        """Counts the bytes on this rank: weights, master, optimiser, averages.

        `weights` are those of the network between steps, `master` are separate copies of 32 bits.

        Collective: no.
        """
        flats = {piece.flat.data_ptr(): piece.flat for piece in self.held}
        weights = {}
        for p in parameters:
            x = getattr(p, "ds_tensor", p)  # stage 3 leaves a share of each
            for tensor in (x, p):
                weights[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        master = sum(x.nbytes for x in flats.values() if x.untyped_storage().data_ptr() not in weights)
        moments = [self._state(flat, key).nbytes for flat in flats.values() for key in MOMENTS.values()]
        return {
            "weights": sum(weights.values()), "master": master, "optimiser": sum(moments),
            "averages": sum(x.nbytes for x in self.averages),
        }  # fmt: skip

    def forget(self) -> None:
        """Lets go of all tensors."""
        self.held, self.owned, self.averages = [], [], []
        self._optimiser = None


def take(target: Tensor, read: Read, kind: str, piece: Piece) -> None:
    """Fills a tensor with a piece of a checkpoint."""
    target.copy_(read(kind, piece.name, piece.start, piece.count).view(target.shape))


def deal(pieces: Sequence[Piece], ranks: int) -> list[list[Piece]]:
    """Deals pieces to ranks, the largest first, each to the rank that has least."""
    hands: list[list[Piece]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for piece in sorted(pieces, key=lambda piece: -piece.count):
        rank = loads.index(min(loads))
        hands[rank].append(piece)
        loads[rank] += piece.count
    return hands


def partitioned(name: str, parameter: nn.Parameter, optimiser: Any) -> Piece | None:
    """Finds the piece of a parameter in this rank's partition (stages 1 and 2), if there is one."""
    found = parameter._hp_mapping  # type: ignore[attr-defined]
    if found is None:
        return None
    flat = optimiser.optimizer.param_groups[found.param_group_index]["params"][0]
    place = found.get_hp_fragment_address()
    return Piece(name, found.lp_fragment_address.start, flat, place.start, place.numel)


def sharded(name: str, parameter: nn.Parameter, optimiser: Any) -> Piece | None:
    """Finds this rank's share of a parameter (stage 3), without the padding at its end."""
    group, offset, count = optimiser.grad_position[optimiser.get_param_id(parameter)]
    start = torch.distributed.get_rank() * count
    real = min(count, parameter.ds_numel - start)  # type: ignore[attr-defined]
    return Piece(name, start, optimiser.fp32_partitioned_groups_flat[group], offset, real) if real > 0 else None


def spread_partitions(optimiser: Any) -> None:
    """Copies master weights to the weights of all ranks (stages 1 and 2)."""
    optimiser.update_lp_params()


def spread_shards(optimiser: Any) -> None:
    """Copies master weights to the weights that compute (stage 3)."""
    for group in range(len(optimiser.fp32_partitioned_groups_flat)):
        optimiser._reassign_or_swap_out_partitioned_parameters(group)
    if optimiser.persistent_parameters:
        optimiser.persistent_parameters[0].all_gather(optimiser.persistent_parameters)


class quiet(warnings.catch_warnings):
    """Hides what DeepSpeed's use of torch warns about, which a user cannot change."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", FutureWarning)
