"""A lock that one client at a time holds, across processes and machines.

Guarantee of :class:`Lock`, on one server whose clock does not jump forward:

* At most one hold at any time; it has a TTL from its first instant, so a dead holder frees it.
* Only the token that took it renews or releases it. A token is drawn for each ``try_acquire()``
  call and each run of ``acquire``, so a ``Lock`` is a value to share between threads and tasks.
* Running the same op again is the same hold: a lost answer neither locks the caller out nor frees
  the lock for two. A release that is sent again says again what the first one did.
* Waiters are woken: a refused one blocks on a list for at most the holder's remaining TTL, and at
  most ``MAX_BLOCK`` seconds, then tries again. A release wakes one, and only if somebody waits.
  When a woken waiter dies before it tries, the others wait at most that long.
* Fences rise: each is max(last + 1, server time in µs), below 2**53. They rise while the fence key
  survives (``FENCE_MEMORY`` after the last hold) or the server's clock does not go back.

Keys, all in one hash slot, ``lock:{name}:`` before each, and each with a TTL:

===================  ======  ================================================================
``held``             string  ``<fence> <token>``; TTL of the lock
``fence``            string  the last fence; FENCE_MEMORY
``waiting``          string  exists while somebody may be waiting; the holder's TTL and 1 s
``wake``             list    one item: one waiter should try; no longer than ``waiting``
``spent:<token>``    string  what the release of the token answered; SPENT_MEMORY
``fenced:{key}``     hash    ``fence``, ``value`` of :func:`fenced_set`; its caller's TTL
===================  ======  ================================================================

Not promised:

* That a holder stops when its time is over. A process that is frozen past its TTL goes on writing;
  only a resource that refuses older fences (:func:`fenced_set`) stops it.
* One holder through a failover: a replica that has not seen the acquire gives the lock away again.
  Nor when the server's clock jumps forward or its memory policy evicts the key (``allkeys-*``).
* Fairness. Of the blocked waiters the one blocked longest is woken, but a newcomer may be faster,
  and the one that was passed blocks again behind the others. When a TTL ends without a release,
  everybody who waited for it tries.
"""

from __future__ import annotations

from kvlab.distributed_lock.fenced import fenced_get, fenced_set
from kvlab.distributed_lock.lock import Lock
from kvlab.distributed_lock.naive import NaiveLock

__all__ = ["Lock", "NaiveLock", "fenced_get", "fenced_set"]
