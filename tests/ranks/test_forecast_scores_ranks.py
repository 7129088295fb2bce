"""Scores of forecasts have the same bits on any number of ranks, each of which holds one start at a time."""

import json
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from halocline.mesh.grid import Grid, box_grid
from halocline.run.forecast_score_baselines import Baselines, DampedAnomaly, FreeDrift, add_baselines
from halocline.run.forecast_score_cases import Case
from halocline.run.forecast_scores import score_forecasts, score_on_ranks, to_plain

HOURS = tuple(6.0 * n for n in range(6))
NJ, NI = 11, 13
ICE = ("concentration", "thickness", "ice_u", "ice_v")
TIMES = (4, 6, 3, 6, 5)  # of each start: the longest is not the first


@pytest.fixture(scope="module")
def grid() -> Grid:
    wet = np.zeros((NJ, NI), bool)
    wet[1:-1, 1:-1] = True
    wet[7:9, 8:10] = False
    return box_grid(1, NJ, NI, wet=wet, e1=2.0e4, e2=2.0e4)


def start(number: int, members: int = 3) -> Case:
    """Random fields, and a forecast that stops before the truth does where the start is an even one."""
    rng, times = np.random.default_rng(number), TIMES[number]
    truth = {name: rng.uniform(0, 1, (times, NJ, NI)).astype(np.float32) for name in ICE}
    reached = times - (number % 2 == 0)
    forecast = {name: rng.uniform(0, 1, (members, reached, NJ, NI)).astype(np.float32) for name in ICE}
    if number == 3:
        forecast["thickness"][0, 2, 4, 4] = np.nan
    wind = {name: rng.normal(0, 5, (times, NJ, NI)) for name in ("wind_u", "wind_v")}
    return Case(HOURS[:times], truth, {"ensemble": forecast}, wind)


def beside_baselines(case: Case, grid: Grid) -> Case:
    decay = {name: {hour: 0.9 ** (hour / 6) for hour in HOURS[1:]} for name in ICE}
    damped = DampedAnomaly({name: np.full((NJ, NI), 0.5) for name in ICE}, decay)
    return add_baselines(case, Baselines(FreeDrift(0.02, -25.0), damped), grid)


@pytest.mark.parametrize("count", [5, 2])  # with 2, some of 3 or 4 ranks have none
def test_scores_do_not_depend_on_the_number_of_ranks(comm, grid, count):
    torch.set_num_threads(1)
    mine, held = [], []

    def read(number: int) -> Case:
        assert all(one() is None for one in held), "an earlier start is still held"
        case = beside_baselines(start(number), grid)
        mine.append(number)
        held.append(weakref.ref(case))
        return case

    found = score_on_ranks(count, read, grid, comm)
    assert [number for numbers in comm.allgather(mine) for number in numbers] == list(range(count))
    assert len(mine) <= -(-count // comm.size)
    assert (found is None) != comm.is_root
    if found is not None:
        expected = score_forecasts([beside_baselines(start(number), grid) for number in range(count)], grid)
        assert json.dumps(to_plain(found)) == json.dumps(to_plain(expected))
        assert found.leads == HOURS[1:] and found.starts == count
        assert set(found.members) == set(found.drift) - {"truth"}
        assert found.reached["persistence"] == tuple(sum(TIMES[n] > k for n in range(count)) for k in range(1, 6))


def fewer_members(number: int) -> Case:
    return start(number, members=2 if number == 4 else 3)


def other_times(number: int) -> Case:
    case = start(number)
    return replace(case, hours=tuple(2 * hour for hour in case.hours)) if number == 4 else case


def wrong_shape(number: int) -> Case:
    case = start(number)
    return replace(case, truth={name: x[:, :-number] for name, x in case.truth.items()}) if number > 2 else case


def absent(number: int) -> Case:
    if number == 4:
        raise FileNotFoundError("No forecast at f.zarr: give the folder that `halocline forecast` wrote.")
    return start(number)


@pytest.mark.parametrize(
    ("read", "kind", "sentence"),
    [
        (fewer_members, ValueError, "'ensemble' has 2 members at one start and 3 at another, expected the same"),
        (other_times, ValueError, "Times of a case are 0, 12, 24, 36, 48 h, expected 0, 6, 12, 18, 24, 30 h"),
        # the fourth start is as wrong as the fifth, and is heard
        (wrong_shape, ValueError, r"Truth of concentration has shape \(6, 8, 13\), expected \(time, nj, ni\)"),
        (absent, FileNotFoundError, "No forecast at f.zarr"),
        (lambda number: start(number), ValueError, "There are no forecasts to score"),
    ],
)
def test_start_that_cannot_be_scored_is_the_same_sentence_on_all_ranks(
    comm, grid, read: Callable[[int], Case], kind, sentence
):
    count = 0 if "no forecasts" in sentence else 5
    with pytest.raises(kind, match=sentence) as caught:
        score_on_ranks(count, read, grid, comm)
    with pytest.raises(kind) as alone:
        score_forecasts(map(read, range(count)), grid)
    assert set(comm.allgather(str(caught.value))) == {str(alone.value)}
    assert comm.size == 1 or caught.value.agreed  # the command then ends all ranks, and one of them speaks
