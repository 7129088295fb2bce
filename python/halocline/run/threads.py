"""What the ranks of one node share: its cores and its accelerators."""

from __future__ import annotations

import os

import torch

from halocline.mesh.communicator import Communicator, Serial

__all__ = ["choose_device", "share_cores"]


def share_cores(node: Communicator | Serial) -> int:
    """Sets the threads of this rank to its share of the cores it may use, and returns it.

    OMP_NUM_THREADS, where the user has set it, wins. Without this two ranks on two unbound cores would run
    two threads each and wait for each other.

    Arguments:
        node: The ranks of this node, see `split_by_node`.

    Collective: yes, over the node.
    """
    mine = usable_cores()
    # A launcher that binds gives each rank cores of its own, or each socket to some; one that does not, all to all.
    sharing = node.allgather(mine).count(mine)
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    threads = max(1, len(mine) // sharing)
    torch.set_num_threads(threads)
    return threads


def usable_cores() -> frozenset[int]:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))  # macOS knows no affinity


def choose_device(node: Communicator | Serial) -> torch.device:
    """Deals the accelerators of a node to its ranks in turn; the CPU where there is none.

    Collective: no.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", node.rank % torch.cuda.device_count())
