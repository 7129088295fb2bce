"""The generator: everything that turns noise into a state, and the run folder that carries it.

A run folder holds `config.yaml` (resolved), `grid.nc` (geometry and masks) and `checkpoint.pt` (weights,
normalisation, thresholds); sampling needs nothing else.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from halocline import __version__
from halocline.flow.conditions import CellConditions, sample_conditions
from halocline.flow.denoiser import PreconditionedDenoiser
from halocline.flow.networks import UNet
from halocline.flow.networks.unet import window_problem
from halocline.flow.path import LinearPath, VariancePreservingPath
from halocline.flow.path import Path as FlowPath
from halocline.flow.tiled import TiledDenoiser
from halocline.io.atomic import atomic_path
from halocline.io.store import load_grid, save_grid
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run.config import RunConfig, build, write_config
from halocline.run.outputs import make_folder
from halocline.state.state import Channels, Standardisation

__all__ = ["Generator", "Parameters", "load_checkpoint", "load_generator", "save_checkpoint"]

FORMAT = 1  # of checkpoint.pt; raised when older files can no longer be read
ENTRIES = (
    "version", "grid", "config", "standardisation", "parameters", "thresholds", "step",
    "weights", "averaged", "optimiser",
)  # fmt: skip
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
    """

    names: tuple[str, ...]
    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, names: tuple[str, ...], values: Tensor) -> Parameters:
        """Standardises the training values, shape (state, parameter)."""
        if not names:
            return cls((), torch.zeros(0), torch.ones(0))
        scale = values.std(dim=0, unbiased=False)
        return cls(names, values.mean(dim=0), torch.where(scale > 0, scale, 1.0))

    def standardise(self, values: Tensor) -> Tensor:
        """Maps values of shape (sample, parameter) to unit variance."""
        return (values - self.mean) / self.scale


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
    step: int = 0

    @classmethod
    def build(
        cls,
        config: RunConfig,
        grid: Grid,
        standardisation: Standardisation,
        parameters: Parameters,
        thresholds: str = "",
    ) -> Generator:
        """Builds an untrained generator; weights are a function of training.seed.

        Raises:
            ValueError: Tile, halo and network do not fit each other or the grid.

        Collective: no.
        """
        tile, halo = config.lattice.tile, config.lattice.halo
        if problem := window_problem(config.network.stride, tile, halo):
            raise ValueError(problem)
        lattice = Lattice.from_grid(grid, tile, halo)
        channels = Channels.build(config.data.variables, grid)
        path = PATHS[config.path]()
        network = build_network(config, grid, lattice, channels.count, len(parameters.names))
        denoiser = PreconditionedDenoiser(network, path, 1.0, config.sigma_given)
        return cls(
            config, grid, lattice, channels, standardisation, parameters, denoiser, thresholds
        )

    def tiled(self, layout: Layout, season: Tensor, parameters: Tensor) -> TiledDenoiser:
        """Binds the denoiser to the tiles of a layout and to the conditions of its members.

        Arguments:
            layout: Who owns which tile.
            season: Fraction of the year, shape (member).
            parameters: Physical parameters, shape (member, parameter).

        Collective: yes, over the communicator of the layout (builds the halo plan).
        """
        halo = self.lattice.halo
        mask = layout.cut(self.channels.mask(self.grid))
        return TiledDenoiser(
            denoiser=self.denoiser.eval(),
            halo=HaloPlan.build(layout, self.channels.points, self.channels.signs),
            cell_conditions=CellConditions.build(self.grid, layout),
            conditions=sample_conditions(season, self.parameters.standardise(parameters)),
            mask=torch.as_tensor(mask).float(),
            batch=self.config.sampling.tile_batch,
            owned=slice(halo, -halo) if halo else slice(None),
            precision=self.config.sampling.precision,
        )


