"""Checks of a verdict in words, for the log and for the terminal; light to import."""

from __future__ import annotations

import math

__all__ = ["concern", "number", "ok_text", "reject_text"]

Limits = tuple[float, float, float, float]
"""low, high, reject_low, reject_high."""


def concern(value: float, limits: Limits) -> float:
    """Measures how near a value is to being rejected, so that checks can be ordered.

    Returns:
        Negative: ok, -1 as far within as the zone of suspicion is wide; 0 to 1: suspect; above 1: reject; infinite for
        what is not finite.
    """
    low, high, reject_low, reject_high = limits
    if not math.isfinite(value):
        return math.inf
    sides = ((value - high, reject_high - high), (low - value, low - reject_low))
    return max(_beyond(distance, zone) for distance, zone in sides)


def _beyond(distance: float, zone: float) -> float:
    """How far beyond a limit a value is, in widths of the zone that follows; there may be no limit, or no zone."""
    if math.isnan(zone) or math.isinf(distance):
        return -math.inf
    if zone == 0.0:
        return math.inf if distance > 0 else -math.inf
    return distance / zone


def number(value: float) -> str:
    """Seven digits: salinities differ in the sixth."""
    return f"{value:.7g}"


def ok_text(limits: Limits) -> str:
    """Range of ok values, such as "3.1 to 3.4"."""
    return _range(limits[0], limits[1])


def reject_text(limits: Limits) -> str:
    """Where values are rejected, such as "beyond 2.8 to 3.7"."""
    _, _, low, high = limits
    if low == high:
        return f"if not {number(low)}"
    return f"above {number(high)}" if math.isinf(low) else f"beyond {_range(low, high)}"


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return f"up to {number(high)}"
    return number(low) if low == high else f"{number(low)} to {number(high)}"
