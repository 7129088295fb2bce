"""Weather that is drawn: highs and lows that travel through a basin, in a wind that all of it shares.

Pressure is a sum of highs and lows, p = sum_k a_k s_k(t) exp(-|x - x_k(t)|^2 / (2 r_k^2)), each of which moves at its
own velocity and grows and decays as s = sin^2 over its life. The wind is a share of the geostrophic one, f k x U =
-grad p / rho, turned towards the low pressure as friction does, plus the wind of the whole basin. That and the air
temperature about its mean by latitude are random waves in time and space. The scales of DEFAULT are those of the
weather of neXtSIM_DG's trajectories, as documented with them or measured in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AIR_DENSITY = 1.3  # kg m-3
CORIOLIS = 1.46e-4  # s-1, of the Arctic
HOURS_BEFORE = 96  # systems that are older than the first hour are there
WAVES = 256  # of a random field


@dataclass(frozen=True)
class Climate:
    """Scales of weather; ranges are drawn from evenly.

    Attributes:
        amplitude: Of highs and lows, Pa.
        radius: Standard deviation of their shape, m.
        life: Hours.
        speed: Of their motion, m/s.
        every: Hours from one to the next, on average.
        share, turn: Of the geostrophic wind at 10 m, and degrees to its left.
        basin_wind: Standard deviation of a component of the wind of the whole basin, m/s.
        wind_memory: Hours s in its correlation exp(-(d / 2s)^2).
        most_wind: m/s.
        air: Standard deviations of air temperature, of the basin and in space, K.
        air_memory, air_length: Likewise, in time and space, hours and m.
        warmest: degC.
    """

    amplitude: tuple[float, float] = (700.0, 2800.0)
    radius: tuple[float, float] = (180e3, 450e3)
    life: tuple[float, float] = (29.0, 62.0)
    speed: tuple[float, float] = (5.0, 13.0)
    every: float = 8.0
    share: float = 0.62
    turn: float = 22.0
    basin_wind: float = 2.9
    wind_memory: float = 10.8
    most_wind: float = 22.0
    air: tuple[float, float] = (3.6, 2.5)
    air_memory: float = 14.0
    air_length: float = 200e3
    warmest: float = -2.0


DEFAULT = Climate()


def draw_weather(
    rng: np.random.Generator, hours: int, x: np.ndarray, y: np.ndarray, mean_air: np.ndarray, windiness: float,
    climate: Climate = DEFAULT,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Weather of every hour, and the first one after the last.

    Args:
        rng: What it is drawn from.
        hours: How many.
        x, y: Centres of columns and rows of cells, m.
        mean_air: Mean air temperature of the rows, degC.
        windiness: Factor of the wind.

    Returns:
        uas, vas (m/s) and tas (degC), shape (hours + 1, nj, ni).
    """
    time = np.arange(hours + 1.0)
    u, v = (
        windiness * (part + climate.basin_wind * red_noise(rng, [time], [climate.wind_memory])[:, None, None])
        for part in pressure_wind(rng, hours, x, y, climate)
    )
    cap = np.minimum(1.0, climate.most_wind / np.maximum(np.hypot(u, v), 1e-6))
    air = mean_air[:, None] + climate.air[0] * red_noise(rng, [time], [climate.air_memory])[:, None, None]
    scales = climate.air_memory, climate.air_length, climate.air_length
    air = air + climate.air[1] * red_noise(rng, [time, y, x], scales)
    return {"uas": cap * u, "vas": cap * v, "tas": np.minimum(air, climate.warmest)}


def pressure_wind(
    rng: np.random.Generator, hours: int, x: np.ndarray, y: np.ndarray, climate: Climate
) -> tuple[np.ndarray, np.ndarray]:
    """Wind of highs and lows at 10 m, every hour, shape (hours + 1, nj, ni)."""
    u, v = np.zeros((2, hours + 1, len(y), len(x)))
    start = -float(HOURS_BEFORE)
    while (start := start + rng.exponential(climate.every)) < hours:
        life, radius, speed = (rng.uniform(*span) for span in (climate.life, climate.radius, climate.speed))
        amplitude = rng.choice([-1.0, 1.0]) * rng.uniform(*climate.amplitude)
        middle = rng.uniform([x[0], y[0]], [x[-1], y[-1]])  # where it is when it is strongest
        heading = rng.uniform(0.0, 2.0 * np.pi)
        during = np.arange(max(0, int(np.ceil(start))), min(hours, int(start + life)) + 1)
        age = (during - start)[:, None, None]
        east = x - (middle[0] + np.cos(heading) * speed * 3600.0 * (age - life / 2))
        north = y[:, None] - (middle[1] + np.sin(heading) * speed * 3600.0 * (age - life / 2))
        pressure = amplitude * np.sin(np.pi * age / life) ** 2 * np.exp(-(east**2 + north**2) / (2 * radius**2))
        # grad p = -p (east, north) / r^2; U = k x grad p / (rho f)
        u[during] += pressure * north / (radius**2 * AIR_DENSITY * CORIOLIS)
        v[during] -= pressure * east / (radius**2 * AIR_DENSITY * CORIOLIS)
    turn = climate.share * np.exp(1j * np.radians(climate.turn))
    wind = turn * (u + 1j * v)
    return wind.real, wind.imag


def red_noise(rng: np.random.Generator, axes: Sequence[np.ndarray], scales: Sequence[float]) -> np.ndarray:
    """A random field of mean 0, variance 1 and correlation exp(-sum_a (d_a / 2 s_a)^2) at distances d_a along the axes.

    A sum of waves, sqrt(2/n) sum_k cos(sum_a w_ka x_a + phi_k), whose wave numbers w_ka are Gaussian with standard
    deviation 1 / (sqrt(2) s_a), the spectrum of that correlation; Gaussian in the limit of many waves.

    Args:
        rng: What it is drawn from.
        axes: Positions along each axis.
        scales: s_a, in units of the positions.
    """
    turns = [
        np.exp(1j * np.multiply.outer(rng.normal(0.0, 1.0 / (np.sqrt(2.0) * scale), WAVES), axis))
        for axis, scale in zip(axes, scales, strict=True)
    ]
    first = turns[0] * np.exp(2j * np.pi * rng.random(WAVES))[:, None]
    rest = np.ones((WAVES, 1))
    for turn in turns[1:]:
        rest = (rest[:, :, None] * turn[:, None, :]).reshape(WAVES, -1)
    return np.sqrt(2.0 / WAVES) * (first.T @ rest).real.reshape([len(axis) for axis in axes])
