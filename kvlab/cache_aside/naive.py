"""The tutorial's cache-aside, line by line, and the schedules that break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis


class NaiveCacheAside:
    """The tutorial's ``getUser``: GET; on a miss load, then SETEX.

    A stale fill:

    1. reader: GET answers nothing; the reader loads row version 1
    2. writer: updates the row to version 2, then DEL
    3. reader: SETEX version 1
    4. everybody: GET answers version 1 until its TTL ends

    A stampede:

    1. readers 1 to 64: GET answers nothing
    2. readers 1 to 64: each loads the row, 64 loads in all
    3. readers 1 to 64: each sends SETEX

    Without any race: ``if cached`` takes 0, "" and [] for a miss, and a row that does not exist is
    looked up in the database at every call.
    """

    def __init__(self, client: redis.Redis, ttl: int = 300, prefix: str = "") -> None:
        self.client, self.ttl, self.prefix = client, ttl, prefix

    def get(self, key: str | int, load: Callable[[], Any]) -> Any:
        cache_key = f"{self.prefix}user:{key}"

        # Check cache first
        reply: Any = self.client.get(cache_key)
        cached = None if reply is None else json.loads(reply)
        if cached:
            return cached

        # Fetch from database
        user = load()
        if not user:
            return None

        # Cache for 5 minutes
        self.client.execute_command("SETEX", cache_key, self.ttl, json.dumps(user))
        return user

    def invalidate(self, key: str | int) -> None:
        self.client.delete(f"{self.prefix}user:{key}")
