"""Counters of one group, added to in one batch."""

from __future__ import annotations

from collections.abc import Mapping

from kvlab.core.auto_batch import AutoBatch
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Script
from kvlab.errors import InvalidArgument
from kvlab.pipeline.dashboard import dashboard
from kvlab.pipeline.naive import NaivePipeline

__all__ = ["AutoBatch", "NaivePipeline", "add_to_counters", "dashboard"]

_COUNT = Script.load("pipeline/count")


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
