"""The tutorial's two limiters and its client address, line by line, and what breaks them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis


@dataclass(frozen=True, slots=True)
class NaiveFixedWindow:
    """The tutorial's ``checkRateLimit``: INCR, then EXPIRE when the answer is 1.

    A crash between the two commands blocks a client for ever:

    1. client: INCR answers 1
    2. client: dies before EXPIRE, so the key has no TTL
    3. every later hit: INCR answers 2, 3, …, and no client sends EXPIRE
    4. from the limit on: every hit is denied, for ever

    A lost reply counts twice:

    1. client: INCR runs, its reply is lost
    2. redis-py: retries INCR without a word

    Without any fault: a denied hit counts too, and 10 hits at the end of a window plus 10 at the
    start of the next are 20 within a second.
    """

    client: redis.Redis
    limit: int = 10  # 10 requests
    window: int = 60  # per 60 seconds
    prefix: str = ""

    def check(self, ip: str) -> bool:
        key = f"{self.prefix}ratelimit:{ip}"
        current: Any = self.client.incr(key)
        if current == 1:
            # First request, set TTL
            self.client.expire(key, self.window)
        return bool(current <= self.limit)


@dataclass(frozen=True, slots=True)
class NaiveSlidingWindow:
    """The tutorial's ``slidingWindowRateLimit``: count the entries, then add one.

    Two clients and limit 1:

    1. A: ZCOUNT answers 0
    2. B: ZCOUNT answers 0
    3. A: ZADD, admitted
    4. B: ZADD, admitted: two hits at a limit of 1

    Every client uses its own clock: a client whose clock is one window ahead removes the entries
    of all others.
    """

    client: redis.Redis
    limit: int = 10
    window_ms: int = 60_000
    prefix: str = ""
    clock: Callable[[], float] = field(default=lambda: time.time())  # time.time at the call

    def check(self, key: str) -> bool:
        key = self.prefix + key
        now = int(self.clock() * 1000)
        window_start = now - self.window_ms

        # Remove old entries
        self.client.zremrangebyscore(key, 0, window_start)

        # Count current entries
        count: Any = self.client.zcount(key, window_start, now)
        if count >= self.limit:
            return False

        # Add current request
        self.client.zadd(key, {f"{now}:{random.random()}": now})
        self.client.expire(key, math.ceil(self.window_ms / 1000))
        return True


def naive_client_address(forwarded_for: str | None) -> str:
    """The tutorial's ``request.headers.get('x-forwarded-for') || 'unknown'``.

    1. a client sends X-Forwarded-For: 1.1.1.1, then 1.1.1.2, then 1.1.1.3, …
    2. every value is a new identity with a fresh limit: the client is never limited

    All clients without the header are ``unknown``: one of them uses up the limit of all.
    """
    return forwarded_for or "unknown"
