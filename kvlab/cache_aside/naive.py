"""The tutorial's version of cache-aside, line by line, and the schedules that break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis


class NaiveCacheAside:
    """The seed's ``getUser``, line by line.

    A stale fill, every time in this order:

    1. reader: GET → nothing, loads row v1
    2. writer: updates the row to v2, DEL
    3. reader: SETEX v1                      v1 is served until its TTL ends

    A stampede: n readers that all GET before the first SETEX load n times. And ``if cached``
    takes 0, "" and [] for a miss; an absent row is looked up in the database every time.
    """

    def __init__(self, client: redis.Redis, ttl: int = 300, prefix: str = "") -> None:
        self.client, self.ttl, self.prefix = client, ttl, prefix

    def get(self, key: str | int, load: Callable[[], Any]) -> Any:
        cache_key = f"{self.prefix}user:{key}"
        reply: Any = self.client.get(cache_key)
        cached = None if reply is None else json.loads(reply)
        if cached:
            return cached
        user = load()
        if not user:
            return None
        self.client.execute_command("SETEX", cache_key, self.ttl, json.dumps(user))
        return user

    def invalidate(self, key: str | int) -> None:
        self.client.delete(f"{self.prefix}user:{key}")
