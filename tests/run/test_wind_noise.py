"""Noise grows with the wind nearby: by its power, within limits, smoothly, and on no layout differently."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from case import here
from ice_case import sea, trajectories, write_case
from scipy.ndimage import uniform_filter

from halocline.io.training_store import TrainingStore
from halocline.mesh.communicator import Serial
from halocline.mesh.grid import box_grid
from halocline.mesh.halo import HaloPlan
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.run.config import read_config
from halocline.run.forecast_step import Stepper
from halocline.run.generator import Generator
from halocline.run.long_waves import smooth
from halocline.run.train import prepare
from halocline.run.wind_noise import ROUNDS, WindNoise

MASK = sea()
POWER = {"concentration": 0.5, "damage": 1.0}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """One whose network disturbs what it is given."""
    config = write_case(tmp_path_factory.mktemp("wind"))
    assert here("data", config).status == 0
    generator = prepare(read_config(config), TrainingStore.open(config.parent / "run/data.zarr"))
    for weights in generator.denoiser.network.parameters():
        weights.data += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
    return generator


def with_sampling(generator: Generator, **changed: object) -> Generator:
    config = generator.config
    return replace(generator, config=replace(config, sampling=replace(config.sampling, **changed)))


def built(generator: Generator, power: object = POWER) -> tuple[WindNoise, Layout]:
    layout = Layout.build(generator.lattice, Serial())
    made = WindNoise.build(with_sampling(generator, wind_power=power), layout)
    assert made is not None
    return made, layout


def blowing(u: float | np.ndarray, v: float | np.ndarray = 0.0, land: float = 0.0) -> np.ndarray:
    """Forcing of a time: wind, and an air temperature that does not matter."""
    return np.stack([np.where(MASK, x, land) for x in (u + 0 * MASK, v + 0 * MASK, -9.0 + 0 * MASK)]).astype(np.float32)


@pytest.mark.parametrize(("ratio", "seen"), [(0.5, 0.5), (1.0, 1.0), (1.7, 1.7), (9.0, 2.0), (0.0, 0.25)])
def test_a_wind_that_is_everywhere_the_same_counts_by_its_power_up_to_the_coast(learned, ratio, seen) -> None:
    noise, layout = built(learned)
    w = ratio * noise.usual
    ends = blowing(1.2 * w, land=np.nan), blowing(0.24 * w, np.sqrt(0.5024) * w)  # squares 1.44 and 0.56
    g = layout.collect(noise(ends))
    for channel, name in enumerate(learned.config.data.variables):
        found = np.asarray(g)[0, channel]
        assert np.allclose(found[MASK], seen ** POWER.get(name, 0.0), rtol=2e-6), name
        assert np.isin(found[~MASK], (0, 1)).all()  # nobody has tiles of land alone


def test_usual_wind_is_the_root_mean_square_of_the_training_states(learned) -> None:
    fields = trajectories()
    squares = sum(fields[name][:2][..., MASK].astype(float) ** 2 for name in ("uas", "vas"))
    assert built(learned)[0].usual == pytest.approx(np.sqrt(squares.mean()), rel=1e-3)


@pytest.mark.parametrize("width", [2, 4, 6])
def test_smoothing_is_that_of_an_independent_filter(width: int) -> None:
    n, r = 32, min(width, 4)
    torus = box_grid(1, n, n, periodic_i=True, periodic_j=True)
    layout = Layout.build(Lattice.from_grid(torus, (16, 16), width), Serial())
    x = expected = np.random.default_rng(0).uniform(size=(n, n))
    made = torch.as_tensor(layout.cut(x[None]))[None]
    for _ in range(ROUNDS):
        made = smooth(made, r, HaloPlan.build(layout, ("T",), (1,)), width, torch.ones(()).double())
        expected = uniform_filter(uniform_filter(expected, 2 * r + 1, mode="wrap"), 2 * r + 1, mode="wrap")
    assert np.allclose(np.asarray(layout.collect(made))[0, 0], expected, rtol=1e-12)


def test_a_gust_is_felt_nearby_and_less_further_away(learned) -> None:
    gust = np.where((np.arange(13)[:, None] == 10) & (np.arange(19) == 3), 60.0, 1.0)
    noise, layout = built(learned)
    found = np.asarray(layout.collect(noise([blowing(gust)] * 2)))[0, 2]
    assert found[10, 3] > found[7, 3] > found[3, 3] > found[2, 17] > 0


def test_without_power_or_at_the_usual_wind_forecasts_are_as_before_and_in_storms_they_spread_more(learned) -> None:
    def members(wind: float, **changed: object) -> torch.Tensor:
        stepper = Stepper.build(with_sampling(learned, **changed), Layout.build(learned.lattice, Serial()))
        x = torch.where(stepper.mask, torch.full((3, *stepper.mask.shape), 0.5), 0)
        return stepper(x, [blowing(wind)] * 2, 12.0, 0, 0, range(3))

    usual = built(learned)[0].usual
    plain = members(3 * usual)
    assert torch.equal(members(3 * usual, wind_power=0.0), plain)
    assert torch.equal(members(3 * usual, wind_power=1.0), members(3 * usual, noise=2.0))  # 2 is the most
    assert torch.equal(members(0.1 * usual, wind_power=1.0), members(0.1 * usual, noise=0.25))
    assert not torch.equal(members(3 * usual, wind_power=1.0), plain)
