"""Levels and arrivals of a load, by arithmetic."""

from __future__ import annotations

import pytest

from kvlab.errors import InvalidArgument
from kvlab.load.arrivals import CHANGES, SHAPES, Arrivals


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("step", [0.25, 0.25, 0.5, 0.75, 1]),
        ("spike", [0.2, 0.2, 1, 0.2, 0.2]),
        ("flash-sale", [0.1, 0.1, 0.49, 0.17, 0.1]),
        ("daily-peak", [0.2, 0.48, 0.92, 0.92, 0.2]),
        ("retry-storm", [0.4, 0.4, 1, 0.51, 0.4]),
    ],
)
def test_levels(shape: str, levels: list[float]) -> None:
    found = [SHAPES[shape](share) for share in (0.0, 0.2, 0.4, 0.6, 1.0)]
    assert found == pytest.approx(levels, abs=0.01)
    everywhere = [SHAPES[shape](n / 100) for n in range(101)]
    assert 0 < min(everywhere) <= max(everywhere) <= 1
    assert [*CHANGES[shape]] == sorted(CHANGES[shape])


def test_as_many_arrive_as_the_rate_says() -> None:
    arrivals = Arrivals(1000, began=50.0, seed=3)
    due = arrivals.never_sent(60.0)
    assert due == sorted(due)
    assert due[0] > 50.0
    assert len(due) == pytest.approx(10_000, rel=0.05)
    assert arrivals.next() > 60.0


def test_a_shape_bends_the_rate() -> None:
    due = Arrivals(1000, 0.0, 4, SHAPES["spike"], seconds=10.0).never_sent(10.0)
    middle = sum(4 <= at < 6 for at in due)
    assert middle == pytest.approx(2000, rel=0.1)
    assert len(due) - middle == pytest.approx(1600, rel=0.1)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_a_number_above_zero(rate: float) -> None:
    with pytest.raises(InvalidArgument, match="rate"):
        Arrivals(rate, 0.0, 0)
