"""The budget of ice volume in forecasts, and the control of their drift: what is fitted, corrected, and refused."""

from dataclasses import replace
from pathlib import Path

import ice_case
import numpy as np
import pytest
import torch
import xarray
from case import command, here
from ice_case import NI, NJ, RUNS, TIMES, trajectories, write_case, write_trajectories

from halocline.io.forecast_store import ForecastStore
from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.mesh.layout import Layout
from halocline.run.budget import Closure, check_closure
from halocline.run.budget_fit import Budget, fluxes, open_edge
from halocline.run.config import read_config
from halocline.run.generator import Generator
from halocline.run.run_folder import load_generator
from halocline.run.train import prepare

LAW = (1.0e-4, 1.2e-5, 3.0e-4)  # of the synthetic trajectories: m/h, m/h / (W/m2), m/h / K
STATE = ("concentration", "thickness", "damage", "snow", "ice_u", "ice_v")
K_ICE, K_SNOW, FREEZING = 2.034396, 0.31, -1.8


def closed_sea() -> np.ndarray:
    mask = np.ones((NJ, NI), bool)
    mask[[0, -1]] = mask[:, [0, -1]] = mask[8:, 8:16] = False
    mask[5, 4] = False
    return mask


MASK = closed_sea()


def predicted(sic: np.ndarray, sit: np.ndarray, snt: np.ndarray, air: np.ndarray, law: tuple[float, ...]) -> np.ndarray:
    """Growth of the mean thickness, m/h, of fields (..., y, x) on a grid of equal cells."""
    sic, sit, snt, air = (x[..., MASK].astype(float) for x in (sic, sit, snt, air))
    conducted = sic * K_ICE * (FREEZING - air) / ((sit + K_ICE / K_SNOW * snt) / sic)
    lost = (1 - sic) * (FREEZING - air)
    return law[0] + law[1] * conducted.mean(-1) + law[2] * lost.mean(-1)


def grown() -> dict[str, np.ndarray]:
    """Trajectories whose mean thickness grows by the law, the held-out one by another; drift moves ice about."""
    x = {name: field.copy() for name, field in trajectories().items()}
    x["sic"] = np.where(MASK, np.maximum(x["sic"], 0.3), 0).astype(np.float32)
    x["sit"] = np.where(MASK, np.maximum(x["sit"], 0.5), 0).astype(np.float32)
    x["snt"] = np.where(MASK, x["snt"], 0).astype(np.float32)
    weather = np.random.default_rng(3).uniform(-8, 8, (RUNS, TIMES, 1, 1))
    x["tas"] = np.where(MASK, x["tas"] + weather, 0).astype(np.float32)
    for run in range(RUNS):
        law = LAW if run < 2 else (5e-3, 0.0, 0.0)
        for n in range(TIMES - 1):
            air = (x["tas"][run, n].astype(float) + x["tas"][run, n + 1]) / 2
            rate = predicted(x["sic"][run, n], x["sit"][run, n], x["snt"][run, n], air, law)
            target = x["sit"][run, n][MASK].astype(float).mean() + 6 * rate
            x["sit"][run, n + 1] *= target / x["sit"][run, n + 1][MASK].astype(float).mean()
    return x


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    """Configuration of a run in a closed basin."""
    folder = tmp_path_factory.mktemp("budget")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ice_case, "sea", closed_sea)
        config = write_case(folder, forecast={"leads": [6]}, training={"steps": 5})
        write_trajectories(folder / "trajectories.nc", **grown())
    return config


@pytest.fixture(scope="module")
def store(case: Path) -> TrainingStore:
    assert here("data", case).status == 0
    return TrainingStore.open(case.parent / "run" / "data.zarr")


@pytest.fixture(scope="module")
def generator(case: Path, store: TrainingStore) -> Generator:
    return prepare(read_config(case), store)


@pytest.fixture(scope="module")
def run(case: Path, store: TrainingStore) -> Path:
    result = here("train", case)
    assert result.status == 0, result.err
    return case.parent / "run"


