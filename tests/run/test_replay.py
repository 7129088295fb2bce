"""Recorded traffic played again: to the emulator without the model, to the model without the emulator."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from case import PROGRAMS, Case, Result, copy_with_header, here, several, told
from coupled import coupled
from host import write_config

from halocline.mesh.communicator import Serial
from halocline.run.run_folder import load_content

DTYPES = {1: "f4", 2: "f8"}  # of the recorded models, by their ranks
Launch = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def records(trained: Case, mpirun: Launch, tmp_path_factory) -> dict[int, Path]:
    """For one and two ranks, the folder of a coupled run: configuration, record, and what the model was told."""
    folders = {}
    for ranks, dtype in DTYPES.items():
        folder = tmp_path_factory.mktemp(f"recorded{ranks}")
        config = write_config(folder, trained, generate={"seed": 3, "month": 6}, record=str(folder / "record"))
        (words,) = models(mpirun, ranks, [[config, dtype]], folder)
        (folder / "told.json").write_text(json.dumps(words))
        folders[ranks] = folder
    return folders


def models(mpirun: Launch, ranks: int, arguments: list[list], folder: Path) -> list:
    """Runs the coupled model with each of these arguments; all its ranks are told the same."""
    if ranks == 1:
        return [coupled(Serial(), *words) for words in arguments]
    text = json.dumps([[str(words[0]), *words[1:]] for words in arguments])
    status, output = mpirun(ranks, str(PROGRAMS / "models.py"), text, cwd=folder, limit=90)
    assert status == 0, output
    line = next(line for line in output.splitlines() if line.startswith("models: "))
    results = json.loads(line.removeprefix("models: "))
    assert all(one == everyone[0] for everyone in results for one in everyone)
    return [everyone[0] for everyone in results]


def copied(records: dict[int, Path], ranks: int, folder: Path) -> Path:
    return Path(shutil.copytree(records[ranks] / "record", folder / "record"))


def change(path: Path, **arrays: Callable[[np.ndarray], np.ndarray]) -> None:
    """Rewrites an event with some of its arrays changed."""
    with np.load(path) as file:
        table = {name: file[name] for name in file.files}
    for name, function in arrays.items():
        table[name] = function(table[name])
    with path.open("wb") as file:
        np.savez(file, **table)


def add(place: tuple[int, ...], what: float) -> Callable[[np.ndarray], np.ndarray]:
    """Adds to one number."""

    def function(x: np.ndarray) -> np.ndarray:
        x[place] += what
        return x

    return function


def counts(result: Result) -> dict[str, list[str]]:
    """The table that was printed: verb to events, equal, different."""
    rows = [line.split() for line in result.out.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) == 4 and row[1].isdigit()}


ALL_EQUAL = {"ready": ["1", "1", "0"], "generate": ["1", "1", "0"], "observe": ["3", "3", "0"]}


@pytest.fixture(scope="module")
def few_tiles(trained: Case, records: dict[int, Path], tmp_path_factory) -> list:
    """A command whose run folder has two tiles: a third rank is idle, and the answers are others."""
    folder = tmp_path_factory.mktemp("few")
    config = yaml.safe_load(load_content(trained.run)["config"])
    config["lattice"]["tile"] = [16, 16]
    copy_with_header(trained.run, folder, config=yaml.safe_dump(config))
    (folder / "bridge.yaml").write_text(yaml.safe_dump({"run": ".", "generate": {"seed": 3, "month": 6}}))
    return ["replay", folder / "bridge.yaml", records[2] / "record"]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_emulator_answers_as_recorded_on_any_ranks_and_says_where_not(
    ranks: int, records: dict[int, Path], few_tiles: list, mpirun: Launch, tmp_path
):
    broken = copied(records, 2, tmp_path)
    shutil.rmtree(broken / "rank_0001")
    commands = [["replay", folder / "bridge.yaml", folder / "record"] for folder in records.values()]
    commands += [few_tiles, ["replay", records[2] / "bridge.yaml", broken]]
    if ranks == 1:
        results = [[here(*command)] for command in commands]
    else:
        status, output = mpirun(ranks, *several(commands), cwd=tmp_path, limit=90)
        assert status == 0, output
        results = told(output)
    assert [[end.status for end in ends] for ends in results] == [[status] * ranks for status in (0, 0, 1, 1)], results
    for ends in results[:2]:
        assert (counts(ends[0]), ends[0].err) == (ALL_EQUAL, "")
        assert "difference" not in ends[0].out
    assert "4 of 5 events differ, first 000001_generate.npz: " in results[2][0].sentence
    assert "lacks cells of rectangle (6, 8, 0, 8)" in results[3][0].sentence
    assert [end.err for ends in results for end in ends[1:]] == [""] * 4 * (ranks - 1)


def test_replay_leaves_the_log_of_the_recorded_run_as_it_was(records: dict[int, Path]):
    folder = records[2]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert here("replay", folder / "bridge.yaml", folder / "record").status == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_generated_number_that_is_another_is_named_with_its_place(records: dict[int, Path], tmp_path):
    record = copied(records, 2, tmp_path)
    path = record / "rank_0001" / "000001_generate.npz"  # its first row is the sixth of the grid
    change(path, **{"0/temperature": add((2, 3, 4), 1e-14), "0/salinity": add((0, 0, 1), 1.0)})
    result = here("replay", records[2] / "bridge.yaml", record)
    assert result.status == 1
    assert counts(result) == {**ALL_EQUAL, "generate": ["1", "0", "1"]}
    first = "000001_generate.npz: temperature at level 2, j=9, i=4: recorded "
    assert f"1 of 5 events differ, first {first}" in result.sentence
    assert f"first difference: {first}" in result.out


@pytest.mark.parametrize(
    ("array", "function", "words"),
    [
        ("diagnostics/temperature_mean", add((2,), 1e-12), "diagnostic temperature_mean[2]: recorded "),
        ("diagnostics/kinetic_energy", lambda x: 2 * x, "diagnostic kinetic_energy: recorded "),
        ("event", lambda x: np.array(str(x).replace('"action": 0', '"action": 2')), "action: recorded 2, got 0"),
        ("event", lambda x: np.array(str(x).replace('"value": ', '"value": 9')), "check nonfinite_cells: recorded "),
    ],
)
def test_verdict_that_is_another_is_named(array, function, words, records: dict[int, Path], tmp_path):
    record = copied(records, 1, tmp_path)
    change(record / "rank_0000" / "000003_observe.npz", **{array: function})
    result = here("replay", records[1] / "bridge.yaml", record)
    assert result.status == 1
    assert f"1 of 5 events differ, first 000003_observe.npz: {words}" in result.sentence


def test_state_that_had_broken_the_emulator_is_played_and_counted(records, tmp_path):
    record = copied(records, 1, tmp_path)
    path = record / "rank_0000" / "000004_observe.npz"
    change(path, event=lambda x: np.array(json.dumps({**json.loads(str(x)), "judgement": None})))
    result = here("replay", records[1] / "bridge.yaml", record)
    assert result.status == 0, result.err
    assert "1 event without recorded verdict" in result.out


def test_record_cut_short_is_played_to_its_last_complete_event(records: dict[int, Path], tmp_path):
    record = copied(records, 2, tmp_path)
    (record / "rank_0001" / "000004_observe.npz").unlink()
    result = here("replay", records[2] / "bridge.yaml", record)
    assert result.status == 0, result.err
    assert counts(result)["observe"] == ["2", "2", "0"]
    assert "the last event is incomplete and was left out: recording was cut short" in result.out


def test_folder_that_is_no_record_is_refused(records: dict[int, Path], tmp_path):
    assert "is no record of traffic" in here("replay", records[1] / "bridge.yaml", tmp_path).sentence


def replaying(records: dict[int, Path], source: int, folder: Path) -> Path:
    """Configuration with which the model is answered from a record."""
    config = yaml.safe_load((records[source] / "bridge.yaml").read_text())
    del config["record"]
    config |= {"mode": "replay", "replay": str(records[source] / "record"), "output": str(folder / "output")}
    path = folder / f"replay{source}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_model_is_answered_from_the_record_on_any_ranks_and_told_where_it_differs(
    ranks: int, records: dict[int, Path], mpirun: Launch, tmp_path
):
    first, second = (replaying(records, source, tmp_path) for source in (1, 2))
    runs = [[first, "f4"], [second, "f8"], [second, "f8", 48], [first, "f8"]]
    results = models(mpirun, ranks, runs, tmp_path)
    assert results[:2] == [json.loads((folder / "told.json").read_text()) for folder in records.values()]
    assert not (tmp_path / "output" / "verdicts.log").exists()
    place = "000003_observe.npz, step 48: salinity at level 1, j=5, i=7: recorded "
    assert results[2].startswith(f"The model differs from record {records[2] / 'record'}, {place}")
    assert results[2].endswith("got nan (0x7ff8000000000000).")
    assert "Record: it has temperature at T in degC, 4 levels of 4 bytes, the model has not." in results[3]


def test_model_that_asks_for_more_than_was_recorded_is_told_so(records: dict[int, Path], tmp_path):
    record, config = copied(records, 1, tmp_path), replaying(records, 1, tmp_path)
    config.write_text(config.read_text().replace(str(records[1] / "record"), str(record)))
    (record / "rank_0000" / "000004_observe.npz").unlink()
    result = coupled(Serial(), config, "f4")
    assert "has ended, but the model calls observe of step 72: record a longer run" in result
    (record / "rank_0000" / "000003_observe.npz").unlink()
    (record / "rank_0000" / "000002_observe.npz").rename(record / "rank_0000" / "000002_generate.npz")
    assert "goes on with generate of step 24, but the model calls observe of step 24" in coupled(Serial(), config, "f4")
