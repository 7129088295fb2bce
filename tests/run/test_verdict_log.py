"""The log that a person follows, and the record beside it."""

import resource
import time
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from verdicts import HOUR, judged, run, setting

from halocline.physics.verdict import Limit
from halocline.run import verdict_log
from halocline.run.check_text import concern
from halocline.run.verdict_log import VerdictLog


def lines(folder: Path) -> list[str]:
    return (folder / "verdicts.log").read_text().splitlines()


def told(folder: Path) -> list[str]:
    """Lines of verdicts."""
    return [line for line in lines(folder) if not line.startswith("#")]


def test_log_begins_with_run_grid_model_and_limits(tmp_path):
    run(tmp_path)
    head = "\n".join(lines(tmp_path))
    for words in (
        "# run    /runs/gyre, training step 6000",
        "# grid   4 x 13 x 19 (k, j, i), fingerprint 0123abcd",
        "# model  starts at 0001-01-01 00:00, step 0; steps of 3600 s, calendar 360_day",
        "# check                  ok                   reject",
        "# temperature_deep       3.1 to 3.4           beyond 2.8 to 3.7 degC",
        "# unstable_fraction      up to 0.1            above 0.2",
        "# salinity_volume_mean   34.99991 to 35.0002  beyond 34.9 to 35.1 1e-3",
        "# temperature_nonfinite  0                    if not 0 cells",
    ):
        assert words in head, words


def test_verdict_is_one_line_with_the_check_nearest_to_its_limits(tmp_path):
    log = run(tmp_path, 3.2, 3.39)
    assert told(tmp_path) == [
        "0001-01-02 00:00        24  ok        continue  salinity_volume_mean         35.0001  34.99991 to 35.0002",
        "0001-01-03 00:00        48  ok        continue  salinity_volume_mean         35.0001  34.99991 to 35.0002",
    ]
    log.write(judged(60, 3.4), 60 * HOUR)
    assert told(tmp_path)[-1] == (
        "0001-01-03 12:00        60  ok        continue  temperature_deep                 3.4  3.1 to 3.4"
    )


def test_failing_verdict_tells_its_reason_and_every_failing_check(tmp_path):
    log = run(tmp_path)
    log.write(judged(24, np.nan, unstable=0.15), 24 * HOUR)
    assert [" ".join(line.split()) for line in told(tmp_path)] == [
        "0001-01-02 00:00 24 REJECT stop temperature_deep nan 3.1 to 3.4, reject beyond 2.8 to 3.7",
        "The worst of 4 checks is reject.",
        "REJECT temperature_nonfinite 7 0, reject if not 0",
        "SUSPECT unstable_fraction 0.15 up to 0.1, reject above 0.2",
    ]


def test_columns_are_aligned_whatever_the_numbers(tmp_path):
    log = run(tmp_path, 3.2, -1.234567e-300, 1e300, np.nan)
    log.write(judged(10**7, 3.5), 10**7 * HOUR)
    names = ("temperature_deep", "salinity_volume_mean", "temperature_nonfinite")
    places = [line.index(name) for line in told(tmp_path) for name in names if name in line]
    assert len(places) == 6 and set(places) == {48}


def test_number_of_further_lines_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(verdict_log, "MOST_LINES", 1)
    run(tmp_path).write(judged(24, np.nan, unstable=0.3), 24 * HOUR)
    assert len(told(tmp_path)) == 4 and told(tmp_path)[-1].strip() == "and 1 more checks that fail"


@pytest.mark.parametrize("limits", [(1.0, 2.0, 0.0, 4.0), (-np.inf, 2.0, -np.inf, 4.0), (2.0, 2.0, 2.0, 2.0)])
def test_concern_grows_from_ok_over_suspect_to_reject(limits):
    """As `Limit.status` says, on both sides, without a lower limit, and without a zone of suspicion."""
    zones = {"ok": (-np.inf, 0.0), "suspect": (0.0, 1.0), "reject": (1.0, np.inf)}
    for value in (-3.0, 0.0, 0.5, 1.0, 1.9, 2.0, 2.1, 4.0, 4.1, np.nan, np.inf, -np.inf):
        low, high = zones[Limit(*limits).status(value)]
        assert low <= concern(value, limits) <= high, value


