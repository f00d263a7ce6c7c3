"""What a soak has seen so far: written by visitors and callers, read by the verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

NEEDS_STORE = frozenset({"work", "me", "score"})
"""The routes that have no other answer than 503 without the store."""


Call = tuple[float, float, float]
"""What the server's clock said, and begin and end of the request by ours; Unix seconds."""


@dataclass(slots=True)
class FaultSeen:
    """One fault; times in seconds of the run.

    ``failed``: calls answered with 503 while the fault was in force. ``after``: calls that began
    after it and were answered with 503 before the first good answer, which came ``recovered``
    seconds after its end.
    """

    kind: str
    ended: float | None = None
    failed: int = 0
    after: int = 0
    recovered: float | None = None


@dataclass(slots=True)
class Counted:
    """Additions to one counter: those that were confirmed, and those with an unknown outcome."""

    certain: int = 0
    unknown: int = 0


@dataclass(slots=True)
class Diary:
    """``wrong``: promise → each sight that breaks the promise; ``done``: promise → how often it
    could have been broken. ``admitted``: address → its admissions. ``memory``: of the app, in
    bytes, once a second. ``slowest``: seconds and route of the slowest answer."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    done: Counter[str] = field(default_factory=Counter)
    admitted: defaultdict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    counters: defaultdict[str, Counted] = field(default_factory=lambda: defaultdict(Counted))
    faults: list[FaultSeen] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "none")

    def answered(self, route: str, status: int, began: float, now: float) -> None:
        """An answer of the app; times in seconds of the run."""
        self.statuses[route, status] += 1
        self.slowest = max(self.slowest, (now - began, route))
        if not self.faults or route not in NEEDS_STORE:
            return
        fault = self.faults[-1]
        if fault.ended is None:
            fault.failed += status == 503
        elif fault.recovered is None and began >= fault.ended:
            if status == 503:
                fault.after += 1
            else:
                fault.recovered = now - fault.ended
