"""More trajectories by the model: turned weather, starts, the layout of the file, runs that are not done twice."""

import sys
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from start_file import NI, NJ, sea

from halocline.io.models import open_states, read_grid

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

import ice_trajectories
from ice_plans import Given, Plan, draw, drawn_weather, turned, turned_vector, weather
from ice_trajectories import write_weather

UNITS = {"sic": "1", "sit": "m", "sid": "1", "snt": "m", "siu": "m s-1", "siv": "m s-1", "uas": "m s-1",
         "vas": "m s-1", "tas": "degC"}  # fmt: skip
RUNS, RECORDS = 3, 3


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Runs of thickness 1, 2, 3 m, of three records six hours apart, the first a day after the model's start."""
    path, rng = tmp_path / "trajectories.nc", np.random.default_rng(0)
    with netCDF4.Dataset(path, "w") as file:
        file.setncatts({"Conventions": "CF-1.8", "title": "test", "source": "none"})
        for name, size in {"trajectory": RUNS, "time": RECORDS, "y": NJ, "x": NI}.items():
            file.createDimension(name, size)
        file.createVariable("time", "f8", ("time",))[:] = 24.0 + 6.0 * np.arange(RECORDS)
        file["time"].setncatts({"units": "hours since 2010-01-20 00:00:00", "calendar": "standard"})
        for name, size in (("x", NI), ("y", NJ)):
            file.createVariable(name, "f4", (name,))[:] = 5e3 * np.arange(size) + 2.5e3
            file[name].units = "m"
        file.createVariable("mask", "i1", ("y", "x"))[:] = sea()
        file.createVariable("seed", "i4", ("trajectory",))[:] = [7, 8, 9]
        for name, unit in UNITS.items():
            x = file.createVariable(name, "f4", ("trajectory", "time", "y", "x"))
            x.setncatts({"units": unit, "quantization_step": np.float32(2.0**-8)})
            values = {"sic": 0.75, "sid": 0.5, "snt": 0.125, "tas": -20.0}.get(name, 0.0)
            noise = rng.normal(size=(RUNS, RECORDS, NJ, NI)) if name in ("uas", "vas", "tas") else 0.0
            thickness = np.arange(1.0, RUNS + 1)[:, None, None, None] if name == "sit" else 0.0
            x[:] = np.where(sea(), values + noise + thickness + np.zeros((RUNS, RECORDS, NJ, NI)), 0.0)
    return path


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Forcing of the model's, for what trajectories do not have."""
    with netCDF4.Dataset(tmp_path / "example.nc", "w") as file:
        file.createGroup("structure").type = "parametric_rectangular"
        data = file.createGroup("data")
        for axis, size in {"time": None, "xdim": NI, "ydim": NJ}.items():
            data.createDimension(axis, size)
        data.createVariable("time", "f8", ("time",))[:] = [0.0]
        for key, x in {"u": 3.0, "v": 4.0, "tair": -20.0, "dew2m": -22.0, "lw_in": 200.0, "pair": 1e5}.items():
            data.createVariable(key, "f4", ("time", "ydim", "xdim"))[:] = np.full((1, NJ, NI), x)
    return tmp_path / "example.nc"


def words(case, like: Path, given: Path, example: Path, *more: object) -> list[str]:
    named = ["--runs", 0, 2, "--output", given.parent / "more.nc", "--folder", given.parent / "runs", "--model",
             case.model, "--config", case.config, "--like", like, "--atmosphere", example, "--count", 3]  # fmt: skip
    return [str(x) for x in (given, *named, *more)]


def test_a_vortex_keeps_its_sense_and_its_place_turns():
    """Of u = -(y - b), v = x - a a quarter turn makes the same vortex around the turned centre; a jet to the east blows
    to the north."""
    n, (a, b) = 5, (1.0, 1.5)
    y, x = np.meshgrid(np.arange(n) - 2.0, np.arange(n) - 2.0, indexing="ij")
    u, v = turned_vector(-(y - b), x - a, 1)
    np.testing.assert_allclose(u, -(y - a))
    np.testing.assert_allclose(v, x + b)
    east = turned_vector(np.ones((n, n)), np.zeros((n, n)), 1)
    assert (east[0] == 0).all() and (east[1] == 1).all()
    field = np.random.default_rng(1).normal(size=(2, n, n))
    assert (turned(field, 4) == field).all() and (turned(field, 2) == field[:, ::-1, ::-1]).all()
    assert turned(field, 1)[0, 0, 0] == field[0, -1, 0]  # what was in the northwest is in the southwest


