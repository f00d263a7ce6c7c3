"""Forced meetings at one cache entry: exact counts, naive beside hardened."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kvlab import CacheAside, Kv, NaiveCacheAside
from kvlab.chapters.cache_aside_cold_key import Loads, chart, crowd, filled_together
from kvlab.instruments import OpenLoop, Zipf


def test_naive_readers_all_load_and_hardened_ones_once(kv: Kv) -> None:
    naive, cache = NaiveCacheAside(kv.client, prefix=kv.prefix), CacheAside("c", 300)
    loads = Loads(lambda key: {"id": key})
    visits = crowd(16, lambda load: naive.get(7, load), lambda: loads(7))
    assert loads.total == 16 == sum(v.loading is not None for v in visits)

    loads = Loads(lambda key: {"id": key})
    hardened = crowd(16, lambda load: kv.run(cache.fetch(7, load)), lambda: loads(7), kv=kv)
    assert (loads.total, loads.overlapping) == (1, 0)
    assert [v.value for v in visits + hardened] == [{"id": 7}] * 32
    assert kv.settings.trace is None
    figure = chart({"naive": visits, "hardened": hardened}, {"naive": 16, "hardened": 1}, title="t")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].startswith("naive: 16 loads, ")
    assert titles[1].startswith("hardened: 1 load, ")


def test_no_load_begins_before_all_have_looked() -> None:
    lock, looked, seen = threading.Lock(), [0], []

    def read(load: Any) -> Any:
        with lock:
            looked[0] += 1
        return load()

    crowd(16, read, lambda: seen.append(looked[0]))
    assert seen == [16] * 16


def test_what_a_reader_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        crowd(4, lambda load: load(), lambda: 1 / 0)


def test_overlapping_loads_are_counted() -> None:
    def load(key: int) -> int:
        return loads(key - 1) if key > 1 else loads(7) if nested.pop() else key

    nested = [False, True]
    loads = Loads(load)
    loads(2)  # 2, then 1, which loads 7 …
    assert (loads.total, loads.overlapping) == (9, 2)


def test_entries_filled_together_are_cached_at_first() -> None:
    held: dict[int, Any] = {}

    def fetch(key: int, load: Any) -> Any:
        if key not in held or key == 3:
            held[key] = load()
        return held[key]

    result = filled_together(
        "x", fetch, lambda key: key, popularity=Zipf(8, 0), arrivals=OpenLoop(1e6), duration=4e-4,
        seed=1,
    )  # fmt: skip
    asked = Zipf(8, 0).keys(result.count, 1)
    assert result.counts.get("loads") == int((asked == 3).sum()) > 0
    assert result.violations == 0
