"""The tutorial's version of write-through, line by line, and the schedules that break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis


class NaiveWriteThrough:
    """The seed's ``updateUser`` and ``deleteUser``, line by line.

    Two writers change places, every time in this order:

    1. writer 1: database → version 1
    2. writer 2: database → version 2, SETEX 2
    3. writer 1: SETEX 1                         version 1 is served until its TTL ends

    A deleted row comes back: reader loads it, ``remove`` deletes row and key, reader SETEXs it.
    ``write`` returns the list of rows it changed; JavaScript's ``updated[0]`` of no row is
    undefined, here None, and is cached like a row.
    """

    def __init__(self, client: redis.Redis, ttl: int = 300, prefix: str = "") -> None:
        self.client, self.ttl, self.prefix = client, ttl, prefix

    def save(self, key: str | int, write: Callable[[], list[Any]]) -> Any:
        updated = write()
        first = updated[0] if updated else None
        cache_key = f"{self.prefix}user:{key}"
        self.client.execute_command("SETEX", cache_key, self.ttl, json.dumps(first))
        return first

    def remove(self, key: str | int, delete: Callable[[], Any]) -> None:
        delete()
        self.client.delete(f"{self.prefix}user:{key}")