def test_plans_stay_when_more_are_asked_for_and_use_no_other_runs():
    plans = draw((0, 1, 4), 9, True, seed=3)
    assert plans[:4] == draw((0, 1, 4), 4, True, seed=3)
    assert {p.weather for p in plans} == {0, 1, 4} and {p.start for p in plans} <= {0, 1, 4}
    assert all(p.start != p.weather and 1 <= p.turns <= 3 and 0.8 <= p.factor <= 1.2 for p in plans)
    assert sorted((p.weather, p.turns) for p in plans) == [(run, n) for run in (0, 1, 4) for n in (1, 2, 3)]
    assert len(draw((0, 1), 20, True, seed=0)) == 20  # each weather more often than there are turns
    assert all(p.turns == 2 for p in draw((0, 1), 5, False, seed=0))  # a basin that is no square


def test_two_weathers_make_a_third_as_windy_and_as_cold(given):
    """Of independent winds the variance stays; where both blow hard together, no more than the harder one's most."""
    read, plan = Given.read(given), Plan(1, 2, 0, 1.0, other=2, other_turns=0, angle=40.0)
    rng, shape = np.random.default_rng(2), (20000, NJ, NI)
    fields = {name: rng.normal(size=(RUNS, *shape)) for name in ("uas", "vas")} | {"tas": np.full((RUNS, *shape), -8.0)}
    fields["tas"][1] = -20.0
    mixed = weather(replace(read, fields=fields), plan)
    assert mixed["uas"].std() == pytest.approx(1.0, rel=0.01) and mixed["vas"].std() == pytest.approx(1.0, rel=0.01)
    u1, u2 = (weather(replace(read, fields=fields), Plan(n, turns, 0, 1.0))["uas"] for n, turns in ((1, 2), (2, 0)))
    cos, sin = np.cos(np.radians(40.0)), np.sin(np.radians(40.0))
    calm = np.hypot(mixed["uas"], mixed["vas"]) < 2.0
    np.testing.assert_allclose(mixed["uas"][calm], (cos * u1 + sin * u2)[calm], rtol=1e-9)
    np.testing.assert_allclose(mixed["tas"], cos**2 * -20.0 + sin**2 * -8.0)
    fields["uas"][:], fields["vas"][:] = np.sign(fields["uas"]) * 10.0, 0.0
    assert np.abs(weather(replace(read, fields=fields), plan)["uas"]).max() == pytest.approx(10.0)  # and not 14


def test_a_second_weather_leaves_the_first_draws_and_is_of_another_run():
    alone, mixed = (draw((0, 1, 4), 30, True, seed=3, is_mixed=flag) for flag in (False, True))
    assert mixed[0].weather == alone[0].weather and mixed[0].turns == alone[0].turns
    assert all(p.other in {0, 1, 4} - {p.weather} and 30.0 <= p.angle <= 60.0 for p in mixed)
    assert {p.other_turns for p in mixed} == {0, 1, 2, 3}
    assert {p.other_turns for p in draw((0, 1), 20, False, seed=0, is_mixed=True)} == {0, 2}  # in no square
    assert all(sum(weight**2 for *_, weight in p.parts()) == pytest.approx(1.0) for p in mixed + alone)
    snowy = draw((0, 1), 20, True, seed=0, thickness=(2.0, 3.0), snow=(0.1, 0.2))
    assert all(2.0 <= p.factor <= 3.0 and 0.1 <= p.snow <= 0.2 for p in snowy)


def test_the_north_stays_cold_and_the_wind_grows_from_nothing(given, tmp_path):
    read = Given.read(given)
    read.fields["tas"][:] = -10.0 - 5.0 * np.arange(NJ)[:, None]
    fields = weather(read, Plan(1, 2, 0, 1.0))
    expected = read.fields["tas"][1, 0].copy()
    expected[~sea()] = [*[-15.0] * NI, -15.0]  # land has the air of the nearest sea: all of row 0 that of row 1
    expected[2, 3] = fields["tas"][0, 2, 3]  # as near to row 1 as to its own
    np.testing.assert_allclose(fields["tas"], np.broadcast_to(expected, fields["tas"].shape))
    with netCDF4.Dataset(write_weather(tmp_path / "weather.nc", read.times, fields)) as file:
        wind, air, hours = (file[name][:] for name in ("uas", "tas", "time"))
    assert (np.diff(hours) == 6 * 3600).all() and len(hours) == RECORDS + 4
    for n in range(4):
        np.testing.assert_allclose(wind[n], n / 4 * fields["uas"][0], rtol=1e-6)
    np.testing.assert_allclose(wind[4:], fields["uas"], rtol=1e-6)
    np.testing.assert_allclose(air[0], air[4])


