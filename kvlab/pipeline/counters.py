"""Additions to the counters of one group, in one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvlab.core.checks import Id, mapping, seconds, shown, text, whole
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Script, milliseconds

_COUNT = Script.load("pipeline/count")


def add_to_counters(
    group: str, increments: Mapping[Any, int], *, ttl: float = 86_400
) -> list[Op[int]]:
    """One op for each counter of ``group``; its result is the new value.

    ``kv.run(add_to_counters("page views", {"home": 3}), atomic=True)``: all or none. A repetition
    after a lost reply counts twice. ``ttl``: a counter lives this many seconds from its first
    addition on. Raises InvalidArgument for an increment that is not a whole number of 64 bits.
    """
    life = milliseconds(seconds("ttl", ttl))
    key = f"counters:{{{segment(text('group', group))}}}:"
    return [
        Op(_COUNT, Key(key + segment(name, "counter")), _increment(name, value), life, decode=int)
        for name, value in mapping("increments", increments).items()
    ]


def _increment(name: Id, value: int) -> int:
    return whole(f"increment of {shown(name)}", value, -(2**63), 2**63 - 1)
