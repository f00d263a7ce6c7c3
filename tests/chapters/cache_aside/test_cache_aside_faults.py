"""The tables of chapter 1: faults one by one, and the loads of empty values."""

from __future__ import annotations

from typing import Any

from kvlab import CacheAside, Kv, NaiveCacheAside
from kvlab.chapters.cache_aside.empty_values import loads_of_ten_reads
from kvlab.chapters.cache_aside.faults import KINDS, explore_fault_by_fault


def test_a_crash_is_told_from_a_lost_reply() -> None:
    def set_then_delete(client: Any) -> None:
        client.set("key", 1)
        client.delete("key")

    def key_is_gone(world: Any) -> bool:
        return not world.kv.exists("key")

    table = explore_fault_by_fault([set_then_delete], invariant=key_is_gone)
    broken = dict(zip(table.iloc[:, 0], table["broken"], strict=True))
    assert list(broken) == list(KINDS)
    assert broken == dict.fromkeys(KINDS, 0) | {"a client crashes": 1}


def test_the_naive_version_caches_no_empty_value(kv: Kv) -> None:
    cache = CacheAside("c", ttl=60)
    variants = {
        "naive": NaiveCacheAside(kv.client, prefix=kv.prefix).get,
        "hardened": lambda key, load: kv.run(cache.fetch(key, load)),
    }
    table = loads_of_ten_reads(variants, [{"name": "Ada"}, 0, "", [], None])
    assert list(table["naive"]) == [1, 10, 10, 10, 10]
    assert list(table["hardened"]) == [1] * 5
