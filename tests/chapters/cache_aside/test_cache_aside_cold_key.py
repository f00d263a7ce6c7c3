"""Many readers of one cold key: exact counts, naive beside hardened."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kvlab import CacheAside, Kv, NaiveCacheAside
from kvlab.chapters.cache_aside.cold_key import read_cold_key
from kvlab.chapters.cache_aside.cold_key_chart import cold_key_chart


def row(key: int) -> dict[str, int]:
    return {"id": key}


def test_naive_readers_all_load_and_hardened_ones_once(kv: Kv) -> None:
    naive, cache = NaiveCacheAside(kv.client, prefix=kv.prefix), CacheAside("c", 300)

    def fetch(key: int, load: Any) -> Any:
        return kv.run(cache.fetch(key, load))

    runs = {
        "naive": read_cold_key(16, naive.get, row),
        "hardened": read_cold_key(16, fetch, row, kv=kv),
    }
    assert {variant: run.loads for variant, run in runs.items()} == {"naive": 16, "hardened": 1}
    assert [len(visit.loads) for visit in runs["naive"].visits] == [1] * 16
    for run in runs.values():
        assert [visit.value for visit in run.visits] == [{"id": 7}] * 16
        assert run.last_answer == max(visit.answered for visit in run.visits)
    assert kv.settings.trace is None
    figure = cold_key_chart(runs, title="t")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].startswith("naive: 16 loads, ")
    assert titles[1].startswith("hardened: 1 load, ")


def test_no_load_begins_before_all_have_looked() -> None:
    lock = threading.Lock()
    looked = 0
    seen = []

    def fetch(key: int, load: Any) -> Any:
        nonlocal looked
        with lock:
            looked += 1
        return load()

    read_cold_key(16, fetch, lambda key: seen.append(looked))
    assert seen == [16] * 16


def test_every_load_of_a_reader_is_counted() -> None:
    run = read_cold_key(3, lambda key, load: (load(), load()), row)
    assert run.loads == 6
    for visit in run.visits:
        (began, ended), (began_again, ended_again) = visit.loads
        assert visit.asked <= began <= ended <= began_again <= ended_again <= visit.answered


def test_what_a_reader_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        read_cold_key(4, lambda key, load: load(), lambda key: 1 / 0)
