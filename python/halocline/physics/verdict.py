r"""Thresholds learnt from training states, and the verdict they give.

For each diagnostic the training states span [low, high], with extent w = high - low, at least the
diagnostic's *resolution*: a difference too small to matter. Then

===========  ============================================================
ok           within [low - a w, high + a w]
suspect      within [low - b w, high + b w], b > a
reject       beyond, or NaN or infinite
===========  ============================================================

Some diagnostics are bad on one side only, such as the unstable fraction: they have no lower limit.
The status of a state is the worst of its checks.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

Status = Literal["ok", "suspect", "reject"]
_ORDER: tuple[Status, ...] = get_args(Status)

ONE_SIDED = ("unstable_fraction", "unstable_fraction_strict", "nonfinite_cells")
"""Diagnostics of which less is never worse."""

RESOLUTION: Mapping[str, float] = {
    # NEMO cured a state with 1 % unstable volume within a year; it is not a reason to reject.
    "unstable_fraction": 0.01,
    "unstable_fraction_strict": 0.01,
    # One cell is too many.
    "nonfinite_cells": 0.0,
}
"""Smallest extent of the training states that is taken seriously, in the diagnostic's unit."""

RELATIVE_RESOLUTION = 1.0e-4
"""For all others, as a fraction of the largest magnitude: salinity conserved to 2e-5 in training
must not reject a state that conserves it to 1e-3."""


@dataclass(frozen=True)
class Limit:
    """Limits of one number: ok within [low, high], suspect within [reject_low, reject_high]."""

    low: float
    high: float
    reject_low: float
    reject_high: float

    def __post_init__(self) -> None:
        edges = (self.reject_low, self.low, self.high, self.reject_high)
        if any(math.isnan(edge) for edge in edges) or list(edges) != sorted(edges):
            raise ValueError(
                f"Limits must satisfy reject_low <= low <= high <= reject_high, got {edges}: widen the outer pair."
            )

    def status(self, value: float) -> Status:
        """Returns the status of one value."""
        if not math.isfinite(value) or not self.reject_low <= value <= self.reject_high:
            return "reject"
        return "ok" if self.low <= value <= self.high else "suspect"


@dataclass(frozen=True)
class Check:
    """One compared number; ``low`` and ``high`` are the limits of ok."""

    name: str
    value: float
    low: float
    high: float
    status: Status


@dataclass(frozen=True)
class Verdict:
    """The worst status of all checks and a sentence that says why."""

    status: Status
    checks: tuple[Check, ...]
    reason: str


