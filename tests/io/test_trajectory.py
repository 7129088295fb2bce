"""The record of a running model: readable at any moment, whatever happens to its writer."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray

from halocline.io import records
from halocline.io.trajectory import CheckRecord, Series, Setting, Trajectory, read_recent

NK = 4
HOUR, DAY = 3600.0, 86400.0
CATALOGUE = {
    "temperature_deep": Series("degC", "mean of the deep box"),
    "temperature_mean": Series("degC", "volume mean of each level", ("k",)),
    "stratification": Series("kg m-4", "mean density gradient, stable positive", ("w",)),
    "barotropic_streamfunction": Series("Sv", "at F points", ("j", "i")),
}
LIMITS = {"temperature_deep": (1.0, 2.0, 0.0, 3.0), "unstable_fraction": (-np.inf, 0.1, -np.inf, 0.2)}


def setting(nk: int = NK, date: int = 10101, step: int = 0, calendar: str = "360_day") -> Setting:
    return Setting(
        "/runs/gyre", 6000, "0123abcd", (nk, 5, 6), 10.0 * np.arange(nk) + 5, 10.0 * np.arange(1, nk), calendar, HOUR,
        step, date, LIMITS, ("ok", "suspect", "reject", "unjudged"), ("continue", "stop", "fallback"),
    )  # fmt: skip


def opened(path: Path, of: Setting | None = None) -> Trajectory:
    return Trajectory(path, of or setting(), CATALOGUE)


def put(trajectory: Trajectory, step: int) -> Path | None:
    """Adds a state all of whose numbers follow from its step."""
    nk = len(trajectory.setting.depth)
    diagnostics = {
        "temperature_deep": np.array(step / 7),
        "temperature_mean": step / 7 + np.arange(nk),
        "stratification": np.full(nk - 1, np.nan),
        "barotropic_streamfunction": np.zeros((5, 6)),
    }
    verdict = (step % 3, step % 2, f"reason of step {step}, µ")
    checks = {"temperature_deep": CheckRecord(step / 7, step % 3)}
    return trajectory.append(step * HOUR, step, verdict, checks, diagnostics)


def steps_of(path: Path) -> list[int]:
    """Steps of a record, after a look at every number of it."""
    with netCDF4.Dataset(path) as file:
        steps = file["step"][:].astype(int)
        assert np.array_equal(file["time"][:], steps * HOUR)
        assert np.array_equal(file["check_value"][:, 0], steps / 7)
        levels = np.arange(len(file.dimensions["k"]))
        assert np.array_equal(file["temperature_mean"][:], steps[:, None] / 7 + levels)
        assert [str(text) for text in file["reason"][:]] == [f"reason of step {step}, µ" for step in steps]
    return steps.tolist()


def test_record_explains_itself_in_xarray(tmp_path):
    path = tmp_path / "trajectory.nc"
    trajectory = opened(path, setting(date=20240227, calendar="standard"))
    for step in (24, 48, 72, 96):
        put(trajectory, step)
    with xarray.open_dataset(path) as file:  # its writer still has it open
        assert file.time.values.astype("datetime64[D]").astype(str).tolist() == [
            "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02",
        ]  # fmt: skip
        assert file.check.values.tolist() == list(LIMITS)
        assert file.check_value.sel(check="temperature_deep").values.tolist() == [step / 7 for step in (24, 48, 72, 96)]
        edges = [file[f"check_{edge}"].values.tolist() for edge in ("low", "high", "reject_low", "reject_high")]
        assert np.array(edges).T.tolist() == [list(limits) for limits in LIMITS.values()]
        assert np.isnan(file.check_value.sel(check="unstable_fraction")).all()
        assert file.check_status.sel(check="unstable_fraction").values.tolist() == [-1] * 4
        assert file.level.attrs["flag_meanings"].split()[file.level.values[1]] == "ok"
        assert (file.temperature_deep.units, file.temperature_deep.long_name) == ("degC", "mean of the deep box")
        assert file.temperature_mean.dims == ("time", "k") and file.depth_k.values.tolist() == [5, 15, 25, 35]
        assert "barotropic_streamfunction" not in file and np.isnan(file.stratification).all()


@pytest.mark.parametrize(
    ("calendar", "date", "clocks"),
    [
        ("360_day", 10229, ["0001-02-30 00:00", "0001-03-01 01:00"]),
        ("noleap", 20240228, ["2024-03-01 00:00", "2024-03-02 01:00"]),
        ("standard", 20240228, ["2024-02-29 00:00", "2024-03-01 01:00"]),
        ("standard", 40228, ["0004-02-29 00:00", "0004-03-01 01:00"]),
        ("standard", 228, ["0000-02-29 00:00", "0000-03-01 01:00"]),
    ],
)
def test_clock_follows_the_calendar_of_the_model(calendar, date, clocks, tmp_path):
    path = tmp_path / "trajectory.nc"
    trajectory = opened(path, setting(date=date, calendar=calendar, step=1000))
    for step in (1024, 1049):
        put(trajectory, step)
    assert read_recent(path, 9).clocks == clocks


def test_restarted_model_goes_on_in_the_record(tmp_path):
    path = tmp_path / "trajectory.nc"
    for first in (24, 72):
        trajectory = opened(path, setting(date=10101 + first // 24 - 1, step=first - 24))
        assert [put(trajectory, step) for step in (first, first + 24)] == [None, None]
        trajectory.close()
    assert steps_of(path) == [24, 48, 72, 96]
    recent = read_recent(path, 2)
    assert (recent.total, recent.steps, recent.clocks) == (4, [72, 96], ["0001-01-04 00:00", "0001-01-05 00:00"])
    assert (recent.levels, recent.actions) == (["ok", "ok"], ["continue", "continue"])
    assert recent.statuses.tolist() == [["ok", "unchecked"]] * 2


def test_model_that_goes_back_replaces_later_states_and_keeps_them_in_a_copy(tmp_path):
    path = tmp_path / "trajectory.nc"
    trajectory = opened(path)
    for step in (24, 48, 72, 96):
        put(trajectory, step)
    trajectory.close()
    trajectory = opened(path, setting(date=10102, step=24))
    assert put(trajectory, 36) == tmp_path / "trajectory.1.nc"
    assert put(trajectory, 48) is None
    assert steps_of(path) == [24, 36, 48]
    assert steps_of(tmp_path / "trajectory.1.nc") == [24, 48, 72, 96]
    trajectory.close()
    assert put(opened(path), 24) == tmp_path / "trajectory.2.nc"
    assert steps_of(path) == [24]


def test_equal_runs_leave_equal_bytes(tmp_path):
    for name in ("a.nc", "b.nc"):
        trajectory = opened(tmp_path / name)
        for step in (24, 48):
            put(trajectory, step)
            np.full(10_000, np.pi)  # leaves something in memory that is used again
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


def test_state_judged_twice_is_recorded_as_it_was_last(tmp_path):
    trajectory = opened(tmp_path / "trajectory.nc")
    for step in (0, 0, 24, 24):
        assert put(trajectory, step) is None
    assert steps_of(trajectory.path) == [0, 24]
    assert [path.name for path in tmp_path.iterdir()] == ["trajectory.nc"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"grid": "ffff"}, "it has grid 0123abcd, expected ffff"),
        ({"calendar": "noleap"}, "it has model calendar 360_day, expected noleap"),
        ({"training_step": 7000}, "it has training step 6000, expected 7000"),
        ({"limits": {"heat": (0.0, 1.0, 0.0, 1.0)}}, "it has the checks temperature_deep, .*, expected heat"),
        (
            {"limits": {**LIMITS, "temperature_deep": (1.0, 2.5, 0.0, 3.0)}},
            r"its check temperature_deep has the limits \(1.0, 2.0, 0.0, 3.0\), expected \(1.0, 2.5, 0.0, 3.0\)",
        ),
    ],
)
def test_record_of_something_else_is_refused_and_left_alone(change, told, tmp_path):
    trajectory = opened(tmp_path / "trajectory.nc")
    put(trajectory, 24)
    trajectory.close()
    before = trajectory.path.read_bytes()
    with pytest.raises(ValueError, match=f"trajectory.nc cannot be continued: {told}. Name another output folder"):
        opened(trajectory.path, replace(setting(), **change))
    assert trajectory.path.read_bytes() == before


def test_foreign_or_damaged_file_is_refused(tmp_path):
    path = tmp_path / "trajectory.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.title = "something else"
    with pytest.raises(ValueError, match="it is not a record of verdicts"):
        opened(path)
    with pytest.raises(ValueError, match="is not a record of verdicts: name the output folder"):
        read_recent(path, 1)
    path.write_text("notes")
    with pytest.raises(OSError, match=r"trajectory.nc cannot be read \(.*\): it is damaged or not netCDF"):
        opened(path)


def test_second_writer_is_refused_until_the_first_has_ended(tmp_path):
    path = tmp_path / "trajectory.nc"
    first = opened(path)
    put(first, 24)
    with pytest.raises(OSError, match=r"Another run is writing to .*trajectory.nc: wait until it has ended"):
        opened(path)
    first.close()
    put(opened(path), 48)
    assert steps_of(path) == [24, 48]


@pytest.mark.parametrize("taken", [0, 1, 300, None])
def test_write_that_breaks_off_anywhere_adds_no_record(taken, tmp_path, monkeypatch):
    """The disk takes so many bytes of a record, or all of them but not the count, and then nothing more."""
    trajectory = opened(tmp_path / "trajectory.nc")
    for step in (24, 48):
        put(trajectory, step)
    pwrite, room = os.pwrite, [taken]

    def breaking(handle: int, data: memoryview, place: int) -> int:
        if not room or room[0] == 0:
            raise OSError(28, "No space left on device")
        return pwrite(handle, data[: room.pop()], place)

    monkeypatch.setattr(records.os, "pwrite", breaking)
    told = r"trajectory.nc \(No space left on device\); the 2 records in it are unharmed: free space"
    with pytest.raises(OSError, match=told):
        put(trajectory, 72)
    monkeypatch.undo()
    assert steps_of(trajectory.path) == [24, 48]
    put(trajectory, 96)  # there is space again
    assert steps_of(trajectory.path) == [24, 48, 96]


def test_full_disk_is_told_in_one_sentence(tmp_path):
    path, before = tmp_path / "trajectory.nc", resource.getrlimit(resource.RLIMIT_FSIZE)
    trajectory = opened(path, setting(nk=500))
    put(trajectory, 24)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
        with pytest.raises(OSError, match=r"Cannot write .*trajectory.nc \(File too large\); the 1 records in it are"):
            put(trajectory, 48)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert steps_of(path) == [24]


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_trajectory import opened, put, setting
trajectory = opened(Path(sys.argv[1]), setting(nk=30000))
step = len(trajectory._times) + 1
put(trajectory, step)
print("begun", flush=True)
while True:
    step += 1
    put(trajectory, step)
"""


def test_killed_writer_leaves_every_record_whole_and_the_next_one_goes_on(tmp_path):
    path, rng, total = tmp_path / "trajectory.nc", random.Random(5), 0
    for _ in range(6):
        command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent), *filter(None, sys.path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline() == b"begun\n"
        end = time.monotonic() + rng.uniform(0.05, 0.2)
        while time.monotonic() < end:  # while it is being written
            recent = read_recent(path, 3)
            assert len(recent.steps) == min(3, recent.total)
            assert recent.values[:, 0].tolist() == [step / 7 for step in recent.steps]
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(10) == -signal.SIGKILL
        writer.stdout.close()
        found = steps_of(path)
        assert found == list(range(1, len(found) + 1)) and len(found) > total
        total = len(found)
