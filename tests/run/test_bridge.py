"""The bridge in a model's process, on one rank: memory, verbs, verdicts, failures."""

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from case import NI, NJ, OCEAN, Case, mask_of, seasonal_states
from host import UNTOUCHED, Model, span, write_config

from halocline.mesh.communicator import Serial
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.rearrange import Rect
from halocline.run.bridge import Bridge
from halocline.run.bridge_errors import UsageError
from halocline.run.contract import CONTRACT, FALL_BACK, GO_ON, OK, REJECT, START, STOP, SUSPECT, ContractError

WHOLE = Rect(0, NJ, 0, NI)


@pytest.fixture(scope="module")
def base(trained: Case, tmp_path_factory) -> Path:
    return write_config(tmp_path_factory.mktemp("bridge"), trained)


@pytest.fixture
def bridge(base: Path) -> Iterator[Bridge]:
    made = Bridge.build(Serial(), base)
    yield made
    made.finalize()  # as a model does: its log can then go on in another process


def month(grid: Grid) -> dict[str, np.ndarray]:
    return {name: x[3] for name, x in seasonal_states(grid).items()}


def test_model_memory_is_seen_and_not_copied(trained: Case, bridge: Bridge):
    model = Model(trained.grid, WHOLE, dtype="f4", halo=3)
    model.declare(bridge)
    for name in OCEAN:
        (view,) = bridge.host.fields[name].views
        assert np.shares_memory(view, model.arrays[name]) and view.dtype == np.float32
        assert view.shape == model.inner(name).shape and view.strides[1:] == model.inner(name).strides[1:]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_generated_state_fills_the_cells_and_leaves_the_halo(dtype, trained: Case, bridge: Bridge):
    model = Model(trained.grid, WHOLE, dtype=dtype).start(bridge)
    level, action, step, reason = bridge.generate()
    assert (level, action, step) == (OK, GO_ON, 0), reason
    expected, _ = bridge.emulator.generate(10101)
    for name in OCEAN:
        cells = model.inner(name).copy()
        assert np.array_equal(cells, bridge.emulator.layout.collect(expected[name]).astype(dtype)), name
        assert (cells[~mask_of(name, trained.grid)] == 0).all()
        model.inner(name)[...] = UNTOUCHED
        assert (model.arrays[name] == np.asarray(UNTOUCHED, dtype)).all()


def test_fields_registered_again_are_filled_at_their_new_address(trained: Case, bridge: Bridge):
    model = Model(trained.grid, WHOLE).start(bridge)
    old = model.arrays["sea_level"]
    model.arrays["sea_level"] = np.full((1, NJ + 4, NI + 6), UNTOUCHED)[:, :, 1:-1].copy()
    model.register(bridge, "sea_level")
    bridge.generate()
    assert (old == UNTOUCHED).all() and (model.inner("sea_level") != UNTOUCHED).all()
    with pytest.raises(UsageError, match="may change its address only"):
        model.register(bridge, "sea_level", unit="cm")


def test_memory_that_does_not_hold_the_cells_is_refused(trained: Case, bridge: Bridge):
    model = Model(trained.grid, WHOLE)
    model.declare(bridge)
    data = span(model.inner("salinity"), model.arrays["salinity"])
    with pytest.raises(UsageError, match="does not lie in its"):
        model.register(bridge, "salinity", data=data[:-8])
    with pytest.raises(UsageError, match="positive strides"):
        model.register(bridge, "salinity", stride=(-1, NI, NI * NJ))
    with pytest.raises(UsageError, match="has no address"):
        model.register(bridge, "salinity", data=None)


def test_observing_judges_the_cells_whatever_lies_on_land_and_in_the_halo(trained: Case, bridge: Bridge):
    model = Model(trained.grid, WHOLE).start(bridge)
    model.put(month(trained.grid))  # NaN on land
    before = {name: x.tobytes() for name, x in model.arrays.items()}
    assert bridge.observe(5)[:3] == (OK, GO_ON, 5)
    assert {name: x.tobytes() for name, x in model.arrays.items()} == before


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("temperature", np.nan, "nan at level 2, j=9, i=12, the first of 2 wet cells that are not finite."),
        ("salinity", np.inf, "inf at level 2, j=9, i=12, the first of 2 wet cells that are not finite."),
        ("velocity_u", 11.5, "11.5 m/s at level 2, j=9, i=12, the first of 2 wet cells beyond -10 to 10."),
    ],
)
def test_impossible_value_in_the_sea_is_rejected_with_its_place(name, value, told, trained: Case, bridge: Bridge):
    model = Model(trained.grid, WHOLE).start(bridge)
    model.put(month(trained.grid))
    model.inner(name)[2, 9, 12] = model.inner(name)[3, 2, 5] = value  # in different tiles
    assert bridge.observe(1) == (REJECT, STOP, 1, f"{name} = {told}")


@pytest.mark.parametrize(("policy", "action"), [("continue", GO_ON), ("stop", STOP), ("fallback", FALL_BACK)])
def test_policy_makes_the_action(policy, action, trained: Case, tmp_path):
    bridge = Bridge.build(Serial(), write_config(tmp_path, trained, observe={"on_reject": policy}))
    model = Model(trained.grid, WHOLE).start(bridge)
    fields = month(trained.grid)
    model.put(fields)
    assert bridge.observe(1)[:2] == (OK, GO_ON)
    model.put({**fields, "salinity": fields["salinity"] + 3})
    assert bridge.observe(2)[:2] == (REJECT, action)


