"""The verdict's rule at and beyond each limit."""

import numpy as np
import pytest

from halocline.physics.verdict import Limit, Thresholds, judge

SAMPLES = {"temperature": np.array([4.0, 6.0, 5.0]), "unstable_fraction": np.zeros(3)}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (5.0, "ok"),
        (3.0, "ok"),  # low - 0.5 * 2
        (2.99, "suspect"),
        (-2.0, "suspect"),  # low - 3 * 2
        (-2.01, "reject"),
        (7.0, "ok"),
        (7.01, "suspect"),
        (12.01, "reject"),
        (float("nan"), "reject"),
        (float("inf"), "reject"),
    ],
)
def test_status_follows_the_distance_from_training(value, status):
    verdict = judge({"temperature": value, "unstable_fraction": 0.0}, Thresholds.from_samples(SAMPLES))
    assert verdict.status == status
    assert [check.name for check in verdict.checks] == ["temperature", "unstable_fraction"]
    assert verdict.checks[0].status == status and verdict.checks[1].status == "ok"


def test_constant_training_still_leaves_room():
    # Training is stable everywhere; extent is the resolution, 0.01.
    thresholds = Thresholds.from_samples({"unstable_fraction": np.zeros(3)})
    statuses = [judge({"unstable_fraction": value}, thresholds).status for value in (0.004, 0.01, 0.1)]
    assert statuses == ["ok", "suspect", "reject"]


def test_one_sided_diagnostics_have_no_lower_limit():
    thresholds = Thresholds.from_samples({"unstable_fraction": np.array([0.2, 0.3])})
    assert judge({"unstable_fraction": 0.0}, thresholds).status == "ok"
    assert judge({"unstable_fraction": float("-inf")}, thresholds).status == "reject"


def test_one_broken_cell_is_rejected():
    thresholds = Thresholds.from_samples({"nonfinite_cells": np.zeros(2)})
    assert judge({"nonfinite_cells": 0.0}, thresholds).status == "ok"
    assert judge({"nonfinite_cells": 1.0}, thresholds).status == "reject"


def test_profiles_are_judged_level_by_level():
    profile = np.array([[10.0, 4.0, np.nan], [12.0, 5.0, np.nan]])
    thresholds = Thresholds.from_samples({"temperature_mean": profile})
    assert list(thresholds.limits) == ["temperature_mean[0]", "temperature_mean[1]"]
    verdict = judge({"temperature_mean": np.array([11.0, 9.0, np.nan])}, thresholds)
    assert [check.status for check in verdict.checks] == ["ok", "reject"]


def test_reason_names_the_worst_check():
    thresholds = Thresholds.from_samples({"a": np.array([0.0, 1.0]), "b": np.array([0.0, 1.0])})
    assert judge({"a": 0.5, "b": 0.5}, thresholds).reason == (
        "All 2 checks lie within the range of the training states."
    )
    assert judge({"a": 2.0, "b": -9.0}, thresholds).reason == "b = -9 is below -0.5."
    assert judge({"a": 9.0, "b": 9.0}, thresholds).reason == ("a = 9 is above 1.5, and 1 more of 2 checks.")
    assert judge({"a": np.nan, "b": 9.0}, thresholds).reason.startswith("a = nan is not finite")


def test_thresholds_survive_json():
    thresholds = Thresholds.from_samples(SAMPLES, ok_margin=0.1, reject_margin=1 / 3)
    again = Thresholds.from_json(thresholds.to_json())
    assert again == thresholds
    assert again.limits["unstable_fraction"].low == -np.inf


@pytest.mark.parametrize("text", ["{", "[]", '{"limits": {"a": {"low": 0}}}', '{"limits": 3}'])
def test_foreign_json_is_refused(text):
    with pytest.raises(ValueError, match="Thresholds must be JSON with a table 'limits'"):
        Thresholds.from_json(text)


def test_missing_values_are_refused():
    with pytest.raises(ValueError, match="got none for unstable_fraction"):
        judge({"temperature": 5.0}, Thresholds.from_samples(SAMPLES))


@pytest.mark.parametrize("values", [np.array([]), np.zeros((2, 2, 2)), np.array(1.0)])
def test_samples_need_states(values):
    with pytest.raises(ValueError, match="must have shape"):
        Thresholds.from_samples({"a": values})


def test_broken_training_states_are_refused():
    with pytest.raises(ValueError, match="must be finite, got 1"):
        Thresholds.from_samples({"a": np.array([1.0, np.nan])})


def test_margins_and_limits_must_be_ordered():
    with pytest.raises(ValueError, match="ok_margin <= reject_margin"):
        Thresholds.from_samples(SAMPLES, ok_margin=2.0, reject_margin=1.0)
    with pytest.raises(ValueError, match="reject_low <= low"):
        Limit(low=0.0, high=1.0, reject_low=0.5, reject_high=2.0)
