"""Noise on the states that a training of forecasts is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from case import here
from ice_case import write_case

from halocline.io.training_store import TrainingStore
from halocline.run.config import read_config
from halocline.run.pairs import PairLoader, draw_state_noise, level_means
from halocline.run.train import prepare

MOST = 0.5
STATE = slice(-12, -6)  # of what is told: before it what is static, after it the forcing


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tuple[Path, TrainingStore]:
    config = write_case(tmp_path_factory.mktemp("noise"))
    assert here("data", config).status == 0
    return config, TrainingStore.open(config.parent / "run" / "data.zarr")


def batches(store, *settings: str, rank: int = 0, ranks: int = 1, steps: int = 12):
    """The generator, and what a rank reads in a few steps."""
    path, made = store
    generator = prepare(read_config(path, list(settings)), made)
    loader = PairLoader(made, generator, rank, ranks)
    try:
        return generator, [loader.draw(step)[0] for step in range(steps)], [loader.sample(n) for n in range(4 * steps)]
    finally:
        loader.close()


def physical(generator, told: torch.Tensor) -> torch.Tensor:
    mean, scale = level_means(generator.standardisation)[:6], generator.standardisation.scale[:6].double()
    return told.double() * scale[:, None, None] + mean[:, None, None]


def test_half_of_the_samples_have_noise_of_every_size() -> None:
    drawn = torch.stack([draw_state_noise(3, n, MOST, (4, 24, 24)) for n in range(400)])
    size = drawn.std(dim=(2, 3))
    noisy = size[(size > 0).all(dim=1)]
    assert 0.4 < len(noisy) / 400 < 0.6 and not drawn[(size == 0).any(dim=1)].any()
    assert float(noisy.min()) > MOST / 30 * 0.9 and float(noisy.max()) < MOST * 1.1
    # Equally likely on a logarithmic scale, each channel by itself
    assert float(noisy.log().mean()) == pytest.approx(np.log(MOST / 30**0.5), abs=0.1)
    assert abs(float(torch.corrcoef(noisy.log().T)[0, 1])) < 0.2
    assert torch.equal(drawn[7], draw_state_noise(3, 7, MOST, (4, 24, 24)))
    assert not torch.equal(draw_state_noise(4, int(size[:, 0].argmax()), MOST, (4, 24, 24)), drawn[size[:, 0].argmax()])


@pytest.mark.parametrize("stretched", ["[]", "[damage]"])
def test_the_change_leads_from_the_noisy_state_to_the_same_truth(store, stretched: str) -> None:
    settings = [f"forecast.stretched={stretched}"]
    generator, clean, samples = batches(store, *settings)
    _, noisy, _ = batches(store, *settings, f"forecast.state_noise={MOST}")
    disturbed = 0
    for n in range(len(samples)):
        (a, b), k = (clean[n // 4], noisy[n // 4]), n % 4
        before, after = (batch.conditions["static"][k] for batch in (a, b))
        outside = torch.ones(len(before), dtype=torch.bool)
        outside[STATE] = False
        assert torch.equal(before[outside], after[outside])
        assert torch.equal(a.z[k], b.z[k]) and torch.equal(a.bounds[k], b.bounds[k])
        if not draw_state_noise(5, n, MOST, (1, 1, 1)).any():
            assert torch.equal(before, after) and torch.equal(a.x0[k], b.x0[k])
            continue
        disturbed += 1
        wet = a.wet[k]
        assert torch.equal(before[STATE][~wet], after[STATE][~wet]) and torch.equal(a.x0[k][~wet], b.x0[k][~wet])
        kept = [c for c in range(6) if not (c == 2 and stretched != "[]")]  # damage may be told stretched
        unit = generator.increments.scale[samples[n].lead, :6, None, None]
        ends = [physical(generator, told[STATE]) + unit * x0 for told, x0 in ((before, a.x0[k]), (after, b.x0[k]))]
        assert torch.allclose(ends[0][kept][wet[kept]], ends[1][kept][wet[kept]], rtol=0, atol=1e-6)
        state = physical(generator, after[STATE])
        assert not torch.equal(before[STATE], after[STATE])
        for channel, (low, high) in enumerate([(0, 1), (0, np.inf), (0, 1), (0, np.inf)]):
            if channel in kept:
                values = state[channel][wet[channel]]
                assert float(values.min()) > low - 1e-6 and float(values.max()) < high + 1e-6
    assert 12 <= disturbed <= 36


def test_noise_on_states_is_the_same_on_any_number_of_ranks(store) -> None:
    _, whole, _ = batches(store, f"forecast.state_noise={MOST}")
    for rank in range(2):
        _, part, _ = batches(store, f"forecast.state_noise={MOST}", rank=rank, ranks=2)
        for a, b in zip(whole, part, strict=True):
            assert torch.equal(a.conditions["static"][rank::2], b.conditions["static"])
            assert torch.equal(a.x0[rank::2], b.x0)


@pytest.mark.parametrize("value", ["-0.1", "11", ".nan"])
def test_impossible_noise_on_states_is_a_sentence(tmp_path, value: str) -> None:
    result = here("data", write_case(tmp_path), f"forecast.state_noise={value}")
    assert result.status == 1
    assert "forecast.state_noise is" in result.sentence
    assert "expected 0 to 10 times the change over a lead" in result.sentence
