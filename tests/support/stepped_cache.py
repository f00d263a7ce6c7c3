"""What clients do with a cached row, stepped by the explorer: of cache-aside and write-through."""

from __future__ import annotations

import math
from typing import Any

from kvlab import CacheAside, NaiveCacheAside
from kvlab.instruments import Story, explore
from kvlab.instruments.explorer.stepped_row import SteppedRow

TTL, LEASE = 300, 10

db = SteppedRow()
cache = CacheAside("users", TTL, jitter=0, early=0, lease=LEASE)
# Renews whenever the load took two microseconds, which one round trip does.
eager = CacheAside(
    "users", 60, jitter=0, early=1e6, lease=LEASE, random=lambda: math.nextafter(1, 0)
)


def naive_read(kv: Any) -> Any:
    return NaiveCacheAside(kv).get("k", db.read)


def read(kv: Any) -> Any:
    return kv.run(cache.fetch("k", db.read))


def renew(kv: Any) -> Any:
    """A reader who finds that the entry is due."""
    return kv.run(eager.fetch("k", db.read))


def change(kv: Any) -> None:
    """A write that goes past the cache, with the invalidation after it."""
    db.write()
    kv.run(cache.invalidate("k"))


def filled(kv: Any) -> None:
    """The row is cached when the run begins."""
    db.reset()
    kv.run(cache.fill("k", kv.run(cache.read("k")).lease, db.row))


def explored(*clients: Any, **options: Any) -> Story:
    setup = filled if renew in clients else db.reset
    return explore(clients, setup=setup, progress=False, **options)
