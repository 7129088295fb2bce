"""The run folder: everything that turns noise into a state, as files.

A run folder holds `config.yaml` (resolved), `grid.nc` (geometry and masks) and `generator.safetensors` (averaged
weights, normalisation, thresholds); sampling needs nothing else. What training needs to go on lies beside them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import torch
import yaml
from torch import Tensor

from halocline import __version__
from halocline.io.atomic import atomic_path
from halocline.io.store import load_grid, save_grid
from halocline.io.tensors import save_tensors
from halocline.run.budget_fit import Budget
from halocline.run.config import RunConfig, build, write_config
from halocline.run.generator import Generator, Parameters
from halocline.run.increments import Increments
from halocline.run.outputs import make_folder
from halocline.run.targets import Targets
from halocline.state.climatology import Climatology
from halocline.state.state import Standardisation

__all__ = [
    "GUESS", "WEIGHTS", "check_same_settings", "fingerprints", "load_content", "load_generator", "load_weights",
    "save_generator", "start_run_folder",
]  # fmt: skip

FORMAT = 2  # of generator.safetensors; raised when older files can no longer be read
WEIGHTS = "generator.safetensors"
HEAD = f"""# What this run was trained with, to be read: {WEIGHTS} has a copy of its own, which is what counts.
# Other settings of sampling are given to a command (`halocline forecast RUN sampling.steps=4`).
"""
TENSORS = (
    "standardisation.reference", "standardisation.scale", "standardisation.mask",
    "parameters.mean", "parameters.scale", "parameters.low", "parameters.high",
)  # fmt: skip
ENTRIES = ("version", "grid", "config", "thresholds", "step", "crc32")
PARAMETERS = ("mean", "scale", "low", "high")
NETWORK, TARGETS, CLIMATOLOGY, INCREMENTS = "network.", "targets.", "climatology.", "increments."
BUDGET, GUESS = "budget.", "guess."


def save_generator(folder: Path, generator: Generator, weights: Mapping[str, Tensor]) -> None:
    """Writes all that sampling needs beside the grid, whole or not at all: plain safetensors and text.

    Arguments:
        folder: Run folder.
        generator: All but the weights.
        weights: Averaged weights of the network, float32.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file stands.

    Collective: no, one rank writes.
    """
    tensors = fitted(generator) | beside(generator)
    tensors |= {NETWORK + name: x.detach().cpu().contiguous() for name, x in weights.items()}
    about = {
        "format": str(FORMAT),
        "version": __version__,
        "grid": generator.grid.fingerprint(),
        "config": write_config(generator.config),
        "thresholds": generator.thresholds,
        "step": str(generator.step),
        "crc32": str(checksum(tensors)),
    }
    if generator.guess is not None:
        about["guess"] = write_config(generator.guess.config)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_tensors(temporary, {name: x.numpy() for name, x in tensors.items()}, about)


def fitted(generator: Generator) -> dict[str, Tensor]:
    """Returns what is fitted to the training data and not learned, by name."""
    parameters = generator.parameters
    tensors = {f"standardisation.{k}": v for k, v in generator.standardisation.to_dict().items()}
    tensors |= {f"parameters.{name}": getattr(parameters, name) for name in PARAMETERS}
    tensors |= {TARGETS + k: v for k, v in generator.targets.to_dict().items()}
    if generator.climatology is not None:
        tensors |= {CLIMATOLOGY + k: v for k, v in generator.climatology.to_dict().items()}
    if generator.increments is not None:
        tensors |= {INCREMENTS + k: v for k, v in generator.increments.to_dict().items()}
    if generator.guess is not None:
        tensors |= {GUESS + k: v for k, v in generator.guess.denoiser.network.state_dict().items()}
    return {name: x.detach().cpu().contiguous() for name, x in tensors.items()}


def beside(generator: Generator) -> dict[str, Tensor]:
    """Returns what is fitted to the training data, too, but is nothing that the weights have learned with."""
    tensors = generator.budget.to_dict() if generator.budget is not None else {}
    return {BUDGET + name: x.contiguous() for name, x in tensors.items()}


def fingerprints(generator: Generator) -> dict[str, str]:
    """Digests what is fitted to the training data and the weights have learned with, to 16 hexadecimal digits each."""
    return {k: hashlib.sha256(x.numpy().tobytes()).hexdigest()[:16] for k, x in fitted(generator).items()}


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of names and values; safetensors has none of its own."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].contiguous().numpy().tobytes(), zlib.crc32(name.encode(), value))
    return value


def start_run_folder(folder: Path, generator: Generator, again: bool = False) -> None:
    """Writes what does not change while training: configuration and grid.

    Arguments:
        folder: Run folder, made if needed.
        generator: Gives both.
        again: Whether a grid that is there stays, since it is known to be the same.
    """
    make_folder(folder)
    with atomic_path(folder / "config.yaml") as temporary:
        temporary.write_text(HEAD + write_config(generator.config))
    if not (again and (folder / "grid.nc").exists()):
        save_grid(generator.grid, folder / "grid.nc")


def load_content(folder: Path) -> dict[str, Any]:
    """Reads the weights of a run folder and what is with them, and checks that this version understands it.

    Returns:
        "tensors", and the entries of the file's header; "step" is an integer.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged, or of another format, or lacks an entry.

    Collective: no.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {WEIGHTS}, expected a run folder: make one with `halocline train`."
        )
    try:
        with safetensors.safe_open(path, "pt") as file:
            content: dict[str, Any] = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dictionary
    except Exception as error:  # damaged bytes raise whatever they resemble
        raise ValueError(
            f"Weights {path} cannot be read ({type(error).__name__}): the file is damaged or of another kind; train "
            "again or restore it."
        ) from error
    check_content(path, content, tensors)
    return {**content, "tensors": tensors, "step": int(content["step"])}


