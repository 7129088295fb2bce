"""Scores of forecasts over starts, baselines, the report, and the reader of forecast files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from rich.console import Console

from halocline.io.forecast_file import read_forecast
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice
from halocline.run.forecast_maps_figure import Example
from halocline.run.forecast_report import leave_report
from halocline.run.forecast_score_baselines import FreeDrift, Training, add_baselines, carry, fit_baselines
from halocline.run.forecast_score_cases import Case
from halocline.run.forecast_score_means import Means
from halocline.run.forecast_scores import TRUTH, ScoreOptions, Scores, score_forecasts, to_plain
from halocline.state.variables import VARIABLES

HOURS = (0.0, 6.0, 12.0, 18.0, 24.0, 30.0)
ICE = ("concentration", "thickness", "damage", "snow", "ice_u", "ice_v")
N = 24  # cells a side


@pytest.fixture(scope="module")
def grid() -> Grid:
    """24 x 24 cells of 20 km, land around and an island."""
    wet = np.zeros((N, N), bool)
    wet[1:-1, 1:-1] = True
    wet[16:19, 15:18] = False
    return box_grid(1, N, N, wet=wet, e1=2.0e4, e2=2.0e4)


def start(grid: Grid, members: int = 6, seed: int = 0, spread: float = 1.0) -> Case:
    """Truth and members of one distribution around a state, NaN on land; concentration and damage clipped."""
    rng = np.random.default_rng(seed)
    scale = {"concentration": 0.05, "thickness": 0.1, "damage": 0.2, "snow": 0.01, "ice_u": 0.05, "ice_v": 0.05}
    mean = {"concentration": 0.95, "thickness": 1.2, "damage": 0.8, "snow": 0.1, "ice_u": 0.0, "ice_v": 0.0}
    truth, forecast = {}, {}
    for name in ICE:
        drawn = rng.normal(size=(members + 1, len(HOURS), N, N)) * np.sqrt(HOURS)[:, None, None] / 6
        drawn[:-1] *= spread
        x = np.clip(mean[name] + scale[name] * drawn, *VARIABLES[name].bounds)
        x = np.where(grid.tmask[0], x, np.nan).astype(np.float32)
        truth[name], forecast[name] = x[-1], x[:-1]
    wind = {name: rng.normal(0, 5, (len(HOURS), N, N)) for name in ("wind_u", "wind_v")}
    return Case(HOURS, truth, {"ensemble": forecast}, wind)


@pytest.fixture(scope="module")
def starts(grid: Grid) -> list[Case]:
    return [start(grid, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def scores(grid: Grid, starts: list[Case]) -> Scores:
    return score_forecasts(starts, grid)


def test_calibrated_members_are_found_calibrated(scores):
    found = scores.variables["ensemble"]["thickness"]
    # 3 starts of 472 cells
    np.testing.assert_allclose(found.spread_skill, 1.0, atol=0.07)
    assert max(found.departure) < 0.15
    np.testing.assert_allclose(found.sharpness, 1.0, atol=0.1)
    assert np.mean(found.fine_scales) == pytest.approx(1.0, abs=0.2)  # 15 fields of the truth: 7 %
    np.testing.assert_allclose(np.array(found.rmse_members) ** 2 / np.array(found.rmse) ** 2, 12 / 7, rtol=0.1)
    np.testing.assert_allclose(found.crps, 0.1 * np.sqrt(HOURS[1:]) / 6 / math.sqrt(math.pi), rtol=0.1)


def test_squares_are_averaged_over_starts_before_the_root(grid, starts, scores):
    alone = [score_forecasts([case], grid) for case in starts]
    for key in ("rmse", "rmse_members", "spread"):
        parts = np.array([getattr(one.variables["ensemble"]["damage"], key) for one in alone])
        whole = getattr(scores.variables["ensemble"]["damage"], key)
        np.testing.assert_allclose(whole, np.sqrt((parts**2).mean(axis=0)), rtol=1e-12)
    crps = np.mean([one.variables["ensemble"]["damage"].crps for one in alone], axis=0)
    np.testing.assert_allclose(scores.variables["ensemble"]["damage"].crps, crps, rtol=1e-12)


def test_the_truth_as_a_forecast_has_no_error_and_all_of_its_shape(grid, starts):
    perfect = [replace(case, forecasts={"perfect": {k: x[None] for k, x in case.truth.items()}}) for case in starts]
    scores = score_forecasts(perfect, grid, options=ScoreOptions(threshold=0.95))
    for name in ICE:
        found = scores.variables["perfect"][name]
        assert found.rmse == found.crps == (0.0,) * 5
        assert found.sharpness == (1.0,) * 5 and found.lower == found.true_lower and found.upper == found.true_upper
        np.testing.assert_allclose(found.fine_scales, 1.0, rtol=1e-12)
        assert set(found.violations) == {0.0}
    ice = scores.ice["perfect"]
    assert set(ice.iiee) == set(ice.sps) == set(ice.brier) == set(ice.volume_bias) == {0.0}
    assert scores.drift["perfect"].beta[-1] == scores.drift[TRUTH].beta[-1]


def test_sharpness_is_energy_over_that_of_the_truth(grid, starts):
    doubled = {"ice_u": 2.0 * starts[0].truth["ice_u"][None]}
    found = score_forecasts([replace(starts[0], forecasts={"doubled": doubled})], grid).variables["doubled"]["ice_u"]
    np.testing.assert_allclose([found.sharpness, found.fine_scales], 4.0, rtol=1e-10)
    np.testing.assert_allclose(found.spectrum, 4.0 * np.array(found.true_spectrum), rtol=1e-10)


def test_ratios_have_the_range_that_other_starts_would_give():
    """Of 200 starts whose energies are exponential the ratio of means is normal, of variance 2 / 200; of equal starts
    it is one number; of three nothing is said, nor where one start has no number."""
    rng, n = np.random.default_rng(5), 200
    means = Means(3)
    for x, y in zip(rng.exponential(size=n), rng.exponential(size=n), strict=True):
        means.add([{"forecast_fine": x, "truth_fine": y}, {"forecast_fine": 3.0 * y, "truth_fine": y}])
    ratio = float(means.mean("forecast_fine")[0] / means.mean("truth_fine")[0])
    low, high = means.ranges("forecast_fine", "truth_fine")[0]
    assert low < ratio < high and high - low == pytest.approx(2 * 1.645 * 0.1 * ratio, rel=0.2)
    assert means.ranges("forecast_fine", "truth_fine")[1] == pytest.approx((3.0, 3.0))
    for values in ([1.0, 2.0, 3.0], [1.0, 2.0, np.nan, 3.0]):
        few = Means(2)
        for x in values:
            few.add([{"forecast_fine": x, "truth_fine": 1.0}])
        assert few.ranges("forecast_fine", "truth_fine") == ((),)


def test_slope_of_error_on_spread_is_that_of_a_power_law():
    """Of starts whose error is a power of the spread it is the power, also on the mean over noise; else nothing."""
    rng = np.random.default_rng(1)
    means = Means(3)
    for x in rng.lognormal(size=400):
        means.add([{"variance": x, "mse": 3 * x**1.5}, {"variance": x, "mse": x**0.8 * rng.lognormal(0, 0.5)}])
    exact, noisy = means.slope("mse", "variance")
    assert exact == pytest.approx(1.5, rel=1e-12) and noisy == pytest.approx(0.8, abs=4 * 0.5 / 20)
    for values in ([1.0, 2.0, 3.0], [1.0, 2.0, np.nan, 3.0], [1.0, 2.0, 0.0, 3.0], [2.0] * 5):
        few = Means(2)
        for x in values:
            few.add([{"variance": x, "mse": 1.0}])
        assert np.isnan(few.slope("mse", "variance")).all()


def test_scores_do_not_depend_on_tiles_but_for_rounding(grid, starts, scores):
    tiled = score_forecasts(starts, grid, Lattice.from_grid(grid, (7, 5), 2))
    for name, found in scores.variables["ensemble"].items():
        for key in ("rmse", "crps", "sharpness", "frequency"):
            expected = getattr(found, key)
            np.testing.assert_allclose(getattr(tiled.variables["ensemble"][name], key), expected, rtol=1e-10)


def test_a_biased_or_broken_forecast_shows(grid, starts):
    case = starts[0]
    fields = {name: x.copy() for name, x in case.forecasts["ensemble"].items()}
    fields["thickness"] += 0.3
    fields["damage"][:, 2, 5, 5] = 1.25
    fields["snow"][0, 3, 4, 4] = np.nan
    found = score_forecasts([replace(case, forecasts={"bad": fields})], grid).variables["bad"]
    np.testing.assert_allclose(found["thickness"].bias, 0.3, atol=0.02)
    sea = grid.tmask.sum()
    assert found["damage"].violations[1] == pytest.approx(1 / sea) and found["damage"].violations[0] == 0
    assert [math.isnan(x) for x in found["snow"].crps] == [False, False, True, False, False]


def test_drift_is_scored_from_the_first_lead_that_its_window_reaches(scores):
    for name in (TRUTH, "ensemble"):
        rate = scores.drift[name].rate
        assert np.isnan(rate[:3]).all() and np.isfinite(rate[3:]).all()


def test_a_stopped_forecast_is_scored_as_far_as_it_goes(grid, starts):
    cut = {name: x[:, :3] for name, x in starts[0].forecasts["ensemble"].items()}
    cases = [replace(starts[0], forecasts={"ensemble": cut}), starts[1]]
    scores = score_forecasts(cases, grid)
    assert scores.reached["ensemble"] == (2, 2, 1, 1, 1)
    late = score_forecasts([starts[1]], grid).variables["ensemble"]["snow"].rmse[2:]
    assert scores.variables["ensemble"]["snow"].rmse[2:] == late


def test_free_drift_is_found_again(grid):
    rng = np.random.default_rng(4)
    wind = rng.normal(0, 6, (2, 2, 5, N, N))
    a = 0.02 * np.exp(-1j * np.deg2rad(25.0))
    drift = a * (wind[0] + 1j * wind[1])
    fields = {"ice_u": drift.real, "ice_v": drift.imag + np.where(grid.tmask[0], 0, np.nan)}
    found = FreeDrift.fit(Training(fields, {"wind_u": wind[0], "wind_v": wind[1]}, 6.0), grid.tmask[0])
    assert (found.transfer, found.turning) == (pytest.approx(0.02), pytest.approx(-25.0))


def test_damped_anomaly_of_a_known_process_decays_as_it_does(grid):
    rng = np.random.default_rng(5)
    x = np.zeros((4, 400, N, N))
    for n in range(1, 400):
        x[:, n] = 0.8 * x[:, n - 1] + 0.6 * rng.normal(size=(4, N, N))
    fitted = fit_baselines(Training({"thickness": 2.0 + x[:, 50:]}, {}, 6.0), grid, HOURS[1:])
    assert fitted.free_drift is None and fitted.damped_anomaly is not None
    decay = fitted.damped_anomaly.decay["thickness"]
    np.testing.assert_allclose([decay[hour] for hour in HOURS[1:]], 0.8 ** np.arange(1, 6), atol=0.01)
    truth = np.full((len(HOURS), N, N), 3.0)
    forecast = add_baselines(Case(HOURS, {"thickness": truth}, {}), fitted, grid).forecasts["damped anomaly"]
    sea = forecast["thickness"][0, 2][grid.tmask[0]]
    np.testing.assert_allclose(sea, 2.0 + 0.64, atol=0.1)


def test_persistence_repeats_the_start(grid, starts):
    training = Training({name: x[None] for name, x in starts[1].truth.items()}, {}, 6.0)
    with pytest.raises(ValueError, match="cannot be fitted to trajectories of 6 states every 6 h"):
        fit_baselines(training, grid, (36.0,))
    case = add_baselines(starts[0], fit_baselines(training, grid, HOURS[1:]), grid)
    assert list(case.forecasts) == ["ensemble", "persistence", "damped anomaly"]  # no wind to fit free drift to
    found = score_forecasts([case], grid).variables["persistence"]["snow"]
    sea = grid.tmask[0]
    error = starts[0].truth["snow"][3][sea].astype(float) - starts[0].truth["snow"][0][sea]
    assert found.rmse[2] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    assert found.crps[2] == pytest.approx(np.abs(error).mean(), rel=1e-6)


def test_tracers_are_carried_at_the_speed_of_the_drift_within_their_range(grid):
    j, i = np.mgrid[:N, :N]
    blob = np.exp(-((i - 8.0) ** 2 + (j - 8.0) ** 2) / 8.0)
    u, v = np.full((N, N), 0.5), np.full((N, N), 0.25)
    found = carry({"concentration": blob}, u, v, grid, 48 * 3600.0)["concentration"]  # 4.32 and 2.16 cells
    assert found.max() <= blob.max() and found.min() >= 0.0
    assert (found * i).sum() / found.sum() == pytest.approx(8.0 + 4.32, abs=0.05)
    assert (found * j).sum() / found.sum() == pytest.approx(8.0 + 2.16, abs=0.05)
    flat = np.where(grid.tmask[0], 0.7, np.nan)
    still = carry({"damage": flat}, u, v, grid, 48 * 3600.0)["damage"]
    np.testing.assert_allclose(still[grid.tmask[0]], 0.7, rtol=1e-14)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: {"hours": (0.0, 6.0, 6.0, 18.0, 24.0, 30.0)}, "ascending from 0 on"),
        (lambda c: {"truth": {**c.truth, "snow": c.truth["snow"][1:]}}, "Truth of snow has shape"),
        (lambda c: {"truth": {**c.truth, "sit": c.truth["snow"]}}, "Variable 'sit' is unknown"),
        (lambda c: {"forecasts": {"f": {"damage": np.zeros((2, 7, N, N))}}}, "has 2 members and 7 times"),
        (lambda c: {"forecasts": {"f": {"damage": np.zeros((2, 6, N, 3))}}}, "expected \\(member, time, 24, 24\\)"),
        (lambda c: {"forecasts": {"f": {}}}, "of no variable"),
    ],
)
def test_cases_that_cannot_be_scored_are_refused(grid, starts, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        score_forecasts([replace(starts[0], **change(starts[0]))], grid)


def test_starts_must_agree(grid, starts):
    fewer = replace(starts[1], forecasts={"ensemble": {k: x[:4] for k, x in starts[1].forecasts["ensemble"].items()}})
    with pytest.raises(ValueError, match="has 4 members at one start and 6 at another"):
        score_forecasts([starts[0], fewer], grid)
    with pytest.raises(ValueError, match="no forecasts to score"):
        score_forecasts([], grid)


def test_the_report_is_a_picture_a_table_and_words(grid, starts, tmp_path):
    fields, forcing = ({k: x[None] for k, x in given.items()} for given in (starts[1].truth, starts[1].forcing))
    training = Training(fields, forcing, 6.0)
    case = add_baselines(starts[0], fit_baselines(training, grid, HOURS[1:]), grid)
    scores = score_forecasts([case] * 4, grid)
    console = Console(width=140, record=True, file=(tmp_path / "words").open("w"))
    leave_report(tmp_path / "made", scores, grid, Example(case, "ensemble", 24.0, 24.0), console)
    assert (tmp_path / "made" / "report.png").read_bytes()[:4] == b"\x89PNG"
    table = json.loads((tmp_path / "made" / "table.json").read_text())
    assert table == json.loads(json.dumps(to_plain(scores)))
    assert table["variables"]["free drift"]["ice_u"]["spread_skill"] == [None] * 5
    assert len(table["variables"]["ensemble"]["snow"]["frequency"][0]) == 7
    words = console.export_text()
    for word in ("CRPS", "free drift, 1", "spread / skill", "β(3)", "edge error", "damped anomaly", "drawn anew"):
        assert word in words
    with pytest.raises(ValueError, match="Lead 7 h is not in forecast 'ensemble', which goes to 30 h"):
        leave_report(tmp_path / "made", scores, grid, Example(case, "ensemble", 7.0, 24.0), console)


def test_tables_in_the_log_of_a_job_keep_all_digits(grid, starts, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # what is taken for granted where there is no terminal
    monkeypatch.setattr("halocline.run.forecast_report.draw_forecasts", lambda *_: None)
    long = replace(starts[0], forecasts={"sixteen members of mine": starts[0].forecasts["ensemble"]})
    scores = score_forecasts([long] * 4, grid)
    leave_report(tmp_path, scores, grid, Example(long, "sixteen members of mine", 24.0, 24.0))
    words = capsys.readouterr().out
    assert "…" not in words
    for key in ("crps", "rmse"):
        assert f" {getattr(scores.variables['sixteen members of mine']['concentration'], key)[0]:.4g} " in words


def written(path: Path, complete: list[int]) -> dict[str, np.ndarray]:
    """A forecast as `halocline forecast` leaves it: NaN beyond what is complete."""
    rng = np.random.default_rng(6)
    group = zarr.open_group(path, mode="w")
    fields = {}
    for name in ("thickness", "damage"):
        x = rng.uniform(size=(len(complete), 4, 5, 6)).astype(np.float32)
        for member, last in enumerate(complete):
            x[member, last + 1 :] = np.nan
        group.create_array(name, shape=x.shape, chunks=(1, 1, 5, 3), dtype="float32", fill_value=np.nan)[:] = x
        fields[name] = x
    others = {"time": np.arange(4) * 12.0, "complete": np.array(complete), "mask": np.ones((5, 6), "i1")}
    for name, values in others.items():
        group.create_array(name, shape=values.shape, dtype=values.dtype)[:] = values
    group["time"].attrs["units"] = "hours since 2010-01-20 00:00:00"
    return fields


def test_only_complete_times_of_a_forecast_are_read(tmp_path):
    fields = written(tmp_path / "f.zarr", [3, 1, 2])
    whole = read_forecast(tmp_path / "f.zarr")
    assert whole.hours.tolist() == [0.0, 12.0] and not whole.is_complete and whole.wet.shape == (5, 6)
    assert whole.start == np.datetime64("2010-01-20T00:00:00") and set(whole.fields) == {"thickness", "damage"}
    np.testing.assert_array_equal(whole.fields["damage"], fields["damage"][:, :2])
    some = read_forecast(tmp_path / "f.zarr", ["thickness"], members=[2, 0])
    np.testing.assert_array_equal(some.fields["thickness"], fields["thickness"][[2, 0], :3])
    assert read_forecast(tmp_path / "f.zarr", members=[0]).is_complete


def test_what_is_no_forecast_is_refused(tmp_path):
    written(tmp_path / "f.zarr", [2, -1])
    with pytest.raises(ValueError, match="no complete time for members \\[1\\]"):
        read_forecast(tmp_path / "f.zarr")
    with pytest.raises(ValueError, match="lacks snow"):
        read_forecast(tmp_path / "f.zarr", ["snow"])
    with pytest.raises(ValueError, match="are to be \\[2\\], expected some of 0 to 1"):
        read_forecast(tmp_path / "f.zarr", members=[2])
    with pytest.raises(FileNotFoundError, match="No forecast at"):
        read_forecast(tmp_path / "other.zarr")
    del zarr.open_group(tmp_path / "f.zarr", mode="r+")["complete"]
    with pytest.raises(ValueError, match="lacks complete"):
        read_forecast(tmp_path / "f.zarr")
