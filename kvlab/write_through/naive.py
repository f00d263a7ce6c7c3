"""The tutorial's write-through, line by line, and the schedules that break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis


class NaiveWriteThrough:
    """The tutorial's ``updateUser`` and ``deleteUser``: the database, then SETEX or DEL.

    Two writers in the wrong order:

    1. writer 1: the database commits version 1
    2. writer 2: the database commits version 2; SETEX version 2
    3. writer 1: SETEX version 1
    4. everybody: GET answers version 1 until its TTL ends

    A deleted row comes back:

    1. reader: GET answers nothing; the reader loads the row
    2. writer: deletes the row, then DEL
    3. reader: SETEX the deleted row

    Without any race: ``write`` returns the list of the rows that it changed. JavaScript's
    ``updated[0]`` of an empty list is undefined (here None), and is cached like a row.
    """

    def __init__(self, client: redis.Redis, ttl: int = 300, prefix: str = "") -> None:
        self.client, self.ttl, self.prefix = client, ttl, prefix

    def save(self, key: str | int, write: Callable[[], list[Any]]) -> Any:
        # Update database
        updated = write()
        first = updated[0] if updated else None

        # Update cache immediately
        cache_key = f"{self.prefix}user:{key}"
        self.client.execute_command("SETEX", cache_key, self.ttl, json.dumps(first))
        return first

    def remove(self, key: str | int, delete: Callable[[], Any]) -> None:
        # Delete from database
        delete()

        # Remove from cache
        self.client.delete(f"{self.prefix}user:{key}")
