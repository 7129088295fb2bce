"""What is asked of `halocline forecast`, and whether it can be had."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from halocline.io.forcing import Forcing, instants, open_forcing
from halocline.io.models import open_states
from halocline.run.generator import Generator
from halocline.state.variables import VARIABLES

__all__ = ["ForecastOptions", "Start", "read_start", "what_is_made"]


@dataclass(frozen=True)
class ForecastOptions:
    """Options of `halocline forecast`; see its help."""

    start: str
    forcing: tuple[str, ...] = ()
    state: int = -1
    forcing_trajectory: int | None = None
    cycle: bool = False
    budget: bool = False
    drift_control: bool = False
    lead: float = 12.0
    steps: int = 10
    members: int = 8
    seed: int = 0
    output: str = "forecast.zarr"
    parameters: dict[str, float] = field(default_factory=dict)
    sampling: dict[str, int | float | dict[str, float] | str] = field(default_factory=dict)
    at_once: int = 4
    ranks_per_member: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "members", "at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected an integer in [0, 2^32).")
        if not self.lead > 0:
            raise ValueError(f"lead is {self.lead:g}, expected hours above 0.")


@dataclass(frozen=True, eq=False)
class Start:
    """The state that a forecast begins with.

    Attributes:
        when: Its time, datetime64[s].
        fields: Variable to shape (nj, ni), float32, 0 on land.
    """

    when: np.datetime64
    fields: dict[str, np.ndarray]


def read_start(generator: Generator, options: ForecastOptions) -> Start:
    """Reads the state to start from.

    Raises:
        FileNotFoundError, OSError: There is no such file.
        ValueError: It has another mask than the generator, lacks a variable, or holds impossible values; or the state
            is not among those of the files.

    Collective: no.
    """
    names, grid = generator.config.data.variables, generator.grid
    source = open_states(options.start, names, grid)
    count = len(source)
    if not -count <= options.state < count:
        raise ValueError(
            f"state is {options.state}, but {options.start} has {count}: choose one from 0 to {count - 1}."
        )
    chosen = np.array([options.state % count])
    states, when = source.read(chosen), instants(source.stamps.take(chosen))[0]
    fields = {}
    for name in names:
        x = np.nan_to_num(np.asarray(states.fields[name][0, 0], np.float32), nan=0.0)
        low, high = VARIABLES[name].bounds
        if not (np.isfinite(x).all() and (x >= low).all() and (x <= high).all()):
            raise ValueError(
                f"{name} of {options.start} reaches from {x.min():g} to {x.max():g} {VARIABLES[name].unit}, expected "
                f"{low:g} to {high:g}: correct the file."
            )
        fields[name] = x
    return Start(when, fields)


def forcing_of(generator: Generator, options: ForecastOptions, start: Start) -> Forcing | None:
    """Opens the forcing, and refuses it where it does not last; None where the generator is told none.

    Raises:
        ValueError, OSError: See `halocline.io.forcing.open_forcing` and `Forcing.require`.

    Collective: no.
    """
    names = generator.config.data.forcing
    if not names:
        return None
    if not options.forcing:
        raise ValueError(f"forcing is missing, expected files with {', '.join(names)}: add forcing=FILES.")
    forcing = open_forcing(
        options.forcing, names, generator.grid, trajectory=options.forcing_trajectory, cycle=options.cycle
    )
    step = np.timedelta64(round(options.lead * 3600), "s")
    forcing.require(start.when, start.when + options.steps * step, step)
    return forcing


def what_is_made(generator: Generator, options: ForecastOptions, start: Start, weights: str) -> dict[str, Any]:
    """Returns what a forecast that goes on must agree in: all that its bits depend on but the forcing's numbers."""
    digest = hashlib.sha256(b"".join(start.fields[name].tobytes() for name in sorted(start.fields))).hexdigest()[:16]
    return {
        "weights": weights, "start": digest, "when": str(start.when), "lead": options.lead, "seed": options.seed,
        "members": options.members, "forcing": [str(Path(path).resolve()) for path in options.forcing],
        "forcing_trajectory": options.forcing_trajectory, "cycle": options.cycle, "budget": options.budget,
        "drift_control": options.drift_control, "parameters": options.parameters,
        "sampling": {k: v for k, v in vars(generator.config.sampling).items() if v != ""},
    }  # fmt: skip
