"""The tutorial's version of a lock, line by line, and the schedules that break it."""

from __future__ import annotations

import uuid

import redis


class NaiveLock:
    """The simple version: SETNX, then EXPIRE; GET, then DEL.

    What the seed says: "Set TTL to prevent deadlock", "Only delete if we own the lock".

    A crash between the two commands of ``acquire`` locks for ever::

        1. A: SETNX lock:orders <a>   → 1
        2. A dies before EXPIRE.
        3. TTL lock:orders            → -1
        4. Everybody: SETNX           → 0, for ever

    An expiry between the two commands of ``release`` frees somebody else's lock::

        1. A: GET lock:orders         → <a>, mine
        2. A's TTL ends.
        3. B: SETNX lock:orders <b>   → 1, B is inside
        4. A: DEL lock:orders         → 1, it was B's
        5. C: SETNX lock:orders <c>   → 1, B and C are inside

    A holder frozen past its TTL writes late, and nothing tells the resource::

        1. A: acquire, then freezes.  2. A's TTL ends.  3. B: acquire, write, release.
        4. A thaws and writes: B's work is gone.
    """

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self.client = client
        self.prefix = prefix

    def acquire(self, resource: str, timeout: int = 10) -> str | None:
        """The lock's value, or None when it is taken; ``timeout`` in seconds."""
        lock_key = f"{self.prefix}lock:{resource}"
        lock_value = str(uuid.uuid4())
        acquired = self.client.setnx(lock_key, lock_value)
        if acquired:
            self.client.expire(lock_key, timeout)
            return lock_value
        return None

    def release(self, resource: str, lock_value: str) -> bool:
        """True when the lock was ours, as the seed sees it."""
        lock_key = f"{self.prefix}lock:{resource}"
        current = self.client.get(lock_key)
        if current in (lock_value, lock_value.encode()):
            self.client.delete(lock_key)
            return True
        return False
