"""The generator: everything that turns noise into a state, on its grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from halocline.flow.censored import ScaledNetwork
from halocline.flow.conditions import CellConditions, extra_count, sample_conditions
from halocline.flow.denoiser import PreconditionedDenoiser
from halocline.flow.networks import Transformer, UNet
from halocline.flow.networks.unet import window_problem
from halocline.flow.path import LinearPath, VariancePreservingPath
from halocline.flow.path import Path as FlowPath
from halocline.flow.tiled import TiledDenoiser
from halocline.mesh.blend import Blend
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run.budget_fit import Budget
from halocline.run.config import RunConfig
from halocline.run.context import CoarseContext, context_count
from halocline.run.increments import Increments
from halocline.run.targets import Targets
from halocline.state.climatology import Climatology
from halocline.state.state import Channels, Standardisation

__all__ = ["Generator", "Parameters", "build_network", "check_window", "input_counts", "with_weights"]


PATHS: dict[str, type[FlowPath]] = {
    "linear": LinearPath,
    "variance_preserving": VariancePreservingPath,
}


@dataclass(frozen=True)
class Parameters:
    """Physical parameters that condition the generator, and how they are standardised.

    Attributes:
        names: As in the files of the training data.
        mean, scale: Over the training states, shape (parameter).
        low, high: Their least and largest values, likewise.
    """

    names: tuple[str, ...]
    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def fit(cls, names: tuple[str, ...], values: Tensor) -> Parameters:
        """Standardises the training values, shape (state, parameter)."""
        if not names:
            return cls((), torch.zeros(0), torch.ones(0), torch.zeros(0), torch.zeros(0))
        scale = values.std(dim=0, unbiased=False)
        scale = torch.where(scale > 0, scale, 1.0)
        return cls(names, values.mean(dim=0), scale, values.amin(dim=0), values.amax(dim=0))

    def standardise(self, values: Tensor) -> Tensor:
        """Maps values of shape (sample, parameter) to unit variance."""
        return (values - self.mean) / self.scale

    def beyond(self, values: Tensor) -> list[str]:
        """Says which values of shape (parameter) lie outside of those of training, and how far; [] if none does.

        Collective: no.
        """
        sentences = []
        rows = zip(self.names, values.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        for name, value, low, high in rows:
            distance = max(low - value, value - high)
            if distance > 0:
                far = f", {distance / (high - low):.2g} times the width of that range" if high > low else ""
                sentences.append(
                    f"parameters.{name} is {value:g}, but the training states have {low:g} to {high:g}: {distance:g} "
                    f"beyond{far}."
                )
        return sentences


@dataclass(frozen=True)
class Generator:
    """A trained or untrained generator on its grid.

    Attributes:
        config: Resolved configuration.
        grid: C-grid geometry and masks.
        lattice: Tiles.
        channels: State variables by level.
        standardisation: Between physical and standardised state.
        parameters: Physical parameters that condition it.
        denoiser: Network and preconditioning.
        thresholds: Of the verdict, as JSON text.
        targets: Profiles that constraints ask for.
        climatology: Mean state by season and parameters, from which the network has learned departures; None where
            these are from the reference of the standardisation.
        increments: Changes over the leads of a forecast; None where it makes states.
        budget: Growth of the ice volume over these leads, and the range of area means; likewise.
        guess: Deterministic forecasts from which it makes departures; None where it makes whole changes.
        step: Optimiser steps behind the weights.
    """

    config: RunConfig
    grid: Grid
    lattice: Lattice
    channels: Channels
    standardisation: Standardisation
    parameters: Parameters
    denoiser: PreconditionedDenoiser
    thresholds: str = ""
    targets: Targets = field(default_factory=Targets)
    climatology: Climatology | None = None
    increments: Increments | None = None
    budget: Budget | None = None
    guess: Generator | None = None
    step: int = 0

    @classmethod
    def build(
        cls,
        config: RunConfig,
        grid: Grid,
        standardisation: Standardisation,
        parameters: Parameters,
        thresholds: str = "",
        targets: Targets | None = None,
        climatology: Climatology | None = None,
        increments: Increments | None = None,
        budget: Budget | None = None,
        guess: Generator | None = None,
    ) -> Generator:
        """Builds an untrained generator; weights are a function of training.seed.

        Raises:
            ValueError: Tile, halo and network do not fit each other or the grid.

        Collective: no.
        """
        check_window(config)
        lattice = Lattice.from_grid(grid, config.lattice.tile, config.lattice.halo)
        channels = Channels.build(config.data.variables, grid)
        path = PATHS[config.path]()
        network = build_network(config, grid, lattice, channels.count)
        denoiser = PreconditionedDenoiser(network, path, 1.0, config.sigma_given)
        return cls(
            config, grid, lattice, channels, standardisation, parameters, denoiser, thresholds, targets or Targets(),
            climatology, increments, budget, guess,
        )  # fmt: skip

    @property
    def stored(self) -> Channels:
        """Channels of the training store and of the standardisation: those of the state, then the forcing."""
        return Channels.build(self.config.data.stored, self.grid) if self.config.data.forcing else self.channels

    def conditions(self, season: Tensor, parameters: Tensor) -> Tensor:
        """Returns what the network is told of states as they stand, neither coarsened nor turned.

        Arguments: see `tiled`. Returns shape (member, condition).
        """
        told = sample_conditions(season, self.parameters.standardise(parameters))
        training = self.config.training
        return torch.cat([told, told.new_zeros(len(told), extra_count(training.scales, training.symmetries))], dim=1)

    def standardise(self, layout: Layout, season: Tensor, parameters: Tensor) -> Standardisation:
        """Returns what turns members on tiles into physical states and back.

        Arguments: see `tiled`.

        Returns:
            For states of shape (member, tile, channel, j, i); its reference has a member axis where members differ.

        Collective: no.
        """
        plain = self.standardisation.cut(layout)
        if self.climatology is None:
            return plain
        told = self.parameters.standardise(parameters)
        return replace(plain, reference=self.climatology.cut(layout).reference(season, told))

    def weights(self, season: Tensor, parameters: Tensor) -> list[list[float]]:
        """Returns how much of each component of the reference belongs to each member; see `Climatology`.

        Arguments: see `tiled`.

        Collective: no.
        """
        if self.climatology is None:
            return [[1.0]] * len(season)
        return self.climatology.weights(season, self.parameters.standardise(parameters)).tolist()

    def coarse_context(self) -> CoarseContext:
        """Returns what turns coarse states into what the network is told, where it is told some. Collective: no."""
        return CoarseContext.build(self.config, self.grid, self.channels, self.standardisation, self.climatology)

    def tiled(self, layout: Layout, season: Tensor, parameters: Tensor, context: Tensor | None = None) -> TiledDenoiser:
        """Binds the denoiser to the tiles of a layout and to the conditions of its members.

        Arguments:
            layout: Who owns which tile.
            season: Fraction of the year, shape (member).
            parameters: Physical parameters, shape (member, parameter).
            context: What the network is told of coarse states, shape (member, tile, channel, window j, window i); None
                where it is told nothing.

        Raises:
            ValueError: It is told coarse states, but there are none; or it makes forecasts.

        Collective: yes, over the communicator of the layout (builds the halo plan).
        """
        if self.config.forecast:
            raise ValueError(
                "The run folder makes forecasts (it has forecast.leads), expected a generator of states: use "
                "`halocline forecast`, or name another run."
            )
        if context is None and self.config.coarse.factor > 1:
            raise ValueError(
                f"The network is told coarse states (coarse.factor is {self.config.coarse.factor}), got none: pass "
                "context, see CoarseContext.on_tiles."
            )
        halo, blend = self.lattice.halo, self.config.sampling.blend
        mask = layout.cut(self.channels.mask(self.grid))
        return TiledDenoiser(
            denoiser=self.denoiser.eval(),
            halo=HaloPlan.build(layout, self.channels.points, self.channels.signs),
            cell_conditions=CellConditions.build(self.grid, layout),
            conditions=self.conditions(season, parameters),
            mask=torch.as_tensor(mask).float(),
            batch=self.config.sampling.tile_batch,
            owned=slice(halo, -halo) if halo else slice(None),
            precision=self.config.sampling.precision,
            context=context,
            blend=Blend.build(layout, self.channels.points, self.channels.signs, blend) if blend else None,
        )


def check_window(config: RunConfig) -> None:
    """Refuses windows that do not fit the network.

    Raises:
        ValueError: They are not a multiple of its stride.
    """
    size = config.network if config.backbone == "unet" else config.transformer
    if problem := window_problem(size.stride, config.lattice.tile, config.lattice.halo):
        raise ValueError(problem)


def input_counts(config: RunConfig, grid: Grid, lattice: Lattice) -> tuple[int, int]:
    """Returns the number of conditions per cell and per sample."""
    static = CellConditions.build(grid, Layout.build(lattice, Serial())).count + context_count(config, grid)
    training, parameters = config.training, len(config.data.parameters)
    if config.forecast:  # the state that is given, the forcing at both ends of the lead; the lead instead of the season
        state, stored = (Channels.build(names, grid).count for names in (config.data.variables, config.data.stored))
        static, told = static + state + 2 * (stored - state), 1 + parameters
        static += 2 * state if config.forecast.first_guess else 0
    else:
        told = sample_conditions(torch.zeros(1), torch.zeros(1, parameters)).shape[1]
    return static, told + extra_count(training.scales, training.symmetries)


def build_network(config: RunConfig, grid: Grid, lattice: Lattice, channels: int) -> nn.Module:
    """Builds the network with weights that depend on training.seed only."""
    static, conditions = input_counts(config, grid, lattice)
    channels *= config.forecast.outputs
    with torch.random.fork_rng():
        torch.manual_seed(config.training.seed)
        network = backbone(config, channels, static, conditions, grid.nj * grid.ni)
        if config.forecast and config.forecast.loss == "censored":
            network = ScaledNetwork(network, channels, conditions)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def backbone(config: RunConfig, *counts: int) -> nn.Module:
    """The network that the configuration names; `counts` as for `UNet`."""
    if config.backbone == "transformer":
        return Transformer(config.transformer, *counts)
    return UNet(config.network, *counts)


def with_weights(generator: Generator, weights: Mapping[str, Tensor], step: int) -> Generator:
    """Returns the same generator with a network of its own, on the CPU, that has these weights.

    Collective: no.
    """
    made = Generator.build(
        generator.config, generator.grid, generator.standardisation, generator.parameters, generator.thresholds,
        generator.targets, generator.climatology, generator.increments, generator.budget, generator.guess,
    )  # fmt: skip
    made.denoiser.network.load_state_dict(dict(weights))
    return replace(made, step=step)
