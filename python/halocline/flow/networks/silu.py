"""SiLU that gives an element the same bits wherever in a batch it lies."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SiLU", "silu"]

ELEMENTS = 64  # that a CPU takes at once, at most: two of its widest registers


def silu(x: Tensor) -> Tensor:
    r"""Returns :math:`x / (1 + e^{-x})`, shape (sample, ...) as x.

    What is left of a tensor after its last full registers goes through another routine in torch's own SiLU, with other
    last bits (in 32 and 64 bits; seen with PyTorch 2.13): there the last sample of a batch would differ from the
    others, and a tile with the number of ranks. Where a sample does not fill registers it is

    .. math:: \frac{x}{2} \Big(1 + \tanh \frac{x}{2}\Big),

    the same function by an operation whose bits do not depend on place.

    Collective: no.
    """
    if x.ndim and x[:1].numel() % ELEMENTS == 0:
        return functional.silu(x)
    half = 0.5 * x
    return half * (1 + half.tanh())


class SiLU(nn.Module):
    """`silu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)
