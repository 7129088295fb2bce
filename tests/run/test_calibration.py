"""`halocline calibrate`: which way factors move, whose ensembles they are, what is written and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
import yaml
from case import here
from ice_case import TIMES, trajectories, write_case

from halocline.io.models import open_states
from halocline.run.calibration import Waves, cost, next_waves
from halocline.run.forecast_score_means import VariableScores
from halocline.run.hindcast import NAME, Hindcasts
from halocline.run.run_folder import load_generator

NAMES = ("concentration", "thickness", "damage", "snow", "ice_u", "ice_v")
NAN = float("nan")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, trained for a few steps, third trajectory held out."""
    config = write_case(tmp_path_factory.mktemp("calibration"))
    result = here("train", config)
    assert result.status == 0, result.err
    return config.parent / "run"


def scores(
    spread_skill: tuple[float, ...], fine: tuple[float, ...] = (), slope: tuple[float, ...] = ()
) -> VariableScores:
    none = dict.fromkeys(VariableScores.__dataclass_fields__, ())
    return VariableScores(**none | {"spread_skill": spread_skill, "fine_scales": fine, "spread_slope": slope})


def asked(run: Path, output: Path, *arguments: str) -> tuple[str, ...]:
    usual = (f"output={output}", "starts=2", "lead=6", "steps=3", "members=3", "rounds=2")
    return "calibrate", str(run), *usual, *arguments


@pytest.mark.parametrize(
    ("ratios", "fine", "long", "short"),
    [
        ((1.25, 0.8), (1.0, 1.0), 1.5, 0.8),  # right in the mean over leads
        ((1.2, 1.2), (1.44, 1.44), 1.5 / 1.2**0.6, 0.8 / 1.2**0.6),  # energy is a square
        ((0.5, 0.5, NAN), (NAN, NAN), 1.5 * 2**0.6, 0.8),
        ((0.01,), (1e9,), 3.0, 0.4),  # by a factor of two at most
        ((0.01,), (1e-9,), 3.0, 1.6),
    ],
)
def test_factors_go_against_what_is_too_much(ratios, fine, long: float, short: float) -> None:
    moved = next_waves(Waves({"damage": 1.5}, {"damage": 0.8}, {}), {"damage": scores(ratios, fine)})
    assert moved.long["damage"] == pytest.approx(long, abs=1e-3)
    assert moved.short["damage"] == pytest.approx(short, abs=1e-3)


@pytest.mark.parametrize(
    ("slopes", "power"),
    [((1.4, 1.2), 0.275), ((0.8,), 0.15), ((NAN, 1.4), 0.3), ((5.0,), 0.3), ((-3.0,), 0.1), ((NAN,), 0.2), ((), 0.2)],
)
def test_noise_grows_more_with_the_wind_where_errors_differ_more_than_spread(slopes, power: float) -> None:
    usual = {"damage": scores((1.0,), (1.0,), slopes)}
    assert next_waves(Waves({}, {}, {"damage": 0.2}), usual).wind["damage"] == pytest.approx(power, abs=1e-3)
    assert next_waves(Waves({}, {}, {}), usual).wind == {}  # of a network that is not told the wind


def test_factors_stay_within_their_limits_and_distance_is_that_of_the_logarithms() -> None:
    far = {"damage": scores((0.1, 0.1), (1e-3, 1e-3), (9.0, 8.0))}
    waves = Waves({"damage": 1.0}, {"damage": 1.0}, {"damage": 0.0})
    for _ in range(9):
        waves = next_waves(waves, far)
    assert waves == Waves({"damage": 4.0}, {"damage": 2.0}, {"damage": 0.5})
    assert cost({"damage": scores((2.0, 0.5), (1.0, NAN))}) == pytest.approx(0.5 * np.log(2))
    assert cost({"damage": scores((2.0, 0.5), (1.0, NAN), (NAN, 0.5, 3.5))}) == pytest.approx(2 / 3 * np.log(2))
    assert cost({"damage": scores((NAN,), (0.0,))}) == np.inf


def test_ensembles_are_those_of_the_forecast_job(run: Path, tmp_path: Path) -> None:
    files, generator = run.parent / "trajectories.nc", load_generator(run)
    source = open_states(str(files), generator.config.data.stored, generator.grid)
    hindcasts = Hindcasts.find(source, (2,), starts=1, lead=6.0, steps=3, members=2, seed=3)
    case = hindcasts.case(generator, 0)
    usual = (f"start={files}", f"state={2 * TIMES}", f"forcing={files}", "forcing_trajectory=2", "lead=6", "steps=3")
    result = here("forecast", str(run), *usual, "members=2", "seed=3", f"output={tmp_path / 'f.zarr'}")
    assert result.status == 0, result.err
    with xarray.open_zarr(tmp_path / "f.zarr") as data:
        for name in NAMES:
            sea = np.isfinite(data[name].values)
            assert case.forecasts[NAME][name][sea].tobytes() == data[name].values[sea].tobytes(), name
    truth = trajectories()
    assert np.array_equal(case.truth["thickness"], truth["sit"][2, :4])
    assert np.array_equal(case.forcing["wind_u"], truth["uas"][2, :4])


