"""Pairs of states a lead apart: which there are, how large their changes are, and what a forecast is trained on."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from case import here
from ice_case import HOURS, RUNS, TIMES, sea, trajectories, write_case

from halocline.flow.first_guess import relative_target
from halocline.flow.times import stratified_times
from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.run.config import read_config
from halocline.run.forecast_step import Stepper
from halocline.run.increments import Increments, learn_increments, successors
from halocline.run.pairs import PairLoader
from halocline.run.train import prepare

NAMES = ("sic", "sit", "sid", "snt", "siu", "siv")
FORCING = ("uas", "vas", "tas")
MASK = sea()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tuple[Path, TrainingStore]:
    config = write_case(tmp_path_factory.mktemp("pairs"))
    assert here("data", config).status == 0
    return config, TrainingStore.open(config.parent / "run" / "data.zarr")


def test_successors_are_the_records_a_lead_later_in_the_same_run_that_may_be_learned() -> None:
    time = np.array([0, 6, 12, 24, 0, 6, 12, 18]) / 24
    records = SimpleNamespace(
        time=time, trajectory=np.array([0] * 4 + [1] * 4), held_out=np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    )
    assert successors(records, 6).tolist() == [1, 2, -1, -1, -1, -1, -1, -1]
    assert successors(records, 12).tolist() == [2, -1, 3, -1, -1, -1, -1, -1]
    assert successors(records, 18).tolist() == [-1, 3, -1, -1, 7, -1, -1, -1]
    assert successors(records, 6, held_out=True).tolist() == [-1, -1, -1, -1, -1, 6, -1, -1]


def test_store_holds_state_and_forcing_and_leaves_out_what_is_held_out(store) -> None:
    _, made = store
    assert made.channels.count == len(NAMES) + len(FORCING)
    assert made.records.held_out.tolist() == [False] * 2 * TIMES + [True] * TIMES
    assert made.records.trajectory.tolist() == np.repeat(np.arange(RUNS), TIMES).tolist()


def test_scale_of_increments_is_their_root_mean_square_over_pairs_that_are_learned(store) -> None:
    _, made = store
    found = made.increments()
    for row, lead in zip(found["scale"], (1, 2), strict=True):
        for channel, name in enumerate(NAMES + FORCING):
            x = trajectories()[name][:2].astype(np.float64)
            change = (x[:, lead:] - x[:, :-lead])[..., MASK]
            assert row[channel] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-12)


def stretched(name: str, x: np.ndarray) -> np.ndarray:
    """As `state.stretching` has it."""
    distance = {"sid": 0.02}.get(name)
    return x if distance is None else -np.log(1 + distance - x)


def test_scale_and_level_of_what_can_be_stretched_are_measured_stretched(store) -> None:
    _, made = store
    found = made.increments()
    for channel, name in enumerate(NAMES + FORCING):
        x = stretched(name, trajectories()[name][:2].astype(np.float64))
        for row, lead in zip(found["stretched_scale"], (1, 2), strict=True):
            change = (x[:, lead:] - x[:, :-lead])[..., MASK]
            assert row[channel] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-12)
        assert found["stretched_level"][0, channel] == pytest.approx(x[..., MASK].mean(), abs=1e-12)
        assert found["stretched_level"][1, channel] == pytest.approx(x[..., MASK].std(), rel=1e-9)
    assert found["stretched_scale"][0, 2] > 2 * found["scale"][0, 2]


def test_share_of_values_on_bounds_is_counted_over_states_that_are_learned(store) -> None:
    _, made = store
    found = made.increments()["on_bounds"]
    for channel, (name, low, high) in enumerate([("sic", 0, 1), ("sit", 0, None), ("sid", 0, 1), ("snt", 0, None)]):
        x = trajectories()[name][:2][..., MASK]
        assert found[0, channel] == pytest.approx((x == low).mean(), abs=1e-12)
        assert found[1, channel] == pytest.approx(0.0 if high is None else (x == high).mean(), abs=1e-12)
    assert found[1, 0] > 0.01 and not found[:, 4:].any()


def test_gap_is_the_distance_of_the_nearest_value_that_is_not_on_a_bound(store) -> None:
    _, made = store
    found = made.increments()["gap"]
    for channel, (name, low, high) in enumerate([("sic", 0, 1), ("sit", 0, None), ("sid", 0, 1), ("snt", 0, None)]):
        x = trajectories()[name][:2][..., MASK].astype(np.float64)
        for row, bound in enumerate((low, high)):
            distance = np.abs(x - bound) if bound is not None else np.zeros(1)
            expected = distance[distance > 1e-5].min() if (distance > 1e-5).any() else 0.0
            assert found[row, channel] == pytest.approx(expected, rel=1e-12)
    assert found[1, 0] > 0


def test_a_step_ends_on_a_bound_within_half_of_the_gap_beside_it(store) -> None:
    path, made = store
    generator = prepare(read_config(path, ["forecast.deterministic=true", "forecast.loss=squared"]), made)
    for weights in generator.denoiser.network.parameters():
        weights.data.zero_()
    gap = torch.zeros_like(generator.increments.gap)
    gap[1, 0] = 1e-3
    generator = replace(generator, increments=replace(generator.increments, gap=gap))
    stepper = Stepper.build(generator, Layout.build(generator.lattice, Serial()))
    assert bool(generator.increments.attained[1, 0])
    x = torch.where(stepper.mask, torch.full((1, *stepper.mask.shape), 0.5), 0)
    x[:, :, 0] = torch.where(stepper.mask[:, 0], torch.tensor(1 - 4e-4), 0)
    x[:, 0, 0] = torch.where(stepper.mask[0, 0], torch.tensor(1 - 6e-4), 0)
    new = stepper(x, [np.zeros((3, *MASK.shape), np.float32)] * 2, 12.0, 0, 0, [0])
    here = stepper.mask[:, 0]
    assert bool(here[0].any()) and torch.equal(new[0, 0, 0][here[0]], x[0, 0, 0][here[0]])
    assert bool(here[1:].any()) and bool((new[0, 1:, 0][here[1:]] == 1).all())
    assert torch.equal(new[:, :, 1:4], x[:, :, 1:4])


def test_a_table_of_a_store_that_is_older_than_the_gap_is_measured_anew(store, tmp_path) -> None:
    _, made = store
    copy = tmp_path / "data.zarr"
    shutil.copytree(made.path, copy)
    kept = made.increments()
    np.savez(copy / "increments.npz", **{name: x for name, x in kept.items() if name != "gap"})
    assert TrainingStore.open(copy).increments() is None  # and so `halocline data` measures it
    learn_increments(copy, kept["leads"], Serial())
    assert np.array_equal(TrainingStore.open(copy).increments()["gap"], kept["gap"])


def test_weights_that_are_older_than_the_gap_have_none() -> None:
    leads, scale = torch.tensor([6.0]).double(), torch.ones(1, 2).double()
    made = Increments(leads, scale, torch.zeros(2, 2), scale, scale, torch.ones(2, 2)).to_dict()
    del made["gap"]
    assert not Increments.from_dict(made).gap.any()
    del made["scale"]
    with pytest.raises(ValueError, match=r"Weights lack increments\.scale"):
        Increments.from_dict(made)


def test_bounds_that_values_hardly_reach_are_no_censoring() -> None:
    leads, scale = torch.tensor([6.0]).double(), torch.ones(1, 2).double()
    increments = Increments(leads, scale, torch.tensor([[0.0, 0.2], [0.004, 0.006]]), scale, scale, scale)
    assert increments.attained.tolist() == [[False, True], [False, True]]


def test_scale_between_leads_is_a_power_law_and_beyond_them_refused() -> None:
    leads = torch.tensor([6.0, 24.0]).double()
    scale = torch.tensor([[0.1, 1.0], [0.4, 2.0]], dtype=torch.float64)
    increments = Increments(leads, scale, torch.zeros(2, 2), 3 * scale, torch.ones(2, 2), torch.zeros(2, 2))
    assert increments.at(12.0).tolist() == pytest.approx([0.2, 2**0.5], rel=1e-12)
    assert increments.at(24.0).tolist() == [0.4, 2.0]
    with pytest.raises(ValueError, match="lead is 3 h, expected one between 6 and 24 h"):
        increments.at(3.0)


def test_pairs_are_the_changes_of_the_state_and_the_forcing_at_both_ends(store) -> None:
    path, made = store
    generator = prepare(read_config(path), made)
    loader = PairLoader(made, generator, 0, 1)
    try:
        batches = [loader.draw(step)[0] for step in range(6)]
        samples = [loader.sample(n) for n in range(24)]
    finally:
        loader.close()
    fields = np.stack([trajectories()[name] for name in NAMES + FORCING], axis=2).reshape(-1, 9, *MASK.shape)
    mean, scale = generator.standardisation.reference.numpy(), generator.standardisation.scale.numpy()
    seen = set()
    for n, sample in enumerate(samples):
        assert sample.record < 2 * TIMES
        batch, k = batches[n // 4], n % 4
        J, I = generator.lattice.tiles[sample.window]
        lead = sample.lead + 1  # of 6 and 12 h
        seen.add(lead)
        assert sample.record % TIMES + lead < TIMES
        before, after = fields[sample.record].astype(float), fields[sample.record + lead].astype(float)
        here_ = (slice(None), slice(8 * J, min(8 * J + 8, MASK.shape[0])), slice(8 * I, min(8 * I + 8, MASK.shape[1])))
        size = before[here_].shape[1:]
        owned = (k, slice(None), slice(2, 2 + size[0]), slice(2, 2 + size[1]))
        wet = MASK[here_[1:]]
        change = (after - before)[:6] / generator.increments.scale[sample.lead, :6, None, None].numpy()
        assert np.allclose(batch.x0[owned][:, wet], change[here_][:, wet], atol=2e-5)
        standard = [((x - mean) / scale[:, None, None])[here_] for x in (before, after)]
        told = batch.conditions["static"][owned][-12:]
        expected = np.concatenate([standard[0], standard[1][6:]])
        assert np.allclose(told[:, wet], expected[:, wet], atol=1e-5)
        assert float(batch.conditions["conditions"][k, 0]) == pytest.approx(np.log(lead * HOURS / 12), abs=1e-6)
        side = batch.bounds[owned][:, wet].numpy()
        value = after[here_][:, wet]
        reached = generator.increments.attained.numpy()
        for channel, (low, high) in enumerate([(0, 1), (0, np.inf), (0, 1), (0, np.inf)]):
            assert ((side[channel] == -1) == ((value[channel] == low) & reached[0, channel])).all()
            assert ((side[channel] == 1) == ((value[channel] == high) & reached[1, channel])).all()
        assert (side[4:] == 0).all()
    assert seen == {1, 2}
    assert (batches[0].bounds != 0).any()


@pytest.mark.parametrize("guided", [False, True])
def test_forecast_is_told_what_its_training_was_told(store, guided: bool) -> None:
    path, made = store
    generator = prepare(read_config(path), made)
    guess = prepare(read_config(path, ["forecast.deterministic=true", "forecast.loss=gaussian"]), made)
    for weights in guess.denoiser.network.parameters():
        weights.data += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
    generator = replace(generator, guess=guess if guided else None)
    stepper = Stepper.build(generator, Layout.build(generator.lattice, Serial()))
    loader = PairLoader(made, generator, 0, 1)
    fields = np.stack([trajectories()[name] for name in NAMES + FORCING], axis=2).reshape(-1, 9, *MASK.shape)
    try:
        for n in range(12):
            sample, batch = loader.sample(n), loader.draw(n // 4)[0]
            before, after = (fields[sample.record + k] for k in (0, sample.lead + 1))
            x = torch.as_tensor(stepper.layout.cut(before[:6]))[None]
            hours, conditions, k = 6.0 * (sample.lead + 1), batch.conditions, n % 4
            bound = stepper._denoiser(x, (before[6:], after[6:]), hours)
            if guided:
                unit = stepper.learned.unit(hours)
                bound, centre, scale = stepper._guided(guess, bound)
                y, conditions = relative_target(guess.denoiser.eval(), batch.x0, batch.wet, conditions)
                true = torch.as_tensor(stepper.layout.cut(after[:6]))[sample.window]
                sea, target = stepper.mask[sample.window], y[k, :, 2:-2, 2:-2]
                made = stepper.learned.apply(x.double(), centre + scale * target, unit)[0, sample.window]
                assert torch.allclose(made[sea].float(), true[sea], atol=2e-6)
            told = torch.cat([bound.cell_conditions.static[sample.window], bound.context[0, sample.window]])
            assert torch.allclose(told, conditions["static"][k], atol=1e-5 if guided else 0, rtol=0)
            assert torch.equal(bound.conditions[0], batch.conditions["conditions"][n % 4])
            assert torch.equal(bound.cell_conditions.cells[sample.window], batch.conditions["cells"][n % 4])
    finally:
        loader.close()


def test_stretched_variables_are_told_and_learned_stretched(store) -> None:
    path, made = store
    generator = prepare(read_config(path, ["forecast.stretched=[damage]"]), made)
    stepper = Stepper.build(generator, Layout.build(generator.lattice, Serial()))
    loader = PairLoader(made, generator, 0, 1)
    fields = np.stack([trajectories()[name] for name in NAMES + FORCING], axis=2).reshape(-1, 9, *MASK.shape)
    increments, seen = generator.increments, 0
    try:
        for n in range(8):
            sample, batch = loader.sample(n), loader.draw(n // 4)[0]
            before, after = (fields[sample.record + k].astype(np.float64) for k in (0, sample.lead + 1))
            hours, k, tile = 6.0 * (sample.lead + 1), n % 4, sample.window
            x = torch.as_tensor(stepper.layout.cut(before[:6]).astype(np.float32))[None]
            bound = stepper._denoiser(x, (before[6:].astype(np.float32), after[6:].astype(np.float32)), hours)
            told = batch.conditions["static"][k]
            now = torch.cat([bound.cell_conditions.static[tile], bound.context[0, tile]])
            assert torch.allclose(now, told, atol=2e-5, rtol=0)
            for channel, name in enumerate(NAMES):
                y0, y1 = (stretched(name, stepper.layout.cut(s[channel])[tile]) for s in (before, after))
                wet = batch.wet[k, channel, 2:-2, 2:-2].numpy()
                row = increments.stretched_scale if name == "sid" else increments.scale
                target = batch.x0[k, channel, 2:-2, 2:-2].numpy()
                assert np.allclose(target[wet], ((y1 - y0) / float(row[sample.lead, channel]))[wet], atol=1e-3)
                seen += wet.any()
                if name == "sid":
                    mean, width = increments.stretched_level[:, channel].tolist()
                    given = told[-12 + channel, 2:-2, 2:-2].numpy()
                    assert np.allclose(given[wet], ((y0 - mean) / width)[wet], atol=1e-4)
                    assert not told[-12 + channel][~batch.wet[k, channel]].any()
    finally:
        loader.close()
    assert seen > 0


def test_a_step_of_nothing_keeps_stretched_states_and_their_bounds(store) -> None:
    path, made = store
    settings = ["forecast.stretched=[damage]", "forecast.deterministic=true", "forecast.loss=squared"]
    generator = prepare(read_config(path, settings), made)
    for weights in generator.denoiser.network.parameters():
        weights.data.zero_()
    stepper = Stepper.build(generator, Layout.build(generator.lattice, Serial()))
    states = np.stack([trajectories()[name][0] for name in NAMES], axis=1)
    x = torch.stack([torch.as_tensor(stepper.layout.cut(state)) for state in states])
    new = stepper(x, [np.zeros((3, *MASK.shape), np.float32)] * 2, 12.0, 0, 0, list(range(TIMES)))
    assert torch.allclose(new, x, rtol=0, atol=1e-6)
    reached = torch.as_tensor(generator.increments.attained)
    for channel, bound in ((0, 1.0), (2, 0.0), (2, 1.0)):
        assert bool(reached[int(bound), channel])
        there = (x[:, :, channel] == bound) & stepper.mask[None, :, channel]
        assert bool(there.any()) and torch.equal(new[:, :, channel][there], x[:, :, channel][there])


def test_forecasts_learn_at_the_shifted_times_that_are_asked_for(store) -> None:
    path, made = store
    generator = prepare(read_config(path, ["training.time_shift=3"]), made)
    loader = PairLoader(made, generator, 0, 1)
    try:
        drawn = torch.cat([batch.t for batch in loader.draw(2)])
    finally:
        loader.close()
    training = generator.config.training
    assert torch.equal(drawn, stratified_times(training.seed, 2, training.batch, shift=3.0))


def test_deterministic_training_sees_no_noise(store, tmp_path) -> None:
    path, made = store
    generator = prepare(read_config(path, ["forecast.deterministic=true"]), made)
    loader = PairLoader(made, generator, 0, 1)
    try:
        batch = loader.draw(0)[0]
    finally:
        loader.close()
    assert torch.equal(batch.t, torch.ones_like(batch.t)) and not batch.z.any()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("forecast.leads=[6,7]", "forecast.leads names 7 h, but no two of the 27 states"),
        ("forecast.leads=[12,6]", "expected positive hours in ascending order"),
        ("forecast.leads=[]", "forecast.leads is empty, expected leads"),
        ("training.centre=cell", "training.centre is 'cell' with forecast.leads, expected 'level'"),
        ("forecast.stretched=[thickness]", "forecast.stretched names 'thickness', expected names from damage"),
        ("data.held_out_trajectories=[0,2]", "hold out all 27 states"),
        ("data.forcing=[wind_u,snow]", "data.variables and data.forcing both name snow"),
    ],
)
def test_wrong_forecast_settings_are_a_sentence(tmp_path, argument: str, sentence: str) -> None:
    result = here("data", write_case(tmp_path), argument)
    assert result.status == 1
    assert sentence in result.sentence


@pytest.mark.parametrize(("which", "numbers"), [("flips", {0, 1, 2, 3}), ("turns", {0, 3, 5, 6})])
def test_cells_of_an_unstaggered_grid_are_turned_where_they_are(store, which: str, numbers: set[int]) -> None:
    # neXtSIM_DG gives velocities at cell centres: a flip moves no component to another face.
    path, made = store
    generator = prepare(read_config(path, [f"training.symmetries={which}"]), made)
    loader = PairLoader(made, generator, 0, 1)
    try:
        batches = [loader.draw(step)[0] for step in range(4)]
        samples = [loader.sample(n) for n in range(16)]
    finally:
        loader.close()
    fields = np.stack([trajectories()[name] for name in NAMES], axis=2).reshape(-1, 6, *MASK.shape).astype(float)
    assert {sample.symmetry for sample in samples} == numbers
    for n, sample in enumerate(samples):
        J, I = generator.lattice.tiles[sample.window]
        change = fields[sample.record + sample.lead + 1] - fields[sample.record]
        change = np.pad(change, ((0, 0), (0, 3), (0, 5)))[:, 8 * J : 8 * J + 8, 8 * I : 8 * I + 8]
        expected = change
        if sample.symmetry & 1:
            expected = expected[:, :, ::-1] * np.array([1, 1, 1, 1, -1, 1])[:, None, None]
        if sample.symmetry & 2:
            expected = expected[:, ::-1] * np.array([1, 1, 1, 1, 1, -1])[:, None, None]
        if sample.symmetry & 4:
            expected = expected.swapaxes(1, 2)[[0, 1, 2, 3, 5, 4]]
        expected = expected / generator.increments.scale[sample.lead, :6, None, None].numpy()
        batch, k = batches[n // 4], n % 4
        wet = batch.wet[k, :, 2:-2, 2:-2].numpy()
        assert np.allclose(batch.x0[k, :, 2:-2, 2:-2].numpy()[wet], expected[wet], atol=2e-5)
        assert wet.sum() == 6 * np.pad(MASK, ((0, 3), (0, 5)))[8 * J : 8 * J + 8, 8 * I : 8 * I + 8].sum()