def test_doubtful_start_with_fallback_leaves_the_fields(trained: Case, tmp_path):
    keys = {"observe": {"on_suspect": "fallback", "on_reject": "fallback"}, "generate": {"velocity": "geostrophic"}}
    bridge = Bridge.build(Serial(), write_config(tmp_path, trained, **keys))
    model = Model(trained.grid, WHOLE).start(bridge)
    level, action, _, reason = bridge.generate()  # the flow of the training states is not geostrophic
    assert level in (SUSPECT, REJECT) and action == FALL_BACK, reason
    assert all((x == UNTOUCHED).all() for x in model.arrays.values())


def test_call_that_is_not_due_costs_next_to_nothing(trained: Case, tmp_path):
    bridge = Bridge.build(Serial(), write_config(tmp_path, trained, observe={"every": 10}))
    Model(trained.grid, WHOLE).start(bridge)
    assert bridge.observe(3) is None
    best = min(timed(bridge.observe, 1000) for _ in range(20))
    assert best < 1e-6  # s, the best of 20 rounds; 60 ns on a quiet core


def timed(call, times: int) -> float:
    first = time.perf_counter()
    for _ in range(times):
        call(3)
    return (time.perf_counter() - first) / times


def test_handing_over_copies_each_number_once(trained: Case, bridge: Bridge):
    """The room for tiles is there from `ready` on: what is allocated beside it would be a further copy."""
    model = Model(trained.grid, WHOLE).start(bridge)
    model.put(month(trained.grid))
    bridge.exchange.hand_over()
    tracemalloc.start()
    bridge.exchange.hand_over()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    views = {name: bridge.emulator.layout.collect(x) for name, x in bridge.exchange.tiles.items()}
    wet = {name: np.where(mask_of(name, trained.grid), x, 0) for name, x in views.items()}
    assert all(np.array_equal(x, np.where(mask_of(n, trained.grid), model.inner(n), 0)) for n, x in wet.items())
    assert peak < 10_000  # bytes of small objects; the fields have 33,000, and none of them appears a second time


def test_verdicts_stand_in_the_log_and_a_restarted_model_goes_on_in_it(trained: Case, tmp_path):
    for first, date in ((0, 10101), (24, 10102)):  # hourly steps
        bridge = Bridge.build(Serial(), write_config(tmp_path, trained))
        model = Model(trained.grid, WHOLE)
        model.declare(bridge)
        model.ready(bridge, step=first, date=date)
        model.put(month(trained.grid))
        for step in (first + 1, first + 2):
            bridge.observe(step)
        bridge.finalize()
    with netCDF4.Dataset(tmp_path / "halocline" / "trajectory.nc") as file:
        assert file["step"][:].tolist() == [1, 2, 25, 26]
        assert "temperature_volume_mean" in file.variables
    text = (tmp_path / "halocline" / "verdicts.log").read_text()
    assert len([line for line in text.splitlines() if " ok " in f"{line} "]) >= 4


def test_contract_error_has_differences_of_declaration_and_mask(trained: Case, bridge: Bridge, tmp_path):
    levels = trained.grid.tmask.sum(axis=0)
    levels[0, 1] = 0
    model = Model(box_grid(4, NJ, NI, levels=levels), WHOLE)
    model.declare(bridge, temperature={"unit": "K"})
    with pytest.raises(ContractError) as caught:
        model.ready(bridge, calendar="julian")
    lines = str(caught.value).splitlines()
    assert lines[0] == "Model and emulator do not fit each other, 3 differences:"
    assert [line.split()[0] for line in lines[1:]] == ["Field", "Calendar:", "Mask"]
    assert "Mask of rank 0: 4 cells differ" in lines[3] and "j=0, i=1: land in the model" in lines[3]
    assert caught.value.halocline_status == CONTRACT and caught.value.agreed


def test_exception_leaves_a_file_with_rank_verb_step_and_place(trained: Case, bridge: Bridge):
    model = Model(trained.grid, WHOLE).start(bridge)
    bridge.exchange.places["salinity"] = [np.zeros((4, 3, 3))] * 5
    with pytest.raises(ValueError) as caught:
        bridge.observe(12)
    text = Path(caught.value.traceback_file).read_text()
    assert text.startswith("Rank 0, observe, step 12, field salinity: ValueError: could not broadcast")
    assert "Traceback (most recent call last)" in text and "hand_over" in text and model


def test_failed_start_is_told_as_such(trained: Case, tmp_path):
    for keys in ({"run": str(tmp_path)}, {"mode": "mpmd"}, {"generate": {"parameters": {"wind": 1.0}}}):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            Bridge.build(Serial(), write_config(tmp_path, trained, **keys))
        assert caught.value.halocline_status == START


def test_start_names_environment_and_device(base: Path, capsys):
    Bridge.build(Serial(), base)
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("halocline 0", "in_process, 1 ranks, 5 tiles on 1 of them", "device cpu", "training step 100"):
        assert part in line


def test_variables_that_the_model_lacks_are_listed(trained: Case, bridge: Bridge, capsys):
    model = Model(trained.grid, WHOLE, names=("temperature", "salinity")).start(bridge)
    assert "neither filled nor judged: velocity_u, velocity_v, sea_level" in capsys.readouterr().out
    bridge.generate()
    assert (model.inner("temperature") != UNTOUCHED).all()
