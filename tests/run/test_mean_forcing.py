"""The mean of the forcing over a step: its weights, and that training, forecast and study are told the same."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest
import torch
import xarray
from case import here
from ice_case import TIMES, sea, trajectories, write_case, write_trajectories

from halocline.io.models import open_states
from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Serial
from halocline.mesh.layout import Layout
from halocline.run.beginning import widened
from halocline.run.config import read_config
from halocline.run.forecast_step import Stepper
from halocline.run.forecast_validation import means, starts
from halocline.run.generator import Generator, input_counts
from halocline.run.hindcast import NAME, Hindcasts
from halocline.run.mean_forcing import followers, mean_forcing, quadrature
from halocline.run.pairs import PairLoader
from halocline.run.run_folder import load_generator
from halocline.run.train import prepare

STATE = ("sic", "sit", "sid", "snt", "siu", "siv")
FORCING = ("uas", "vas", "tas")
NAMES = ("concentration", "thickness", "damage", "snow", "ice_u", "ice_v")
MASK = sea()


def fields() -> np.ndarray:
    """All records one after the other, shape (record, channel, nj, ni)."""
    return np.stack([trajectories()[name] for name in STATE + FORCING], axis=2).reshape(-1, 9, *MASK.shape)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, trained for a few steps with the mean of records every 6 h."""
    config = write_case(tmp_path_factory.mktemp("mean"), forecast={"forcing_interval": 6})
    result = here("train", config)
    assert result.status == 0, result.err
    return config.parent / "run"


@pytest.mark.parametrize(("lead", "interval"), [(6, 6), (12, 6), (24, 6), (9, 6), (7, 3), (24, 1), (4, 6), (1, 0.1)])
def test_mean_is_the_trapezoidal_rule_from_end_to_end(lead: float, interval: float) -> None:
    hours, weights = quadrature(lead, interval)
    assert hours[0] == 0 and hours[-1] == lead and (np.diff(hours) <= interval + 1e-12).all()
    assert len(hours) == 1 + round(np.ceil(lead / interval - 1e-9))
    values = np.random.default_rng(0).standard_normal(len(hours))
    assert weights @ values == pytest.approx(np.trapezoid(values, hours) / lead, rel=1e-12)


def test_mean_of_a_storm_comes_near_the_integral_with_the_square_of_the_interval() -> None:
    def storm(hours: float) -> np.ndarray:
        return np.array([np.exp(-(((hours - 5.0) / 4.0) ** 2))])

    errors = [float(abs(mean_forcing(12.0, d, storm) - mean_forcing(12.0, 0.01, storm))[0]) for d in (2.0, 1.0, 0.5)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1) and errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_a_pair_has_states_at_the_interval_between_them() -> None:
    time = np.array([0, 6, 12, 24, 36, 0, 6, 12, 18, 24]) / 24
    held = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1], bool)
    records = SimpleNamespace(time=time, trajectory=np.array([0] * 5 + [1] * 5), held_out=held)
    assert [row.tolist() for row in followers(records, 12, 0)] == [
        [0, -1, 2, 3, -1, 5, 6, -1, -1, -1], [2, -1, 3, 4, -1, 7, 8, -1, -1, -1]
    ]  # fmt: skip
    assert [row.tolist() for row in followers(records, 12, 6)] == [
        [0, -1, -1, -1, -1, 5, 6, -1, -1, -1], [1, -1, -1, -1, -1, 6, 7, -1, -1, -1],
        [2, -1, -1, -1, -1, 7, 8, -1, -1, -1],
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"forcing_interval is 3 h, but no two states 12 h apart have others"):
        followers(records, 12, 3)


