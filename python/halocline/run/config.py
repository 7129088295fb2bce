"""Configuration: frozen dataclasses, one to one with YAML; unknown keys and wrong types are errors.

`halocline train CONFIG.yaml training.steps=200` reads the file, applies the overrides, and resolves paths
relative to the folder of the file. The resolved form travels with each run folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halocline.flow.networks import TransformerConfig, UNetConfig
from halocline.run.coarse_config import FACTORS, CoarseConfig
from halocline.run.config_reader import (
    absolute,
    apply_overrides,
    at_least,
    build,
    one_of,
    parse_overrides,
    read_yaml,
    to_yaml,
)
from halocline.run.forecast_config import ForecastConfig
from halocline.run.sampling_config import SamplingConfig
from halocline.state.variables import VARIABLES

__all__ = [
    "CoarseConfig", "DataConfig", "ForecastConfig", "LatticeConfig", "RunConfig", "SamplingConfig", "TrainingConfig",
    "apply_overrides", "build", "parse_overrides", "read_config", "write_config",
]  # fmt: skip

PATHS = (
    "data.grid", "data.states", "data.store", "training.begin", "sampling.coarse", "forecast.first_guess", "output",
)  # fmt: skip
STATES = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")


@dataclass(frozen=True)
class DataConfig:
    """What to learn from.

    Attributes:
        grid: NEMO mesh_mask or domain_cfg file; start or restart file of neXtSIM_DG.
        states: Model output or restarts: a file, a list of files, or glob patterns.
        variables: Names from the variable table.
        first_year, last_year: Years to use, inclusive; none: all.
        held_out_years: First and last of the years that are kept for validation and never trained on; none: no year.
        held_out_trajectories: Likewise of the runs of the model, numbered from 0 as the files hold them; none: no run.
        forcing: Names from the variable table that a forecast is told, beside those that it makes.
        parameters: Names of scalars per state (in the files) that condition the generator.
        equation_of_state: "eos80", "teos10", "seos" or "dino" (seos with the coefficients of DINO), as the model.
        coefficients: Coefficients of the simplified equation of state, NEMO's namelist names.
        free_surface: "linear" (layers of constant thickness), "nonlinear" (all stretch with the column) or
            "top_layer" (the first alone follows the sea level).
        store: Training store that `halocline data` makes of the states; "" is data.zarr in the output folder.
        coarsen: Cells of the model along i and j that are taken together, of 1, 2, 4, 8: grid and states are coarsened
            as they are read, and the run is one of the coarse grid, for the level above in a cascade.
    """

    grid: str
    states: tuple[str, ...]
    variables: tuple[str, ...] = STATES
    first_year: int | None = None
    last_year: int | None = None
    held_out_years: tuple[int, ...] | None = None
    held_out_trajectories: tuple[int, ...] | None = None
    forcing: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    equation_of_state: str = "eos80"
    coefficients: dict[str, float] = field(default_factory=dict)
    free_surface: str = "linear"
    store: str = ""
    coarsen: int = 1

    def __post_init__(self) -> None:
        years = self.held_out_years
        if years is not None and (len(years) != 2 or years[0] > years[1]):
            raise ValueError(f"data.held_out_years is {list(years)}, expected the first year and the last.")
        runs = self.held_out_trajectories
        if runs is not None and (len(runs) != 2 or runs[0] > runs[1]):
            raise ValueError(f"data.held_out_trajectories is {list(runs)}, expected the first number and the last.")
        for key, names in (("variables", self.variables), ("forcing", self.forcing)):
            for name in names:
                if name not in VARIABLES:
                    raise ValueError(f"data.{key} names '{name}', expected names from {', '.join(VARIABLES)}.")
        if both := set(self.variables) & set(self.forcing):
            raise ValueError(f"data.variables and data.forcing both name {', '.join(sorted(both))}: take one out.")
        if self.coarsen not in FACTORS:
            raise ValueError(f"data.coarsen is {self.coarsen}, expected one of {', '.join(map(str, FACTORS))}.")
        one_of("data.free_surface", self.free_surface, ("linear", "nonlinear", "top_layer"))
        one_of("data.equation_of_state", self.equation_of_state, ("eos80", "teos10", "seos", "dino"))

    @property
    def stored(self) -> tuple[str, ...]:
        """Variables that a training store holds: those of the state, then the forcing."""
        return self.variables + self.forcing


@dataclass(frozen=True)
class LatticeConfig:
    """The tile lattice: owned cells of a tile (j, i) and the width of its halo."""

    tile: tuple[int, int]
    halo: int = 4

    def __post_init__(self) -> None:
        if len(self.tile) != 2 or min(self.tile) < 1 or self.halo < 0:
            raise ValueError(
                f"lattice.tile is {list(self.tile)} and lattice.halo {self.halo}, expected two positive "
                "numbers of cells (j, i) and a width of 0 or more."
            )


@dataclass(frozen=True)
class TrainingConfig:
    """How to learn.

    Attributes:
        steps: Optimiser steps.
        batch: Tile windows per step, over all ranks.
        accumulate: Parts in which each rank takes its share of a batch, one after the other, to save memory.
        ranks: Ranks that the job must have; 0: any number.
        zero: Stage of ZeRO: 0 shares nothing out over the ranks, 1 optimiser states, 2 gradients, too, 3 weights, too.
        recompute: Forget activations and compute them again in the backward pass, to save memory.
        learning_rate: Highest rate, after a linear warm-up over `warm_up` steps.
        schedule: "cosine" (to zero at the last step) or "constant".
        weight_decay: Of AdamW.
        clip: Largest global norm of the gradient.
        ema: Decay of the averaged weights, which are the ones that sample.
        seed: Of weights, batches, times and noise.
        begin: Run folder whose weights the training begins with, such as one of other windows, lattice or states with
            the same network. Empty: random ones.
        time_shift: Factor k on the odds t / (1 - t) of the path times that are drawn: above 1 more of them are near the
            noise, where a generator learns the mean of what can be. 1: uniform.
        precision: "fp32", or "bf16" (weights of 16 bits beside master weights of 32).
        centre: What is subtracted before scaling by level: "cell", the mean of each cell; "level", that of each level;
            "conditions", that of each cell at its season and physical parameters, see `halocline.state.climatology`.
        windows: "lattice" (those of the tiles, as in sampling) or "free" (anywhere).
        least_wet: Wet cells that a free window must own, as a fraction of its cells.
        scales: Coarsening factors of the states that are drawn, of 1, 2, 4, 8; the network is told which.
        symmetries: "none"; "turns" by quarters of a circle, of which the network is not told, for an area with one
            Coriolis parameter; "flips" or "all" (both), of which it is.
        cache: Memory for decoded chunks of the store, per rank, MiB.
        prefetch: Batches read ahead.
        divergence: Training stops where the loss exceeds its lowest by this factor, both as means of 50 steps.
        checkpoint_minutes: Time between checkpoints; a killed run loses at most this much.
        keep: Checkpoints that are kept, the last ones, beside the best.
        validate_steps: Steps between comparisons of generated with held-out states; 0: never.
        validation_members: States generated for it.
    """

    steps: int = 6000
    batch: int = 16
    accumulate: int = 1
    ranks: int = 0
    zero: int = 0
    recompute: bool = False
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warm_up: int = 100
    weight_decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    begin: str = ""
    time_shift: float = 1.0
    precision: str = "bf16"
    centre: str = "cell"
    windows: str = "lattice"
    least_wet: float = 0.1
    scales: tuple[int, ...] = (1,)
    symmetries: str = "none"
    cache: int = 512
    prefetch: int = 2
    divergence: float = 10.0
    checkpoint_minutes: float = 2.0
    keep: int = 2
    validate_steps: int = 1000
    validation_members: int = 4

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "learning_rate", "clip", "checkpoint_minutes", "keep", "prefetch"):
            at_least("training", self, name, 0, strictly=True)
        at_least("training", self, "time_shift", 0, strictly=True)
        for name in ("ranks", "warm_up", "weight_decay", "cache", "validate_steps"):
            at_least("training", self, name, 0)
        at_least("training", self, "validation_members", 1)
        at_least("training", self, "divergence", 1, strictly=True)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"training.seed is {self.seed}, expected an integer in [0, 2^32).")
        if not 0 <= self.ema < 1:
            raise ValueError(f"training.ema is {self.ema}, expected a number in [0, 1).")
        if not 0 < self.least_wet <= 1:
            raise ValueError(f"training.least_wet is {self.least_wet}, expected a fraction in (0, 1].")
        if not self.scales or not set(self.scales) <= set(FACTORS) or len(set(self.scales)) < len(self.scales):
            raise ValueError(f"training.scales is {list(self.scales)}, expected different ones of 1, 2, 4, 8.")
        if self.zero not in range(4):
            raise ValueError(f"training.zero is {self.zero}, expected a stage of 0, 1, 2 or 3.")
        one_of("training.precision", self.precision, ("fp32", "bf16"))
        one_of("training.centre", self.centre, ("cell", "level", "conditions"))
        one_of("training.schedule", self.schedule, ("cosine", "constant"))
        one_of("training.windows", self.windows, ("lattice", "free"))
        one_of("training.symmetries", self.symmetries, ("none", "turns", "flips", "all"))


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a generator, and where its run folder is.

    Attributes:
        path: From data to noise, "linear" (flow matching) or "variance_preserving".
        backbone: "unet", whose size is in `network`, or "transformer", whose size is in `transformer`.
        sigma_given: Standard deviation of the standardised state that season and place leave open; at most 1.
            Small where they determine it almost entirely.
    """

    data: DataConfig
    lattice: LatticeConfig
    output: str
    path: str = "linear"
    sigma_given: float = 0.02
    backbone: str = "unet"
    network: UNetConfig = field(default_factory=UNetConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    coarse: CoarseConfig = field(default_factory=CoarseConfig)
    forecast: ForecastConfig = field(default_factory=ForecastConfig)

    def __post_init__(self) -> None:
        one_of("path", self.path, ("linear", "variance_preserving"))
        one_of("backbone", self.backbone, ("unet", "transformer"))
        if not 0 < self.sigma_given <= 1:
            raise ValueError(f"sigma_given is {self.sigma_given}, expected a number in (0, 1].")
        self._check_coarse()
        self.sampling.check(self.data.variables, self.data.forcing, self.lattice.halo)
        self.forecast.check(self.data.forcing, self.training.centre, self.coarse.factor)

    @property
    def store_scales(self) -> list[int]:
        """Coarsening factors of the states that training reads, and 1."""
        return sorted({1, *self.training.scales, self.coarse.factor})

    def _check_coarse(self) -> None:
        """Refuses what cannot be told of coarse states."""
        if self.coarse.factor == 1:
            if self.sampling.coarse:
                raise ValueError(
                    f"sampling.coarse is '{self.sampling.coarse}', but the network is told no coarse state "
                    "(coarse.factor is 1): leave it out, or train with a coarse.factor of 2, 4 or 8."
                )
            return
        told = self.coarse.told(self.data.variables)
        if not told or not set(self.coarse.variables) <= set(told):
            at_cells = [name for name in self.data.variables if VARIABLES[name].point == "T"]
            raise ValueError(
                f"coarse.variables is {list(self.coarse.variables)}, expected some of those at T points in "
                f"data.variables: {', '.join(at_cells) or 'there is none'}."
            )
        if self.training.scales != (1,) or self.training.symmetries != "none":
            raise ValueError(
                f"coarse.factor is {self.coarse.factor} with training.scales {list(self.training.scales)} and "
                f"training.symmetries '{self.training.symmetries}', expected [1] and 'none': coarse states are told of "
                "states as they stand only."
            )


def read_config(path: Path, arguments: Sequence[str] = ()) -> RunConfig:
    """Reads a run configuration.

    Arguments:
        path: YAML file. Relative paths in it are relative to its folder, those in arguments to the
            current one.
        arguments: `key=value` overrides.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A key or value is wrong.

    Collective: no.
    """
    values = read_yaml(path, "Configuration")
    overrides = parse_overrides(arguments)
    resolve_paths(values, path.resolve().parent)
    apply_overrides(values, resolve_paths_in_overrides(overrides))
    return build(RunConfig, values, "")


def resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Makes the paths of `PATHS` absolute."""
    for dotted in PATHS:
        *sections, key = dotted.split(".")
        part = values.get(sections[0]) if sections else values
        if isinstance(part, dict) and part.get(key):
            part[key] = absolute(part[key], folder)


def resolve_paths_in_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """The same for overrides, relative to the current folder."""
    return {k: absolute(v, Path.cwd()) if k in PATHS and v else v for k, v in overrides.items()}


def write_config(config: RunConfig) -> str:
    """Returns the YAML text of a configuration, which `read_config` reads back unchanged."""
    return to_yaml(config)
