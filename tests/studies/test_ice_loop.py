"""The loop with neXtSIM_DG, a small script in the model's place: what it tells of runs that go well and of others."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from fake_model import START, state
from start_file import NI, NJ, sea

from halocline.io.forecast_store import create_forecast
from halocline.io.nextsim import read_grid
from halocline.run.ice_loop import compare, learn
from halocline.run.ice_model import Case, read_output, run_model, start_model

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

import ice_loop


def test_a_run_is_set_against_the_reference_by_lead(case, like, tmp_path):
    grid = read_grid(like)
    reference = read_output(run_model(case, like, tmp_path / "reference")[0])
    assert (reference[0] == START + np.arange(1, 5) * np.timedelta64(1, "h")).all()
    ran = start_model(case, state(u=0.4, concentration=0.83), grid, tmp_path / "run", like=like)
    one, other = compare("run", ran, reference, START, (1, 4), grid)
    assert one.rms["concentration"] == pytest.approx(0.03) and one.rms["drift"] == pytest.approx(0.3)
    assert other.hours == 4 and other.rms["thickness"] == 0 and other.thickest == 1.0 and not other.is_absurd
    assert np.isnan(one.change["damage"])  # the reference has no state at its very start
    assert ice_loop.cell(0.03, one.change["damage"]) == "0.0300" and ice_loop.cell(0.03, 0.01) == "0.0300 (0.0100)"
    later = compare("run", ran, reference, START + np.timedelta64(1, "h"), (2,), grid)
    assert later[0].change["concentration"] == pytest.approx(0.02)


def test_the_configuration_names_what_is_run(case, like, tmp_path):
    output, failure = run_model(case, like, tmp_path / "run")
    text = (tmp_path / "run" / "case.cfg").read_text()
    assert not failure and output == tmp_path / "run" / "out.nc"
    assert f"init_file = {like}" in text and f"file = {tmp_path / 'atm.nc'}" in text
    assert "stop = 2010-01-20T04:00:00Z" in text and "restart_period = P0-0T04:00:00" in text
    assert case.restart(tmp_path).name == "end.20100120T04.nc"


def test_runs_that_fail_are_told_and_not_taken_for_results(case, like, tmp_path):
    grid = read_grid(like)
    reference = read_output(run_model(case, like, tmp_path / "reference")[0])
    thresholds = learn({name: np.stack([x, 1.1 * x]) for name, x in state().items()}, grid)

    def told(u: float) -> list:
        ran = start_model(case, state(u=u), grid, tmp_path / f"run{u}", like=like)
        return compare("run", ran, reference, START, (1, 2, 4), grid, thresholds)

    stopped = told(0.91)
    assert [row.verdict for row in stopped] == ["reject"] * 3
    assert stopped[0].reason == "the model ended with 7: no wind / out of range" and np.isnan(stopped[0].rms["damage"])
    short = told(0.92)
    assert np.isfinite(short[1].rms["damage"]) and short[2].reason == "no state at 2010-01-20T04:00:00"
    wild = told(0.93)
    assert wild[0].bad == 0 and not wild[0].is_absurd
    assert wild[1].bad == 1 and wild[1].thickest > 9e5 and wild[1].is_absurd and wild[1].verdict == "reject"
    assert "ice_nonfinite_cells" in wild[1].reason


def test_a_model_that_hangs_is_ended(case, like, tmp_path):
    case.model.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    slow = Case(case.model, case.config, case.start, 4.0, limit=0.5)
    assert run_model(slow, like, tmp_path / "run")[1] == "not finished after 0.5 s"


def test_members_of_a_forecast_are_starts_at_their_time(like, tmp_path):
    hours, path = np.array([0.0, 6.0]), tmp_path / "forecast.zarr"
    create_forecast(path, tuple(state()), sea(), (NJ, NI), 2, hours, START - np.timedelta64(6, "h"), {})
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    for name, x in state().items():
        group[name][:] = np.broadcast_to(x[0], (2, 2, NJ, NI))
    group["complete"][:] = [1, 1]
    grid = read_grid(like)
    told = argparse.Namespace(states=[str(path)], members=2, hours_of_forecast=None)
    found = ice_loop.starts(told, grid, START)
    assert list(found) == ["forecast-0", "forecast-1"] and found["forecast-1"]["snow"][0, 1, 1] == np.float32(0.1)
    with pytest.raises(ValueError, match=r"is at 2010-01-19T18:00:00, but the model starts at 2010-01-20"):
        ice_loop.starts(argparse.Namespace(states=[str(path)], members=1, hours_of_forecast=0.0), grid, START)


def test_the_study_leaves_a_table(case, like, tmp_path, capsys):
    reference = run_model(case, like, tmp_path / "before")[0]
    moved = tmp_path / "states.nc"
    reference.rename(moved)
    words = [moved, "--model", case.model, "--config", case.config, "--like", like, "--folder", tmp_path / "study",
             "--start", "2010-01-20T02:00", "--leads", "1", "3"]  # fmt: skip
    ice_loop.main([str(word) for word in words])
    rows = (tmp_path / "study" / "table.csv").read_text().splitlines()
    # the file's state at 2 h has 0.02 more ice than the start file from which the reference begins
    name, hours, concentration, *_ = rows[1].split(",")
    assert len(rows) == 3 and (name, float(hours)) == ("states", 1.0)
    assert float(concentration) == pytest.approx(0.02) and "uninterrupted" in capsys.readouterr().out
