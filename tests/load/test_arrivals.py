"""Levels and arrivals of a load, by arithmetic."""

from __future__ import annotations

import pytest

from kvlab.errors import InvalidArgument
from kvlab.load.arrivals import SHAPES, Arrivals


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("step", [0.25, 0.25, 0.5, 0.75, 1]),
        ("spike", [0.2, 0.2, 1, 0.2, 0.2]),
    ],
)
def test_levels(shape: str, levels: list[float]) -> None:
    assert [SHAPES[shape](share) for share in (0.0, 0.2, 0.4, 0.6, 1.0)] == levels


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


def test_the_rate_may_change() -> None:
    arrivals = Arrivals(10, 0.0, 5)
    arrivals.change(1000.0, 0.0)
    assert len(arrivals.never_sent(1.0)) == pytest.approx(1000, rel=0.2)
    arrivals.change(10.0, 1.0)
    assert 15 < len(arrivals.never_sent(4.0)) < 45


def test_users_who_start_one_after_another_leave_no_gap() -> None:
    # Each takes the next arrival when it starts; the rate is that of the users so far.
    behind = []
    for seed in range(50):
        arrivals = Arrivals(100, 0.0, seed)
        due = []
        for users in range(1, 21):
            arrivals.change(100 * users / 20, 0.0)
            due.append(arrivals.next())
        behind.append(due[-1])
    assert sum(behind) / 50 == pytest.approx(20 / 100, rel=0.15)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_a_number_above_zero(rate: float) -> None:
    with pytest.raises(InvalidArgument, match="rate"):
        Arrivals(rate, 0.0, 0)