def states(generator: Generator, seed: int) -> tuple[Layout, torch.Tensor]:
    """Two members, with cells on every bound, shape (member, tile, channel, j, i)."""
    rng, layout = np.random.default_rng(seed), Layout.build(generator.lattice, Serial())
    x = rng.uniform(-0.2, 1.2, (2, len(STATE), NJ, NI)).clip(0, 1)
    x[:, 1] = np.where(x[:, 0] > 0, 0.2 + 2 * x[:, 1], 0)
    tiles = np.moveaxis(layout.cut(np.where(MASK, x, 0)), 0, 1)
    return layout, torch.as_tensor(tiles).float()


def limited(generator: Generator, low: float, high: float, roughness: float = np.inf) -> Generator:
    """The generator with other ranges."""
    ranges, rough = torch.tensor([[low, high]] * 3).double(), torch.tensor([[roughness, 0.0]] * 2).double()
    return replace(generator, budget=replace(generator.budget, range=ranges, roughness=rough))


def means(x: torch.Tensor, name: str) -> np.ndarray:
    return x[:, :, STATE.index(name)].double().sum(dim=(1, 2, 3)).numpy() / MASK.sum()


def air(value: float) -> list[np.ndarray]:
    """Wind and air temperature at both ends of a lead; what stands on land must not matter."""
    return [np.where(MASK, np.float32(v), np.nan) * np.ones((3, 1, 1), np.float32) for v in (value - 1, value + 1)]


def test_fluxes_of_a_cell_are_those_on_paper() -> None:
    cells = [(1, 2, 0, -11.8), (0.5, 1, 0.31, -11.8), (0, 0, 0, -11.8), (0.25, 0, 0, -11.8), (1, 2, 0, 8.2)]
    conducted, lost = fluxes(*torch.tensor(cells, dtype=torch.float64).T)
    # 0.5 of 2 m of ice and 0.62 m of snow; bare ice without thickness conducts as 0.05 m of it
    half = 0.5 * 10 / (2 / K_ICE + 0.62 / K_SNOW)
    assert conducted.tolist() == pytest.approx([10 * K_ICE / 2, half, 0, 0.25 * 10 * K_ICE / 0.05, -10 * K_ICE / 2])
    assert lost.tolist() == pytest.approx([0, 5, 10, 7.5, 0])


def test_known_law_of_growth_is_found_in_the_runs_that_are_learned(store: TrainingStore) -> None:
    found = store.budget()
    assert found["leads"].tolist() == [6]
    assert found["growth"][0] == pytest.approx(LAW, rel=1e-5)
    x, pairs = grown(), (slice(0, 2), slice(0, TIMES - 1))
    middle = (x["tas"][:2, :-1].astype(float) + x["tas"][:2, 1:]) / 2
    rates = [predicted(*(x[n][pairs] for n in ("sic", "sit", "snt")), middle, a) for a in (LAW, found["growth"][0])]
    assert 6 * np.abs(rates[1] - rates[0]).max() < 1e-8  # m
    assert 6 * float(found["residual"][0]) < 1e-8 < 1e-4 * 6 * rates[0].std()


def test_fit_does_not_depend_on_the_number_of_ranks(case: Path, store: TrainingStore, mpirun, tmp_path: Path) -> None:
    words = command("data", case, f"data.store={tmp_path}/data.zarr")
    status, output = mpirun(3, *words, cwd=tmp_path, limit=60)
    assert status == 0, output
    found = TrainingStore.open(tmp_path / "data.zarr").budget()
    assert {k: x.tobytes() for k, x in found.items()} == {k: x.tobytes() for k, x in store.budget().items()}


def test_range_is_that_of_area_means_of_the_states_that_are_learned(store: TrainingStore) -> None:
    for row, name in zip(store.budget()["range"], ("sic", "sid", "snt"), strict=True):
        mean = grown()[name][:2][..., MASK].astype(float).mean(-1)
        assert row.tolist() == pytest.approx([mean.min(), mean.max()], rel=1e-6)


