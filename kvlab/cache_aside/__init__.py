"""Cache-aside: look in the cache; on a miss load from the database and put the value there.

Guarantee, for every process that uses one ``CacheAside`` name on one server:

* One load per key and miss while the lease lives. Whoever misses first gets the lease; the others
  wait for its value. A leader whose load raises gives the lease back and somebody else loads at
  once; one that dies keeps the others waiting until its lease ends. Nobody waits for longer than
  two leases: after that a caller loads for itself and leaves the cache alone.
* A fill never lands over a later invalidation: the invalidation takes the lease away.
* ``None`` (no such row) is cached, for ``negative_ttl``; 0, "", [] and False like any value.
* Each entry is fresh for at most ``ttl`` after its fill. Lives are shortened by up to ``jitter``,
  so that entries written together do not end together.
* Before its end one caller at a time renews an entry, the sooner the longer its load takes, while
  the others get the old value (``early``; 0 turns it off).
* Values are JSON. One that JSON would not give back is refused before anything is cached. An
  entry that cannot be read, or is of another type, counts as a miss and is replaced.
* Server down or unable to serve: the loader answers, one call at a time per executor and key.

Keys, all with a TTL, in one slot by the braces:

    cache:<name>:{<key>}:entry    hash: value, load (ms), lease (whose fill)     ttl or negative_ttl
    cache:<name>:{<key>}:lease    string: nonce and server time of its holder    lease
    cache:<name>:{<key>}:version  string, by write-through only                  at least the entry

Round trips of ``fetch``: a hit 1, the leader's miss 2, a waiter 2 or more: it looks again after
5 ms, then after steps half as long again, up to 250 ms. An unreadable entry costs one more.

Not promised: freshness without an invalidation, or when the invalidation cannot reach the server;
one load when the load outlives the lease; a loader that reads a lagging replica. A server that
loses its keys (eviction, failover) loses values and leases: it costs loads, and a fill whose
lease was lost is dropped. While the server is down callers share a load that may have begun
before they asked.
"""

from __future__ import annotations

from kvlab.cache_aside.cache import CacheAside
from kvlab.cache_aside.lookup import Fill, Lookup
from kvlab.cache_aside.naive import NaiveCacheAside

__all__ = ["CacheAside", "Fill", "Lookup", "NaiveCacheAside"]
