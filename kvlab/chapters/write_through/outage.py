"""The row is committed, and then the writer cannot reach the cache: who knows, and for how long?

A proxy before the server refuses the writer's connections. Readers do not use the proxy, and
still reach the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import redis

import kvlab
from kvlab import CacheAside, Kv, NaiveCacheAside, NaiveWriteThrough, WriteThrough
from kvlab.chapters.write_through.variants import with_version
from kvlab.instruments import Origin, Proxy

TTL = 1
MARGIN = 0.05

Read = Callable[[], Any]


def save_without_cache(kv: Kv, url: str, origin: Origin, key: int = 9) -> pd.DataFrame:
    """Each version saves "new" while the cache is away and has "old". One row per version.

    The columns: what the caller of ``save`` gets, what the database has, and what readers get at
    once and after the TTL. ``url`` is the server of ``kv``.
    """
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
        saved = {
            "naive": _save_naive(kv, proxy, far, origin, key),
            "hardened": _save_hardened(kv, proxy, far, origin, key + 1),
        }
    at_once = {variant: read()["name"] for variant, (_, read) in saved.items()}
    time.sleep(TTL + MARGIN)
    rows = [
        (variant, answer, _name(origin, row), at_once[variant], read()["name"])
        for row, (variant, (answer, read)) in enumerate(saved.items(), start=key)
    ]
    columns = ["variant", "the caller gets", "database", "readers at once", "readers after the TTL"]
    return pd.DataFrame(rows, columns=columns)


def _save_naive(kv: Kv, proxy: Proxy, far: Kv, origin: Origin, key: int) -> tuple[str, Read]:
    near = NaiveWriteThrough(kv.client, ttl=TTL, prefix=kv.prefix)
    near.save(key, lambda: [origin.save(key, name="old")[0]])
    proxy.refuse()
    try:
        cut_off = NaiveWriteThrough(far.client, ttl=TTL, prefix=kv.prefix)
        cut_off.save(key, lambda: [origin.save(key, name="new")[0]])
        answer = "the row"
    except redis.ConnectionError as problem:
        answer = type(problem).__name__
    finally:
        proxy.heal()
    cache = NaiveCacheAside(kv.client, ttl=TTL, prefix=kv.prefix)
    return answer, lambda: cache.get(key, lambda: origin.read(key))


def _save_hardened(kv: Kv, proxy: Proxy, far: Kv, origin: Origin, key: int) -> tuple[str, Read]:
    cache = WriteThrough(CacheAside("brief", ttl=TTL, jitter=0, early=0))
    kv.run(cache.save(key, lambda: origin.save(key, name="old")))
    proxy.refuse()
    saved = far.run(cache.save(key, lambda: origin.save(key, name="new")))
    proxy.heal()
    answer = f"the row, cached={saved.cached}, {type(saved.error).__name__}"
    return answer, lambda: kv.run(cache.fetch(key, lambda: with_version(origin.read(key))))


def _name(origin: Origin, key: int) -> str:
    row = origin.read(key)
    return "" if row is None else str(row["name"])
