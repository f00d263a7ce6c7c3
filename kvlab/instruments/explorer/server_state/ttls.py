"""The TTLs of one run: they run on by the clock of the run, and not by the server's.

How much time a TTL had left is noted after the step that set it, so that the real time since then
does not count. A sleep takes its seconds from every TTL. It does not end a TTL that another client
has set, as long as that client can go on: that is what ``expiries`` are for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from typing import Any, NamedTuple

import redis

# When a key's TTL ends by the server's clock. Redis 6.2 has no PEXPIRETIME; its TIME may be that of
# a moment later than PTTL's.
_END = """
local function end_of(key, left)
  local said = redis.pcall('PEXPIRETIME', key)
  if type(said) ~= 'table' then return said end
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000) + left
end"""
_READ = f"""{_END}
local found = {{}}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then found[#found + 1] = {{key, left, end_of(key, left)}} end
end
return found"""
_WRITE = f"""{_END}
local found = {{}}
for at = 1, #ARGV, 2 do
  redis.call('PEXPIRE', ARGV[at], ARGV[at + 1])
  found[#found + 1] = end_of(ARGV[at], ARGV[at + 1])
end
return found"""

_real = time.monotonic


class _Ttl(NamedTuple):
    """When it ends by the server's clock; what is left by the run's, in ms; whose it is."""

    end: int
    left: int
    owner: int | None


class Ttls:
    """``keys``: those that had a TTL when this was last noted."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        self._ttls: dict[bytes, _Ttl] = {}
        self._noted_at = _real()

    @property
    def keys(self) -> list[bytes]:
        return sorted(self._ttls)

    def note(self, client: int | None) -> None:
        """The step of this client, or setup, may have set TTLs."""
        volatile: Any = self._server.eval(_READ, 0)
        slack = math.ceil((_real() - self._noted_at) * 1000) + 1
        before, self._ttls = self._ttls, {}
        for key, left, end in volatile:
            known = before.get(key)
            if known is None or abs(known.end - end) > 1:
                known = _Ttl(end, _roundest(left, left + slack), client)
            self._ttls[key] = known
        self._noted_at = _real()

    def pass_by(self, seconds: float, kept: Collection[int]) -> tuple[int, list[bytes]]:
        """So much time passes. TTLs set by the clients in ``kept`` do not end.

        Returns the ms that have passed, and the keys whose TTLs would have ended and stay."""
        passed = math.ceil(seconds * 1000 - 1e-6)
        after, stay = {}, []
        for key, (_, left, owner) in self._ttls.items():
            if left <= passed and owner in kept:
                stay.append(key)
            after[key] = (left if key in stay else max(0, left - passed), owner)
        if not after:
            return passed, stay
        words = [word for key, (left, _) in after.items() for word in (key, str(left))]
        ends: Any = self._server.eval(_WRITE, 0, *words)
        self._ttls = {
            key: _Ttl(end, left, owner)
            for (key, (left, owner)), end in zip(after.items(), ends, strict=True)
            if left
        }
        self._noted_at = _real()
        return passed, stay


def _roundest(least: int, most: int) -> int:
    """A number of ms that somebody may have written: of this range, one with zeros at its end."""
    for unit in (1000, 100, 10):
        if (number := least + -least % unit) <= most:
            return number
    return least