def build_network(
    config: RunConfig, grid: Grid, lattice: Lattice, channels: int, parameters: int
) -> UNet:
    """Builds the network with weights that depend on training.seed only."""
    layout = Layout.build(lattice, Serial())
    static = CellConditions.build(grid, layout).count
    conditions = sample_conditions(torch.zeros(1), torch.zeros(1, parameters)).shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(config.training.seed)
        network = UNet(config.network, channels, static, conditions, grid.nj * grid.ni)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save_checkpoint(folder: Path, generator: Generator, training: Mapping[str, Any]) -> None:
    """Writes the checkpoint of a run folder, whole or not at all.

    Arguments:
        folder: Run folder.
        generator: Carries the weights that sample in `denoiser`.
        training: What is needed to go on: weights, averaged weights, optimiser, step.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old checkpoint stands.

    Collective: no, one rank writes.
    """
    content = {
        "format": FORMAT,
        "version": __version__,
        "grid": generator.grid.fingerprint(),
        "config": write_config(generator.config),
        "standardisation": generator.standardisation.to_dict(),
        "parameters": {"mean": generator.parameters.mean, "scale": generator.parameters.scale},
        "thresholds": generator.thresholds,
        "step": generator.step,
        **training,
    }
    with atomic_path(folder / "checkpoint.pt") as temporary:
        torch.save(content, temporary)


def start_run_folder(folder: Path, generator: Generator) -> None:
    """Writes what does not change while training: configuration and grid."""
    make_folder(folder)
    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(write_config(generator.config))
    save_grid(generator.grid, folder / "grid.nc")


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Reads the checkpoint of a run folder and checks that this version understands it.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged, or of another format, or lacks an entry.

    Collective: no.
    """
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no checkpoint.pt, expected a run folder: make one with `halocline train`."
        )
    try:
        with zipfile.ZipFile(path) as archive:  # torch reads past checksums that do not match
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"{broken} does not match its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise whatever they resemble
        raise ValueError(
            f"Checkpoint {path} cannot be read ({type(error).__name__}): it is damaged or not a "
            "checkpoint; train again or restore it."
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"Checkpoint {path} has format {found}, expected {FORMAT}: it was written by Halocline "
            f"{content.get('version', 'unknown') if isinstance(content, dict) else 'unknown'}, this "
            f"is {__version__}; train again or use that version."
        )
    missing = [name for name in ENTRIES if name not in content]
    missing += [f"parameters.{name}" for name in ("mean", "scale") if name not in content.get("parameters", {})]
    if missing:
        raise ValueError(
            f"Checkpoint {path} lacks {', '.join(missing)}: it is damaged or of another version; train again or "
            "restore it."
        )
    return content


def load_generator(folder: Path, overrides: Mapping[str, Any] | None = None) -> Generator:
    """Loads a generator with the averaged weights of a run folder.

    Arguments:
        folder: Run folder.
        overrides: Values that replace those of the `sampling` section.

    Raises:
        FileNotFoundError: No run folder.
        ValueError: The checkpoint is damaged, of another format, or of another grid.

    Collective: no; every rank reads.
    """
    content = load_checkpoint(folder)
    config = build(RunConfig, yaml.safe_load(content["config"]), "")
    if overrides:
        values = {**vars(config.sampling), **overrides}
        config = replace(config, sampling=build(type(config.sampling), values, "sampling"))
    grid = load_grid(folder / "grid.nc")
    if grid.fingerprint() != content["grid"]:
        raise ValueError(
            f"Checkpoint {folder / 'checkpoint.pt'} was trained on grid {content['grid']}, but "
            f"{folder / 'grid.nc'} is grid {grid.fingerprint()}: the folder was mixed from two runs."
        )
    standardisation = Standardisation.from_dict(content["standardisation"])
    parameters = Parameters(config.data.parameters, **content["parameters"])
    generator = Generator.build(config, grid, standardisation, parameters, content["thresholds"])
    generator.denoiser.network.load_state_dict(content["averaged"])
    return replace(generator, step=content["step"])
