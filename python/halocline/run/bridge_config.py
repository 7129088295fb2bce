"""Configuration of the bridge between a model and a generator: one YAML file, named by the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from halocline.io.calendar import CALENDARS
from halocline.run.balance import Choice
from halocline.run.config import absolute, build, one_of
from halocline.run.contract import ACTIONS

__all__ = ["BridgeConfig", "GenerateConfig", "ObserveConfig", "check_mode", "read_bridge_config"]

MODES = ("in_process", "mpmd", "replay")
DIAGNOSTICS = ("judged", "all")
PATHS = ("run", "output", "record", "replay")


@dataclass(frozen=True)
class GenerateConfig:
    """The state from which the model starts: that of `halocline sample` and `halocline restart`.

    Attributes:
        seed, member: Of the noise.
        month: Month at whose end the state stands, 1 to 12; 0: the month-end nearest to the model's date.
        velocity: "generated" (as in the state), "balanced", "geostrophic" or "rest"; see `Choice`.
        sea_level: "generated", "mean-free" or "rest".
        convection: Whether unstable columns are mixed.
        parameters: Physical parameters, by name; required if the run was trained with some.
        sampling: Values that replace those of the run's `sampling` section.
    """

    seed: int = 0
    member: int = 0
    month: int = 0
    velocity: str = Choice.velocity
    sea_level: str = Choice.sea_level
    convection: bool = True
    parameters: dict[str, float] = field(default_factory=dict)
    sampling: dict[str, int | float | dict[str, float] | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"generate.seed is {self.seed}, expected an integer in [0, 2^32).")
        if self.member < 0:
            raise ValueError(f"generate.member is {self.member}, expected 0 or more.")
        if not 0 <= self.month <= 12:
            raise ValueError(f"generate.month is {self.month}, expected 1 to 12, or 0 for that of the model's date.")
        self.choice.check("generate.")

    @property
    def choice(self) -> Choice:
        """Velocity and sea level."""
        return Choice(self.velocity, self.sea_level)


@dataclass(frozen=True)
class ObserveConfig:
    """When the trajectory is judged, and what follows.

    Attributes:
        every: Time steps between verdicts: steps divisible by it are judged, calls at others do nothing; 0: none is.
        lag: Observed calls after which a verdict is told, so that the model need not wait; used with mode mpmd only.
        on_suspect, on_reject: "continue", "stop" (the model writes its restart and ends) or "fallback" (the model
            uses its own state or scheme).
        diagnostics: Those that are computed and recorded: "judged" (those with thresholds, means of the levels,
            contents, extremes of the sea level) or "all", which takes half as long again.
    """

    every: int = 1
    lag: int = 0
    on_suspect: str = "continue"
    on_reject: str = "stop"
    diagnostics: str = "judged"

    def __post_init__(self) -> None:
        for name in ("every", "lag"):
            if getattr(self, name) < 0:
                raise ValueError(f"observe.{name} is {getattr(self, name)}, expected 0 or more.")
        for name in ("on_suspect", "on_reject"):
            one_of(f"observe.{name}", getattr(self, name), tuple(ACTIONS))
        one_of("observe.diagnostics", self.diagnostics, DIAGNOSTICS)

    def due(self, step: int) -> bool:
        """Whether a step is judged."""
        return self.every > 0 and step % self.every == 0


@dataclass(frozen=True)
class BridgeConfig:
    """Everything about a coupled run; paths are absolute once read.

    Attributes:
        run: Run folder of `halocline train`.
        output: Folder for the log of verdicts, the trajectory record and tracebacks.
        mode: "in_process", "mpmd" or "replay".
        on_fault: What a failure of the emulator means for the job: "stop", or "continue", where the model goes on
            alone and its verdicts are "unjudged".
        deadline: Longest wait for an answer, s.
        generate_deadline: Longest wait for a generated state, s.
        idle_deadline: Longest time that the emulator waits for the model's next call, s.
        calendar: The model's must be this; "": any.
        time_step: The model's must be this, s; 0: any.
        generate, observe: See there.
        record: Folder for recorded traffic; "": none.
        replay: With mode replay, the folder to answer from.
    """

    run: str
    output: str = "halocline"
    mode: str = "in_process"
    on_fault: str = "stop"
    deadline: float = 300.0
    generate_deadline: float = 3600.0
    idle_deadline: float = 3600.0
    calendar: str = ""
    time_step: float = 0.0
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    record: str = ""
    replay: str = ""

    def __post_init__(self) -> None:
        one_of("mode", self.mode, MODES)
        one_of("on_fault", self.on_fault, ("stop", "continue"))
        one_of("calendar", self.calendar, ("", *CALENDARS))
        for name in ("deadline", "generate_deadline", "idle_deadline"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number of seconds above 0.")
        if not 0 <= self.time_step < math.inf:
            raise ValueError(f"time_step is {self.time_step}, expected seconds, or 0 for that of the model.")
        if (self.mode == "replay") != bool(self.replay):
            raise ValueError(
                f"mode is '{self.mode}' and replay '{self.replay}', expected a folder with mode replay and none "
                "otherwise: change one of the two."
            )


def read_bridge_config(path: Path | str) -> BridgeConfig:
    """Reads the configuration that a model or `halocline serve` names; its paths are relative to its folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A key or value is wrong; the sentence names the file.

    Collective: no.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Configuration {path} does not exist: name the bridge's YAML file in halocline_init.")
    try:
        values = yaml.safe_load(path.read_text()) or {}
        if isinstance(values, dict):
            values.setdefault("output", BridgeConfig.output)
            folder = path.resolve().parent
            values.update({key: absolute(values[key], folder) for key in PATHS if values.get(key)})
        return build(BridgeConfig, values, "")
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"Configuration {path} cannot be used: {error}") from error


def check_mode(config: BridgeConfig, path: Path | str, beside: bool) -> None:
    """Refuses a configuration for the other way of coupling.

    Arguments:
        config: As read.
        path: Its file, for the sentence.
        beside: Whether emulator ranks run beside the model.

    Raises:
        ValueError: They do and the mode is not mpmd, or the reverse.
    """
    if beside == (config.mode == "mpmd"):
        return
    if beside:
        raise ValueError(
            f"Configuration {path} says mode: {config.mode}, but ranks of this job run `halocline serve`: write "
            "mode: mpmd, or start the model alone."
        )
    raise ValueError(
        f"Configuration {path} says mode: mpmd, but no rank of this job runs `halocline serve`: start some beside the "
        "model, in one mpirun or srun --multi-prog, or write mode: in_process."
    )
