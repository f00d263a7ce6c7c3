"""A holder that freezes: which client believes that it holds the lock, and whose write is last.

This is a model without a server. All times are seconds. Client A takes a lock with a TTL at 0,
works ``WORK``, writes and releases. In the middle of its work A freezes for ``pause``. Client B
waits, gets the lock when A releases it or when A's TTL ends, works ``WORK``, writes and releases.
The fence of B is higher than the fence of A.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.core.checks import real

WORK = 2.0
FREEZES_AT = WORK / 2


@dataclass(frozen=True, slots=True)
class Freeze:
    """What happens with one TTL and one pause, in seconds.

    ``ttl`` must be above ``FREEZES_AT``, so that A holds the lock when it freezes.
    """

    ttl: float
    pause: float

    def __post_init__(self) -> None:
        real("ttl", self.ttl, FREEZES_AT, above=True)
        real("pause", self.pause, 0)

    @property
    def a_writes(self) -> float:
        """When A's write arrives, if nothing stops it."""
        return WORK + self.pause

    @property
    def b_enters(self) -> float:
        """When B gets the lock."""
        return min(self.ttl, self.a_writes)

    @property
    def b_writes(self) -> float:
        """When B's write arrives."""
        return self.b_enters + WORK

    @property
    def both_inside(self) -> float:
        """Seconds during which A and B both believe that they hold the lock."""
        return max(0.0, min(self.a_writes, self.b_writes) - self.b_enters)

    @property
    def a_overwrites_b(self) -> bool:
        """A writes after B. Without fences B's write is lost; with fences A's write is refused."""
        return self.a_writes > self.b_writes

    @property
    def check_stops_a(self) -> bool:
        """``held.check()`` raises just before A's write."""
        return self.a_writes >= self.ttl

    def __str__(self) -> str:
        knobs = f"TTL {self.ttl:g} s, pause {self.pause:g} s: "
        if not self.check_stops_a:
            return knobs + "A is back in time, B waits"
        if self.a_overwrites_b:
            return knobs + "A overwrites B, unless fences refuse A's write"
        return knobs + f"both inside for {self.both_inside:g} s"