def test_each_verdict_is_in_both_files_when_write_returns(tmp_path):
    log = VerdictLog(tmp_path / "made" / "here", setting())
    for day in range(1, 4):
        log.write(judged(24 * day, 3.0 + day), 24 * day * HOUR)
        with netCDF4.Dataset(log.folder / "trajectory.nc") as file:
            assert file["temperature_deep"][:].tolist() == [3.0 + n for n in range(1, day + 1)]
            assert file["temperature_mean"].shape == (day, 4)
            assert file["temperature_mean"].long_name == "volume mean of each level"
        assert len([line for line in told(log.folder) if line[:1].isdigit()]) == day


def test_restarted_model_goes_on_in_both_files(tmp_path):
    run(tmp_path, 3.2, 3.2).close()
    run(tmp_path, 3.2, first=3).close()
    assert [line.split()[2] for line in told(tmp_path)] == ["24", "48", "72"]
    with netCDF4.Dataset(tmp_path / "trajectory.nc") as file:
        assert file["step"][:].tolist() == [24, 48, 72]


def test_model_that_goes_back_keeps_its_log_and_is_told_where_the_record_went(tmp_path):
    run(tmp_path, 3.2, 3.2).close()
    run(tmp_path, 3.3, first=2).close()
    assert [line.split()[2] for line in told(tmp_path)] == ["24", "48", "48"]
    last = "# The model has gone back to 0001-01-03 00:00: trajectory.nc goes on from there, trajectory.1.nc keeps what"
    assert lines(tmp_path)[-1].startswith(last)
    with netCDF4.Dataset(tmp_path / "trajectory.1.nc") as file:
        assert file["temperature_deep"][:].tolist() == [3.2, 3.2]


def test_rank_that_does_not_speak_leaves_nothing(tmp_path):
    log = VerdictLog(tmp_path / "folder", setting(), speaks=False)
    log.write(judged(24), 24 * HOUR)
    log.close()
    assert not (tmp_path / "folder").exists()


def test_refused_record_adds_nothing_to_the_log(tmp_path):
    run(tmp_path, 3.2).close()
    before = lines(tmp_path)
    (tmp_path / "trajectory.nc").write_text("notes")
    with pytest.raises(OSError, match=r"trajectory.nc cannot be read"):
        VerdictLog(tmp_path, setting())
    assert lines(tmp_path) == before


def test_full_disk_is_told_in_one_sentence_and_nothing_written_is_lost(tmp_path):
    log, before = run(tmp_path, *[3.2] * 50), resource.getrlimit(resource.RLIMIT_FSIZE)
    content, size = (tmp_path / "verdicts.log").read_bytes(), (tmp_path / "verdicts.log").stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, before[1]))
        with pytest.raises(OSError, match=r"verdicts.log \(File too large\); the verdicts in it are unharmed: free"):
            log.write(judged(24 * 51), 24 * 51 * HOUR)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "verdicts.log").read_bytes() == content
    log.write(judged(24 * 52), 24 * 52 * HOUR)  # there is space again
    assert told(tmp_path)[-1].split()[2] == "1248"


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Folder .*file/output cannot be made"):
        VerdictLog(tmp_path / "file" / "output", setting())


def test_writing_a_verdict_takes_less_than_two_milliseconds(tmp_path):
    """So that it cannot be felt; all but one in a second do not wait for the disk."""
    log = run(tmp_path, 3.2)
    judgement, best = judged(0), np.inf
    for day in range(2, 102):
        start = time.perf_counter()
        log.write(judgement, 24 * day * HOUR)
        best = min(best, time.perf_counter() - start)
    assert best < 2e-3
