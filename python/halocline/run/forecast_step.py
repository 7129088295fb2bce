r"""One step of a forecast: members on tiles, from the state at T to the state at :math:`T + \tau`.

.. math::
    X(T + \tau) = X(T) + s_\tau x_0, \qquad x_0 \sim p(x_0 \mid X(T), \text{forcing at } T \text{ and } T + \tau)

X may be stretched (`halocline.run.learned_changes`). With a first guess
(`halocline.flow.first_guess`), :math:`x_0 = \mu + k \sigma y`, where y is the sample and k is `sampling.spread`.

The denoised mean is at every evaluation that of states within their bounds (`halocline.flow.censored`), and where the
sample ends on a bound, or nearer to it than rounded training states lie, the state has the bound's own bits. At a
physical bound that the training states do not reach, what lies beyond is reflected: nothing ends there. Then area means
are corrected, if asked for (`halocline.run.budget`). What is carried from step to step is float32 in physical units,
which is also what is written: a forecast that goes on from its file goes on with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from halocline.flow.censored import BoundedDenoiser
from halocline.flow.conditions import CellConditions, extra_count
from halocline.flow.first_guess import BEGIN, FirstGuess
from halocline.flow.noise import Noise
from halocline.flow.tiled import TiledDenoiser
from halocline.mesh.blend import Blend
from halocline.mesh.halo import HaloPlan
from halocline.mesh.layout import Layout
from halocline.run.budget import Closure
from halocline.run.generator import Generator
from halocline.run.increments import Increments
from halocline.run.learned_changes import LearnedChanges
from halocline.run.long_waves import LongWaves, factors
from halocline.run.pairs import BoundsOfStates, level_means
from halocline.run.samplers import plain_sampler
from halocline.run.wind_noise import WindNoise
from halocline.state.variables import variable

__all__ = ["Stepper"]

FAR = 200.0  # root mean square changes over the lead; the largest in a thousand states of neXtSIM_DG is near 60


@dataclass(frozen=True, eq=False)
class Stepper:
    """Makes the steps of a forecast on the tiles of a layout. Built by `build`.

    Attributes:
        generator: Of forecasts.
        layout: Who owns which tile.
        halo: Of the state.
        cell_conditions: On this rank's windows.
        noise: Keyed on cells.
        long_waves: Of the noise that samples start from.
        wind_noise: Its factor, if it grows with the wind.
        bounds: Of the state.
        learned: Changes as they are learned.
        mask: Wet owned cells, shape (tile, channel, j, i).
        wet: Wet cells of the windows, shape (tile, channel, window j, window i).
        mean, scale: Of the standardisation of the forcing, shape (forcing, 1, 1).
        parameters: Physical parameters of the forecast, shape (1, parameter).
        closure: Of the budget and of drift, if asked for.
        blends: Of windows with so many channels for each of the state, if asked for.
    """

    generator: Generator
    layout: Layout
    halo: HaloPlan
    cell_conditions: CellConditions
    noise: Noise
    long_waves: LongWaves
    wind_noise: WindNoise | None
    bounds: BoundsOfStates
    learned: LearnedChanges
    mask: Tensor
    wet: Tensor
    mean: np.ndarray
    scale: np.ndarray
    parameters: Tensor
    closure: Closure | None
    blends: Mapping[int, Blend]

    @classmethod
    def build(
        cls,
        generator: Generator,
        layout: Layout,
        parameters: Sequence[float] = (),
        budget: bool = False,
        drift_control: bool = False,
    ) -> Stepper:
        """Builds what does not change from step to step.

        Arguments:
            generator: Of forecasts.
            layout: Who owns which tile.
            parameters: Values of `data.parameters`.
            budget: Whether to close the budget of ice volume.
            drift_control: Whether to draw back area means that drift.

        Raises:
            ValueError: The generator is one of states, not of forecasts; or see `check_closure`.

        Collective: yes (builds the halo plan).
        """
        with layout.comm.together():
            if generator.increments is None:
                raise ValueError(
                    "The run folder is of a generator of states, expected one of forecasts: train with forecast.leads, "
                    "or use `halocline sample`."
                )
            if generator.guess is None and generator.config.sampling.spread != 1:
                raise ValueError(
                    f"sampling.spread is {generator.config.sampling.spread:g}, expected 1 for a generator without "
                    "forecast.first_guess: widen its ensembles by sampling.noise or sampling.long_waves."
                )
        channels, standardisation, n = generator.channels, generator.standardisation, generator.channels.count
        mean, scale = (v[n:, None, None].numpy() for v in (level_means(standardisation), standardisation.scale))
        halo, mask = HaloPlan.build(layout, channels.points, channels.signs), channels.mask(generator.grid)
        sampling, sea = generator.config.sampling, torch.as_tensor(layout.cut(mask))
        long, short = (factors(f, generator.config.data.variables) for f in (sampling.long_waves, sampling.short_waves))
        return cls(
            generator, layout, halo, CellConditions.build(generator.grid, layout),
            Noise.build(layout, channels.points, channels.signs),
            LongWaves(long, short, sampling.memory, halo, generator.lattice.halo, sea),
            WindNoise.build(generator, layout),
            BoundsOfStates.build(generator), LearnedChanges.build(generator), sea,
            wet_windows(generator, layout), mean, scale, torch.tensor([list(parameters)], dtype=torch.float64),
            Closure.build(generator, layout, budget, drift_control), build_blends(generator, layout),
        )  # fmt: skip

    @torch.no_grad()
    def __call__(
        self, x: Tensor, forcing: Sequence[np.ndarray], hours: float, step: int, seed: int, members: Sequence[int]
    ) -> Tensor:
        """Makes one step.

        Arguments:
            x: State at T, physical units, shape (member, tile, channel, j, i), float32, 0 on land.
            forcing: At T and at the end of the lead, each of shape (forcing, nj, ni), in the order of `data.forcing`.
            hours: Lead.
            step: Number of the step, from 0; with seed and member the key of the noise.
            seed: Of the forecast.
            members: Numbers of the members.

        Returns:
            State at the end, like `x`, within its bounds.

        Raises:
            ValueError: The lead is none that the network has learned; or a member has diverged, see `FAR`.

        Collective: yes.
        """
        config, increments = self.generator.config, self.generator.increments
        assert increments is not None
        tiled, unit = self._denoiser(x, forcing, hours), self.learned.unit(hours)
        centre, scale = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        if self.generator.guess is not None:
            tiled, centre, scale = self._guided(self.generator.guess, tiled)
        low, high = (
            ((self.learned.change(x.double(), bound[:, None, None], unit) - centre) / scale).float()
            for bound in (self.bounds.low, self.bounds.high)
        )
        denoiser = BoundedDenoiser(tiled, low, high)

        def first(at: int) -> Tensor:
            return self.noise.draw(seed, members, at, 0) * self.mask

        def draw(number: int) -> Tensor:
            if number:
                return self.noise.draw(seed, members, step, number) * self.mask
            z = config.sampling.noise * self.long_waves(first, step, hours, (seed, *members))
            return z if self.wind_noise is None else self.wind_noise(forcing) * z

        if config.forecast.deterministic:
            expected = self._expect(self.generator, tiled)[:, :, : x.shape[2], tiled.owned, tiled.owned]
            y = expected.clamp(low, high)
        else:
            y = plain_sampler(config.sampling, denoiser, draw)(draw(0))
        new = self._bounded(self.learned.apply(x.double(), centre + scale * y.double(), unit).float(), y, low, high)
        self._check(new, x, increments.at(hours)[: x.shape[2], None, None], hours, members)
        return new if self.closure is None else self.closure(x, new, forcing, hours)

    def _guided(self, guess: Generator, tiled: TiledDenoiser) -> tuple[TiledDenoiser, Tensor, Tensor]:
        """Tells the network the first guess, and says what a sample of 0 stands for and one of 1 beyond it."""
        assert tiled.context is not None
        found = FirstGuess.split(self._expect(guess, tiled)).masked(self.wet)
        mean, log_spread = (v[..., tiled.owned, tiled.owned].double() for v in found)
        told = replace(tiled, context=torch.cat([tiled.context, found.told], dim=2))
        return told, mean, self.generator.config.sampling.spread * log_spread.exp()

    def _expect(self, generator: Generator, tiled: TiledDenoiser) -> Tensor:
        """What a network without noise says on windows, (member, tile, output, window j, window i)."""
        outputs = generator.config.forecast.outputs
        shape = len(tiled.conditions), len(tiled.mask), outputs * generator.channels.count
        nothing = torch.zeros(*shape, *generator.lattice.window)
        found = replace(tiled, denoiser=generator.denoiser.eval()).on_windows(nothing, BEGIN)
        if (blend := self.blends.get(outputs)) is None:
            return found
        return blend.plan.fill(blend(found))

    def _denoiser(self, x: Tensor, forcing: Sequence[np.ndarray], hours: float) -> TiledDenoiser:
        """Binds the network to the state and the forcing."""
        generator, n = self.generator, len(x)
        config, halo = generator.config, generator.lattice.halo
        state = ((x.double() - self.bounds.mean[:, None, None]) / self.bounds.scale[:, None, None]).float()
        state = self.halo.fill(torch.where(self.mask, self.learned.told(x.double(), state), 0))
        told = [self._windows(f).expand(n, -1, -1, -1, -1) for f in forcing]
        extra = extra_count(config.training.scales, config.training.symmetries)
        lead = Increments.told(torch.full((n,), hours))
        parameters = generator.parameters.standardise(self.parameters).float().expand(n, -1)
        return TiledDenoiser(
            denoiser=generator.denoiser.eval(),
            halo=self.halo,
            cell_conditions=self.cell_conditions,
            conditions=torch.cat([lead, parameters, torch.zeros(n, extra)], dim=1),
            mask=self.mask.float(),
            batch=config.sampling.tile_batch,
            owned=slice(halo, -halo) if halo else slice(None),
            precision=config.sampling.precision,
            context=torch.cat([state, *told], dim=2),
            blend=self.blends.get(1),
        )

    def _windows(self, forcing: np.ndarray) -> Tensor:
        """Cuts standardised forcing, shape (forcing, nj, ni) to (1, tile, forcing, window j, window i), 0 on land."""
        rows = [variable(name) for name in self.generator.config.data.forcing]
        sea = self.generator.grid.mask("T")[0]
        x = np.where(sea, (forcing.astype(np.float64) - self.mean) / self.scale, 0.0).astype(np.float32)
        parts = [self.layout.cut(f, halo=True, point=row.point, sign=row.sign) for f, row in zip(x, rows, strict=True)]
        shape = (len(self.layout.local), 0, *self.generator.lattice.window)
        return torch.from_numpy(np.stack(parts, axis=1) if parts else np.zeros(shape, np.float32))[None]

    def _check(self, new: Tensor, x: Tensor, usual: Tensor, hours: float, members: Sequence[int]) -> None:
        """Refuses what is no number, and what no ice does: a state far from what was learned runs away.

        Raises:
            ValueError: So it is; the sentence names the first member.

        Collective: yes.
        """
        change = (new.double() - x).abs()
        wrong = ~(change <= FAR * usual)  # and where it is no number
        with self.layout.comm.together():
            if not bool(wrong.any()):
                return
            member, _, channel, *_ = wrong.nonzero()[0].tolist()
            number, largest = members[member], float(change[member, :, channel].max())
            if not np.isfinite(largest):
                raise ValueError(
                    f"Member {number} diverged: the network returned numbers that are not finite; check the forcing, "
                    "or train longer."
                )
            row = self.generator.channels.variables[channel]
            raise ValueError(
                f"Member {number} diverged: {row.name} changes by {largest:.3g} {row.unit} in {hours:g} h, expected at "
                f"most {FAR:g} times the usual {float(usual[channel]):.3g}: the state has left what was learned; use "
                "what is complete, forecast fewer steps, or train on longer runs."
            )

    def _bounded(self, new: Tensor, y: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Keeps a state within its bounds; a sample y that ends on one, or next to it, gives the bound itself."""
        new = torch.where(self.mask, new, 0)
        lowest, highest = (b.float()[:, None, None].expand_as(new) for b in (self.bounds.lowest, self.bounds.highest))
        below, above = self.bounds.near.float()[:, :, None, None]
        new = torch.where((y <= low) | ((new - lowest).abs() < below), lowest, new)
        new = torch.where((y >= high) | ((new - highest).abs() < above), highest, new)
        new = torch.where(new < lowest, 2 * lowest - new, torch.where(new > highest, 2 * highest - new, new))
        return torch.where(self.mask, new.clamp(lowest, highest), 0)


def build_blends(generator: Generator, layout: Layout) -> dict[int, Blend]:
    """Blends of the state and of a first guess, whose spread has no direction. Collective: yes."""
    width, channels = generator.config.sampling.blend, generator.channels
    if not width:
        return {}
    points, signs = channels.points, channels.signs
    return {
        1: Blend.build(layout, points, signs, width),
        2: Blend.build(layout, points + points, signs + (1,) * len(signs), width),
    }


def wet_windows(generator: Generator, layout: Layout) -> Tensor:
    """Cuts the mask of each channel, halos included: (tile, channel, window j, window i)."""
    sea, points = generator.channels.mask(generator.grid), generator.channels.points
    parts = [layout.cut(here, halo=True, point=point) for here, point in zip(sea, points, strict=True)]
    return torch.as_tensor(np.stack(parts, axis=1))
