r"""What all members of a campaign share: the judge, the limits of drift, and what starts are made of.

Drift is the change of a diagnostic from one state to a later one at the same time of the year, per time:

.. math:: d = \frac{f(t + n) - f(t)}{n}

over the years n of the campaign. Where limits are not given they are learned: the largest :math:`|d|` of a run in
equilibrium over as many years.
"""

from __future__ import annotations

import glob
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from halocline.io.nemo import read_restart, read_states
from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.physics.verdict import Thresholds, Verdict, judge
from halocline.run.campaign_config import DRIFTS, LEARNED, CampaignConfig
from halocline.run.data import store_path
from halocline.run.generator import Generator
from halocline.run.judging import JUDGED, diagnose_fields
from halocline.run.restart import RestartOptions, check_fine, write_ocean
from halocline.run.run_folder import load_generator
from halocline.run.sample import SampleOptions, generate
from halocline.run.teams import Team

__all__ = ["Desk", "drift", "learn_limits"]

DAYS = {"360_day": 360.0, "noleap": 365.0, "standard": 365.2425}
CENTURY, DAY = 100.0, 86400.0


@dataclass(eq=False)
class Desk:
    """Judges states and makes starts; one at a time, whatever the number of model runs at once.

    Attributes:
        config: Of the campaign.
        generator: Its generator.
        limits: Of drift, see `DRIFTS`.
        lock: Held by whoever reads files or generates: neither netCDF nor a network likes company.
    """

    config: CampaignConfig
    generator: Generator
    limits: Mapping[str, float]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, config: CampaignConfig) -> Desk:
        """Reads generator and limits.

        Raises:
            ValueError, OSError: The generator or the states in equilibrium cannot be read, or do not fit.

        Collective: no.
        """
        generator = load_generator(Path(config.generator))
        check_fine(generator)
        names = list(config.parameters[0]) if config.parameters else []
        if missing := [name for name in generator.parameters.names if name not in names]:
            raise ValueError(
                f"parameters lack {', '.join(missing)}, expected a value of each parameter that generator "
                f"{config.generator} was trained with."
            )
        if not {"temperature", "salinity"} <= set(generator.config.data.variables):
            raise ValueError(
                f"Generator {config.generator} has {', '.join(generator.config.data.variables)}, expected temperature "
                "and salinity among them: a campaign judges the drift of an ocean."
            )
        return cls(config, generator, learn_limits(config, generator) | config.drift)

    @cached_property
    def store(self) -> TrainingStore:
        """Training store, opened by the first who asks."""
        return TrainingStore.open(Path(self.config.store) if self.config.store else store_path(self.generator.config))

    def known(self, parameters: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
        """Those of the parameters that someone knows."""
        return {name: parameters[name] for name in names}

    def generate(self, parameters: Mapping[str, float], draw: int) -> dict[str, np.ndarray]:
        """Generates one state, with the bits of `halocline sample seed=SEED` for member `draw`.

        Returns:
            Variable to shape (k, nj, ni), physical units.

        Raises:
            ValueError: It has diverged.
        """
        known = self.known(parameters, self.generator.parameters.names)
        options = SampleOptions(members=draw + 1, seed=self.config.seed, months=(self.config.month,), parameters=known)
        layout = Layout.build(self.generator.lattice, Serial())
        fields = generate(self.generator, layout, Team(Serial(), (draw,)), options, speaks=False)
        return {name: x[0] for name, x in (fields or {}).items()}

    def read(self, path: Path) -> dict[str, np.ndarray]:
        """Reads the restart that the model has left."""
        return read_restart(path, self.generator.grid)

    def write(self, path: Path, fields: Mapping[str, np.ndarray]) -> None:
        """Writes a start.

        Raises:
            ValueError, OSError: The state does not fit the model, or the disk does not take it.
        """
        config = self.config
        options = RestartOptions(
            states="", output=str(path), like=config.model.like, calendar=config.calendar,
            velocity=config.velocity or RestartOptions.velocity, sea_level=config.sea_level or RestartOptions.sea_level,
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_ocean(dict(fields), self.generator, options, config.month)

    def judge(self, fields: Mapping[str, np.ndarray]) -> tuple[Verdict, dict[str, float]]:
        """Judges a state by the generator's limits, and diagnoses what drifts.

        Arguments:
            fields: Variable to shape (k, nj, ni), anything on land.

        Returns:
            Verdict; diagnostics of the limits of drift.
        """
        generator = self.generator
        known = {name: np.asarray(fields[name])[None] for name in generator.config.data.variables}
        values = diagnose_fields(known, generator.grid, generator.lattice, generator.config.data)
        judged = {name: values[name][0].numpy() for name in JUDGED if name in values}
        verdict = judge(judged, Thresholds.from_json(generator.thresholds))
        return verdict, {name: float(values[name][0]) for name in self.limits}

    def settled(self, drifts: Mapping[str, float]) -> bool:
        """Whether a drift is that of an equilibrium."""
        return bool(drifts) and all(abs(drifts[name]) <= limit for name, limit in self.limits.items())


def drift(before: Mapping[str, float], after: Mapping[str, float], years: float, calendar: str) -> dict[str, float]:
    """Drift of the diagnostics of `after` in the units of `DRIFTS`; empty where those of `before` are unknown.

    Collective: no.
    """
    if not before:
        return {}
    per_time = {"century": CENTURY / years, "m2": 1.0 / (years * DAYS[calendar] * DAY)}
    return {name: (after[name] - before[name]) * per_time[DRIFTS[name].split("/")[1]] for name in after}


def learn_limits(config: CampaignConfig, generator: Generator) -> dict[str, float]:
    """Learns limits of drift: the largest that runs in equilibrium show over blocks as long as those of the campaign.

    Returns:
        Those of `LEARNED` that the configuration does not give, of water that is there; none without runs in
        equilibrium.

    Raises:
        ValueError: No run is long enough, or a limit is zero or not finite.

    Collective: no.
    """
    wanted = [name for name in LEARNED if name not in config.drift]
    if not wanted or not config.equilibrium:
        return {}
    found: dict[str, list[float]] = {name: [] for name in wanted}
    for paths in runs_of(config.equilibrium):
        for drifts in drifts_of_run(paths, config, generator):
            for name in wanted:
                found[name].append(abs(drifts[name]))
    if not found[wanted[0]]:
        raise ValueError(
            f"equilibrium has no two states of month {config.month} that are {config.window_years} years apart, "
            "expected some: name longer runs, take fewer drift_years or block_years, or give limits as `drift`."
        )
    limits = {name: max(values) for name, values in found.items() if not np.isnan(values).all()}  # NaN: no such water
    for name, limit in limits.items():
        if not 0 < limit < np.inf:
            raise ValueError(f"The drift of {name} in `equilibrium` is {limit}, expected a number: give drift.{name}.")
    return limits


def runs_of(patterns: Sequence[str]) -> list[tuple[str, ...]]:
    """Files that match patterns; those of one folder are one run.

    Raises:
        FileNotFoundError: Nothing matches a pattern.
    """
    runs: dict[str, list[str]] = {}
    for pattern in patterns:
        found = sorted(glob.glob(pattern))
        if not found:
            raise FileNotFoundError(f"equilibrium names {pattern}, but there is no such file: check the path.")
        for path in found:
            runs.setdefault(str(Path(path).parent), []).append(path)
    return [tuple(paths) for paths in runs.values()]


def drifts_of_run(paths: Sequence[str], config: CampaignConfig, generator: Generator) -> list[dict[str, float]]:
    """Drift over each stretch of a run that is as long as the campaign's, stretches overlapping."""
    data = generator.config.data
    states = read_states(paths, data.variables, generator.grid)
    states = states.select(states.month == config.month)
    if not len(states):
        return []
    values = diagnose_fields(states.fields, generator.grid, generator.lattice, data)
    rows = {int(y): {k: float(values[k][n]) for k in DRIFTS if k in values} for n, y in enumerate(states.year)}
    span = config.window_years
    return [drift(row, rows[y + span], span, config.calendar) for y, row in rows.items() if y + span in rows]
