"""The tutorial's feature flags, line by line, and the schedule that breaks them."""

from __future__ import annotations

from typing import Any

import redis


class NaiveFlags:
    """The tutorial's flags: one hash of '1' and '0', read one flag at a time.

    Always false: the tutorial's client parses the reply '1' into the number 1, and compares it
    with the text '1'. Here a client without ``decode_responses`` answers the bytes ``b"1"``, and
    ``b"1" == "1"`` is false as well. No error says so.

    With ``decode_responses`` a request that reads two flags sees half a change:

    1. reader: HGET new-checkout answers '0'
    2. writer: HSET new-checkout '1', HSET new-receipt '1', which belong together
    3. reader: HGET new-receipt answers '1': the old checkout with the new receipt

    A reader between the two HSET of the writer sees half a change too.
    """

    def __init__(self, client: redis.Redis, *, prefix: str = "") -> None:
        self.client = client
        self.key = prefix + "flags:global"

    def set_flag(self, flag: str, enabled: bool) -> None:
        self.client.hset(self.key, mapping={flag: "1" if enabled else "0"})

    def get_flag(self, flag: str) -> bool:
        value = self.client.hget(self.key, flag)
        return bool(value == "1")

    def get_all_flags(self) -> dict[str, bool]:
        flags: dict[Any, Any] = self.client.hgetall(self.key)
        return {k: v == "1" for k, v in flags.items()}
