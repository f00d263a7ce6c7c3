"""The tutorial's two limiters and its client address, and the schedules that break them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

# --- as the seed has it -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NaiveFixedWindow:
    """The seed's ``checkRateLimit``: INCR, and EXPIRE when the answer is 1. A crash between:

    1. the client sends INCR; the answer is 1
    2. the client dies before EXPIRE: the key has no TTL
    3. every later INCR answers 2, 3, … and nobody sets a TTL
    4. from the limit on, every hit is denied, for ever

    A lost reply counts twice: redis-py sends INCR again without a word. A denied hit counts too.
    """

    client: redis.Redis
    limit: int = 10
    window: int = 60
    prefix: str = ""

    def check(self, ip: str) -> bool:
        key = f"{self.prefix}ratelimit:{ip}"
        current: Any = self.client.incr(key)
        if current == 1:
            self.client.expire(key, self.window)
        return bool(current <= self.limit)


@dataclass(frozen=True, slots=True)
class NaiveSlidingWindow:
    """The seed's ``slidingWindowRateLimit``: count the entries, then add one.

    Limit 1, clients A and B:

    1. A: ZCOUNT answers 0
    2. B: ZCOUNT answers 0
    3. A: ZADD, admitted
    4. B: ZADD, admitted: two of one

    The time is each client's own: one whose clock is a window ahead removes everybody's entries.
    """

    client: redis.Redis
    limit: int = 10
    window_ms: int = 60_000
    prefix: str = ""
    clock: Callable[[], float] = field(default=lambda: time.time())  # whatever that is by then

    def check(self, key: str) -> bool:
        key = self.prefix + key
        now = int(self.clock() * 1000)
        window_start = now - self.window_ms
        self.client.zremrangebyscore(key, 0, window_start)
        count: Any = self.client.zcount(key, window_start, now)
        if count >= self.limit:
            return False
        self.client.zadd(key, {f"{now}:{random.random()}": now})
        self.client.expire(key, math.ceil(self.window_ms / 1000))
        return True


def naive_client_address(forwarded_for: str | None) -> str:
    """The seed's: ``request.headers.get('x-forwarded-for') || 'unknown'``.

    1. a client sends X-Forwarded-For: 1.1.1.1, then 1.1.1.2, then …
    2. each is another identity with a fresh limit: it is never limited
    3. clients without the header are all ``unknown``: one of them limits the others
    """
    return forwarded_for or "unknown"