@pytest.mark.parametrize("symmetries", ["none", "turns"])
def test_training_is_told_the_mean_of_the_records_of_a_lead(run: Path, symmetries: str) -> None:
    store = TrainingStore.open(run / "data.zarr")
    generator = prepare(read_config(run.parent / "ice.yaml", [f"training.symmetries={symmetries}"]), store)
    loader, states = PairLoader(store, generator, 0, 1), fields().astype(np.float64)
    mean, scale = generator.standardisation.reference.numpy()[6:], generator.standardisation.scale.numpy()[6:]
    leads = set()
    try:
        for n in range(24):
            sample, batch = loader.sample(n), loader.draw(n // 4)[0]
            between = np.trapezoid(states[sample.record : sample.record + sample.lead + 2, 6:], axis=0)
            expected = (between / (sample.lead + 1) - mean) / scale[:, None, None]
            J, I = generator.lattice.tiles[sample.window]
            expected = np.pad(expected, ((0, 0), (0, 3), (0, 5)))[:, 8 * J : 8 * J + 8, 8 * I : 8 * I + 8]
            expected = turned(expected, sample.symmetry)
            wet = batch.wet[n % 4, 0, 2:-2, 2:-2].numpy()
            found = batch.conditions["static"][n % 4, -3:, 2:-2, 2:-2].numpy()
            # The wind's own mean is not turned with it: standardised components keep their sign with a level of 0.
            assert np.allclose(found[2][wet], expected[2][wet], atol=1e-5)
            if symmetries == "none":
                assert np.allclose(found[:, wet], expected[:, wet], atol=1e-5)
            leads.add((sample.lead, sample.symmetry > 0))
    finally:
        loader.close()
    assert {lead for lead, _ in leads} == {0, 1} and any(turn for _, turn in leads) == (symmetries == "turns")


def turned(x: np.ndarray, symmetry: int) -> np.ndarray:
    """Flips and transposes a scalar window as `state.symmetry` numbers them."""
    x = x[:, :, ::-1] if symmetry & 1 else x
    x = x[:, ::-1] if symmetry & 2 else x
    return x.swapaxes(1, 2) if symmetry & 4 else x


def test_forecast_validation_and_study_are_told_what_the_training_was_told(run: Path) -> None:
    store, generator = TrainingStore.open(run / "data.zarr"), load_generator(run)
    stepper = Stepper.build(generator, Layout.build(generator.lattice, Serial()))
    loader, states = PairLoader(store, generator, 0, 1), fields()
    try:
        for n in range(12):
            sample, batch = loader.sample(n), loader.draw(n // 4)[0]
            hours = 6.0 * (sample.lead + 1)

            def read(at: float, first: int = sample.record) -> np.ndarray:
                return states[first + round(at / 6), 6:]

            told = read(0.0), read(hours), mean_forcing(hours, 6.0, read)
            x = torch.as_tensor(stepper.layout.cut(states[sample.record, :6]))[None]
            bound = stepper._denoiser(x, told, hours)
            here_ = torch.cat([bound.cell_conditions.static[sample.window], bound.context[0, sample.window]])
            assert torch.allclose(here_, batch.conditions["static"][n % 4], atol=2e-6, rtol=0)
    finally:
        loader.close()
    for lead in (6.0, 12.0):
        for records in starts(store, lead, 6.0, True):
            assert records == list(range(records[0], records[0] + round(lead / 6) + 1))
            expected = np.trapezoid(states[records, 6:].astype(np.float64), axis=0) / (len(records) - 1)
            (found,) = means(store, records, lead, 6.0, 6)
            assert np.allclose(found[:, MASK], expected[:, MASK], atol=1e-5)


def forecast(run: Path, output: Path, *arguments: str, forcing: Path | None = None):
    """A forecast of the run that was held out, from its first state."""
    files = run.parent / "trajectories.nc"
    usual = (f"start={files}", f"state={2 * TIMES}", f"forcing={forcing or files}", "forcing_trajectory=2", "lead=12")
    return here("forecast", str(run), *usual, "seed=3", f"output={output}", *arguments)


def test_ensembles_are_those_of_the_forecast_job_that_reads_its_forcing_between_steps(
    run: Path, tmp_path: Path
) -> None:
    generator = load_generator(run)
    result = forecast(run, tmp_path / "f.zarr", "steps=3", "members=2")
    assert result.status == 0, result.err
    source = open_states(str(run.parent / "trajectories.nc"), generator.config.data.stored, generator.grid)
    case = Hindcasts.find(source, (2,), starts=1, lead=12.0, steps=3, members=2, seed=3).case(generator, 0)
    with xarray.open_zarr(tmp_path / "f.zarr") as data:
        for name in NAMES:
            wet = np.isfinite(data[name].values)
            assert case.forecasts[NAME][name][wet].tobytes() == data[name].values[wet].tobytes(), name


def test_a_storm_between_the_ends_of_a_step_changes_the_forecast(run: Path, tmp_path: Path) -> None:
    wind = trajectories()["uas"]
    wind[2, 1] = np.where(MASK, wind[2, 1] + 15, 0)  # 6 h after the start
    write_trajectories(tmp_path / "storm.nc", uas=wind)
    made = []
    for number, forcing in enumerate((run.parent / "trajectories.nc", tmp_path / "storm.nc")):
        result = forecast(run, tmp_path / f"{number}.zarr", "steps=1", "members=1", forcing=forcing)
        assert result.status == 0, result.err
        with xarray.open_zarr(tmp_path / f"{number}.zarr") as data:
            made.append(data["ice_u"].values[0, 1][MASK])
    assert np.abs(made[1] - made[0]).max() > 1e-4


def test_a_lead_that_the_interval_does_not_divide_is_forecast_while_there_is_forcing(run: Path, tmp_path: Path) -> None:
    assert forecast(run, tmp_path / "nine.zarr", "lead=9", "steps=5", "members=1").status == 0
    result = forecast(run, tmp_path / "late.zarr", "lead=9", "steps=6", "members=1")
    assert result.status == 1 and "Forcing ends at 2010-01-12T00:00:00" in result.sentence


def test_forcing_that_lacks_a_record_between_the_ends_of_a_step_is_refused(run: Path, tmp_path: Path) -> None:
    gap = tmp_path / "gap.nc"
    with netCDF4.Dataset(run.parent / "trajectories.nc") as old, netCDF4.Dataset(gap, "w") as new:
        kept = [n for n in range(TIMES) if n != 3]
        for name, dimension in old.dimensions.items():
            new.createDimension(name, len(kept) if name == "time" else len(dimension))
        for name, variable in old.variables.items():
            copy = new.createVariable(name, variable.dtype, variable.dimensions)
            copy.setncatts({key: variable.getncattr(key) for key in variable.ncattrs()})
            axis = variable.dimensions.index("time") if "time" in variable.dimensions else None
            copy[:] = variable[:] if axis is None else variable[:].take(kept, axis)
    result = forecast(run, tmp_path / "x.zarr", "steps=2", forcing=gap)
    assert result.status == 1
    assert "Forcing has no record between 2010-01-10T12:00:00" in result.sentence
    assert not (tmp_path / "x.zarr").exists()


def test_runs_that_lack_records_between_steps_are_refused(run: Path) -> None:
    generator = load_generator(run)
    source = open_states(str(run.parent / "trajectories.nc"), generator.config.data.stored, generator.grid)
    hindcasts = Hindcasts.find(source, (2,), starts=1, lead=12.0, steps=1, members=2)
    time = np.asarray(source.stamps.time, float).copy()
    time[2 * TIMES + 1] += 1 / 24
    without = SimpleNamespace(stamps=SimpleNamespace(time=time), read=source.read)
    odd = Hindcasts(without, hindcasts.records, 12.0, 2)
    with pytest.raises(ValueError, match=r"Trajectory 2 has no forcing 6 h after its state 18, expected one every 6 h"):
        odd.case(generator, 0)


def test_a_step_that_is_told_too_little_is_a_sentence(run: Path) -> None:
    generator = load_generator(run)
    stepper = Stepper.build(generator, Layout.build(generator.lattice, Serial()))
    x, wind = torch.zeros(1, *stepper.mask.shape), np.zeros((3, *MASK.shape), np.float32)
    with pytest.raises(ValueError, match="2 fields of each variable, expected 3: at both ends of the step, and the"):
        stepper(x, (wind, wind), 12.0, 0, 0, [0])


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("forecast.forcing_interval=12", "forecast.forcing_interval is 12 h, expected hours below the longest of"),
        ("forecast.forcing_interval=-1", "forecast.forcing_interval is -1 h, expected hours below the longest"),
        ("data.forcing=[]", "forecast.forcing_interval is 6 h, but data.forcing is empty, expected some to average"),
    ],
)
def test_an_interval_that_averages_nothing_is_a_sentence(run: Path, argument: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_config(run.parent / "ice.yaml", [argument])


def test_states_that_are_too_far_apart_for_the_interval_are_a_sentence(run: Path, tmp_path: Path) -> None:
    result = here("train", run.parent / "ice.yaml", "forecast.forcing_interval=3", f"output={tmp_path / 'run'}")
    assert result.status == 1
    assert "forcing_interval is 3 h, but no two states 6 h apart have others at this interval" in result.sentence


@pytest.mark.parametrize(
    "settings",
    [(), ("network.cell_features=3",), ("backbone=transformer", "transformer.width=48", "transformer.blocks=2")],
)
@pytest.mark.parametrize("guided", [False, True])
def test_a_training_goes_on_from_weights_that_were_told_no_mean(run: Path, settings, guided: bool) -> None:
    store = TrainingStore.open(run / "data.zarr")
    told, untold = (
        prepare(read_config(run.parent / "ice.yaml", [*settings, f"forecast.forcing_interval={hours}"]), store)
        for hours in (6, 0)
    )
    if guided:
        first = ["forecast.deterministic=true", "forecast.loss=gaussian"]
        guess = prepare(read_config(run.parent / "ice.yaml", first), store)
        told, untold = (rebuilt(generator, guess) for generator in (told, untold))
    for n, weights in enumerate(untold.denoiser.network.parameters()):
        weights.data += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(n))
    told.denoiser.network.load_state_dict(widened(untold.denoiser.network.state_dict(), told))
    window, count = (2, 12, 12), told.channels.count
    rng = torch.Generator().manual_seed(0)
    static, conditions = input_counts(told.config, told.grid, told.lattice)
    x, per_cell = (torch.randn(2, n, *window[1:], generator=rng) for n in (count, static))
    per_cell[:, 0] = 1
    behind = static - (2 * count if guided else 0)  # where the mean ends
    without = torch.cat([per_cell[:, : behind - len(FORCING)], per_cell[:, behind:]], dim=1)
    rest = torch.rand(2, generator=rng), torch.randn(2, conditions, generator=rng), torch.ones(window, dtype=int)
    found, expected = (
        g.denoiser.network(x, rest[0], given, *rest[1:]) for g, given in ((told, per_cell), (untold, without))
    )
    found, expected = ((y[0] if isinstance(y, tuple) else y).detach() for y in (found, expected))
    assert torch.allclose(found, expected, atol=1e-5) and float(expected.std()) > 0.1


