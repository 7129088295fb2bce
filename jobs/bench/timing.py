"""Timing: several alternating rounds of each contender, so that load on the machine meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable


def alternate(contenders: dict[str, Callable[[], object]], rounds: int = 7, repeat: int = 1) -> dict[str, list[float]]:
    """Times each contender in turn, `rounds` times, and returns seconds per call for each round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            times[name].append((time.perf_counter() - start) / repeat)
    return times


def best(times: list[float]) -> float:
    """The fastest round: the one least disturbed."""
    return min(times)


def median(times: list[float]) -> float:
    """The middle round."""
    return sorted(times)[len(times) // 2]
