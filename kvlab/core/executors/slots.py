"""Hash slots: which of the 16,384 parts of a cluster an op belongs to.

The keys of an op, and those of an ``atomic`` batch, must lie in one slot. The slot of a key is that
of the text in its first braces, its hash tag, or else of the whole key. So keys with the same hash
tag share a slot, as all keys of one limiter's client, lock, board or session do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot

from kvlab.core.key import Key
from kvlab.core.op import Op, Script
from kvlab.errors import InvalidArgument

_OF_EVERY_NODE = {"DBSIZE", "FLUSHALL", "FLUSHDB", "FUNCTION", "KEYS", "RANDOMKEY", "SCAN"}
_OF_EVERY_NODE |= {"ACL", "CLIENT", "CONFIG", "INFO", "LATENCY", "MODULE", "PUBSUB", "ROLE"}
_OF_EVERY_NODE |= {"BGREWRITEAOF", "BGSAVE", "SAVE", "SCRIPT", "SHUTDOWN", "SLOWLOG", "SWAPDB"}


def slots_of(ops: Sequence[Op[Any]], prefix: str, *, atomic: bool) -> list[int | None]:
    """The slot of each op; None of an op without keys, which any node can answer.

    Raises :class:`InvalidArgument` for keys in two slots that must share one, and for a command
    without keys that one node could answer for itself alone.
    """
    slots: list[int | None] = []
    common: tuple[str, int] | None = None
    for op in ops:
        first = common if atomic else None
        slot = None
        for key in op.keys:
            name = prefix + key.name
            slot = key_slot(name.encode())
            first = first or (name, slot)
            if slot != first[1]:
                raise InvalidArgument(_two_slots(first[0], name, atomic))
        if slot is None and _asks_one_node(op):
            raise InvalidArgument(f"{op} speaks of one node of the cluster only; use kv.client")
        slots.append(slot)
        common = common or first
    return slots if not atomic or common is None else [common[1]] * len(ops)


def slot_of_key(key: Key, prefix: str) -> int:
    """The slot of one key or channel."""
    return key_slot((prefix + key.name).encode())


def _asks_one_node(op: Op[Any]) -> bool:
    return not isinstance(op.command, Script) and op.command.split()[0].upper() in _OF_EVERY_NODE


def _two_slots(one: str, other: str, atomic: bool) -> str:
    what = "an atomic batch" if atomic else "an op"
    return (
        f"the keys of {what} must lie in one hash slot of the cluster, and {one!r} ({_tag(one)}) "
        f"and {other!r} ({_tag(other)}) do not; give them one hash tag, as in 'user:{{7}}:name'"
    )


def _tag(name: str) -> str:
    _, opened, rest = name.partition("{")
    tag, closed, _ = rest.partition("}")
    return f"hash tag {tag!r}" if opened and closed and tag else "without a hash tag"
