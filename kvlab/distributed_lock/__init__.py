"""A lock that one client at a time holds, across processes and machines.

Guarantee of :class:`Lock`, on one server whose clock does not jump forward:

* At most one hold at any time. The lock has a TTL from its first instant, so a dead holder frees
  it.
* Only the token that acquired the lock renews or releases it. Each ``try_acquire()`` call and each
  run of ``acquire`` draws a token, so threads and tasks can share one ``Lock``.
* Running the same op again is the same hold: a lost answer neither locks the caller out nor gives
  the lock to two. A repeated release answers as the first release did.
* Waiters are woken. A refused caller blocks on a list for at most the TTL that the holder has
  left, and at most ``MAX_BLOCK`` seconds, then tries again. A release wakes one waiter, and only
  if there is one. When a woken waiter dies before it tries, the other waiters wait at most that
  long. Behind a Sentinel and on a cluster a waiter goes on with the replica that takes over: at
  once when its connection ends, and after that long and ``timeout`` when the server falls silent.
* Server down or refusing for now: every op, flow and ``hold`` raises. None and False always come
  from the server.
* Fences rise: each fence is max(last + 1, server time in µs), below 2**53. They rise while the
  fence key survives (``FENCE_MEMORY`` after the last hold) or the server's clock does not go back.

Example::

    >>> import kvlab
    >>> kv = kvlab.connect()
    >>> lock = kvlab.Lock("orders", ttl=10)
    >>> with kv.hold(lock) as held:
    ...     kv.run(kvlab.fenced_set("report", "done", held.fence))
    ...     kv.run(lock.try_acquire()) is None              # another caller
    True
    True
    >>> kv.run(kvlab.fenced_get("report"))
    b'done'

Keys of a lock, all in one hash slot, each with ``lock:{<name>}:`` before it, each with a TTL:

===================  ======  ================================================================
``held``             string  ``<fence> <token>``; TTL of the lock
``fence``            string  the last fence; FENCE_MEMORY
``waiting``          string  exists while a caller may be waiting; the holder's TTL and 1 s
``wake``             list    one item: one waiter should try; no longer than ``waiting``
``spent:<token>``    string  the answer to the release of the token; SPENT_MEMORY
===================  ======  ================================================================

The key of :func:`fenced_set` is ``fenced:{<key>}``, in a hash slot of its own: a hash of ``fence``
and ``value``, with its caller's TTL.

Not promised:

* That a holder stops when its TTL is over. A process that is frozen past its TTL goes on writing.
  Only a resource that refuses older fences (:func:`fenced_set`) stops it.
* One holder through a failover: a replica that has not seen the acquire gives the lock away again.
  Nor when the server's clock jumps forward, or its memory policy evicts the key (``allkeys-*``).
  After a failover the second holder's fence is higher all the same, unless the replica's clock is
  behind.
* Fairness. Of the blocked waiters the one that has blocked longest is woken, but a newcomer may be
  faster; the woken waiter then blocks again behind the others. When a TTL ends without a release,
  every waiter tries.
"""

from __future__ import annotations

from kvlab.distributed_lock.fenced import fenced_get, fenced_set
from kvlab.distributed_lock.lock import Lock
from kvlab.distributed_lock.naive import NaiveLock

__all__ = ["Lock", "NaiveLock", "fenced_get", "fenced_set"]
