"""`halocline serve` as a command: whatever ends it before its time ends the model, too, with a code that is not 0."""

import re
from dataclasses import fields

import pytest
import yaml
from case import PROGRAMS, alone, here

from halocline.run.bridge_config import BridgeConfig, GenerateConfig, ObserveConfig


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("contract", 84, r"halocline: error \(rank 1\): Grid along i: the model has 9 cells, the generator 8."),
        ("mistake", 83, r"KeyError: 'a name nobody knows'"),
        ("exit", 83, r"SystemExit: 0"),
        ("interrupt", 83, r"halocline: error \(rank 1\): KeyboardInterrupt"),
        ("farewell", 0, r""),
    ],
)
def test_end_before_its_time_ends_the_ranks_that_wait(kind, code, words, mpirun, tmp_path):
    status, output = mpirun(2, str(PROGRAMS / "beside.py"), kind, cwd=tmp_path, limit=30)
    assert status == code, output
    assert re.search(words, output), output


def test_failure_before_mpi_is_up_is_one_sentence_and_not_zero():
    result = alone(PROGRAMS / "beside.py", "early")
    assert result.status == 83
    assert result.sentence == "halocline: error: Configuration bridge.yaml does not exist."


def test_keys_stand_in_the_file_that_the_model_reads_and_nowhere_else(tmp_path):
    assert here("serve", tmp_path, "observe.lag=1").status == 2


def test_help_tells_the_default_of_each_key():
    text = here("serve", "--help").out
    listed = dict(re.findall(r"^ +([a-z_.]+)=(\S+)", text, re.MULTILINE))
    assert len(listed) > 10
    for name, value in listed.items():
        section, _, key = name.rpartition(".")
        owner = {"": BridgeConfig, "generate": GenerateConfig, "observe": ObserveConfig}[section]
        field = next(field for field in fields(owner) if field.name == key)
        if not value.isupper():  # RUN, FOLDER: whatever the user has
            assert yaml.safe_load(value) == field.default, name


@pytest.mark.parametrize("job", ["serve", "watch", "replay"])
def test_help_fits_a_terminal_of_80_columns(job, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, alone("-m", "halocline", job, "--help").out.splitlines())) <= 80
