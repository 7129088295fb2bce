"""The study of ice forecasts: what it keeps, and does not take for another forecast."""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "jobs/studies"))

import ice

SIZE = argparse.Namespace(lead=12.0, steps=10)


def entry(text: str = "mine=RUN,steps=8", digest: str = "0a1b", members: int = 16) -> ice.Entry:
    return ice.Entry("mine", text, None, digest, members)  # type: ignore[arg-type]


def test_a_kept_forecast_is_taken_for_what_was_asked(tmp_path):
    path, asked = tmp_path / "mine_6_0.npz", ice.asked_for(SIZE, entry())
    assert not ice.is_made(path, asked)
    np.savez(path, asked=asked, damage=np.zeros(3))
    assert ice.is_made(path, asked)


@pytest.mark.parametrize(
    ("size", "other"),
    [
        (argparse.Namespace(lead=6.0, steps=10), entry()),
        (argparse.Namespace(lead=12.0, steps=5), entry()),
        (SIZE, entry(members=32)),
        (SIZE, entry("mine=RUN,steps=4")),
        (SIZE, entry("mine=OTHER,steps=8")),
        (SIZE, entry(digest="0a1c")),  # RUN was trained further
    ],
)
def test_a_kept_forecast_is_not_taken_for_another(tmp_path, size, other):
    path = tmp_path / "mine_6_0.npz"
    np.savez(path, asked=ice.asked_for(SIZE, entry()), damage=np.zeros(3))
    kept = r"mine_6_0\.npz holds mine=RUN,steps=8, 16 members, 10 steps of 12 h, generator 0a1b, expected mine"
    with pytest.raises(ValueError, match=kept):
        ice.is_made(path, ice.asked_for(size, other))


def test_a_run_that_was_trained_further_is_another_generator(tmp_path, monkeypatch):
    of_forecasts = SimpleNamespace(config=SimpleNamespace(forecast=SimpleNamespace(deterministic=False)))
    monkeypatch.setattr(ice, "load_generator", lambda *_: of_forecasts)
    digests = []
    for weights in (b"1", b"1", b"2"):
        (tmp_path / ice.WEIGHTS).write_bytes(weights)
        digests.append(ice.Entry.parse(f"mine={tmp_path},steps=8", 16).digest)
    assert digests[0] == digests[1] != digests[2]
