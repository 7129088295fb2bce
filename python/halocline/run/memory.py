r"""Memory of a training: estimated before it starts, measured while it runs.

With n parameters on N ranks, bytes per rank that are held when a backward pass ends (DeepSpeed 0.19):

========= ============ ============ ================ ====================== ===========
stage     weights      gradients    master weights   Adam's two moments     averages
========= ============ ============ ================ ====================== ===========
0         4 n          4 n          --               8 n                    4 n / N
1, fp32   4 n          4 n / N      4 n / N          8 n / N                4 n / N
2, fp32   4 n          4 n / N      4 n / N          8 n / N                4 n / N
3, fp32   4 n / N      4 n / N      4 n / N          8 n / N                4 n / N
1, bf16   2 n          2 n / N      4 n / N          8 n / N                4 n / N
2, bf16   2 n          4 n / N      4 n / N          8 n / N                4 n / N
3, bf16   2 n / N      4 n / N      4 n / N          8 n / N                4 n / N
========= ============ ============ ================ ====================== ===========

Stage 1 keeps the gradients of all parameters from one micro-batch to the next, so with more than one they take 4 n
(2 n). Stage 0 computes with 16 bits, too, but its weights have 32. Stage 3 keeps small parameters whole on each rank.
What comes on top for moments, gradients that are packed for sending and temporaries, was found to be `MOMENTARY` n.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from halocline.run.config import TrainingConfig

__all__ = ["Memory", "activations", "estimate", "peak", "resident", "table"]

STATUS = Path("/proc/self/status")
MOMENTARY = 8  # bytes per parameter


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank, by kind."""

    weights: int
    gradients: int
    master: int
    optimiser: int
    averages: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))


def estimate(
    parameters: int, ranks: int, zero: int, precision: str, activations: int = 0, accumulate: int = 1
) -> Memory:
    """Estimates the memory of a rank; see the module.

    Arguments:
        parameters: n, of the network.
        ranks: N.
        zero: Stage of ZeRO.
        precision: "fp32" or "bf16".
        activations: Kept for the backward pass, bytes.
        accumulate: Micro-batches per step.

    Collective: no.
    """
    n, share = parameters, -(-parameters // ranks)
    size = 2 if precision == "bf16" and zero else 4
    return Memory(
        weights=size * (share if zero == 3 else n),
        gradients=4 * share if zero >= 2 else size * (share if zero == 1 and accumulate == 1 else n),
        master=4 * share if zero else 0,
        optimiser=8 * (share if zero else n),
        averages=4 * share,
        activations=activations,
    )


def activations(network: nn.Module, arguments: Sequence[Tensor], conditions: Mapping[str, Tensor]) -> int:
    """Measures what a forward pass keeps for the backward pass, bytes; memory that is kept twice counts once.

    Arguments:
        network: Its parameters are not counted.
        arguments, conditions: Of its call.

    Collective: no.
    """
    known = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, Tensor] = {}  # holding them keeps their addresses from being used again

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in known:
            kept[x.untyped_storage().data_ptr()] = x.detach()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        network(*arguments, **conditions)
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def resident() -> int:
    """Memory of this process now, bytes: that of its accelerator where it has one."""
    if torch.cuda.is_available():
        return int(torch.cuda.memory_allocated())
    if not STATUS.exists():  # macOS
        return peak()
    return int(STATUS.read_text().split("VmRSS:")[1].split()[0]) * 1024


def peak() -> int:
    """The most that this process has had, bytes; likewise."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(parameters: int, ranks: int, training: TrainingConfig, kept: int) -> str:
    """Formats the estimate for all stages; the one that is configured is marked.

    Arguments:
        parameters: Of the network.
        ranks: That train.
        training: Gives stage, precision and number of micro-batches.
        kept: Activations of the windows that are evaluated at once, bytes.
    """
    names = [field.name for field in fields(Memory)]
    more = MOMENTARY * parameters / 2**20
    lines = [f"memory per rank in MiB, {training.precision}, estimated; up to {more:.1f} MiB more for moments"]
    lines.append("  ZeRO" + "".join(f"{name:>13}" for name in (*names, "total")))
    for zero in range(4):
        made = estimate(parameters, ranks, zero, training.precision, kept, training.accumulate)
        cells = [f"{value / 2**20:13.1f}" for value in (*astuple(made), made.total)]
        lines.append(f"{'*' if zero == training.zero else ' ':>2}{zero:4d}" + "".join(cells))
    return "\n".join(lines)