def rebuilt(generator: Generator, guess: Generator) -> Generator:
    """The same with a first guess, whose words the network is told behind the mean."""
    config = replace(generator.config, forecast=replace(generator.config.forecast, first_guess="guess"))
    return Generator.build(
        config, generator.grid, generator.standardisation, generator.parameters, increments=generator.increments,
        guess=guess,
    )  # fmt: skip


def test_training_begins_with_the_mean_and_does_not_go_back_from_it(run: Path, tmp_path: Path) -> None:
    usual = ("training.learning_rate=1e-12", "training.weight_decay=0", "training.steps=1")
    store = f"data.store={run / 'data.zarr'}"
    made = here("train", run.parent / "ice.yaml", "forecast.forcing_interval=0", store, f"output={tmp_path / 'old'}")
    assert made.status == 0, made.err
    begin = (f"training.begin={tmp_path / 'old'}", store, f"output={tmp_path / 'new'}", *usual)
    result = here("train", run.parent / "ice.yaml", *begin)
    assert result.status == 0, result.err
    old, new = (load_generator(tmp_path / name).denoiser.network.state_dict() for name in ("old", "new"))
    wider = {name: w.shape[1] - old[name].shape[1] for name, w in new.items() if w.shape != old[name].shape}
    assert set(wider.values()) == {len(FORCING)} and len(wider) == 2
    for name, w in new.items():
        last = w[:, old[name].shape[1] :] if name in wider else w[:0]
        assert float(last.abs().max()) < 1e-9 if name in wider else torch.allclose(w, old[name], atol=1e-9)


def test_weights_that_were_told_a_mean_do_not_do_without(run: Path, tmp_path: Path) -> None:
    usual = (f"training.begin={run}", f"data.store={tmp_path / 'store'}", f"output={tmp_path / 'run'}")
    result = here("train", run.parent / "ice.yaml", "forecast.forcing_interval=0", *usual)
    assert result.status == 1
    assert "was trained with forecast.forcing_interval = 6" in result.sentence
