"""Entries that are filled together: what a load is, and which loads overlap."""

from __future__ import annotations

from typing import Any

from kvlab.chapters.cache_aside.filled_together import LoadCounter, read_after_common_fill
from kvlab.instruments import OpenLoop, Zipf


def test_overlapping_loads_are_counted() -> None:
    def load(key: int) -> int:
        if key > 1:
            return loads(key - 1)
        return loads(7) if nested.pop() else key

    nested = [False, True]
    loads = LoadCounter(load)
    loads(2)  # 2, then 1, which loads 7 …
    assert (loads.total, loads.overlapping) == (9, 2)


def test_entries_filled_together_are_cached_at_first() -> None:
    cached: dict[int, Any] = {}

    def fetch(key: int, load: Any) -> Any:
        if key not in cached or key == 3:
            cached[key] = load()
        return cached[key]

    result = read_after_common_fill(
        "x",
        fetch,
        lambda key: key,
        popularity=Zipf(8, 0),
        arrivals=OpenLoop(1e6),
        duration=4e-4,
    )
    asked = Zipf(8, 0).keys(result.count, 1)
    assert result.counts.get("loads") == int((asked == 3).sum()) > 0
    assert result.violations == 0
    assert cached[3] == 3
    assert cached[0] == {"filled": 0}
