"""A promised wait is watched until it is over."""

from __future__ import annotations

import pytest

from kvlab import Kv, SlidingWindowLog
from kvlab.chapters.rate_limiting.admissions import KINDS
from kvlab.chapters.rate_limiting.waits import waits_of_all, watch_waits
from kvlab.errors import InvalidArgument


def test_a_wait_is_watched_and_what_is_not_denied_is_refused(kv: Kv) -> None:
    log = {"log": SlidingWindowLog("w", 4, 0.2)}
    waits = watch_waits(kv, log, "k", fill=4, cost=2)
    assert 0 < waits.loc["log", "retry_after, s"] <= 0.2
    assert waits.loc["log", "last no, ms"] < 0 <= waits.loc["log", "first yes, ms"]
    assert waits.loc["log", "true"]
    with pytest.raises(InvalidArgument, match="denied"):
        watch_waits(kv, {"log": SlidingWindowLog("x", 4, 86400)}, "k", fill=1, cost=1)


def test_the_waits_of_all_four_are_true(kv: Kv) -> None:
    waits = waits_of_all(kv, limit=4, window=0.3, cost=2)
    assert list(waits.index) == list(KINDS)
    assert waits["true"].all()
