"""Forecasts from the beginning: which runs each step sees, equal networks, failures, steps that are not done twice."""

import json
import re
import subprocess
import sys
from pathlib import Path

import netCDF4
import pytest
import yaml

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

import ice_from_scratch


class Commands:
    """Stands for the programs: remembers what was asked for, and makes the folder that it would leave."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.fails: str | None = None

    def __call__(self, command: list[str], stdout: object = None, **_: object) -> subprocess.CompletedProcess[bytes]:
        self.asked.append(command)
        for word in command:
            if word.startswith("output="):
                Path(word.removeprefix("output=")).mkdir(parents=True, exist_ok=True)
        fails = self.fails is not None and any(self.fails in word for word in command)
        if fails and hasattr(stdout, "write"):
            stdout.write("training: 7/9\nNo space left.\n")
        return subprocess.CompletedProcess(command, 75 if fails else 0)

    def having(self, *words: str) -> list[list[str]]:
        """Commands with all of these words."""
        return [command for command in self.asked if set(words) <= set(command)]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands()
    monkeypatch.setattr(ice_from_scratch.subprocess, "run", made)
    return made


def words(folder: Path, *more: object) -> list[str]:
    return [str(x) for x in ("trajectories.nc", "init.nc", "--folder", folder, *more)]


def listed(command: list[str], option: str) -> list[str]:
    """The numbers behind an option, up to the next one."""
    rest = command[command.index(option) + 1 :]
    return rest[: next((n for n, word in enumerate(rest) if word.startswith("--")), len(rest))]


def test_no_run_is_tested_on_that_was_learned_from_or_calibrated_on(commands, tmp_path):
    ice_from_scratch.main(words(tmp_path, "--calibrate", 4, 5, "--test", 6, 7))
    trainings = commands.having("train")
    assert len(trainings) == 8 and trainings == commands.having("data.held_out_trajectories=[4,7]")
    (calibration,) = commands.having("calibrate")
    assert "trajectories=[4,5]" in calibration and f"{tmp_path}/forecast" in calibration
    table = commands.asked[-1]
    assert f"forecast={tmp_path}/calibrated" in table and f"det={tmp_path}/det" in table
    assert listed(table, "--runs") == ["6", "7"] and listed(table, "--train") == ["0", "1", "2", "3"]


def test_no_factor_on_the_noise_is_taken_from_the_configuration(commands, tmp_path):
    ice_from_scratch.main(words(tmp_path))
    factors = [key for key in yaml.safe_load(ice_from_scratch.CONFIG.read_text())["sampling"] if "wave" in key]
    assert len(factors) == 2
    for key in ("noise", *factors):
        assert len(commands.having("calibrate", f"sampling.{key}=1")) == 1


def file_of_runs(path: Path, count: int, dimension: str = "trajectory") -> Path:
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension(dimension, count)
    return path


def test_noise_is_found_on_all_runs_of_another_file_too_and_only_noise(commands, tmp_path):
    states, more = file_of_runs(tmp_path / "eight.nc", 8), file_of_runs(tmp_path / "three.nc", 3)
    ice_from_scratch.main([str(x) for x in (states, "init.nc", "--folder", tmp_path / "made", "--more", more)])
    (calibration,) = commands.having("calibrate", f"states=[{states},{more}]")
    assert {"trajectories=[5,8,9,10]", "starts=2"} <= set(calibration)
    others = [command for command in commands.asked if command is not calibration]
    assert len(others) == 9 and not any(str(more) in word for command in others for word in command)


@pytest.mark.parametrize(
    ("dimension", "sentence"),
    [(None, r"more\.nc cannot be read \(.*No such file"), ("time", r"\['time'\], expected 'trajectory'")],
)
def test_a_file_without_runs_is_refused_before_anything_is_learned(commands, tmp_path, dimension, sentence):
    states, more = file_of_runs(tmp_path / "eight.nc", 8), tmp_path / "more.nc"
    if dimension is not None:
        file_of_runs(more, 3, dimension)
    with pytest.raises(SystemExit, match=sentence):
        ice_from_scratch.main([str(x) for x in (states, "init.nc", "--folder", tmp_path / "made", "--more", more)])
    assert not commands.asked


def test_both_networks_learn_equally_much_in_the_same_way(commands, tmp_path):
    ice_from_scratch.main(words(tmp_path, "--steps", 40, 30, 20, 10, "--set", "network.width=8"))
    own = [c for c in commands.having("train") if "forecast.deterministic=true" not in c]
    det = commands.having("train", "forecast.deterministic=true")
    assert [c[-1] for c in own] == [f"training.steps={steps}" for steps in (40, 30, 20, 10)]
    as_own = [[w.replace("/det", "/forecast") for w in c if w != "forecast.deterministic=true"] for c in det]
    assert as_own == own and all("network.width=8" in c for c in own)
    for command, begin in zip(own[1:], ("first", "second", "third"), strict=True):
        assert f"training.begin={tmp_path}/forecast-{begin}" in command


def test_a_failure_is_told_with_the_last_line_of_its_log_and_nothing_follows(commands, tmp_path):
    commands.fails = "output=" + str(tmp_path / "det-first")
    with pytest.raises(SystemExit, match=r"status 75\. No space left\. \(the last line of .*det\.log\)"):
        ice_from_scratch.main(words(tmp_path))
    assert not commands.having("calibrate") and not (tmp_path / "calibrated").exists()


def test_a_calibration_that_was_stopped_is_made_again_and_one_that_ended_is_not(commands, tmp_path):
    commands.fails = "output=" + str(tmp_path / "calibrated")
    with pytest.raises(SystemExit, match="status 75"):
        ice_from_scratch.main(words(tmp_path))
    commands.fails = None
    for _ in range(2):
        ice_from_scratch.main(words(tmp_path))
    assert len(commands.having("calibrate")) == 2 and (tmp_path / "calibrated").is_dir()


def test_a_folder_of_other_options_is_refused_since_its_noise_and_table_would_stay(commands, tmp_path):
    ice_from_scratch.main(words(tmp_path, "--steps", 40, 30, 20, 10))
    ice_from_scratch.main(words(tmp_path, "--steps", 40, 30, 20, 10, "--cores", 1))
    before = len(commands.asked)
    with pytest.raises(SystemExit, match=r"steps = \[40, 30, 20, 10\], expected \[40, 50, 20, 10\]: give"):
        ice_from_scratch.main(words(tmp_path, "--steps", 40, 50, 20, 10))
    assert len(commands.asked) == before


def test_a_folder_that_is_older_than_an_option_is_gone_on_with(commands, tmp_path):
    ice_from_scratch.main(words(tmp_path))
    options = tmp_path / "options.json"
    options.write_text(json.dumps({k: v for k, v in json.loads(options.read_text()).items() if k != "more"}))
    ice_from_scratch.main(words(tmp_path))
    assert len(commands.having("calibrate")) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--calibrate", 6, "--test", 6, 7), "share runs: name different ones"),
        (("--calibrate", 2, "--test", 6, 7), r"runs \[2, 6, 7\] are held out, expected successive ones"),
        (("--calibrate", 0, "--test", 1), "others before to learn from"),
    ],
)
def test_runs_that_cannot_be_kept_apart_are_refused(commands, tmp_path, capsys, options, sentence):
    with pytest.raises(SystemExit):
        ice_from_scratch.main(words(tmp_path, *options))
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert re.search(sentence, said) and not commands.asked
