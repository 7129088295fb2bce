"""Sharing a node."""

import os

import pytest
import torch

from halocline.mesh.communicator import Serial
from halocline.run import threads


class Node(Serial):
    """Ranks of a node, of which this is one, and the cores that each may use."""

    def __init__(self, *cores: set[int], rank: int = 0) -> None:
        self.rank, self.cores = rank, [frozenset(c) for c in cores]

    def allgather(self, value: frozenset[int]) -> list[frozenset[int]]:
        assert value == self.cores[self.rank]
        return self.cores


@pytest.fixture
def chosen(monkeypatch) -> list[int]:
    """Numbers of threads that were set."""
    found: list[int] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    return found


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ([set(range(8))] * 3, 2),  # not bound
        ([{0, 1}, {2, 3}, {4, 5}], 2),  # bound to cores
        ([{0, 1, 2, 3}, {0, 1, 2, 3}, {4, 5, 6, 7}], 2),  # bound to sockets
        ([{0, 1}] * 3, 1),  # a part of the machine, as a queue gives, shared by all
        ([set(range(8))], 8),
    ],
)
def test_ranks_with_the_same_cores_share_them(cores, expected, chosen, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores[0], raising=False)
    assert threads.share_cores(Node(*cores)) == expected
    assert chosen == [expected]


def test_number_of_threads_that_the_user_has_set_stands(chosen, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.share_cores(Serial()) == torch.get_num_threads()
    assert chosen == []


def test_accelerators_are_dealt_to_the_ranks_of_a_node_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    nodes = [Node(*[set()] * 5, rank=rank) for rank in range(5)]
    assert [threads.choose_device(node).index for node in nodes] == [0, 1, 0, 1, 0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert threads.choose_device(nodes[3]) == torch.device("cpu")
