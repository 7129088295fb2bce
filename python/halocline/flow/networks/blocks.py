"""Blocks of transformers on a window: tokens attend to each other, at positions.

They are those of GenSIM (arXiv 2508.14984), written anew. All statistics are of one token. Localisation is rotary:
queries and keys are turned by angles linear in the position of their token, so that a product of the two depends on the
difference of positions only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from halocline.flow.networks.aligned import AlignedLinear
from halocline.flow.networks.silu import silu

__all__ = ["Attention", "Block", "Trunk", "normalise"]


def normalise(x: Tensor) -> Tensor:
    r"""Divides features by their root mean square, :math:`x / \sqrt{\overline{x^2} + \epsilon}` over the last axis.

    The smallest step of float32 for :math:`\epsilon` leaves zeros zero. One reduction and one product: faster on a
    processor than `torch.nn.functional.rms_norm`.
    """
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).float().square() / x.shape[-1]
    return x * (mean_square + torch.finfo(torch.float32).eps).rsqrt().to(x.dtype)


class Localisation(nn.Module):
    r"""Turns pairs of features by angles that are linear in position.

    With the position :math:`r` of a token and the frequency :math:`k_{hp}` of pair p of head h, features p and
    p + pairs are turned by :math:`k_{hp} \cdot r`. At the start, half of the frequencies of a head point in one
    direction, half at a right angle to it, and the direction differs between heads.

    Arguments:
        heads: Heads.
        size: Features of a head, a multiple of 4.
        wavelengths: Shortest and longest wave at the start, in units of the position.
    """

    def __init__(self, heads: int, size: int, wavelengths: tuple[float, float]) -> None:
        super().__init__()
        shortest, longest = wavelengths
        ladder = 2 * math.pi / torch.logspace(math.log10(shortest), math.log10(longest), size // 4)
        direction = 2 * math.pi * torch.rand(heads, 1)
        angles = torch.cat([direction.expand(-1, size // 4), direction.expand(-1, size // 4) + math.pi / 2], dim=1)
        self.frequencies = nn.Parameter(ladder.repeat(2) * torch.stack([angles.cos(), angles.sin()]))

    def forward(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cosine and sine, shape (sample or 1, token, head, pair), of positions (sample or 1, token, 2)."""
        along, across = where[..., None, None].unbind(2)  # not a matrix product: angles need all their digits
        angle = along * self.frequencies[0] + across * self.frequencies[1]
        return angle.cos(), angle.sin()


class Attention(nn.Module):
    """Attention of all tokens of a window to each other; queries and keys are normalised, scaled and localised.

    Arguments:
        width: Features of a token.
        heads: Heads.
        wavelengths: See `Localisation`.
    """

    def __init__(self, width: int, heads: int, wavelengths: tuple[float, float]) -> None:
        super().__init__()
        self.split = (-1, heads, width // heads)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.query_scale = nn.Parameter(torch.ones(width // heads))
        self.key_scale = nn.Parameter(torch.ones(width // heads))
        self.localisation = Localisation(heads, width // heads, wavelengths)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, where: Tensor) -> Tensor:
        """Maps tokens at positions, shapes (sample, token, width) and (sample or 1, token, 2)."""
        queries_keys, values = self.read(x)
        queries, keys = self._localise(normalise(queries_keys), where).unbind(2)
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out(attended.transpose(1, 2).flatten(2))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns queries beside keys, (sample, token, 2, head, feature), and values, without the third axis."""
        parts = self.project(x).unflatten(-1, self.split)
        return parts[:, :, :2], parts[:, :, 2]

    def _localise(self, x: Tensor, where: Tensor) -> Tensor:
        """Scales and turns queries and keys in one: x P + y Q, where y is x with the two halves exchanged."""
        cosine, sine = (part.unsqueeze(2).to(x.dtype) for part in self.localisation(where))
        scale, half = torch.stack([self.query_scale, self.key_scale]).unsqueeze(1).to(x.dtype), x.shape[-1] // 2
        straight = torch.cat([cosine, cosine], dim=-1) * scale
        crossed = torch.cat([-sine, sine], dim=-1) * scale.roll(half, dims=-1)
        return torch.addcmul(x * straight, x.roll(half, dims=-1), crossed)


class Perceptron(nn.Module):
    r"""SwiGLU, :math:`W (a \cdot \mathrm{silu}(b))` with a and b linear in the token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        signal, gate = self.enter(x).chunk(2, dim=-1)
        return self.out(signal * silu(gate))


class Block(nn.Module):
    """Adds attention and perceptron of the same normalised tokens, each scaled by 1 + a gate of the embedding."""

    def __init__(self, attention: Attention, width: int, hidden: int, embedding: int) -> None:
        super().__init__()
        self.gate = AlignedLinear(embedding, 2 * width, bias=False)
        self.attention = attention
        self.perceptron = Perceptron(width, hidden)

    def forward(self, x: Tensor, where: Tensor, wet: Tensor, embedding: Tensor) -> Tensor:
        gains = (1 + self.gate(embedding)).unsqueeze(1)
        for_attention, for_perceptron = gains.chunk(2, dim=-1)
        tokens = normalise(x).to(gains.dtype)
        branches = self.attention(tokens * for_attention, where) + self.perceptron(tokens * for_perceptron)
        return torch.addcmul(x, branches, wet)


class Trunk(nn.Module):
    r"""The blocks and their long skips.

    A block of the second half, and what follows the last one, receives :math:`s + g (x - s)` of its tokens x and
    those s of the skip, where :math:`g = g_0 + W e` for each channel, e the embedding.

    Arguments:
        block: Makes a block.
        blocks, width, embedding: See `TransformerConfig`.
        balance: :math:`g_0`.
    """

    def __init__(self, block: Callable[[], Block], blocks: int, width: int, embedding: int, balance: float) -> None:
        super().__init__()
        self.balance = balance
        self.skips = (blocks - 1) // 2
        self.inward = nn.ModuleList(block() for _ in range(self.skips))
        self.bottom = nn.ModuleList(block() for _ in range(blocks - 2 * self.skips))
        self.outward = nn.ModuleList(block() for _ in range(self.skips))
        self.blend = AlignedLinear(embedding, (self.skips + 1) * width, bias=False)

    def forward(self, tokens: Tensor, where: Tensor, wet: Tensor, embedding: Tensor) -> Tensor:
        """Maps tokens (sample, token, width) at positions (sample or 1, token, 2); wet has shape (sample, token, 1)."""
        gates = (self.balance + self.blend(embedding)).to(tokens.dtype).unsqueeze(1).chunk(self.skips + 1, dim=-1)
        skips = [tokens]
        for block in self.inward:
            tokens = block(tokens, where, wet, embedding)
            skips.append(tokens)
        for block in self.bottom:
            tokens = block(tokens, where, wet, embedding)
        for block, gate in zip(self.outward, gates, strict=False):  # the last gate is that of the input
            tokens = block(torch.lerp(skips.pop(), tokens, gate), where, wet, embedding)
        return torch.lerp(skips.pop(0), tokens, gates[-1])
