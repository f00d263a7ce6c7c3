"""What the scripts of the cache answer, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvlab.core.json_values import decoded
from kvlab.core.op import Raw


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a ``read`` found.

    * ``hit``: ``value`` is the cached value; None means that the row is known to be absent.
    * ``lease``: the caller is to load, and to ``fill`` or ``release`` under this lease. Together
      with ``hit``: renew early; the value is still good.
    * neither: somebody else is loading; their lease lives for ``wait`` more seconds.
    * ``unreadable``: there is an entry that is not JSON; give this to ``read`` to have it replaced.
    """

    hit: bool
    value: Any = None
    lease: str | None = None
    wait: float = 0.0
    unreadable: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """Whether a ``fill`` was ``stored``; it is not when its lease is gone."""

    stored: bool


def _lookup(reply: Raw) -> Lookup:
    raw, lease, wait = reply
    lease = lease.decode() or None
    if raw is None:
        return Lookup(False, lease=lease, wait=wait / 1000)
    try:
        value = decoded(raw)
    except ValueError:
        return Lookup(False, lease=lease, unreadable=raw)
    return Lookup(True, value, lease)


def _fill(reply: Raw) -> Fill:
    return Fill(stored=reply == 1)
