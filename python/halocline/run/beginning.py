"""Weights that a training begins with: those of another run, learned on other windows, leads or states."""

from __future__ import annotations

from pathlib import Path

from halocline.run.generator import Generator
from halocline.run.run_folder import WEIGHTS, check_same_settings, load_generator, load_weights

__all__ = ["begin_with"]

SAME = (
    "data.variables", "data.forcing", "data.parameters", "path", "backbone", "network", "transformer",
    "training.scales", "coarse.factor", "forecast.loss", "forecast.deterministic",
    "forecast.stretched",
)  # fmt: skip
"""Settings that decide what a network is told and what it says; what they leave open, the shapes of weights tell."""


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
    load_weights(generator.denoiser.network, other.denoiser.network.state_dict(), Path(folder) / WEIGHTS)
