"""The file of a campaign: which members, from which starts, how the model is run, and when it has settled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halocline.io.calendar import CALENDARS
from halocline.run.config_reader import (
    absolute,
    apply_overrides,
    at_least,
    build,
    one_of,
    parse_overrides,
    read_yaml,
    to_yaml,
)  # fmt: skip

__all__ = [
    "DRIFTS", "LEARNED", "METHODS", "CampaignConfig", "ExtrapolationConfig", "Member", "ModelConfig", "read_campaign",
    "write_campaign",
]  # fmt: skip

METHODS = ("generated", "rest", "mean", "nearest", "interpolated", "extrapolation")

DRIFTS = {
    "temperature_deep": "degC/century",
    "salinity_deep": "1e-3/century",
    "heat_content_per_area": "W/m2",
    "temperature_bottom": "degC/century",
    "salinity_bottom": "1e-3/century",
    "temperature_volume_mean": "degC/century",
    "salinity_volume_mean": "1e-3/century",
}
"""Diagnostics whose drift may be limited, and the units of it."""

LEARNED = (
    "temperature_deep", "temperature_bottom", "heat_content_per_area", "salinity_deep", "salinity_bottom",
)  # fmt: skip
"""Those whose limits a run in equilibrium teaches. Over a few years weather moves all but bottom water about as much as
a spin-up does in its middle."""

PATHS = ("output", "generator", "store", "model.namelist", "model.like")
LISTS_OF_PATHS = ("equilibrium", "model.files")


@dataclass(frozen=True)
class ModelConfig:
    """How the model is run.

    Texts may hold {start} (restart to begin with), {start_folder}, {start_name} (without .nc), {years}, {output}
    (folder of the run), {name} (of the member), {seed} (a number for each member), {first_step}, {last_step}.

    Attributes:
        command: Program and words; the namelist's path is appended, unless a word holds {namelist}.
        namelist: Template.
        set: Changes of it, "group.variable" to value or text.
        rest: Further changes for a run that begins from rest.
        parameters: Physical parameter to the "group.variable" that holds it.
        restart: Pattern of the restart that a run leaves in its folder; the last by name counts.
        like: Restart of the configuration, whose step and date a start takes over; "": none.
        files: Patterns of files that a run finds in its folder, as links.
        ranks: MPI processes.
        launcher: What starts them, where there are several.
        environment: Variables of the environment of a run, besides those of the campaign's own.
        steps_per_year: Of the model, for {first_step} and {last_step}.
        limit_minutes: Longest time of a run.
    """

    command: tuple[str, ...]
    namelist: str
    restart: str
    set: dict[str, str | bool | int | float] = field(default_factory=dict)
    rest: dict[str, str | bool | int | float] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    like: str = ""
    files: tuple[str, ...] = ()
    ranks: int = 1
    launcher: tuple[str, ...] = ("mpirun", "-n", "{ranks}")
    environment: dict[str, str] = field(default_factory=dict)
    steps_per_year: int = 0
    limit_minutes: float = 60.0

    def __post_init__(self) -> None:
        at_least("model", self, "ranks", 1)
        at_least("model", self, "limit_minutes", 0, strictly=True)
        if not self.command:
            raise ValueError("model.command is empty, expected a program and its words.")
        for section in ("set", "rest", "parameters"):
            table = getattr(self, section)
            for key in table.values() if section == "parameters" else table:
                if key.count(".") != 1:
                    raise ValueError(f"model.{section} names '{key}', expected group.variable of the namelist.")


@dataclass(frozen=True)
class ExtrapolationConfig:
    """The start by extrapolation: integrate, then jump.

    Attributes:
        years: Integrated from rest, a restart each; they count as model years.
        first: First of these years that statistics see.
        jump: Years ahead.
        model: "gaussian_process" or "relaxation".
    """

    years: int = 30
    first: int = 11
    jump: int = 30
    model: str = "gaussian_process"

    def __post_init__(self) -> None:
        at_least("extrapolation", self, "first", 1)
        at_least("extrapolation", self, "jump", 1)
        if self.years < self.first + 3:
            raise ValueError(
                f"extrapolation.years is {self.years}, expected at least {self.first + 3}: statistics need four years "
                f"from extrapolation.first={self.first} on."
            )
        one_of("extrapolation.model", self.model, ("gaussian_process", "relaxation"))


@dataclass(frozen=True)
class Member:
    """One line of a campaign: a start for certain parameters, and its number."""

    method: str
    parameters: dict[str, float]
    number: int

    @property
    def name(self) -> str:
        """Folder of the member; values with all digits, so that no two share one."""
        values = ",".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return "-".join(part for part in (self.method, values, f"{self.number:03d}") if part)


@dataclass(frozen=True)
class CampaignConfig:
    """Everything that defines a campaign.

    Attributes:
        output: Folder, made if needed.
        generator: Run folder of `halocline train`; also gives grid, equation of state and limits of the verdict.
        store: Training store for baselines; "": that of the generator.
        methods: Kinds of start.
        members: Of each method and parameter value.
        seed: Of generated states, choices and, with the member's number, {seed} of the model.
        month: At whose end starts stand, 1 to 12.
        parameters: Values to run, each a mapping from name to number; empty: one value, the model's own.
        workers: Model runs at once.
        block_years: Between two looks at a member.
        max_years: At most integrated from a start.
        max_attempts: Generated starts that a member may use up.
        drift_years: Over which drift is taken, a multiple of block_years; 0: one block. Over a few years weather hides
            the drift of a spin-up, and its limits are wide.
        settled_blocks: Blocks in a row at whose ends drift must be small.
        drift: Largest drift of a settled ocean, see `DRIFTS`.
        equilibrium: Patterns of files of states in equilibrium, each run in a folder of its own, from which the limits
            of `LEARNED` are learned that `drift` leaves out.
        keep_blocks: Whether the files of every block stay; else only those of the last one of each start.
        velocity, sea_level: As for `halocline restart`; "": its default.
        calendar: The model's.
    """

    output: str
    generator: str
    model: ModelConfig
    store: str = ""
    methods: tuple[str, ...] = ("rest", "generated")
    members: int = 8
    seed: int = 0
    month: int = 12
    parameters: tuple[dict[str, float], ...] = ()
    workers: int = 1
    block_years: int = 10
    max_years: int = 1000
    max_attempts: int = 3
    drift_years: int = 0
    settled_blocks: int = 1
    drift: dict[str, float] = field(default_factory=dict)
    equilibrium: tuple[str, ...] = ()
    keep_blocks: bool = False
    velocity: str = ""
    sea_level: str = ""
    calendar: str = "360_day"
    extrapolation: ExtrapolationConfig = field(default_factory=ExtrapolationConfig)

    def __post_init__(self) -> None:
        for name in ("members", "workers", "block_years", "max_attempts", "settled_blocks"):
            at_least("campaign", self, name, 1)
        at_least("campaign", self, "max_years", self.block_years)
        at_least("campaign", self, "seed", 0)
        at_least("campaign", self, "drift_years", 0)
        if self.drift_years % self.block_years:
            raise ValueError(
                f"drift_years is {self.drift_years}, expected a multiple of block_years, {self.block_years}: states "
                "are judged at the ends of blocks only."
            )
        one_of("calendar", self.calendar, tuple(CALENDARS))
        if not 1 <= self.month <= 12:
            raise ValueError(f"month is {self.month}, expected a number from 1 to 12.")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods are {list(self.methods)}, expected one or more different ones.")
        for method in self.methods:
            one_of("methods", method, METHODS)
        self._check_drift()
        self._check_parameters()

    def _check_drift(self) -> None:
        for name, value in self.drift.items():
            one_of("drift", name, tuple(DRIFTS))
            if not value > 0:
                raise ValueError(f"drift.{name} is {value}, expected a limit above 0 {DRIFTS[name]}.")
        if not self.drift and not self.equilibrium:
            raise ValueError(
                f"drift is empty, expected limits of some of {', '.join(DRIFTS)}: give them, or states of a run in "
                "equilibrium as `equilibrium`."
            )

    def _check_parameters(self) -> None:
        names = {tuple(sorted(values)) for values in self.parameters}
        if len(names) > 1:
            raise ValueError(f"parameters name {sorted(names)}, expected the same names in each entry.")
        unknown = sorted({name for values in self.parameters for name in values} - set(self.model.parameters))
        if unknown:
            raise ValueError(
                f"model.parameters lacks {', '.join(unknown)}, expected the namelist's group.variable of each "
                "parameter."
            )
        if len({tuple(sorted(values.items())) for values in self.parameters}) < len(self.parameters):
            raise ValueError("parameters hold a value twice, expected different ones.")

    @property
    def window_blocks(self) -> int:
        """Blocks over which drift is taken."""
        return max(1, self.drift_years // self.block_years)

    @property
    def window_years(self) -> int:
        """Years over which drift is taken."""
        return self.window_blocks * self.block_years

    def every_member(self) -> list[Member]:
        """Lists the members; those of one number of all methods follow each other, so that methods advance together."""
        values = self.parameters or ({},)
        return [Member(m, dict(p), n) for n in range(self.members) for p in values for m in self.methods]


def read_campaign(path: Path, arguments: Sequence[str] = ()) -> CampaignConfig:
    """Reads the file of a campaign.

    Arguments:
        path: YAML file. Relative paths in it are relative to its folder, those in arguments to the current one.
        arguments: `key=value` overrides.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A key or value is wrong.

    Collective: no.
    """
    values = read_yaml(path, "Campaign file")
    resolve(values, path.resolve().parent)
    overrides = {k: located(k, v, Path.cwd()) for k, v in parse_overrides(arguments).items()}
    return build(CampaignConfig, apply_overrides(values, overrides), "")


def resolve(values: dict[str, Any], folder: Path) -> None:
    """Makes the paths of a campaign absolute, in place."""
    for section, prefix in ((values, ""), (values.get("model"), "model.")):
        if isinstance(section, dict):
            for key in section:
                section[key] = located(f"{prefix}{key}", section[key], folder)


def located(key: str, value: Any, folder: Path) -> Any:
    """Joins a value with a folder if its key is one of a path; a program with a slash in it is a path, too."""
    if (key in PATHS or key in LISTS_OF_PATHS) and value:
        return absolute(value, folder)
    if key == "model.command" and isinstance(value, list) and "/" in str(value[0]):
        return [os.path.abspath(folder / str(value[0])), *value[1:]]  # a link stays one: it may say where libraries are
    return value


def write_campaign(config: CampaignConfig) -> str:
    """Returns the YAML text of a campaign, which `read_campaign` reads back unchanged."""
    return to_yaml(config)
