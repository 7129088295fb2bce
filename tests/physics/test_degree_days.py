"""Degree-days are the means that they say, and have the same bits however they were reached."""

import numpy as np
import pytest
import torch

from halocline.physics.degree_days import DEGREE_DAYS, THRESHOLD, DegreeDays

SHAPE = (2, 1, 3, 4)


def series(records: int, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(records, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return (-2.0 + 9.0 * noise).float()


def run(x: torch.Tensor, **options) -> DegreeDays:
    days = DegreeDays(SHAPE, 24.0, **options)
    for record in x:
        days.update(record)
    return days


def at_once(x: torch.Tensor, length: int) -> list[np.ndarray]:
    """Means over the last records, of temperatures in parts of 2**-16 K, in whole numbers of any size."""
    parts = np.round((x.double().numpy() - THRESHOLD) * 2**16).astype(np.int64)[-length:]
    return [np.clip(sign * parts, 0, None).sum(0) / 2**16 / len(parts) for sign in (1, -1)]


@pytest.mark.parametrize("records", [1, 29, 30, 31, 366, 500])
def test_step_by_step_and_at_once_have_the_same_bits(records):
    x = series(records)
    found = run(x).fields()
    assert tuple(found) == DEGREE_DAYS == ("positive_month", "freezing_month", "positive_year", "freezing_year")
    for name, expected in zip(DEGREE_DAYS, [*at_once(x, 30), *at_once(x, 366)], strict=True):
        assert found[name].numpy().tobytes() == expected.tobytes()


def test_they_are_the_means_that_gensim_rolls():
    """Plain float64 means over 120 and 1464 records of six hours; fixed point moves a record by 2**-17 K at most."""
    x = series(1500)
    days = DegreeDays(SHAPE, 6.0)
    for record in x:
        days.update(record)
    kelvins = x.double() + 273.15
    for window, length in (("month", 120), ("year", 1464)):
        for kind, sign in (("positive", 1), ("freezing", -1)):
            mean = (sign * (kelvins[-length:] - 271.35)).clamp(min=0).mean(0)
            assert float((days.fields()[f"{kind}_{window}"] - mean).abs().max()) < 2**-17


def test_an_interrupted_run_goes_on_with_the_same_bits(tmp_path):
    x = series(420)
    first = run(x[:390])
    torch.save(first.state_dict(), tmp_path / "days.pt")
    second = DegreeDays(SHAPE, 24.0)
    second.load_state_dict(torch.load(tmp_path / "days.pt"))
    for record in x[390:]:
        second.update(record)
    whole = run(x).fields()
    assert all(torch.equal(field, whole[name]) for name, field in second.fields().items())
    assert first.count == 390  # the one that was interrupted was not changed


def test_the_time_before_counts_until_the_window_is_filled():
    before = {name: torch.full(SHAPE, 3.0) for name in DEGREE_DAYS}
    x = torch.full((40, *SHAPE), THRESHOLD + 6.0)
    assert all((field == 3.0).all() for field in run(x[:0], before=before).fields().values())
    found = run(x[:10], before=before).fields()
    torch.testing.assert_close(found["positive_month"], torch.full(SHAPE, 4.0).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found["freezing_month"], torch.full(SHAPE, 2.0).double(), rtol=1e-12, atol=0)
    full = run(x, before=before).fields()
    torch.testing.assert_close(full["freezing_month"], torch.zeros(SHAPE).double())
    again = DegreeDays(SHAPE, 24.0)
    again.load_state_dict(run(x[:10], before=before).state_dict())
    assert torch.equal(again.fields()["positive_year"], found["positive_year"])


def test_what_is_no_temperature_or_no_interval_is_refused():
    with pytest.raises(ValueError, match=r"268.4 .* expected degC"):
        DegreeDays(SHAPE, 6.0).update(torch.full(SHAPE, 268.4))
    with pytest.raises(ValueError, match="expected degC"):
        DegreeDays(SHAPE, 6.0).update(torch.full(SHAPE, float("nan")))
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        DegreeDays(SHAPE, 6.0).update(torch.zeros(3))
    for interval in (0.0, 7.0, 48.0):
        with pytest.raises(ValueError, match="divides a day"):
            DegreeDays(SHAPE, interval)
    with pytest.raises(ValueError, match="before the first record"):
        DegreeDays(SHAPE, 6.0).fields()
    with pytest.raises(ValueError, match="freezing_month before the first record has nothing"):
        DegreeDays(SHAPE, 6.0, before={"positive_month": torch.zeros(SHAPE)})
    with pytest.raises(ValueError, match=r"\(366, 2, 1, 3, 4\) .* expected \(1464, "):
        DegreeDays(SHAPE, 6.0).load_state_dict(DegreeDays(SHAPE, 24.0).state_dict())