def check_content(path: Path, content: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Refuses weights of another format, incomplete or damaged ones."""
    if content.get("format") != str(FORMAT):
        raise ValueError(
            f"Weights {path} have format {content.get('format')}, expected {FORMAT}: they were written by Halocline "
            f"{content.get('version', 'unknown')}, this is {__version__}; train again or use that version."
        )
    missing = [name for name in ENTRIES if name not in content] + [name for name in TENSORS if name not in tensors]
    if missing:
        raise ValueError(
            f"Weights {path} lack {', '.join(missing)}: the file is of another version; train again or restore it."
        )
    if content["crc32"] != str(checksum(tensors)):
        raise ValueError(f"Weights {path} do not match their checksum: the file is damaged; restore it or train again.")


def load_generator(folder: Path, overrides: Mapping[str, Any] | None = None) -> Generator:
    """Loads a generator with the averaged weights of a run folder.

    Arguments:
        folder: Run folder.
        overrides: Values that replace those of the `sampling` section.

    Raises:
        FileNotFoundError: No run folder.
        ValueError: The file is damaged, of another format, of another grid, or of another network.

    Collective: no; every rank reads.
    """
    content = load_content(folder)
    config = build(RunConfig, yaml.safe_load(content["config"]), "")
    if overrides:
        values = {**vars(config.sampling), **overrides}
        config = replace(config, sampling=build(type(config.sampling), values, "sampling"))
    grid = load_grid(folder / "grid.nc")
    if grid.fingerprint() != content["grid"]:
        raise ValueError(
            f"Weights {folder / WEIGHTS} were trained on grid {content['grid']}, but {folder / 'grid.nc'} is grid "
            f"{grid.fingerprint()}: the folder was mixed from two runs."
        )
    tensors = content["tensors"]
    names = ("reference", "scale", "mask")
    standardisation = Standardisation.from_dict({name: tensors[f"standardisation.{name}"] for name in names})
    parameters = Parameters(config.data.parameters, *(tensors[f"parameters.{name}"] for name in PARAMETERS))
    targets = Targets.from_dict(part(tensors, TARGETS))
    climatology = Climatology.from_dict(part(tensors, CLIMATOLOGY))
    increments = Increments.from_dict(part(tensors, INCREMENTS))
    budget = Budget.from_dict(part(tensors, BUDGET))
    generator = Generator.build(
        config, grid, standardisation, parameters, content["thresholds"], targets, climatology, increments, budget
    )
    load_weights(generator.denoiser.network, part(tensors, NETWORK), folder / WEIGHTS)
    guess = None
    if config.forecast.first_guess:
        guess = Generator.build(
            build(RunConfig, yaml.safe_load(content["guess"]), ""), grid, standardisation, parameters,
            increments=increments,
        )  # fmt: skip
        load_weights(guess.denoiser.network, part(tensors, GUESS), folder / WEIGHTS)
    return replace(generator, guess=guess, step=content["step"])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Takes the tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def check_same_settings(keys: Sequence[str], now: RunConfig, other: RunConfig, name: str, remedy: str) -> None:
    """Refuses a run that was trained with other settings.

    Arguments:
        keys: Of the settings that must be the same: SECTION.NAME, or whole sections.
        now, other: Of this training, and of that run.
        name: Of that run, for the sentence.
        remedy: Likewise.

    Raises:
        ValueError: One differs.
    """
    here, there = dataclasses.asdict(now), dataclasses.asdict(other)
    for key in keys:
        section, _, entry = key.partition(".")
        mine, its = (x[section][entry] if entry else x[section] for x in (here, there))
        if mine != its:
            raise ValueError(f"{name} was trained with {key} = {its}, expected {mine} as here: {remedy}.")


def load_weights(network: torch.nn.Module, given: dict[str, Tensor], path: Path) -> None:
    """Puts the weights of a file into a network.

    Raises:
        ValueError: Names or shapes differ; the sentence names the first.
    """
    expected = network.state_dict()
    for name in [*expected, *given]:
        shapes = [tuple(x[name].shape) if name in x else "none" for x in (given, expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"Weights {path} have {name} of shape {shapes[0]}, expected {shapes[1]}: they are of another network; "
                "restore config.yaml of their run."
            )
    network.load_state_dict(given)
