"""Weather that is drawn: balance of its winds, scales of its noise, the same draws for the same seed."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

from ice_weather import AIR_DENSITY, CORIOLIS, DEFAULT, draw_weather, pressure_wind, red_noise

X, Y = 20e3 * np.arange(41), 20e3 * np.arange(33)
ONE = replace(DEFAULT, every=1e9, amplitude=(1000.0, 1000.0), radius=(200e3, 200e3), speed=(0.0, 0.0))


class Scripted(np.random.Generator):
    """A generator whose one system begins at the first hour, as a low."""

    def exponential(self, scale):
        self.calls = getattr(self, "calls", 0) + 1
        return 96.0 if self.calls == 1 else 1e9

    def choice(self, values):
        return values[0]


def test_wind_of_a_low_is_a_share_of_the_geostrophic_and_turned_into_it():
    """Fastest at one standard deviation from the centre, a exp(-1/2) / (rho f r), against the clock, and inwards."""
    climate = replace(ONE, life=(40.0, 40.0))
    u, v = (x[20] for x in pressure_wind(Scripted(np.random.PCG64(1)), 40, X, Y, climate))
    most = climate.share * 1000.0 * np.exp(-0.5) / (AIR_DENSITY * CORIOLIS * 200e3)
    middle = np.random.Generator(np.random.PCG64(1))
    for span in (climate.life, climate.radius, climate.speed, climate.amplitude):
        middle.uniform(*span)
    x0, y0 = middle.uniform([X[0], Y[0]], [X[-1], Y[-1]])
    east, north = X - x0, (Y - y0)[:, None]
    r = np.hypot(east, north)
    wind = climate.share * 1000.0 * r * np.exp(-(r**2) / (2 * 200e3**2)) / (AIR_DENSITY * CORIOLIS * 200e3**2)
    np.testing.assert_allclose(np.hypot(u, v), wind, rtol=1e-9, atol=1e-9)
    assert 0.9 * most < np.hypot(u, v).max() <= most
    around, inwards = (east * v - north * u) / r, -(east * u + north * v) / r
    np.testing.assert_allclose(around, wind * np.cos(np.radians(22.0)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inwards, wind * np.sin(np.radians(22.0)), rtol=1e-9, atol=1e-9)


def test_systems_grow_travel_and_end():
    climate = replace(ONE, life=(24.0, 24.0), speed=(10.0, 10.0))
    u, v = pressure_wind(Scripted(np.random.PCG64(2)), 40, X, Y, climate)
    assert (np.hypot(u, v)[[0, 24, 30]] < 1e-9).all() and np.hypot(u, v)[12].max() > 5.0
    speed = np.hypot(u, v)
    np.testing.assert_allclose(speed[6].max() / speed[12].max(), 0.5, rtol=0.1)  # sin^2, on a grid


def test_red_noise_has_variance_one_and_a_gaussian_memory():
    """Means over 3000 fields; each value of a field is a sum of many waves, so that its kurtosis is 3."""
    rng, scales = np.random.default_rng(0), (10.0, 3.0)
    axes = np.array([0.0, 5.0, 20.0]), np.array([0.0, 4.0])
    x = np.array([red_noise(rng, axes, scales) for _ in range(3000)])
    assert x.shape == (3000, 3, 2)
    correlation = np.einsum("nij,nkl->ijkl", x, x) / len(x)
    t, y = (np.subtract.outer(axis, axis) for axis in axes)
    expected = np.exp(-((t[:, None, :, None] / 20.0) ** 2) - (y[None, :, None, :] / 6.0) ** 2)
    np.testing.assert_allclose(correlation, expected, atol=0.08)  # four standard errors
    assert np.mean(x**4) == pytest.approx(3.0, abs=0.3) and abs(x.mean()) < 0.05


def test_weather_is_as_windy_as_asked_and_the_same_for_a_seed():
    air = np.linspace(-10.0, -24.0, len(Y))
    one, same, strong = (
        draw_weather(np.random.default_rng(3), 200, X, Y, air, windiness) for windiness in (0.3, 0.3, 0.6)
    )
    assert all((one[name] == same[name]).all() and one[name].shape == (201, len(Y), len(X)) for name in one)
    speed = np.hypot(strong["uas"], strong["vas"])
    below = speed < DEFAULT.most_wind - 1e-6
    np.testing.assert_allclose(strong["uas"][below], 2.0 * one["uas"][below])
    assert speed.max() <= DEFAULT.most_wind + 1e-9 and one["tas"].max() <= DEFAULT.warmest
    assert (strong["tas"] == one["tas"]).all()
    full = draw_weather(np.random.default_rng(4), 480, X, Y, air, 1.0)
    assert 5.0 < np.hypot(full["uas"], full["vas"]).mean() < 11.0  # that of neXtSIM_DG's trajectories: 7 to 10