@dataclass(frozen=True)
class Thresholds:
    """Limits by diagnostic; profiles have one entry per level, named ``name[level]``."""

    limits: Mapping[str, Limit]

    @classmethod
    def from_samples(
        cls,
        samples: Mapping[str, ArrayLike],
        ok_margin: float = 0.5,
        reject_margin: float = 3.0,
        resolution: Mapping[str, float] = RESOLUTION,
        one_sided: Sequence[str] = ONE_SIDED,
    ) -> "Thresholds":
        """Learns the limits from training states.

        Arguments:
            samples: Diagnostic name to its values over training states, shape (state,) or, for a
                profile, (state, level); a level that is NaN in every state has no water and is
                left out.
            ok_margin: a, in extents of the training states.
            reject_margin: b, at least a.
            resolution: Smallest extent by name; others use ``RELATIVE_RESOLUTION``.
            one_sided: Names without a lower limit.

        Raises:
            ValueError: No samples, a value that is not finite, or margins out of order.
        """
        if not 0.0 <= ok_margin <= reject_margin:
            raise ValueError(
                f"Margins must satisfy 0 <= ok_margin <= reject_margin, got {ok_margin} and "
                f"{reject_margin}: swap or widen them."
            )
        limits = {}
        for name, values in samples.items():
            for label, column in _columns(name, values):
                extent = _extent(column, resolution.get(name))
                low, high = float(column.min()), float(column.max())
                limits[label] = Limit(
                    -math.inf if name in one_sided else low - ok_margin * extent,
                    high + ok_margin * extent,
                    -math.inf if name in one_sided else low - reject_margin * extent,
                    high + reject_margin * extent,
                )
        return cls(limits)

    def to_json(self) -> str:
        """Returns the limits as JSON; infinite limits are null."""
        edges = {
            name: {key: value if math.isfinite(value) else None for key, value in vars(limit).items()}
            for name, limit in self.limits.items()
        }
        return json.dumps({"limits": edges}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Thresholds":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: The text is not such JSON.
        """
        try:
            table = json.loads(text)["limits"]
            return cls({name: _limit_from_json(edges) for name, edges in table.items()})
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                "Thresholds must be JSON with a table 'limits' of low, high, reject_low and "
                f"reject_high, got {type(error).__name__} ({error}): write it with to_json."
            ) from error


def _limit_from_json(edges: Mapping[str, Any]) -> Limit:
    def edge(name: str, missing: float) -> float:
        return missing if edges[name] is None else float(edges[name])

    return Limit(
        edge("low", -math.inf),
        edge("high", math.inf),
        edge("reject_low", -math.inf),
        edge("reject_high", math.inf),
    )


def _columns(name: str, values: ArrayLike) -> list[tuple[str, np.ndarray]]:
    """Returns the labelled series of a diagnostic over the training states."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.shape[0] == 0:
        raise ValueError(
            f"Samples of {name!r} must have shape (state,) or (state, level), got {array.shape}: "
            "stack the diagnostics of at least one training state."
        )
    if array.ndim == 1:
        series = [(name, array)]
    else:
        series = [(f"{name}[{k}]", array[:, k]) for k in range(array.shape[1])]
        series = [(label, column) for label, column in series if not np.isnan(column).all()]
    for label, column in series:
        if not np.isfinite(column).all():
            raise ValueError(
                f"Samples of {label!r} must be finite, got {np.sum(~np.isfinite(column))} that are "
                "not: leave broken states out of the training set."
            )
    return series


def _extent(column: np.ndarray, resolution: float | None) -> float:
    smallest = RELATIVE_RESOLUTION * np.abs(column).max() if resolution is None else resolution
    return max(float(np.ptp(column)), float(smallest))


def judge(values: Mapping[str, ArrayLike], thresholds: Thresholds) -> Verdict:
    """Compares the diagnostics of one state with the thresholds.

    Arguments:
        values: Diagnostic name to number or, for a profile, array over levels. Names without a
            threshold are passed over; every threshold needs its value.
        thresholds: Limits.

    Returns:
        The verdict; checks in the order of the thresholds.

    Raises:
        ValueError: A threshold has no value.
    """
    numbers: dict[str, float] = {}
    for name, value in values.items():
        array = np.asarray(value, dtype=np.float64)
        if array.ndim == 0:
            numbers[name] = float(array)
        elif array.ndim == 1:
            numbers.update({f"{name}[{k}]": float(x) for k, x in enumerate(array)})
    missing = [name for name in thresholds.limits if name not in numbers]
    if missing:
        raise ValueError(
            f"Every threshold needs a value, got none for {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''}: diagnose the same fields as in training."
        )
    checks = tuple(
        Check(name, numbers[name], limit.low, limit.high, limit.status(numbers[name]))
        for name, limit in thresholds.limits.items()
    )
    worst = max((_ORDER.index(check.status) for check in checks), default=0)
    status = _ORDER[worst]
    return Verdict(status, checks, _explain(status, checks))


def _explain(status: Status, checks: Sequence[Check]) -> str:
    if status == "ok":
        return f"All {len(checks)} checks lie within the range of the training states."
    worst = [check for check in checks if check.status == status]
    first = worst[0]
    if not math.isfinite(first.value):
        why = "is not finite"
    elif first.value > first.high:
        why = f"is above {first.high:.6g}"
    else:
        why = f"is below {first.low:.6g}"
    others = f", and {len(worst) - 1} more of {len(checks)} checks" if len(worst) > 1 else ""
    return f"{first.name} = {first.value:.6g} {why}{others}."