def test_the_file_is_read_as_the_one_that_was_given(case, like, given, example, capsys):
    ice_trajectories.main(words(case, like, given, example))
    assert "3 trajectories are in" in capsys.readouterr().out
    plans = draw((0, 2), 3, False, seed=0)
    source = open_states(str(given.parent / "more.nc"), tuple(ice_trajectories.STATE), read_grid(like))
    found = source.read(np.arange(len(source))).fields
    thickness, concentration = (found[name].reshape(3, RECORDS, NJ, NI) for name in ("thickness", "concentration"))
    for n, plan in enumerate(plans):
        expected = np.round(plan.factor * (1.0 + plan.start) * 256) / 256
        np.testing.assert_allclose(thickness[n][:, sea()], expected)
    # the model of these tests adds 0.01 an hour, first at 24 h, and has no more than one
    np.testing.assert_allclose(
        concentration[0, :, 1, 1], np.round(np.minimum(0.75 + 0.01 * np.array([24, 30, 36]), 1) * 256) / 256
    )
    with netCDF4.Dataset(given.parent / "more.nc") as file, netCDF4.Dataset(given) as old:
        assert (file["time"][:] == old["time"][:]).all() and file["uas"].units == "m s-1"
        assert "Plan(weather=0" in file.made_of
        wanted = weather(Given.read(given), plans[2])["vas"]
        np.testing.assert_allclose(file["vas"][2][:, sea()], wanted[:, sea()], atol=2.0**-9 + 1e-6)


def test_thickness_and_snow_have_factors_of_their_own(case, like, given, example):
    more = ("--thickness", 1.5, 2.5, "--snow", 0.25, 0.25, "--mixed")
    ice_trajectories.main(words(case, like, given, example, *more))
    plans = draw((0, 2), 3, False, 0, (1.5, 2.5), (0.25, 0.25), is_mixed=True)
    with netCDF4.Dataset(given.parent / "more.nc") as file:
        for n, plan in enumerate(plans):
            np.testing.assert_allclose(file["snt"][n][:, sea()], 0.125 * 0.25)
            expected = np.round(plan.factor * (1.0 + plan.start) * 256) / 256
            np.testing.assert_allclose(file["sit"][n][:, sea()], expected)
        assert "other=" in file.made_of
    for flag in ("--thickness", "--snow"):
        with pytest.raises(SystemExit, match=rf"{flag} has \[2.0, 1.0\], expected two factors above 0, the smaller"):
            ice_trajectories.main(words(case, like, given, example, flag, 2, 1))


def test_drawn_weather_is_of_no_run_and_known_every_hour(case, like, given, example):
    ice_trajectories.main(words(case, like, given, example, "--drawn", "--windiness", 0.5, 0.6))
    plans = draw((0, 2), 3, False, 0, windiness=(0.5, 0.6))
    assert len({plan.weather for plan in plans}) == 3 and all(0.5 <= plan.windiness <= 0.6 for plan in plans)
    assert [(p.start, p.factor) for p in plans[:1]] == [(p.start, p.factor) for p in draw((0, 2), 1, False, 0)]
    hourly = drawn_weather(Given.read(given), plans[0])
    assert hourly["uas"].shape == (13, NJ, NI)
    with netCDF4.Dataset(given.parent / "runs/run_000/weather.nc") as file:
        np.testing.assert_allclose(file["uas"][24:], hourly["uas"], rtol=1e-6)
        assert (np.diff(file["time"][:]) == 3600).all()
    with netCDF4.Dataset(given.parent / "more.nc") as file:
        for name in ("uas", "vas", "tas"):
            np.testing.assert_allclose(file[name][0][:, sea()], hourly[name][::6, sea()], atol=2.0**-9 + 1e-6)
        assert "windiness=0.5" in file.made_of
    with pytest.raises(SystemExit, match="--mixed and --drawn are both given, expected one"):
        ice_trajectories.main(words(case, like, given, example, "--drawn", "--mixed"))
    with pytest.raises(SystemExit, match=r"--windiness has \[1.0, 0.5\], expected two factors above 0, the smaller"):
        ice_trajectories.main(words(case, like, given, example, "--drawn", "--windiness", 1, 0.5))


def test_runs_that_are_done_are_kept_and_failures_told(case, like, given, example):
    ice_trajectories.main(words(case, like, given, example))
    before = (given.parent / "runs/run_000/out.nc").stat().st_mtime_ns
    (given.parent / "runs/run_002/done").unlink()
    ice_trajectories.main(words(case, like, given, example))
    assert (given.parent / "runs/run_000/out.nc").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match=r"run_000 holds the run Plan\(.* None, expected Plan\(.*0\.5: name"):
        ice_trajectories.main(words(case, like, given, example, "--emissivity", 0.5))
    with pytest.raises(SystemExit, match=r"--runs has \[9\], expected 0 to 2"):
        ice_trajectories.main(words(case, like, given, example, "--runs", 9))
    case.model.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no ice')\n")
    with pytest.raises(SystemExit, match=r"The model failed in .*run_003: the model ended with 1: no ice"):
        ice_trajectories.main(words(case, like, given, example, "--count", 4))