def test_growth_between_leads_is_linear_and_beyond_them_constant() -> None:
    leads, growth = torch.tensor([6.0, 24.0]).double(), torch.tensor([[1.0, 2.0, 3.0], [4.0, 2.0, 0.0]]).double()
    budget = Budget(leads, growth, torch.zeros(2), torch.zeros(0, 2), torch.zeros(0, 2))
    assert budget.at(12).tolist() == pytest.approx([2, 2, 2])
    assert budget.at(24).tolist() == [4, 2, 0] and budget.at(6).tolist() == [1, 2, 3]


@pytest.mark.parametrize("much", [0.5, 1.5])
def test_volume_changes_by_what_is_predicted_and_open_water_stays_open(generator: Generator, much: float) -> None:
    layout, before = states(generator, 1)
    _, after = states(generator, 2)
    after[:, :, 1] *= much  # far too little ice, or too much
    made = Closure.build(generator, layout, True, False)(before, after, air(-20.0), 6.0)
    a = generator.budget.at(6.0).tolist()
    x = [before[:, :, STATE.index(name)].double() for name in ("concentration", "thickness", "snow")]
    conducted, lost = (f.sum(dim=(1, 2, 3)).numpy() / MASK.sum() for f in fluxes(*x, torch.full_like(x[0], -20.0)))
    lost -= (-1.8 + 20) * (x[0][0].numel() / MASK.sum() - 1)  # land is no open water
    expected = means(before, "thickness") + 6 * (a[0] + a[1] * conducted + a[2] * lost)
    assert means(made, "thickness") == pytest.approx(expected, rel=2e-8)
    assert abs(means(after, "thickness") / expected - 1).min() > 0.1
    assert torch.equal(made[:, :, 1] == 0, after[:, :, 1] == 0) and bool((made[:, :, 1] == 0).any())
    weight = (after[:, :, 1] if much > 1 else after[:, :, 0]).double()  # taken like thickness, added like concentration
    share = (made - after)[:, :, 1].double() / torch.where(weight > 0, weight, torch.nan)
    assert all(np.nanmax(s) - np.nanmin(s) < 1e-3 * abs(np.nanmedian(s)) for s in share.where(weight > 0.01, torch.nan))
    others = [n for n, name in enumerate(STATE) if name != "thickness"]
    assert torch.equal(made[:, :, others], after[:, :, others])


def test_basin_without_ice_stays_without_and_melt_ends_at_nothing(generator: Generator) -> None:
    layout, x = states(generator, 1)
    closure = Closure.build(generator, layout, True, False)
    none = torch.zeros_like(x)
    assert torch.equal(closure(none, none, air(-20.0), 6.0), none)
    melted = closure(x, x, air(40.0), 6000.0)
    assert not melted[:, :, 1].any() and torch.isfinite(melted).all()


def test_means_within_their_range_are_left_alone_to_the_bit(generator: Generator) -> None:
    layout, x = states(generator, 1)
    wide = limited(generator, 0.0, 1.0, 8.0)
    assert torch.equal(Closure.build(wide, layout, False, True)(x, x, air(-20.0), 6.0), x)


@pytest.mark.parametrize("edges", [(0.0, 0.4), (0.6, 1.0)])
def test_excess_of_a_mean_decays_in_a_day_and_bounds_are_kept(generator: Generator, edges: tuple[float, float]) -> None:
    layout, x = states(generator, 1)
    made = Closure.build(limited(generator, *edges), layout, False, True)(x, x, air(-20.0), 6.0)
    edge = edges[1] if edges[0] == 0 else edges[0]
    for name in ("concentration", "damage", "snow"):
        excess = means(x, name) - edge
        assert abs(excess).min() > 0.01
        assert means(made, name) - edge == pytest.approx(excess * np.exp(-6 / 24), rel=1e-6)
        old, new = (y[:, :, STATE.index(name)] for y in (x, made))
        assert torch.equal(old == 0, new == 0) and new.min() == 0
        assert name == "snow" or (torch.equal(old == 1, new == 1) and new.max() == 1)
        for a, b in zip(old, new, strict=True):  # cells keep their order
            assert bool((b.flatten()[a.flatten().argsort()].diff() >= 0).all())
    others = [STATE.index(name) for name in ("thickness", "ice_u", "ice_v")]
    assert torch.equal(made[:, :, others], x[:, :, others])


