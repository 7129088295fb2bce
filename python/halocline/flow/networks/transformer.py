"""A transformer on haloed tiles.

The window is cut into patches of 2 × 2 cells, one token each; every token attends to every other of its window and to
none outside, through the blocks of `halocline.flow.networks.blocks`.

- Positions count cells of the window as it stands: a coarsened window is longer in kilometres, not in cells, so that
  distances are in units of its resolution. Conditions per sample tell the network which resolution it is.
- Land: inputs are zero on dry cells, which makes tokens without a wet cell zero, and branches of blocks do not act on
  them. As in GenSIM they remain among the keys, with logit and value zero; a mask of keys would cost a slower kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from halocline.flow.networks.aligned import AlignedLinear
from halocline.flow.networks.blocks import Attention, Block, Trunk, normalise
from halocline.flow.networks.silu import SiLU, silu
from halocline.flow.networks.unet import TimeFeatures

__all__ = ["Transformer", "TransformerConfig"]

PATCH = 2  # cells along the side of a token


@dataclass(frozen=True)
class TransformerConfig:
    """Size of a transformer.

    Attributes:
        width: Features of a token.
        blocks: Blocks; (blocks - 1) // 2 at each end are joined by long skips, the others lie between them.
        heads: Heads of attention; each has width / heads features, a multiple of 4.
        hidden: Features inside a multilayer perceptron as a multiple of `width`.
        embedding: Length of the vector that carries time, season and parameters.
        wavelengths: Shortest and longest wave of the localisation at the start of training, in cells.
        cell_features: Learned features of each global cell (0: none, for grids too large to hold them).
    """

    width: int = 192
    blocks: int = 6
    heads: int = 3
    hidden: int = 2
    embedding: int = 128
    wavelengths: tuple[float, float] = (8.0, 128.0)
    cell_features: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "wavelengths", tuple(self.wavelengths))
        for name in ("width", "blocks", "heads", "hidden", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"transformer.{name} is {getattr(self, name)}, expected at least 1.")
        if self.width % (4 * self.heads):
            raise ValueError(
                f"transformer.heads is {self.heads}, expected a divisor of transformer.width ({self.width}) that "
                "leaves each head a multiple of 4 features: change one of the two."
            )
        if len(self.wavelengths) != 2 or not 0 < self.wavelengths[0] <= self.wavelengths[1]:
            raise ValueError(
                f"transformer.wavelengths is {list(self.wavelengths)}, expected two lengths in cells, 0 < shortest <= "
                "longest."
            )
        if self.cell_features < 0:
            raise ValueError(f"transformer.cell_features is {self.cell_features}, expected 0 or more.")

    @property
    def stride(self) -> int:
        """Cells along the side of a token: windows must be multiples of it."""
        return PATCH


class Transformer(nn.Module):
    """Transformer from a scaled noisy window to the prediction of a denoiser on the same window.

    Arguments:
        config: Size of the network.
        channels: Channels of the state.
        static: Channels of the per-cell conditions; the first is the mask of T points.
        conditions: Numbers of the per-sample conditions (season, parameters, scale and attitude).
        cells: Cells of the global grid, nj × ni, for the learned features of a cell.
    """

    def __init__(self, config: TransformerConfig, channels: int, static: int, conditions: int, cells: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        width, size = config.width, config.embedding
        # One row more than there are cells: the last stays zero, for window positions without a cell.
        features = torch.randn(cells + 1, config.cell_features) * 0.1
        features[-1] = 0.0
        self.cell_features = nn.Parameter(features) if config.cell_features else None
        self.time = TimeFeatures()
        self.embed = nn.Sequential(
            AlignedLinear(2 * len(self.time.frequencies) + conditions, size),
            SiLU(),
            AlignedLinear(size, size),
            SiLU(),
        )
        self.enter = nn.Linear((channels + static + config.cell_features) * PATCH**2, width, bias=False)
        self.trunk = Trunk(self._block, config.blocks, width, size, balance=0.5)
        self.gate = AlignedLinear(size, width, bias=False)
        self.leave = nn.Linear(width, channels * PATCH**2)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def _block(self) -> Block:
        """Makes a block: gains of 1, and branches small enough for the sum of all of them to have unit size."""
        config = self.config
        attention = Attention(config.width, config.heads, config.wavelengths)
        block = Block(attention, config.width, config.hidden * config.width, config.embedding)
        nn.init.zeros_(block.gate.weight)
        with torch.no_grad():
            for layer in (block.attention.out, block.perceptron.out):
                layer.weight /= math.sqrt(2 * config.blocks)
        return block

    def forward(self, x: Tensor, t: Tensor, static: Tensor, conditions: Tensor, cells: Tensor) -> Tensor:
        """Evaluates the network on a batch of windows.

        Arguments:
            x: Scaled noisy windows, shape (sample, channel, j, i), j and i multiples of 2.
            t: Path time in [0, 1], shape (sample).
            static: Conditions per cell, shape (sample, static, j, i).
            conditions: Conditions per sample, shape (sample, condition).
            cells: Global index of each window position or -1, shape (sample, j, i).

        Returns:
            Prediction, shape (sample, channel, j, i), zero on land.

        Collective: no.
        """
        mask = (static[:, :1] > 0).to(x.dtype)
        embedding = self.embed(torch.cat([self.time(t), conditions], dim=1))
        patches = functional.pixel_unshuffle(self._inputs(x, static, cells) * mask, PATCH).flatten(2).transpose(1, 2)
        wet = functional.max_pool2d(mask, PATCH).flatten(2).transpose(1, 2)
        tokens = self.trunk(self.enter(patches).float(), positions(x), wet, embedding)
        gain = (1 + self.gate(embedding)).unsqueeze(1)
        tokens = self.leave(silu(normalise(tokens).to(gain.dtype) * gain))
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        return functional.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (rows, columns)), PATCH) * mask

    def _inputs(self, x: Tensor, static: Tensor, cells: Tensor) -> Tensor:
        if self.cell_features is None:
            return torch.cat([x, static], dim=1)
        inside = (cells >= 0).unsqueeze(1)
        learned = self.cell_features[cells].permute(0, 3, 1, 2) * inside
        return torch.cat([x, static, learned], dim=1)


def positions(window: Tensor) -> Tensor:
    """Returns the centres of the tokens of a window (..., j, i), in cells along i and along j: (1, token, 2)."""
    rows, columns = (
        PATCH * (torch.arange(n // PATCH, dtype=torch.float32, device=window.device) + 0.5) for n in window.shape[-2:]
    )
    j, i = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([i, j], dim=-1).flatten(0, 1).unsqueeze(0)
