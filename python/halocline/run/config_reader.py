"""From YAML and `key=value` arguments to frozen dataclasses: unknown keys and wrong types are errors that name them."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

__all__ = [
    "absolute", "apply_overrides", "at_least", "build", "lists", "one_of", "parse_overrides", "read_yaml",
    "to_yaml",
]  # fmt: skip

T = TypeVar("T")


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
        if stuck := [k for k, v in value.items() if v is None and ":" in str(k)]:
            raise ValueError(f"{where} has the key '{stuck[0]}' without a value: put a space behind the colon.")
        return {str(k): convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    return scalar(hint, value, where)


def convert_to_one_of(hints: Sequence[Any], value: Any, where: str) -> Any:
    """Converts to the first type that takes the value; none is taken where a type is optional."""
    if value is None and types.NoneType in hints:
        return None
    if isinstance(value, Mapping) and (tables := [hint for hint in hints if typing.get_origin(hint) is dict]):
        return convert(tables[0], value, where)  # the errors of its entries, not that it is no number
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


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Reads a YAML file of keys and values.

    Arguments:
        path: Of the file.
        what: What it is, for the sentence of an error, such as "Configuration".

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not valid YAML, or not keys and values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{what} {path} does not exist: check the path.")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{what} {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{what} {path} holds {type(values).__name__}, expected keys and values.")
    return values


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


def at_least(section: str, values: Any, name: str, least: float, strictly: bool = False) -> None:
    """Raises ValueError unless an attribute is at least, or more than, a number."""
    value = getattr(values, name)
    if value < least or (strictly and value == least):
        expected = f"more than {least}" if strictly else f"at least {least}"
        raise ValueError(f"{section}.{name} is {value}, expected {expected}.")


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is '{value}', expected one of {', '.join(allowed)}.")


def absolute(value: Any, folder: Path) -> Any:
    """Joins a path or a list of paths with a folder; other types are left for the type check."""
    if isinstance(value, list):
        return [absolute(item, folder) for item in value]
    return str((folder / value).resolve()) if isinstance(value, str) else value


def lists(value: Any) -> Any:
    """Replaces tuples by lists, which YAML knows."""
    if isinstance(value, dict):
        return {k: lists(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [lists(v) for v in value]
    return value


def to_yaml(config: Any) -> str:
    """Returns the YAML text of a dataclass, from which `build` makes it again; keys keep their order."""
    plain = yaml.safe_load(yaml.safe_dump(lists(dataclasses.asdict(config)), sort_keys=False))
    return yaml.safe_dump(plain, sort_keys=False)
