"""Many commands in one round trip: in the code (``kv.run(a, b)``) or by themselves (AutoBatch).

Guarantee of ``kv.run``, which needs nothing of this module:

* ``kv.run(a, b)``: one round trip, a tuple; ``kv.run([ops])``: a list, 500 ops a round trip, so
  that a huge list neither fills the server's reply buffer nor holds up everybody else's commands.
* Each reply belongs to its op. One failing op fails alone: ``BatchFailed.results`` has the value
  or the error of every op.
* ``atomic=True``: MULTI and EXEC around them; all are applied or none is, a cut connection
  included. Without it a connection cut midway leaves a part applied, and the errors say which
  ops are known to be done and which are not.

``AutoBatch`` makes such batches out of concurrent awaits: see its docstring.

Keys of the examples: ``user:{id}:profile``, ``user:{id}:settings`` (strings),
``user:{id}:notifications`` (sorted set), ``user:{id}:stats`` (hash): read here, written elsewhere.
``counters:{group}:<name>`` (string): written here, TTL from the first addition on.

Not promised: that a batch is applied at one instant, unless ``atomic``; that the ops of a batch
share anything on Cluster, where it is one round trip per node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis

from kvlab.auto_batch import AutoBatch
from kvlab.errors import InvalidArgument
from kvlab.op import Key, Op, Script, segment

__all__ = ["AutoBatch", "NaivePipeline", "add_to_counters", "dashboard"]

_COUNT = Script.load("pipeline_count")


class NaivePipeline:
    """The seed: "execute multiple commands in a single round-trip".

    One round trip, but neither atomic nor chunked. The client dies while it sends 1,000 counters:

    1. client: INCRBY 1 … INCRBY 154 leave
    2. client: crashes; the other 846 were never sent
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


def dashboard(
    user: str | int,
) -> tuple[Op[bytes | None], Op[bytes | None], Op[list[bytes]], Op[dict[bytes, bytes]]]:
    """Profile, settings, the five newest notifications and the stats of a user, in four ops.

    ``profile, settings, news, stats = kv.run(*dashboard(7))``: one round trip. The keys share a
    hash slot, so this also runs ``atomic`` and on Cluster.
    """
    key = f"user:{{{segment(user)}}}:"
    return (
        Op("GET", Key(key + "profile"), idempotent=True),
        Op("GET", Key(key + "settings"), idempotent=True),
        Op("ZRANGE", Key(key + "notifications"), 0, 4, "REV", idempotent=True),
        Op("HGETALL", Key(key + "stats"), decode=_pairs, idempotent=True),
    )


def add_to_counters(
    group: str, increments: Mapping[str, int], *, ttl: float = 86_400
) -> list[Op[int]]:
    """One op for each counter of ``group``, answering its new value.

    ``kv.run(add_to_counters("page views", {"home": 3}), atomic=True)``: all or none. Repeating
    after a lost reply counts twice. ``ttl``: seconds that a counter lives from its first addition
    on.
    """
    if isinstance(ttl, bool) or not (isinstance(ttl, int | float) and 0.001 <= ttl <= 1e9):
        raise InvalidArgument(f"ttl must be 0.001 to 1e9 seconds, not {ttl!r}")
    for name, increment in increments.items():
        if isinstance(increment, bool) or not isinstance(increment, int):
            raise InvalidArgument(
                f"increment of {name!r:.80} must be an int, not {increment!r:.80}"
            )
        if not -(2**63) <= increment < 2**63:
            raise InvalidArgument(f"increment of {name!r:.80} must fit 64 bits, not {increment}")
    key = f"counters:{{{segment(group)}}}:"
    return [
        Op(_COUNT, Key(key + segment(name)), increment, int(ttl * 1000), decode=int)
        for name, increment in increments.items()
    ]


def _pairs(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True))
