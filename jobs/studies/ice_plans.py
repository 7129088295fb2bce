"""What trajectories are made of: starts, factors, and weather that is a run's turned, two of them added, or drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import netCDF4
import numpy as np
from ice_weather import draw_weather
from scipy.ndimage import distance_transform_edt

HOUR = np.timedelta64(1, "h")
STATE = {"concentration": "sic", "thickness": "sit", "damage": "sid", "snow": "snt", "ice_u": "siu", "ice_v": "siv"}
WEATHER = ("uas", "vas", "tas")


@dataclass(frozen=True)
class Plan:
    """A trajectory to be made.

    Attributes:
        weather, turns: Whose weather, turned how many quarters.
        start, factor: Whose first state, its thickness times which factor.
        snow: Factor of its snow; that of thickness if left out.
        other, other_turns: A second weather that is added; none if left out.
        angle: In degrees; its cosine is the weight of the first weather, its sine that of the second.
        windiness: Factor of the wind of a weather that is drawn, whose seed is then `weather`; None if it is a run's.
    """

    weather: int
    turns: int
    start: int
    factor: float
    snow: float | None = None
    other: int | None = None
    other_turns: int = 0
    angle: float = 0.0
    windiness: float | None = None

    def parts(self) -> Iterator[tuple[int, int, float]]:
        """Run, quarters and weight of each weather."""
        yield self.weather, self.turns, math.cos(math.radians(self.angle))
        if self.other is not None:
            yield self.other, self.other_turns, math.sin(math.radians(self.angle))


@dataclass(frozen=True)
class Given:
    """The trajectories that there are.

    Attributes:
        fields: Name in the file to shape (run, time, nj, ni), 0 on land.
        times: Of the records, datetime64[s].
        wet: Sea, shape (nj, ni).
        x, y: Centres of columns and rows, m.
    """

    fields: dict[str, np.ndarray]
    times: np.ndarray
    wet: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Given:
        with netCDF4.Dataset(path) as file:
            time = file["time"]
            dates = netCDF4.num2date(time[:], time.units, only_use_cftime_datetimes=False)
            fields = {name: np.ma.filled(file[name][:], 0.0) for name in (*STATE.values(), *WEATHER)}
            wet, x, y = (np.asarray(file[name][:]) for name in ("mask", "x", "y"))
            return cls(fields, np.array(dates, "datetime64[s]"), wet > 0, x, y)

    def hours(self) -> np.ndarray:
        """All from the first record to the last."""
        return np.arange(self.times[0], self.times[-1] + HOUR, HOUR)


def draw(
    runs: Sequence[int], count: int, is_square: bool, seed: int,
    thickness: Sequence[float] = (0.8, 1.2), snow: Sequence[float] | None = None, is_mixed: bool = False,
    windiness: Sequence[float] | None = None,
) -> list[Plan]:  # fmt: skip
    """Plans; the first ones stay when more are asked for, and a weather comes again as it was only after all turns."""
    rng = np.random.default_rng(seed)
    plans: list[Plan] = []
    for n in range(count):
        weather = runs[n % len(runs)]
        others = [run for run in runs if run != weather] or [weather]
        turns, start, factor = int(rng.integers(1, 4)), int(rng.choice(others)), float(rng.uniform(*thickness))
        used = [plan.turns for plan in plans if plan.weather == weather]
        free = [later for k in range(3) if (later := (turns + k - 1) % 3 + 1) not in used[3 * (len(used) // 3) :]]
        plan = Plan(weather, free[0] if is_square else 2, start, factor)
        if snow is not None:
            plan = replace(plan, snow=float(rng.uniform(*snow)))
        if is_mixed:
            other, quarters, angle = int(rng.choice(others)), int(rng.integers(4)), float(rng.uniform(30.0, 60.0))
            plan = replace(plan, other=other, other_turns=quarters if is_square else 2 * (quarters % 2), angle=angle)
        if windiness is not None:
            plan = replace(plan, weather=int(rng.integers(2**31)), turns=0, windiness=float(rng.uniform(*windiness)))
        plans.append(plan)
    return plans


def turned(x: np.ndarray, quarters: int) -> np.ndarray:
    """A field (..., nj, ni) turned counterclockwise, j to the north and i to the east."""
    for _ in range(quarters):
        x = np.swapaxes(x[..., ::-1, :], -1, -2)
    return x


def turned_vector(u: np.ndarray, v: np.ndarray, quarters: int) -> tuple[np.ndarray, np.ndarray]:
    """Components of a field of vectors that is turned counterclockwise."""
    for _ in range(quarters):
        u, v = -turned(v, 1), turned(u, 1)
    return u, v


def weather(given: Given, plan: Plan) -> dict[str, np.ndarray]:
    """Weather of all records, shape (time, nj, ni).

    What is made of runs is nowhere windier, colder or warmer than they are; on land it is that of the nearest sea,
    which may be sea after the turn.
    """
    if plan.windiness is not None:
        hours = ((given.times - given.times[0]) / HOUR).astype(int)
        return {name: x[hours] for name, x in drawn_weather(given, plan).items()}
    nearest = distance_transform_edt(~given.wet, return_distances=False, return_indices=True)
    total, limits = {name: np.zeros(()) for name in WEATHER}, []
    for run, turns, weight in plan.parts():
        u, v, air = (given.fields[name][run][:, nearest[0], nearest[1]] for name in WEATHER)
        row = air.mean(axis=(0, 2))[None, :, None]
        limits.append((np.hypot(u, v).max(), air.min(), air.max()))
        u, v = turned_vector(u, v, turns)
        air = weight * row + turned(air - row, turns)  # weights of the means add to 1, as those of variances do
        total = {name: total[name] + weight * x for name, x in zip(WEATHER, (u, v, air), strict=True)}
    windiest, coldest, warmest = (pick(x) for pick, x in zip((max, min, max), zip(*limits, strict=True), strict=True))
    cap = np.minimum(1.0, windiest / np.maximum(np.hypot(total["uas"], total["vas"]), 1e-6))
    return {"uas": cap * total["uas"], "vas": cap * total["vas"], "tas": np.clip(total["tas"], coldest, warmest)}


def drawn_weather(given: Given, plan: Plan) -> dict[str, np.ndarray]:
    """Weather of every hour that a plan draws; the rows have the mean air of the run that it starts from."""
    air, sea = given.fields["tas"][plan.start].mean(axis=0), given.wet.any(axis=1)
    rows = [row[wet].mean() for row, wet in zip(air[sea], given.wet[sea], strict=True)]
    rows = np.interp(given.y, given.y[sea], rows)
    rng = np.random.default_rng(plan.weather)
    return draw_weather(rng, len(given.hours()) - 1, given.x, given.y, rows, plan.windiness)
