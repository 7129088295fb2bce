"""Members × tiles over ranks: which ranks share the tiles of a member, and which members they make.

The result does not depend on the choice, only the time does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from halocline.mesh.communicator import Communicator, Serial

__all__ = ["Team", "by_some", "choose_ranks_per_member", "form_team", "usable"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Team:
    """Ranks that share the tiles of some members.

    Attributes:
        comm: Communicator of the team.
        members: Indices of the members it makes.
    """

    comm: Communicator | Serial
    members: tuple[int, ...]


def choose_ranks_per_member(ranks: int, tiles: int, members: int) -> int:
    """Chooses the team size that gives the busiest rank the fewest windows; on a tie the largest.

    A larger team holds less per rank and is the only way to use more ranks than there are members.

    Raises:
        ValueError: There are more ranks than windows, or no division leaves every rank with work.
    """
    best = None
    for size in range(1, min(ranks, tiles) + 1):
        teams = ranks // size
        if ranks % size or teams > members:
            continue
        work = -(-members // teams) * -(-tiles // size)
        if best is None or work <= best[0]:
            best = (work, size)
    if best is None:
        raise ValueError(
            f"{ranks} ranks for {tiles} tiles and {members} members: no division leaves work for every "
            f"rank; start at most {tiles * members} ranks, best a divisor of that, or make smaller tiles."
        )
    return best[1]


def usable(ranks: int, tiles: int, members: int) -> int:
    """The most ranks, from the first on, among which the work can be divided."""
    for count in range(ranks, 1, -1):
        try:
            choose_ranks_per_member(count, tiles, members)
        except ValueError:
            continue
        return count
    return 1


def by_some(
    comm: Communicator | Serial, workers: int, work: Callable[[Communicator | Serial], Made]
) -> Made:
    """Lets the first ranks do something with one thread each, which is part of what fixes the bits; the others wait.

    Arguments:
        comm: All ranks.
        workers: How many of them work.
        work: Called with their communicator.

    Returns:
        What the root made, on all ranks.

    Raises: what `work` raised, on all ranks.

    Collective: yes.
    """
    part = comm.split(0 if comm.rank < workers else None, comm.rank)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with comm.together():
            made = None if part is None else work(part)
    finally:
        torch.set_num_threads(threads)
    if part is not None:
        part.free()
    result: Made = comm.broadcast(made)
    return result


def form_team(comm: Communicator | Serial, tiles: int, members: int, size: int = 0) -> Team:
    """Divides all ranks into teams of neighbouring ranks.

    Arguments:
        comm: All ranks.
        tiles: Tiles of the lattice.
        members: Members to make.
        size: Ranks per team; 0: chosen.

    Raises:
        ValueError: The ranks cannot be divided so.

    Collective: yes.
    """
    with comm.together():
        size = size or choose_ranks_per_member(comm.size, tiles, members)
        if size < 1 or comm.size % size or size > tiles or comm.size // size > members:
            raise ValueError(
                f"ranks_per_member is {size} with {comm.size} ranks, {tiles} tiles and {members} members: "
                "expected a divisor of the ranks, at most as many as tiles, and no more teams than members."
            )
    team, teams = comm.rank // size, comm.size // size
    part = comm.split(team, comm.rank)
    if part is None:
        raise RuntimeError(f"Rank {comm.rank} belongs to no team of {size}.")
    return Team(part, tuple(range(team, members, teams)))
