"""Weights that a training begins with: those of another run, learned on other windows, leads or states.

A run that was told the forcing at both ends of a lead alone can go on with its mean (`forecast.forcing_interval`): the
weights of what is new are 0 at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from halocline.run.generator import Generator
from halocline.run.run_folder import WEIGHTS, check_same_settings, load_generator, load_weights

__all__ = ["begin_with", "widened"]

SAME = (
    "data.variables", "data.forcing", "data.parameters", "path", "backbone", "network", "transformer",
    "training.scales", "coarse.factor", "forecast.loss", "forecast.deterministic",
    "forecast.stretched",
)  # fmt: skip
"""Settings that decide what a network is told and what it says; what they leave open, the shapes of weights tell."""

INTERVAL = ("forecast.forcing_interval",)


def begin_with(generator: Generator) -> None:
    """Gives a generator the averaged weights of the run that `training.begin` names, if it names one.

    Everything else (standardisation, changes over leads, lattice) is that of the new training.

    Raises:
        FileNotFoundError: It is no run folder.
        ValueError: Its network is another one, or is told or says other things.

    Collective: no; every rank reads.
    """
    if not (folder := generator.config.training.begin):
        return
    other = load_generator(Path(folder))
    remedy = "take it over, or begin with another run"
    check_same_settings(SAME, generator.config, other.config, f"training.begin {folder}", remedy)
    if bool(other.guess) != bool(generator.guess):
        raise ValueError(
            f"training.begin {folder} {'has' if other.guess else 'has no'} first guess, expected the same as here: set "
            "or leave out forecast.first_guess in both."
        )
    weights = other.denoiser.network.state_dict()
    if other.config.forecast.forcing_interval != generator.config.forecast.forcing_interval:
        if other.config.forecast.forcing_interval:
            check_same_settings(INTERVAL, generator.config, other.config, f"training.begin {folder}", remedy)
        weights = widened(weights, generator)
    load_weights(generator.denoiser.network, weights, Path(folder) / WEIGHTS)


def widened(given: Mapping[str, Tensor], generator: Generator) -> dict[str, Tensor]:
    """Puts zeros where the weights of a network lack those of the mean of the forcing.

    Arguments:
        given: Of a network that is told the forcing at both ends of a lead.
        generator: Told the mean, too.

    Returns:
        Weights of its network, but for what is wrong otherwise.

    Collective: no.
    """
    config, state = generator.config, generator.channels.count
    forcing = generator.stored.count - state
    size = config.network if config.backbone == "unet" else config.transformer
    behind = size.cell_features + (2 * state if generator.guess else 0)  # what is told after the mean
    made = dict(given)
    for name, expected in generator.denoiser.network.state_dict().items():
        if name not in given or given[name].ndim < 2:
            continue
        lacking = expected.shape[1] - given[name].shape[1]
        if lacking > 0 and lacking % forcing == 0:
            place = given[name].shape[1] - behind * (lacking // forcing)  # a transformer is told four cells at once
            parts = given[name][:, :place], expected.new_zeros(expected.shape)[:, :lacking], given[name][:, place:]
            made[name] = torch.cat(parts, dim=1)
    return made
