"""Localised denoising: one network evaluation over all tiles of this rank.

Fill the halos, evaluate the network on each window, keep the owned cells, or blend the windows where they overlap
(`halocline.mesh.blend`): a network that sees no further than its window leaves a jump at its edge otherwise.

Windows go through the network in batches of one fixed size, the last one padded with copies, because kernels choose
their order of summation by shape: with one shape the result of a tile does not depend on how many tiles or members this
rank holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from halocline.flow.conditions import CellConditions
from halocline.flow.denoiser import Posterior, PreconditionedDenoiser
from halocline.flow.path import Path, Time
from halocline.mesh.blend import Blend
from halocline.mesh.halo import HaloPlan

__all__ = ["TiledDenoiser"]


@dataclass(frozen=True)
class TiledDenoiser:
    """Denoiser of a distributed state.

    Attributes:
        denoiser: Acts on one batch of windows.
        halo: Fills windows from owned cells.
        cell_conditions: Masks, bathymetry, position on this rank's windows.
        conditions: Season and parameters, shape (member, condition).
        mask: Wet owned cells, shape (tile, channel, j, i).
        batch: Windows in one network evaluation, at least 2 (a batch of one takes other memory paths).
        owned: Owned part of a window, in both directions.
        precision: "fp32" or "bf16".
        blend: Makes one field of windows that overlap; None: each tile has its own owned cells.
        context: Conditions per cell that differ between members, behind those that do not, shape
            (member, tile, channel, window j, window i); None where there are none.
    """

    denoiser: PreconditionedDenoiser
    halo: HaloPlan
    cell_conditions: CellConditions
    conditions: Tensor
    mask: Tensor
    batch: int
    owned: slice
    precision: str = "fp32"
    context: Tensor | None = None
    blend: Blend | None = None

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise ValueError(f"sampling.tile_batch is {self.batch}, expected at least 2.")
        static = self.cell_conditions.static
        expected = (len(self.conditions), len(static), *static.shape[-2:])
        if self.context is not None and (*self.context.shape[:2], *self.context.shape[3:]) != expected:
            raise ValueError(
                f"Context has shape {tuple(self.context.shape)}, expected (member, tile, channel, window j, window i) "
                f"with {', '.join(map(str, expected))} for all but the channels: cut it on the tiles of these members."
            )

    @property
    def path(self) -> Path:
        """The path on which the noisy states lie."""
        return self.denoiser.path

    def __call__(self, x: Tensor, t: Time) -> Posterior:
        """Estimates the clean state; differentiable with respect to it.

        Arguments:
            x: Noisy state on owned cells, shape (member, tile, channel, j, i).
            t: Path time in [0, 1], one number.

        Returns:
            Posterior whose mean has the shape of `x` and is zero on land; with a variance if it was
            learned.

        Collective: yes, one halo exchange, two with a blend.
        """
        windows = self.halo.fill(x)
        if self.blend is None:
            mean = self.on_windows(windows, t, self.owned)
        else:
            mean = self.blend(self.on_windows(windows, t))
        return Posterior(mean * self.mask, self._variance(float(t)))

    def _variance(self, t: float) -> Tensor | None:
        """What the network has learned of it, shape (member, 1, channel, 1, 1)."""
        deviation = self.denoiser.deviation(t, self.conditions.to(self.denoiser.sigma_data.device))
        return None if deviation is None else deviation[:, None].square().cpu()

    def on_windows(self, windows: Tensor, t: Time, owned: slice = slice(None)) -> Tensor:
        """Returns the mean that each window gives by itself, land included.

        Arguments:
            windows: With their halos, shape (member, tile, channel, window j, window i).
            t: Path time in [0, 1], one number.
            owned: The part of both directions that is returned.

        Collective: no.
        """
        members, tiles = windows.shape[:2]
        items = windows.flatten(0, 1)
        means = [self._evaluate(items, start, tiles, float(t), owned) for start in range(0, len(items), self.batch)]
        return torch.cat(means).unflatten(0, (members, tiles))

    def _evaluate(self, items: Tensor, start: int, tiles: int, t: float, owned: slice) -> Tensor:
        """Denoises one fixed-size batch and returns a part of the windows of its real items."""
        index = torch.arange(start, start + self.batch).clamp(max=len(items) - 1)
        real = min(self.batch, len(items) - start)
        time = torch.full((self.batch,), t, dtype=torch.float64)
        member, tile = index // tiles, index % tiles
        device = self.denoiser.sigma_data.device  # the state stays with the halo exchange
        static = self.cell_conditions.static[tile]
        if self.context is not None:
            static = torch.cat([static, self.context[member, tile]], dim=1)
        told = {
            "static": static.to(device),
            "conditions": self.conditions[member].to(device),
            "cells": self.cell_conditions.cells[tile].to(device),
        }
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            windows = items[index].to(device)
            posterior = self.denoiser(windows, time.to(device), told, owned)
        return posterior.mean[:real].float().cpu()
