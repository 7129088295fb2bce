"""Threads per rank: as many as there are cores for it, never more."""

from __future__ import annotations

import os

import torch

__all__ = ["share_cores"]


def share_cores(local_ranks: int) -> int:
    """Sets the threads of this rank to its share of the cores it may use, and returns it.

    OMP_NUM_THREADS, where the user has set it, wins. Without this two ranks on two unbound cores would run
    two threads each and wait for each other.

    Arguments:
        local_ranks: Ranks on this node.

    Collective: no.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    # A launcher that binds gives each rank cores of its own; one that does not gives all to all.
    bound = cores < (os.cpu_count() or 1)
    threads = cores if bound else max(1, cores // local_ranks)
    torch.set_num_threads(threads)
    return threads
