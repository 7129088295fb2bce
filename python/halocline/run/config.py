"""Configuration: frozen dataclasses, one to one with YAML; unknown keys and wrong types are errors.

`halocline train CONFIG.yaml training.steps=200` reads the file, applies the overrides, and resolves paths
relative to the folder of the file. The resolved form travels with each run folder.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from halocline.flow.networks import UNetConfig
from halocline.state.variables import VARIABLES

__all__ = [
    "DataConfig", "LatticeConfig", "RunConfig", "SamplingConfig", "TrainingConfig",
    "apply_overrides", "build", "parse_overrides", "read_config", "write_config",
]  # fmt: skip

T = TypeVar("T")
STATES = ("temperature", "salinity", "velocity_u", "velocity_v", "sea_level")


@dataclass(frozen=True)
class DataConfig:
    """What to learn from.

    Attributes:
        grid: NEMO mesh_mask or domain_cfg file; start or restart file of neXtSIM_DG.
        states: Model output or restarts: a file, a list of files, or glob patterns.
        variables: Names from the variable table.
        first_year, last_year: Years to use, inclusive; none: all.
        parameters: Names of scalars per state (in the files) that condition the generator.
        equation_of_state: "eos80", "teos10", "seos" or "dino" (seos with the coefficients of DINO), as the model.
        coefficients: Coefficients of the simplified equation of state, NEMO's namelist names.
        free_surface: "linear" (layers of constant thickness), "nonlinear" (all stretch with the column) or
            "top_layer" (the first alone follows the sea level).
    """

    grid: str
    states: tuple[str, ...]
    variables: tuple[str, ...] = STATES
    first_year: int | None = None
    last_year: int | None = None
    parameters: tuple[str, ...] = ()
    equation_of_state: str = "eos80"
    coefficients: dict[str, float] = field(default_factory=dict)
    free_surface: str = "linear"

    def __post_init__(self) -> None:
        for name in self.variables:
            if name not in VARIABLES:
                raise ValueError(
                    f"data.variables names '{name}', expected names from {', '.join(VARIABLES)}."
                )
        one_of("data.free_surface", self.free_surface, ("linear", "nonlinear", "top_layer"))
        one_of("data.equation_of_state", self.equation_of_state, ("eos80", "teos10", "seos", "dino"))


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
        learning_rate: Highest rate; warm-up over `warm_up` steps, then a cosine to zero.
        weight_decay: Of AdamW.
        clip: Largest global norm of the gradient.
        ema: Decay of the averaged weights, which are the ones that sample.
        seed: Of weights, batches, times and noise.
        precision: "fp32" or "bf16".
        centre: "cell" subtracts the mean of each cell before scaling by level, "level" that of each level.
        checkpoint_minutes: Time between checkpoints; a killed run loses at most this much.
    """

    steps: int = 6000
    batch: int = 16
    learning_rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: str = "bf16"
    centre: str = "cell"
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "learning_rate", "clip", "checkpoint_minutes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name} is {getattr(self, name)}, expected more than 0.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"training.seed is {self.seed}, expected an integer in [0, 2^32).")
        if not 0 <= self.ema < 1:
            raise ValueError(f"training.ema is {self.ema}, expected a number in [0, 1).")
        one_of("training.precision", self.precision, ("fp32", "bf16"))
        one_of("training.centre", self.centre, ("cell", "level"))


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample.

    Attributes:
        sampler: "euler", "heun", "ddim" or "ancestral".
        steps: Steps from noise to data.
        tile_batch: Windows in one network evaluation; part of what fixes the bits.
        precision: "fp32" or "bf16".
    """

    sampler: str = "heun"
    steps: int = 20
    tile_batch: int = 8
    precision: str = "fp32"

    def __post_init__(self) -> None:
        one_of("sampling.sampler", self.sampler, ("euler", "heun", "ddim", "ancestral"))
        one_of("sampling.precision", self.precision, ("fp32", "bf16"))
        if self.steps < 1 or self.tile_batch < 2:
            raise ValueError(
                f"sampling.steps is {self.steps} and sampling.tile_batch {self.tile_batch}, expected at "
                "least 1 step and at least 2 windows."
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a generator, and where its run folder is.

    Attributes:
        path: From data to noise, "linear" (flow matching) or "variance_preserving".
        sigma_given: Standard deviation of the standardised state that season and place leave open; at most 1.
            Small where they determine it almost entirely.
    """

    data: DataConfig
    lattice: LatticeConfig
    output: str
    path: str = "linear"
    sigma_given: float = 0.02
    network: UNetConfig = field(default_factory=UNetConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        one_of("path", self.path, ("linear", "variance_preserving"))
        if not 0 < self.sigma_given <= 1:
            raise ValueError(f"sigma_given is {self.sigma_given}, expected a number in (0, 1].")


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is '{value}', expected one of {', '.join(allowed)}.")


def build(cls: type[T], values: Any, where: str) -> T:
    """Builds a dataclass from a mapping read from YAML.

    Raises:
        ValueError: A key is unknown or missing, or a value has the wrong type; the sentence names it.

    Collective: no.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'The configuration'} is {values!r}, expected keys and values.")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ValueError(
                f"Unknown key '{prefix(where)}{key}', expected one of {', '.join(fields)}.{hint}"
            )
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"Key '{prefix(where)}{name}' is missing: add it to the configuration.")
    return cls(**{k: convert(hints[k], v, f"{prefix(where)}{k}") for k, v in values.items()})


def prefix(where: str) -> str:
    """Puts a dot behind a section's name."""
    return f"{where}." if where else ""


def convert(hint: Any, value: Any, where: str) -> Any:
    """Converts a YAML value to the annotated type, strictly."""
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return convert_to_one_of(args, value, where)
    if origin is tuple:
        items = [value] if isinstance(value, (str, int, float)) else value
        if not isinstance(items, Iterable) or isinstance(items, Mapping):
            raise ValueError(f"{where} is {value!r}, expected a list.")
        return tuple(convert(args[0], item, where) for item in items)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}, expected keys and values.")
        return {str(k): convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    return scalar(hint, value, where)


def convert_to_one_of(hints: Sequence[Any], value: Any, where: str) -> Any:
    """Converts to the first type that takes the value; none is taken where a type is optional."""
    if value is None and types.NoneType in hints:
        return None
    *others, last = (hint for hint in hints if hint is not types.NoneType)
    for hint in others:
        try:
            return convert(hint, value, where)
        except ValueError:
            continue
    return convert(last, value, where)


def scalar(kind: type, value: Any, where: str) -> Any:
    """Checks a scalar; integers pass for floats, and 1e-3 (which YAML reads as a string) does, too."""
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    accepted = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, accepted):
        raise ValueError(f"{where} is {value!r}, expected a value of type {kind.__name__}.")
    return kind(value)


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Reads `key=value` arguments; values are YAML, keys may have dots.

    Raises:
        ValueError: An argument has no "=".
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise ValueError(f"Argument '{argument}' is not of the form key=value.")
        try:
            overrides[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"Argument '{argument}': the value is not YAML ({error}).") from error
    return overrides


