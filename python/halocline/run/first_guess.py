"""The run folder of the first guess of a training: what makes it fit."""

from __future__ import annotations

from pathlib import Path

from halocline.run.config import RunConfig
from halocline.run.generator import Generator
from halocline.run.run_folder import check_same_settings, fingerprints, load_generator

__all__ = ["check_guess", "load_guess"]

SAME = (
    "data.variables", "data.forcing", "data.parameters", "lattice.tile", "lattice.halo", "forecast.leads",
    "training.scales", "training.symmetries", "forecast.stretched",
)  # fmt: skip
"""Settings that decide what a network is told."""


def load_guess(config: RunConfig) -> Generator | None:
    """Loads the generator that `forecast.first_guess` names.

    Returns:
        It, or None where none is named.

    Raises:
        FileNotFoundError: It is no run folder.
        ValueError: It was trained to another end, or is told other things.

    Collective: no.
    """
    if not (folder := config.forecast.first_guess):
        return None
    guess = load_generator(Path(folder))
    if guess.config.forecast.loss != "gaussian" or not guess.config.forecast:
        raise ValueError(
            f"forecast.first_guess {folder} was trained with forecast.loss '{guess.config.forecast.loss}', expected "
            "'gaussian' and forecast.deterministic=true: train it so."
        )
    check_same_settings(SAME, config, guess.config, f"forecast.first_guess {folder}", "train both with the same")
    return guess


def check_guess(generator: Generator) -> None:
    """Refuses a first guess that was trained on other states.

    Raises:
        ValueError: What is fitted to them differs; the sentence names it.

    Collective: no.
    """
    if generator.guess is None:
        return
    folder = generator.config.forecast.first_guess
    if generator.guess.grid.fingerprint() != generator.grid.fingerprint():
        raise ValueError(f"forecast.first_guess {folder} is on another grid than data.grid: train both on the same.")
    names = ("standardisation.", "increments.", "parameters.")
    now, its = fingerprints(generator), fingerprints(generator.guess)
    if different := [name for name in its if name.startswith(names) and now.get(name) != its[name]]:
        raise ValueError(
            f"forecast.first_guess {folder} was trained on other states ({', '.join(different)} differ), expected "
            "those of data.states: train both on the same."
        )
