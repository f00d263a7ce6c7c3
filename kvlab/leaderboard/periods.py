"""Periods of a leaderboard: whose keys an op declares, and which period an instant is in.

A script must be told every key it may touch (Redis Cluster), and the server's clock, which only
the script can read, says what period it is. So a period's keys are not named after its date. A
board has ``keep + 2`` sets of keys, used in turn: period number ``p`` uses set ``p % (keep + 2)``.
An op for "now" declares them all and its script picks; an op that names an instant declares one
set. A hash remembers which period each set holds, so a set left over from another is never
mistaken for the one asked.

Room is for the ``keep`` past periods, the present one and the next, which a caller whose clock
runs ahead may name. When the next one's set is first used, the period that had it has expired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

from kvlab.core.checks import one_of, real, whole
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
    """Cuts time into days or ISO weeks of a zone with a fixed offset; None: all time is one."""

    every: Every | None
    tz: timezone
    keep: int
    length: int = field(init=False)
    """Of a period, in ms; 0 for all time."""
    shift: int = field(init=False)
    """Added to Unix ms before cutting."""

    def __post_init__(self) -> None:
        one_of("period", self.every, _LENGTH_AND_SHIFT)
        if type(self.tz) is not timezone:
            raise InvalidArgument(
                "tz must be a datetime.timezone, a fixed offset from UTC: the server's clock "
                f"knows no daylight saving; not {self.tz!r}"
            )
        whole("keep", self.keep, 0, MAX_KEEP)
        length, shift = _LENGTH_AND_SHIFT[self.every]
        offset = self.tz.utcoffset(None) if length else timedelta(0)
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "shift", shift + offset // timedelta(milliseconds=1))

    @property
    def title(self) -> str:
        """A part of the keys' names: boards that cut time differently share no key."""
        return f".{self.every}{self.shift // 1000:+d}.{self.keep}" if self.length else ""

    def sets(self, stem: str, parts: tuple[str, ...]) -> tuple[tuple[Key, ...], ...]:
        """The sets of keys, in turn; for all time one."""
        if not self.length:
            return (tuple(Key(f"{stem}:{part}") for part in parts),)
        turns = range(self.keep + 2)
        return tuple(tuple(Key(f"{stem}:{turn}:{part}") for part in parts) for turn in turns)

    def number(self, at: At) -> int:
        """The period that ``at`` lies in. Raises InvalidArgument for what is no instant."""
        if not self.length:
            raise InvalidArgument(f"at={at!r} picks a period; an all-time board has none")
        if isinstance(at, datetime):
            if at.utcoffset() is None:
                raise InvalidArgument(f"at must say its time zone: {at!r}")
            millis = (at - _EPOCH) // timedelta(milliseconds=1)
        else:
            kind = "an aware datetime or Unix seconds"
            millis = math.floor(real("at", at, -1e11, 1e11, kind=kind) * 1000)
        return (millis + self.shift) // self.length