def apply_overrides(values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Sets dotted keys in nested dictionaries."""
    for dotted, value in overrides.items():
        *sections, key = dotted.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ValueError(f"Key '{dotted}': '{section}' is a value, not a section.")
        target[key] = value
    return values


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
    if not path.is_file():
        raise FileNotFoundError(f"Configuration {path} does not exist: check the path.")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"Configuration {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"Configuration {path} holds {type(values).__name__}, expected keys and values.")
    overrides = parse_overrides(arguments)
    resolve_paths(values, path.resolve().parent)
    apply_overrides(values, resolve_paths_in_overrides(overrides))
    return build(RunConfig, values, "")


def resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Makes data.grid, data.states and output absolute."""
    data = values.get("data")
    if isinstance(data, dict):
        for key in ("grid", "states"):
            if key in data:
                data[key] = absolute(data[key], folder)
    if "output" in values:
        values["output"] = absolute(values["output"], folder)


def resolve_paths_in_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """The same for overrides, relative to the current folder."""
    paths = ("data.grid", "data.states", "output")
    return {k: absolute(v, Path.cwd()) if k in paths else v for k, v in overrides.items()}


def absolute(value: Any, folder: Path) -> Any:
    """Joins a path or a list of paths with a folder; other types are left for the type check."""
    if isinstance(value, list):
        return [absolute(item, folder) for item in value]
    return str((folder / value).resolve()) if isinstance(value, str) else value


def write_config(config: RunConfig) -> str:
    """Returns the YAML text of a configuration, which `read_config` reads back unchanged."""
    plain = yaml.safe_load(yaml.safe_dump(lists(dataclasses.asdict(config))))
    return yaml.safe_dump(plain, sort_keys=False)


def lists(value: Any) -> Any:
    """Replaces tuples by lists, which YAML knows."""
    if isinstance(value, dict):
        return {k: lists(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [lists(v) for v in value]
    return value
