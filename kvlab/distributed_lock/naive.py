"""The tutorial's lock, line by line, and the schedules that break it."""

from __future__ import annotations

import uuid

import redis


class NaiveLock:
    """The tutorial's ``acquireLock`` and ``releaseLock``: SETNX, then EXPIRE; GET, then DEL.

    A crash between SETNX and EXPIRE locks for ever:

    1. A: SETNX lock:orders <a> answers 1
    2. A: dies before EXPIRE, so the key has no TTL
    3. everybody: SETNX answers 0, for ever

    An expiry between GET and DEL frees the lock of another client:

    1. A: GET lock:orders answers <a>
    2. the TTL of A ends
    3. B: SETNX lock:orders <b> answers 1: B holds the lock
    4. A: DEL lock:orders removes the lock of B
    5. C: SETNX lock:orders <c> answers 1: B and C are both inside

    A holder that is frozen past its TTL writes late:

    1. A: acquires the lock, then freezes
    2. the TTL of A ends
    3. B: acquires the lock, writes, releases it
    4. A: continues and writes: the write of B is lost, and no error says so
    """

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self.client = client
        self.prefix = prefix

    def acquire(self, resource: str, timeout: int = 10) -> str | None:
        """The lock's value, or None when the lock is taken; ``timeout`` in seconds."""
        lock_key = f"{self.prefix}lock:{resource}"
        lock_value = str(uuid.uuid4())

        # Try to set lock (only if not exists)
        acquired = self.client.setnx(lock_key, lock_value)

        if acquired:
            # Set TTL to prevent deadlock
            self.client.expire(lock_key, timeout)
            return lock_value
        return None

    def release(self, resource: str, lock_value: str) -> bool:
        """True when GET answered this value."""
        lock_key = f"{self.prefix}lock:{resource}"
        current = self.client.get(lock_key)

        # Only delete if we own the lock
        if current in (lock_value, lock_value.encode()):
            self.client.delete(lock_key)
            return True
        return False
