"""Cells and verdicts between a model and emulator ranks beside it. Model and stand-in compare every cell themselves."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Job

from halocline.mesh.rearrange import Rect
from halocline.run.traffic import Record

STEPS = 5
LAND = {"land": [7, 10]}  # the lower left quarter of 13 x 19, and a little more
CORNER = {"land_j": 7, "land_i": 10}


def told(output: str, verb: str) -> list[tuple[int, int, int, int]]:
    """(step of the call, level, action, step of the verdict) of each line."""
    lines = re.findall(rf"{verb} (-?\d+): level (\d) action (\d) step (-?\d+)", output)
    return [tuple(int(number) for number in line) for line in lines]


@pytest.mark.parametrize(
    ("ranks", "emulators", "lag", "case", "keys"),
    [
        (4, 1, 0, LAND, {"px": 4, **CORNER}),
        (4, 2, 0, LAND, {"px": 2, "py": 2, "bytes": 4, "gap": 2, "speak": 3, **CORNER}),
        (4, 3, 1, {"longest": 256}, {"py": 4, "uneven": 1, "halo": 0}),
        (5, 2, 3, {"tile": [13, 7]}, {"px": 2, "py": 2, "uneven": 2, "bytes": 8, "move": 1, "halo": 2, "speak": 4}),
        (1, 3, 0, {"ni": 8, "nj": 31, "nk": 1, "tile": [4, 4]}, {"ni": 8, "nj": 31, "nk": 1}),
        (1, 1, 1, {"ni": 16, "nj": 15, "tile": [5, 4]}, {"ni": 16, "nj": 15, "halo": 2}),
    ],
    ids=[
        "4x1 around a dropped tile",
        "2x2 without a land rank",
        "1x4 uneven, chunks",
        "2x2 uneven, moving fields",
        "one rank, many tiles",
        "whole tiles, in place",
    ],
)
def test_every_cell_arrives_both_ways_and_verdicts_in_order(
    job: Job, ranks: int, emulators: int, lag: int, case: dict[str, Any], keys: dict[str, int]
) -> None:
    job.write(case, observe={"lag": lag})
    done = job.run(job.model(ranks, generate=1, steps=STEPS, **keys), job.emulator(emulators))
    assert done.status == 0, done.output
    assert done.output.count("done") == ranks
    calls = range(1, STEPS + 1)
    late = [(n, 0, 0, n - lag) if n > lag else (n, 3, 0, -1) for n in calls]
    assert told(done.output, "observe") == late
    assert told(done.output, "generate") == [(0, 0, 0, 0)]
    assert told(done.output, "finalize") == [(-1, 0, 0, STEPS - lag + 1) if lag else (-1, 3, 0, -1)]


def test_verdicts_come_in_order_and_the_worst_of_the_rest_at_the_end(job: Job) -> None:
    verdicts = {"0": (2, 2), "3": (2, 1), "4": (1, 0), "5": (2, 0), "6": (0, 0)}
    job.write({"verdicts": verdicts}, observe={"lag": 3})
    done = job.run(job.model(2, px=2, generate=1, steps=9), job.emulator(1))
    assert done.status == 0, done.output
    assert told(done.output, "generate") == [(0, 2, 2, 0)]  # falls back: the model finds its fields untouched
    early = [(n, 3, 0, -1) for n in (1, 2, 3)]
    assert told(done.output, "observe") == [*early, (4, 0, 0, 1), (5, 0, 0, 2), (6, 2, 1, 3)]
    assert told(done.output, "finalize") == [(-1, 2, 0, 5)]


def test_only_steps_that_are_due_are_observed(job: Job) -> None:
    job.write(observe={"every": 3})
    done = job.run(job.model(1, steps=7), job.emulator(1))
    assert done.status == 0, done.output
    assert [call for call in told(done.output, "observe") if call[1] == 0] == [(3, 0, 0, 3), (6, 0, 0, 6)]


def test_observing_with_a_lag_does_not_wait_for_the_emulator(job: Job) -> None:
    """The emulator judges step 1 only once the model has gone on after its call for step 2."""
    done_with_two = job.folder / "observed_0_2"
    job.write({"do": {"at": 1, "what": "wait", "file": str(done_with_two)}}, observe={"lag": 2})
    done = job.run(job.model(1, steps=4, notes=job.folder), job.emulator(1), limit=40)
    assert done.status == 0, done.output
    assert told(done.output, "observe")[-1] == (4, 0, 0, 2)


def test_traffic_is_recorded_as_it_passed(job: Job) -> None:
    job.write(LAND, record="record", output=str(job.folder / "out"))
    done = job.run(job.model(3, px=2, py=2, generate=1, steps=2, **CORNER), job.emulator(2))
    assert done.status == 0, done.output
    record = Record.open(job.folder / "record")
    assert [event.verb for event in record.events] == ["ready", "generate", "observe", "observe"]
    piece, _ = record.piece(record.events[-1], Rect(6, 13, 0, 9))
    k, j, i = np.ogrid[:3, 6:13, :9]
    assert np.array_equal(piece["temperature"], ((2 * 3 + k) * 13 + j) * 19 + i + 1.0)
    assert piece["sea_level"].dtype == np.float32


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_ten_thousand_exchanges_cost_no_memory_on_either_side(job: Job) -> None:
    size = {"ni": 4, "nj": 4, "nk": 1}
    job.write({**size, "tile": [4, 4]}, observe={"lag": 1})
    done = job.run(job.model(1, steps=10000, speak=-1, **size), job.emulator(1), limit=120)
    assert done.status == 0, done.output
    grown = {
        side: int(kilobytes) for side, kilobytes in re.findall(r"(model|emulator) grew by (-?\d+) kB", done.output)
    }
    assert grown.keys() == {"model", "emulator"}
    assert max(grown.values()) < 256  # 9000 exchanges: a frame that is kept would be 5 MB


def test_model_that_ends_before_ready_ends_the_emulator(job: Job) -> None:
    job.write()
    done = job.run(job.model(2, px=2, early=1), job.emulator(2))
    assert done.status == 0, done.output
    assert Path(job.folder / "out").exists() is False
