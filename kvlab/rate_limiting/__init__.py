"""Rate limiting: how many units one key may use in a time, decided on the server in one step.

Guarantee, by the server's clock, for any number of clients:

* :class:`FixedWindow`: at most ``limit`` units in each window; windows start at multiples of
  ``window`` since 1970. An interval across an edge can hold 2 × ``limit``.
* :class:`SlidingWindowLog`: at most ``limit`` units in any half-open interval of ``window``.
* :class:`SlidingWindowCounter`: the units of this window, plus the units of the last window
  weighed by the part of it that still overlaps, are at most ``limit``. A true interval can hold
  more.
* :class:`TokenBucket`: at most ``burst + t · limit / window`` units in any time ``t``.

A hit that fits is never denied. A denied hit uses nothing. ``retry_after`` is exact: the same hit
is admitted at that time, and not before, if nothing else is hit. One round trip each.

Server down or refusing for now: a hit and a peek do what ``outage`` says (raise, "open" or
"closed"), and ``at`` of such a decision is None. ``forget`` raises.

When the server's clock goes back by up to a second, time stands still for a key until the clock
has caught up. After a longer step back, the used units count as used just now: the step admits
nothing more, and delays no caller longer than a full limiter does. A clock that jumps ahead ends
windows early, and admits again what those windows held.

Example::

    >>> import kvlab
    >>> kv = kvlab.connect()
    >>> limiter = kvlab.SlidingWindowLog("api", limit=2, window=60)
    >>> [kv.run(limiter.hit("203.0.113.7")).allowed for _ in range(3)]
    [True, True, False]
    >>> kv.run(limiter.peek("203.0.113.7")).remaining
    0

Keys, all in the hash slot of the limited key. Another ``window`` is another key; another ``limit``
is the same key. Each expires 0.1 s after it stops to matter; a key that has no TTL gets one at the
next hit:

* ``ratelimit:<name>:{<key>}:fixed-<window, µs>``: string; TTL the rest of the window
* ``…:log-<window, µs>``: sorted set, an entry for each admitted hit, whatever its cost; TTL one
  window. Each hit removes up to 1000 old entries. Measured bytes an entry: 31 in a log of 100;
  76 (Valkey 9.1) or 120 (Redis 7.0) in a large log, so 10**6 entries take 76 to 120 MB.
* ``…:counter-<window, µs>``: string; TTL to the end of the next window
* ``…:bucket-<window, µs>``: string; TTL until the bucket is full again
* ``<any of these>:op:<operation id>``: string; TTL ``RETRY_HORIZON``

Not promised: fairness between clients; counts that survive a failover (replication is
asynchronous) or eviction (use ``noeviction`` or ``volatile-ttl``); more decisions for one key than
one node makes, whatever the size of a cluster. ``benchmarks/README.md`` says how many that are, and
the README how a limit is divided into parts: the parts together never admit more than the limit,
but may deny a hit while another part has room.
"""

from __future__ import annotations

from kvlab.rate_limiting.client_address import client_address
from kvlab.rate_limiting.decision import Decision, Policy
from kvlab.rate_limiting.limiters import (
    FixedWindow,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from kvlab.rate_limiting.naive import NaiveFixedWindow, NaiveSlidingWindow, naive_client_address

__all__ = [
    "Decision",
    "FixedWindow",
    "NaiveFixedWindow",
    "NaiveSlidingWindow",
    "Policy",
    "SlidingWindowCounter",
    "SlidingWindowLog",
    "TokenBucket",
    "client_address",
    "naive_client_address",
]
