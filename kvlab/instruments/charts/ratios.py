"""A ratio in a title: stated only where its interval excludes 1."""

from __future__ import annotations

import math
from typing import Protocol


class Ratio(Protocol):
    """A ratio with its interval, as :class:`kvlab.instruments.Comparison` is one."""

    @property
    def ratio(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def in_words(found: Ratio, sentence: str = "{} times") -> str:
    """``sentence`` with the ratio in its braces, and the interval; or that no difference was seen.

    Every title that names a ratio takes its words from here: a title that states what the next run
    denies has taught nothing.
    """
    if math.isinf(found.high):
        return "too few turns to tell a difference"
    interval = f"{digits(found.low)} to {digits(found.high)}"
    if found.low <= 1 <= found.high:
        return f"no difference seen ({interval} times)"
    return f"{sentence.format(digits(found.ratio))} ({interval})"


def digits(ratio: float) -> str:
    """Three digits, and no exponent: 0.95, 12.5, 113, 2,340."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
