"""A coupled run that never was: verdicts with made-up numbers, for the log, the record and those who read them."""

from pathlib import Path

import numpy as np

from halocline.io.trajectory import Setting
from halocline.physics.verdict import Check, Limit
from halocline.run.contract import ACTIONS, GO_ON, LEVELS, REJECT, STOP, Judgement
from halocline.run.verdict_log import VerdictLog

HOUR = 3600.0
LIMITS = {
    "temperature_deep": (3.1, 3.4, 2.8, 3.7),
    "unstable_fraction": (-np.inf, 0.1, -np.inf, 0.2),
    "salinity_volume_mean": (34.99991, 35.0002, 34.9, 35.1),
    "temperature_nonfinite": (0.0, 0.0, 0.0, 0.0),
}


def setting(date: int = 10101, step: int = 0) -> Setting:
    return Setting(
        "/runs/gyre", 6000, "0123abcd", (4, 13, 19), 10.0 * np.arange(4) + 5, 10.0 * np.arange(1, 4), "360_day", HOUR,
        step, date, LIMITS, LEVELS, tuple(ACTIONS),
    )  # fmt: skip


def judged(step: int, temperature: float = 3.2, unstable: float = 0.01) -> Judgement:
    """A judgement by `LIMITS`; a rejected state stops the model."""
    values = {
        "temperature_deep": temperature,
        "unstable_fraction": unstable,
        "salinity_volume_mean": 35.0001,
        "temperature_nonfinite": 7.0 * np.isnan(temperature),
    }
    checks = tuple(
        Check(name, value, *LIMITS[name][:2], Limit(*LIMITS[name]).status(value)) for name, value in values.items()
    )
    level = max(LEVELS.index(check.status) for check in checks)
    reason = f"The worst of {len(checks)} checks is {LEVELS[level]}."
    diagnostics = {name: np.array(value) for name, value in values.items()}
    diagnostics["temperature_mean"] = temperature + np.arange(4)
    return Judgement(level, STOP if level == REJECT else GO_ON, step, reason, checks, diagnostics)


def run(folder: Path, *temperatures: float, first: int = 1) -> VerdictLog:
    """Writes one verdict a day; the log is left open."""
    log = VerdictLog(folder, setting())
    for day, temperature in enumerate(temperatures, first):
        log.write(judged(24 * day, temperature), 24 * day * HOUR)
    return log