def test_a_mean_that_cannot_reach_its_range_goes_as_far_as_bounds_allow(generator: Generator) -> None:
    layout, x = states(generator, 1)
    far = limited(generator, 0.999, 1.0)
    made = Closure.build(far, layout, False, True)(x, x, air(-20.0), 2400.0)
    c = x[:, :, 0].double()
    assert torch.allclose(made[:, :, 0].double(), c + c * (1 - c), atol=1e-7)
    x[:, :, 0] = (x[:, :, 0] > 0.5).float()  # all cells on bounds: nothing moves
    assert torch.equal(Closure.build(far, layout, False, True)(x, x, air(-20.0), 6.0)[:, :, 0], x[:, :, 0])


def laplacian(x: np.ndarray, wet: np.ndarray) -> np.ndarray:
    """Differences over open faces of (..., y, x), by hand."""
    total = np.zeros_like(x)
    for axis in (-1, -2):
        for step in (1, -1):
            open_face = wet & np.roll(wet, step, axis)
            total += np.where(open_face, np.roll(x, step, axis) - x, 0)
    return total


def test_roughness_is_the_largest_of_the_states_that_are_learned(store: TrainingStore) -> None:
    for row, name in zip(store.budget()["roughness"], ("siu", "siv"), strict=True):
        x = np.where(MASK, grown()[name][:2].reshape(-1, NJ, NI), 0).astype(float)
        first = laplacian(x, MASK)  # land all around: nothing wraps
        a1, a2 = -(x * first)[:, MASK].mean(-1), (first * first)[:, MASK].mean(-1)
        assert row.tolist() == pytest.approx([(a2 / (a1 + 0.01 * a1.mean())).max(), 0.01 * a1.mean()], rel=1e-9)


def test_chessboard_is_smoothed_out_of_the_drift_until_it_is_as_rough_as_allowed(generator: Generator) -> None:
    layout, x = states(generator, 1)
    y, z = np.mgrid[:NJ, :NI]
    smooth, board = np.where(MASK, 0.1 * np.sin(z / 4) * np.cos(y / 3), 0), np.where(MASK, (-1.0) ** (y + z), 0)
    x[:, :, 4] = torch.as_tensor(layout.cut(smooth + 0.03 * board)).float()
    x[:, :, 5] = torch.as_tensor(layout.cut(smooth)).float()
    made = Closure.build(limited(generator, 0.0, 1.0, 3.5), layout, False, True)(x, x, air(-20.0), 6.0)
    assert torch.equal(made[:, :, :4], x[:, :, :4]) and torch.equal(made[:, :, 5], x[:, :, 5])
    field = layout.collect(made[0][:, 4:5])[0]
    first = laplacian(field.astype(float), MASK)
    assert (first**2).sum() / -(field * first).sum() == pytest.approx(3.5, rel=1e-5)
    left = [np.vdot(board, f - smooth) / np.vdot(board, board) for f in (smooth + 0.03 * board, field)]
    assert left[1] < 0.5 * left[0]
    assert np.abs(field - smooth - left[1] * board)[MASK].max() < 0.02  # what a coast does to a chessboard
    strongest = Closure.build(limited(generator, 0.0, 1.0, 0.0), layout, False, True)(x, x, air(-20.0), 6.0)
    second = laplacian(laplacian(smooth + 0.03 * board, MASK), MASK)
    found = layout.collect(strongest[0][:, 4:5])[0]
    assert np.allclose(found, smooth + 0.03 * board - second / 64, atol=1e-7)


def asked(run: Path, output: Path, *arguments: str) -> tuple[str, ...]:
    """Four steps of three members from the held-out run."""
    files = run.parent / "trajectories.nc"
    usual = (f"start={files}", f"state={2 * TIMES}", f"forcing={files}", "forcing_trajectory=2", "lead=6", "steps=4")
    return "forecast", str(run), *usual, "members=3", f"output={output}", *arguments


