"""Periods of a leaderboard: the keys that an op declares, and the period of an instant.

On Redis Cluster an op must declare every key that its script may use. The current period depends
on the server's clock, which only the script can read. So the keys of a period are not named after
its date: a board has ``keep + 2`` sets of keys, used in turn. Period number ``p`` uses set
``p % (keep + 2)``. An op without an instant declares all sets, and its script chooses one; an op
with an instant declares one set. A hash stores which period each set holds, so the set of another
period is never mistaken for the wanted one.

The sets are for the ``keep`` past periods, the present period and the next period, which a caller
whose clock is ahead may name. When the set of the next period is first used, the period that used
it before has expired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

from kvlab.core.checks import keep, one_of, real, shown, whole
from kvlab.core.key import Key
from kvlab.errors import InvalidArgument

Every = Literal["daily", "weekly"]
At = datetime | int | float

_DAY = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Periods are counted from the epoch, a Thursday; an ISO week begins on Monday.
_LENGTH_AND_SHIFT = {None: (0, 0), "daily": (_DAY, 0), "weekly": (7 * _DAY, 3 * _DAY)}
MAX_KEEP = 366


@dataclass(frozen=True, slots=True)
class Periods:
    """Time in days or ISO weeks of a zone with a fixed offset; ``every`` None: all time is one."""

    every: Every | None
    tz: timezone
    keep: int
    length: int = field(init=False)
    """Length of a period in ms; 0 for all time."""
    shift: int = field(init=False)
    """Added to Unix ms before the division by ``length``."""

    def __post_init__(self) -> None:
        every = one_of("period", self.every, _LENGTH_AND_SHIFT)
        if type(self.tz) is not timezone:
            raise InvalidArgument(
                "tz must be a datetime.timezone, a fixed offset from UTC (the server's clock "
                f"has no daylight saving time), not {shown(self.tz)}"
            )
        length, shift = _LENGTH_AND_SHIFT[every]
        offset = self.tz.utcoffset(None) if length else timedelta(0)
        shift += offset // timedelta(milliseconds=1)
        kept = whole("keep", self.keep, 0, MAX_KEEP)
        keep(self, every=every, keep=kept, length=length, shift=shift)

    @property
    def title(self) -> str:
        """A part of the keys' names: boards with different periods share no key."""
        return f".{self.every}{self.shift // 1000:+d}.{self.keep}" if self.length else ""

    def sets(self, stem: str, parts: tuple[str, ...]) -> tuple[tuple[Key, ...], ...]:
        """The sets of keys, in their turn; one set for all time."""
        if not self.length:
            return (tuple(Key(f"{stem}:{part}") for part in parts),)
        turns = range(self.keep + 2)
        return tuple(tuple(Key(f"{stem}:{turn}:{part}") for part in parts) for turn in turns)

    def number(self, at: At) -> int:
        """The number of the period of ``at``; InvalidArgument for a value that is no instant."""
        if not self.length:
            raise InvalidArgument(f"at must be None for an all-time board, not {shown(at)}")
        if isinstance(at, datetime):
            if at.utcoffset() is None:
                raise InvalidArgument(f"at must have a time zone, not {shown(at)}")
            millis = (at - _EPOCH) // timedelta(milliseconds=1)
        else:
            kind = "an aware datetime or Unix seconds"
            millis = math.floor(real("at", at, -1e11, 1e11, kind=kind) * 1000)
        return (millis + self.shift) // self.length
