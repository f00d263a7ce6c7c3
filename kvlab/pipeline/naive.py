"""The tutorial's pipeline, line by line, and the schedule that breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis


class NaivePipeline:
    """The tutorial's pipeline: "Execute multiple commands in a single round-trip".

    The pipeline is one round trip, but neither atomic nor chunked. A client sends 1,000 counters:

    1. client: sends INCRBY 1 to INCRBY 154
    2. client: dies; the other 846 were never sent
    3. server: applies 154
    4. the next attempt adds all 1,000 again: 154 counters are counted twice

    In TypeScript the dashboard fails before that: ``@vercel/kv`` 3.0.0 has no
    ``pipeline.zrevrange`` (TypeError).
    """

    def __init__(self, client: redis.Redis, *, prefix: str = "") -> None:
        self.client = client
        self.prefix = prefix

    def dashboard(self, user_id: int) -> dict[str, Any]:
        pipeline = self.client.pipeline(transaction=False)

        pipeline.get(f"{self.prefix}user:{user_id}:profile")
        pipeline.get(f"{self.prefix}user:{user_id}:settings")
        pipeline.zrevrange(f"{self.prefix}user:{user_id}:notifications", 0, 4)
        pipeline.hgetall(f"{self.prefix}user:{user_id}:stats")

        profile, settings, notifications, stats = pipeline.execute()
        return {
            "profile": profile,
            "settings": settings,
            "notifications": notifications,
            "stats": stats,
        }

    def batch_update_counters(self, counters: Mapping[str, int]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for key, increment in counters.items():
            pipeline.incrby(self.prefix + key, increment)
        return pipeline.execute()
