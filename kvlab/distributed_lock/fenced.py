"""The smallest resource that checks fences: it refuses the write of an earlier holder."""

from __future__ import annotations

from kvlab.core.checks import MAX_EXACT, Id, instance, seconds, whole
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Script, milliseconds

_FENCED_SET = Script.load("distributed_lock/fenced_set")


def fenced_set(key: Id, value: str | bytes, fence: int, *, ttl: float = 86_400) -> Op[bool]:
    """Write ``value`` for ``ttl`` seconds unless a higher fence has written; False when refused.

    The fence is stored as long as the value. Raises :class:`~kvlab.errors.InvalidArgument` for a
    fence that is not a whole number from 1 to 2**53 - 1, and for a ``ttl`` out of range.
    """
    instance("value", value, str | bytes, "str or bytes")
    fence = whole("fence", fence, 1, MAX_EXACT)
    lifetime = milliseconds(seconds("ttl", ttl))
    return Op(_FENCED_SET, _fenced(key), fence, value, lifetime, decode=bool, idempotent=True)


def fenced_get(key: Id) -> Op[bytes | None]:
    """The value that :func:`fenced_set` wrote, or None."""
    return Op("HGET", _fenced(key), "value", idempotent=True)


def _fenced(key: Id) -> Key:
    return Key(f"fenced:{{{segment(key)}}}")