def test_starts_are_spread_over_what_others_follow(run: Path) -> None:
    generator = load_generator(run)
    source = open_states(str(run.parent / "trajectories.nc"), generator.config.data.stored, generator.grid)
    found = Hindcasts.find(source, (0, 2), starts=3, lead=12.0, steps=2, members=2)
    first = [list(row) for row in found.records[:3]]
    assert first == [[0, 2, 4], [2, 4, 6], [4, 6, 8]]
    assert [list(row) for row in found.records[3:]] == [[2 * TIMES + n for n in row] for row in first]
    with pytest.raises(ValueError, match="There is no trajectory 3, expected 0 to 2"):
        Hindcasts.find(source, (3,), 1, 6.0, 2, 2)
    for lead, steps in ((12.0, 5), (7.0, 1)):
        with pytest.raises(ValueError, match=f"no state that others follow {steps} times after {lead:g} h"):
            Hindcasts.find(source, (0,), 1, lead, steps, 2)


def test_calibrated_run_forecasts_with_the_best_factors_on_any_ranks(run: Path, mpirun, tmp_path: Path) -> None:
    result = here(*asked(run, tmp_path / "one"))
    assert result.status == 0, result.err
    assert result.out.count("distance") == 3 and "round 2" in result.out
    before, after = load_generator(run), load_generator(tmp_path / "one")
    for key in ("long_waves", "short_waves"):
        assert set(getattr(after.config.sampling, key)) == set(NAMES)
    assert set(after.config.sampling.wind_power) == set(NAMES)
    assert replace(after.config.sampling, long_waves=1.0, short_waves=1.0, wind_power=0.0) == before.config.sampling
    for name, x in before.denoiser.network.state_dict().items():
        assert x.equal(after.denoiser.network.state_dict()[name]), name
    status, output = mpirun(
        2, "-m", "halocline", *asked(run, tmp_path / "two"), cwd=tmp_path, limit=120
    )  # fmt: skip
    assert status == 0, output
    found = [yaml.safe_load((tmp_path / name / "config.yaml").read_text())["sampling"] for name in ("one", "two")]
    assert found[0] == found[1]


def test_first_round_is_kept_where_no_other_is_better(run: Path, tmp_path: Path, monkeypatch) -> None:
    """Rounds after the first are made worse; the folder holds the factors of the first, those of the run."""
    from halocline.run import calibration

    costs = iter((0.5, 0.7))
    monkeypatch.setattr(calibration, "cost", lambda scores: next(costs))
    result = here(*asked(run, tmp_path / "kept"))
    assert result.status == 0 and "least distance 0.500" in result.out
    assert load_generator(tmp_path / "kept").config.sampling.long_waves == dict.fromkeys(NAMES, 1.0)


def test_the_rounds_begin_with_the_sampling_that_is_asked_for_and_leave_it(run: Path, tmp_path: Path) -> None:
    wanted = ("rounds=2", "wind=false", "sampling.times=quadratic", "sampling.wind_power=0.3")
    result = here(*asked(run, tmp_path / "calm"), *wanted)
    assert result.status == 0, result.err
    sampling = load_generator(tmp_path / "calm").config.sampling
    assert sampling.wind_power == 0.3 and set(sampling.long_waves) == set(NAMES)
    wanted = ("rounds=1", "sampling.times=quadratic", "sampling.short_waves.snow=0.7")
    result = here(*asked(run, tmp_path / "asked"), *wanted)
    assert result.status == 0, result.err
    sampling = load_generator(tmp_path / "asked").config.sampling
    assert sampling.times == "quadratic" and sampling.short_waves == dict.fromkeys(NAMES, 1.0) | {"snow": 0.7}
    result = here(*asked(run, tmp_path / "wrong"), "sampling.times=cubic")
    assert result.status == 1 and "sampling.times is 'cubic', expected one of" in result.sentence


def test_ensembles_of_which_nothing_can_be_told_are_an_error(run: Path, tmp_path: Path, monkeypatch) -> None:
    from halocline.run import calibration

    monkeypatch.setattr(calibration, "cost", lambda scores: np.inf)
    result = here(*asked(run, tmp_path / "none"))
    assert result.status == 1 and "No variable has a ratio of spread to error" in result.sentence
    assert not (tmp_path / "none/generator.safetensors").exists()


def test_output_that_cannot_be_written_is_refused_before_the_first_round(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = here(*asked(run, tmp_path / "file/run"))
    assert result.status == 1 and "file/run" in result.sentence and "round 1" not in result.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("trajectories=[7]",), "There is no trajectory 7, expected 0 to 2"),
        (("members=1",), "members is 1, expected at least 2"),
        (("lead=3", "steps=1"), "no state that others follow 1 times after 3 h"),
        (("start=2",), "Unknown key 'start'"),
    ],
)
def test_what_cannot_be_calibrated_is_a_sentence(run: Path, tmp_path: Path, arguments, sentence: str) -> None:
    result = here(*asked(run, tmp_path / "x", *arguments))
    assert result.status == 1 and sentence in result.sentence
    assert not (tmp_path / "x").exists()


def test_the_run_itself_is_not_overwritten(run: Path) -> None:
    result = here(*asked(run, run))
    assert result.status == 1 and "or the run itself: choose another output" in result.sentence
