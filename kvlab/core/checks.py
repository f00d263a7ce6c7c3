"""Argument checks shared by the instruments; each names the value and the allowed range."""

from __future__ import annotations

import math

from kvlab.errors import InvalidArgument


def whole(name: str, value: int, low: int, high: int | None = None) -> int:
    """``value`` as an int within ``low``…``high``, or ``InvalidArgument``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidArgument(f"{name} must be a whole number, got {value!r}")
    number = value.__index__()
    if number < low or (high is not None and number > high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidArgument(f"{name} must be {allowed}, got {value!r}")
    return number


def real(
    name: str, value: float, low: float, high: float = math.inf, *, above: bool = False
) -> float:
    """``value`` as a finite float within ``low``…``high`` (``above``: more than ``low``)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{name} must be a number, got {value!r}") from None
    too_low = number <= low if above else number < low
    if not math.isfinite(number) or too_low or number > high:
        allowed = f"{'more than' if above else 'at least'} {low:g}"
        if math.isfinite(high):
            allowed += f" and at most {high:g}"
        raise InvalidArgument(f"{name} must be finite, {allowed}, got {value!r}")
    return number