def read(path: Path) -> dict[str, np.ndarray]:
    with xarray.open_zarr(path) as data:
        return {name: data[name].values for name in STATE}


def test_forecast_closes_its_budget_and_goes_on_with_the_same_bits(run: Path, tmp_path: Path, monkeypatch) -> None:
    both = ("budget=true", "drift_control=true")
    assert here(*asked(run, tmp_path / "free.zarr")).status == 0
    assert here(*asked(run, tmp_path / "whole.zarr", *both)).status == 0
    free, whole = read(tmp_path / "free.zarr"), read(tmp_path / "whole.zarr")
    law, tas = load_generator(run).budget.at(6.0).tolist(), grown()["tas"][2].astype(float)
    mean = whole["thickness"][..., MASK].astype(float).mean(-1)
    for n in range(4):
        x = (whole[name][:, n] for name in ("concentration", "thickness", "snow"))
        rate = predicted(*x, (tas[n] + tas[n + 1]) / 2, law)
        assert mean[:, n + 1] - mean[:, n] == pytest.approx(6 * rate, abs=1e-8)
    assert np.abs(free["thickness"][..., MASK].mean(-1) - mean).max() > 1e-4
    count = ForecastStore.count

    def die(self, time: int, members) -> None:
        if time == 3:
            raise OSError("disk full")
        count(self, time, members)

    with monkeypatch.context() as patch:
        patch.setattr(ForecastStore, "count", die)
        assert here(*asked(run, tmp_path / "parts.zarr", *both)).status == 1
    refused = here(*asked(run, tmp_path / "parts.zarr", "budget=true"))
    assert refused.status == 1 and "with drift_control = True, but now it is False" in refused.sentence
    assert here(*asked(run, tmp_path / "parts.zarr", *both)).status == 0
    for name, x in read(tmp_path / "parts.zarr").items():
        assert x.tobytes() == whole[name].tobytes(), name


@pytest.mark.parametrize(
    ("edges", "cells"),
    [
        ({}, 2 * (NI + NJ)),
        ({"periodic_i": True}, 2 * NI),
        ({"periodic_i": True, "fold": "F"}, NI),
        ({"periodic_i": True, "periodic_j": True}, 0),
    ],
)
def test_edges_are_open_where_they_are_wet_and_lead_nowhere(edges: dict, cells: int) -> None:
    width = NI + bool(edges.get("fold"))  # a fold pairs columns
    assert open_edge(box_grid(1, NJ, width, **edges)) == cells + bool(edges.get("fold"))
    assert open_edge(box_grid(1, NJ, NI, wet=MASK)) == 0


def test_what_cannot_be_closed_is_a_sentence(generator: Generator) -> None:
    data = generator.config.data

    def refused(sentence: str, closed: bool, **changed) -> None:
        with pytest.raises(ValueError, match=sentence):
            check_closure(replace(generator, **changed), closed, not closed)

    wet = replace(generator.grid, tmask=np.ones_like(generator.grid.tmask))
    refused(f"the sea reaches {2 * (NI + NJ)} cells on the edge of the grid, expected a closed basin", True, grid=wet)
    windy = replace(generator.config, data=replace(data, forcing=("wind_u", "wind_v")))
    refused("budget is true, but the run has no air_temperature", True, config=windy)
    drift = replace(generator.config, data=replace(data, variables=("thickness",)))
    refused("drift_control is true, but the run has none of concentration, damage, snow, ice_u", False, config=drift)
    for closed in (True, False):
        refused("run folder has no budget of its training states", closed, budget=None)


def test_open_basin_is_learned_without_growth_and_refused(tmp_path: Path) -> None:
    config = write_case(tmp_path, training={"steps": 2})
    assert here("train", config).status == 0
    run = tmp_path / "run"
    assert load_generator(run).budget.growth.shape == (0, 3)
    result = here(*asked(run, tmp_path / "x.zarr", "budget=true"))
    assert result.status == 1 and "expected a closed basin" in result.sentence and not (tmp_path / "x.zarr").exists()
    assert here(*asked(run, tmp_path / "x.zarr", "drift_control=true")).status == 0
