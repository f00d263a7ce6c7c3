"""The tutorial's version of feature flags, line by line, and the schedules that break it."""

from __future__ import annotations

from typing import Any

import redis


class NaiveFlags:
    """The seed: one hash of '1' and '0', read a flag at a time.

    Always false: the seed's client parses the reply '1' into the number 1 and compares it with
    the text '1'. Here a client without ``decode_responses`` gives the bytes ``b"1"``, and
    ``b"1" == "1"`` is false as well: the same line, the same silence.

    With ``decode_responses`` a request that reads two flags sees half a change:

    1. reader: HGET new-checkout -> '0'
    2. writer: HSET new-checkout '1', HSET new-receipt '1' (they belong together)
    3. reader: HGET new-receipt -> '1': the old checkout with the new receipt

    So does any reader between the writer's two HSETs.
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
