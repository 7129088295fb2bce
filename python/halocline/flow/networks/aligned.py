"""A linear layer that gives a row the same bits wherever in a batch it lies."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AlignedLinear"]

WORDS = 16  # of 4 bytes: 64 bytes, the widest register of a CPU and a line of its cache


class AlignedLinear(nn.Linear):
    """A linear layer whose rows are filled up with zeros to 64 bytes, so that all begin alike in memory.

    Matrix products of a few rows depend on how these are aligned: with 33 to 35 inputs, such as path time and some
    conditions, two equal rows of a batch differ in their last bits on AMD CPUs. What a tile is would then depend on its
    place in the batch, and so on the ranks. Parameters are those of `nn.Linear`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns :math:`x W^T + b`, shape (..., output). Collective: no."""
        lacking = -self.in_features % WORDS
        if not lacking:
            return super().forward(x)
        weight = functional.pad(self.weight, (0, lacking))
        return functional.linear(functional.pad(x, (0, lacking)), weight, self.bias)
