"""A convolutional U-Net on haloed tiles.

The network sees one window (the owned cells of a tile and their halo) and knows nothing of others. Its
only statistics are per cell (normalisation over channels), so that neither the other tiles of a batch nor
the size of the tile enter them. What it is told besides the noisy state:

- per cell: masks, bathymetry and position (`halocline.flow.conditions`), and a few learned features of the
  global cell, which let a small network know its place on a fixed grid;
- per sample: path time, season and physical parameters, through scale and shift of every block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from halocline.flow.networks.aligned import AlignedLinear
from halocline.flow.networks.silu import SiLU, silu

__all__ = ["UNet", "UNetConfig"]


@dataclass(frozen=True)
class UNetConfig:
    """Size of a U-Net.

    Attributes:
        width: Channels at full resolution.
        multipliers: Channels at each resolution as multiples of `width`; the resolution halves in between.
        blocks: Residual blocks at each resolution, on the way down and again on the way up.
        embedding: Length of the vector that carries time, season and parameters.
        cell_features: Learned features of each global cell (0: none, for grids too large to hold them).
    """

    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    embedding: int = 128
    cell_features: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        for name in ("width", "blocks", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"network.{name} is {getattr(self, name)}, expected at least 1.")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(
                f"network.multipliers is {list(self.multipliers)}, expected one or more integers >= 1."
            )
        if self.cell_features < 0:
            raise ValueError(f"network.cell_features is {self.cell_features}, expected 0 or more.")

    @property
    def stride(self) -> int:
        """Cells of the finest level under one of the coarsest: windows must be multiples of it."""
        return int(2 ** (len(self.multipliers) - 1))


class CellNorm(nn.Module):
    """Normalises each cell over its channels: no statistic leaves the cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shape = (channels,)

    def forward(self, x: Tensor) -> Tensor:
        # In channels-last memory both permutations are free.
        return functional.layer_norm(x.permute(0, 2, 3, 1), self.shape).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block: two 3×3 convolutions, scaled and shifted by the embedding. Starts as identity."""

    def __init__(self, channels: int, out: int, embedding: int) -> None:
        super().__init__()
        self.norm_in = CellNorm(channels)
        self.conv_in = nn.Conv2d(channels, out, 3, padding=1)
        self.norm_out = CellNorm(out)
        self.conv_out = nn.Conv2d(out, out, 3, padding=1)
        self.modulation = AlignedLinear(embedding, 2 * out)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        for layer in (self.conv_out, self.modulation):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(silu(self.norm_in(x)))
        gain, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.norm_out(h) * (1 + gain) + shift
        return self.skip(x) + self.conv_out(silu(h))


class Stage(nn.Module):
    """The blocks of one resolution."""

    def __init__(self, channels: int, out: int, embedding: int, blocks: int) -> None:
        super().__init__()
        widths = [channels] + [out] * blocks
        self.blocks = nn.ModuleList(
            Block(a, b, embedding) for a, b in pairwise(widths)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        return x


class TimeFeatures(nn.Module):
    """Sines and cosines of path time at geometrically spaced frequencies, shape (sample) -> (sample, 2n)."""

    frequencies: Tensor

    def __init__(self, count: int = 16, lowest: float = math.pi, highest: float = 100 * math.pi) -> None:
        super().__init__()
        ladder = torch.logspace(math.log10(lowest), math.log10(highest), count)
        self.register_buffer("frequencies", ladder, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        phase = t[:, None] * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class UNet(nn.Module):
    """U-Net from a scaled noisy window to the prediction of a denoiser on the same window.

    Arguments:
        config: Size of the network.
        channels: Channels of the state.
        static: Channels of the per-cell conditions.
        conditions: Numbers of the per-sample conditions (season, parameters).
        cells: Cells of the global grid, nj × ni, for the learned features of a cell.
    """

    def __init__(
        self, config: UNetConfig, channels: int, static: int, conditions: int, cells: int
    ) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        widths = [config.width * m for m in config.multipliers]
        size, blocks = config.embedding, config.blocks
        # One row more than there are cells: the last stays zero, for window positions without a cell.
        features = torch.randn(cells + 1, config.cell_features) * 0.1
        features[-1] = 0.0
        self.cell_features = nn.Parameter(features) if config.cell_features else None
        inputs = static + config.cell_features

        self.time = TimeFeatures()
        self.embed = nn.Sequential(
            AlignedLinear(2 * len(self.time.frequencies) + conditions, size),
            SiLU(),
            AlignedLinear(size, size),
            SiLU(),
        )
        self.enter = nn.Conv2d(channels + inputs, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Stage(w, w, size, blocks) for w in widths)
        self.coarsen = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths)
        )
        finer = widths[-2::-1]
        self.refine = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in zip(widths[:0:-1], finer, strict=True)
        )
        self.up = nn.ModuleList(Stage(2 * w, w, size, blocks) for w in finer)
        self.norm = CellNorm(widths[0])
        self.leave = nn.Conv2d(widths[0] + inputs, channels, 1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, x: Tensor, t: Tensor, static: Tensor, conditions: Tensor, cells: Tensor
    ) -> Tensor:
        """Evaluates the network on a batch of windows.

        Arguments:
            x: Scaled noisy windows, shape (sample, channel, j, i).
            t: Path time in [0, 1], shape (sample).
            static: Conditions per cell, shape (sample, static, j, i).
            conditions: Conditions per sample, shape (sample, condition).
            cells: Global index of each window position or -1, shape (sample, j, i).

        Returns:
            Prediction, shape (sample, channel, j, i).

        Collective: no.
        """
        per_cell = self._per_cell(static, cells)
        embedding = self.embed(torch.cat([self.time(t), conditions], dim=1))
        h = torch.cat([x, per_cell], dim=1).contiguous(memory_format=torch.channels_last)
        h = self._trunk(self.enter(h), embedding)
        h = silu(self.norm(h))
        return self.leave(torch.cat([h, per_cell.to(h.dtype)], dim=1))

    def _per_cell(self, static: Tensor, cells: Tensor) -> Tensor:
        if self.cell_features is None:
            return static
        inside = (cells >= 0).unsqueeze(1)
        learned = self.cell_features[cells].permute(0, 3, 1, 2) * inside
        return torch.cat([static, learned], dim=1)

    def _trunk(self, h: Tensor, embedding: Tensor) -> Tensor:
        skips = []
        for stage, coarsen in zip(self.down, self.coarsen, strict=False):  # the last stage has none
            h = stage(h, embedding)
            skips.append(h)
            h = coarsen(h)
        h = self.down[-1](h, embedding)
        for stage, refine in zip(self.up, self.refine, strict=True):
            h = stage(torch.cat([refine(h), skips.pop()], dim=1), embedding)
        return h


def window_problem(stride: int, tile: Sequence[int], halo: int) -> str:
    """Says in a sentence why windows of this size do not fit the network, or "" if they do."""
    window = [n + 2 * halo for n in tile]
    if all(n % stride == 0 for n in window):
        return ""
    return (
        f"The window of {window[0]} x {window[1]} cells (tile {tile[0]} x {tile[1]} and 2 x halo {halo}) "
        f"is not a multiple of {stride} in both directions, as {stride.bit_length()} resolutions of the "
        "network need: change lattice.tile or lattice.halo, or use fewer network.multipliers."
    )
