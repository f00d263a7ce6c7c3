"""The tutorial's sessions, line by line, and the schedules that break them."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import redis

from kvlab.sessions.values import Json, User


class NaiveSessions:
    """The tutorial's session: a JSON text per session id; each read renews its TTL.

    A slow writer revives a session:

    1. writer: GET answers {"userId": 7}
    2. logout: DEL
    3. writer: SETEX {"userId": 7, "theme": "dark"}: user 7 is logged in again

    Two writers lose a field:

    1. A: GET answers {"userId": 7}
    2. B: GET answers {"userId": 7}
    3. A: SETEX with the field of A
    4. B: SETEX with the field of B: the field of A is lost

    Session fixation:

    1. attacker: creates an anonymous session and plants its id in the victim's browser
    2. victim: logs in, which sets ``userId`` in that session
    3. attacker: reads the session by the same id, as the victim

    Without any race: a session that is read more often than its TTL never ends.
    """

    def __init__(self, client: redis.Redis, ttl: int = 7 * 24 * 3600, prefix: str = "") -> None:
        self.client, self.ttl, self.prefix = client, ttl, prefix  # 7 days

    def create(self, user: User) -> str:
        """The tutorial's ``createSession``: the id of a new session."""
        sid = str(uuid.uuid4())
        now = int(time.time() * 1000)
        data = {"userId": user, "createdAt": now, "lastActivity": now}

        # Store session
        self.client.setex(f"{self.prefix}session:{sid}", self.ttl, json.dumps(data))
        return sid

    def read(self, sid: str | None) -> dict[str, Json] | None:
        """The tutorial's ``getSession``."""
        if not sid:
            return None
        found: Any = self.client.get(f"{self.prefix}session:{sid}")
        if found is None:
            return None

        # Refresh TTL on access (sliding window)
        self.client.expire(f"{self.prefix}session:{sid}", self.ttl)
        data: dict[str, Json] = json.loads(found)
        return data

    def update(self, sid: str, **fields: Json) -> dict[str, Json] | None:
        """Not in the tutorial: the usual way to change a session with its two calls."""
        data = self.read(sid)
        if data is None:
            return None
        data.update(fields)
        self.client.setex(f"{self.prefix}session:{sid}", self.ttl, json.dumps(data))
        return data

    def destroy(self, sid: str | None) -> None:
        """The tutorial's ``destroySession``."""
        if sid:
            self.client.delete(f"{self.prefix}session:{sid}")
