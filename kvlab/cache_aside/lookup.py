"""The answers of the cache's scripts, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvlab.core.json_values import decoded
from kvlab.core.op import Raw


@dataclass(frozen=True, slots=True)
class Lookup:
    """The result of a ``read``.

    * ``hit``: ``value`` is the cached value; None means that the row is known to be absent.
    * ``lease``: the caller shall load, then ``fill`` or ``release`` with this lease. With ``hit``
      as well: an early renewal; the value is still fresh.
    * neither: another caller is loading; its lease lives for ``wait`` more seconds.
    * ``unreadable``: the entry is not JSON; pass this to ``read``, and the entry is replaced.
    """

    hit: bool
    value: Any = None
    lease: str | None = None
    wait: float = 0.0
    unreadable: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """The result of a ``fill``: ``stored`` is False when the lease was gone."""

    stored: bool


def decode_lookup(reply: Raw) -> Lookup:
    raw, lease, wait = reply
    lease = lease.decode() or None
    if raw is None:
        return Lookup(False, lease=lease, wait=wait / 1000)
    try:
        value = decoded(raw)
    except ValueError:
        return Lookup(False, lease=lease, unreadable=raw)
    return Lookup(True, value, lease)


def decode_fill(reply: Raw) -> Fill:
    return Fill(stored=reply == 1)
