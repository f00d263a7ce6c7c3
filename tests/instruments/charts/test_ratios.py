"""A title states a ratio only where its interval excludes 1."""

from __future__ import annotations

import math

import pytest

from kvlab.instruments import Comparison
from kvlab.instruments.charts.ratios import in_words


@pytest.mark.parametrize(
    ("ratio", "low", "high", "says"),
    [
        (1.6, 1.2, 2.1, "two are 1.6 times as fast (1.2 to 2.1)"),
        (0.95, 0.75, 1.14, "no difference seen (0.75 to 1.14 times)"),
        (1.0, 1.0, 1.0, "no difference seen (1 to 1 times)"),
        (2_340.4, 1_500, 3_000, "two are 2,340 times as fast (1,500 to 3,000)"),
        (0.312, 0.25, 0.41, "two are 0.312 times as fast (0.25 to 0.41)"),
        (3.0, 0.0, math.inf, "too few turns to tell a difference"),
    ],
)
def test_a_ratio_is_stated_only_with_an_interval_that_excludes_one(
    ratio: float, low: float, high: float, says: str
) -> None:
    found = Comparison(ratio, low, high, 0.95, (), ())
    assert in_words(found, "two are {} times as fast") == says
