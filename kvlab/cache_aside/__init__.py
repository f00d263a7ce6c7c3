"""Cache-aside: look in the cache; on a miss load from the database and store the value.

Guarantee, for every process that uses one ``CacheAside`` name on one server:

* One load per key and miss while the lease lives. The first caller that misses gets the lease; the
  other callers wait for its value. When the load raises, every caller of the same executor that
  waits for this load raises the same error, and the lease is given back: one caller of another
  process loads at once. A load that is interrupted or cancelled gives the lease back too; a lease
  that could not be given back is a note on the error and a warning in the log ``kvlab``. When the
  process dies, the others wait until the lease ends. No caller waits longer than two leases: after
  that it loads for itself and leaves the cache alone.
* A loader that fetches its own key raises ``LoadsItself``, on the first miss already. (In a thread
  that the loader starts, the fetch waits as every other caller does.)
* A fill never lands over a later invalidation: the invalidation takes the lease away.
* ``None`` (no such row) is cached for ``negative_ttl``. 0, "", [] and False are cached like any
  other value.
* An entry is fresh for at most ``ttl`` after its fill. Each life is shortened by a random share of
  up to ``jitter``, so that entries written together do not end together.
* Before an entry ends, one caller at a time renews it, earlier when its load takes longer; the
  other callers get the old value (``early``; 0 turns this off).
* Values are JSON. A value that JSON would not give back is refused before anything is cached. An
  entry that cannot be read, or has another type, counts as a miss and is replaced.
* Server down or refusing for now: the loader answers, one call at a time per executor and key. Each
  caller has its own copy of the value.

Example::

    >>> import kvlab
    >>> kv = kvlab.connect()
    >>> cache = kvlab.CacheAside("users", ttl=300)
    >>> kv.run(cache.fetch(7, lambda: {"name": "Ann"}))
    {'name': 'Ann'}
    >>> kv.run(cache.fetch(7, lambda: 1 / 0))       # a hit: the loader is not called
    {'name': 'Ann'}

Keys, all with a TTL, in one slot by the braces:

    cache:<name>:{<key>}:entry    hash: value, load (ms), lease (whose fill)     ttl or negative_ttl
    cache:<name>:{<key>}:lease    string: nonce and server time of its holder    lease
    cache:<name>:{<key>}:version  string, by write-through only                  at least the entry

Round trips of ``fetch``: a hit 1; the miss of the caller that loads 2; a caller that waits 2 or
more: it looks again after 5 ms, then after pauses that grow by half, up to 250 ms. An unreadable
entry costs one more.

Not promised: freshness without an invalidation, or when the invalidation cannot reach the server;
one load when the load outlives the lease; fresh values from a loader that reads a lagging replica.
A server that loses its keys (eviction, failover) loses values and leases: that costs loads, and a
fill whose lease was lost is dropped. A failover that loses an invalidation brings the old entry, or
the lease of an old load, back. A read that is cancelled on its way may be overtaken by the
return of its lease: the lease then stays for its time. While the server is down, callers share a
load that may have begun before they asked.
"""

from __future__ import annotations

from kvlab.cache_aside.cache import CacheAside
from kvlab.cache_aside.lookup import Fill, Lookup
from kvlab.cache_aside.naive import NaiveCacheAside

__all__ = ["CacheAside", "Fill", "Lookup", "NaiveCacheAside"]
