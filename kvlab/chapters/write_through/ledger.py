"""Records what each client did with the versions of a row, and judges which reads were stale.

A read is **stale** when it is served a version older than a version that was acknowledged before
the read began. A version is acknowledged when the writer has committed the version and the
writer's call to the cache has returned.

Guarantee: no fresh read is counted as stale. The ledger notes the expected version before the
reader asks. It notes what a writer did after the writer's call has returned. So a late note can
hide a stale read, and it never makes a fresh read stale.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Did = Literal["committed", "acknowledged", "loaded", "filled"]

_SENTENCES: dict[Did, str] = {
    "committed": "commits version {}; the cache does not know it yet",
    "acknowledged": "has updated the cache for version {}; the call has returned",
    "loaded": "finds nothing in the cache, loads version {}",
    "filled": "has stored version {}; the call has returned",
}


@dataclass(frozen=True, slots=True)
class Deed:
    """The client ``who`` had done this with this version of a row at the time ``at`` (seconds)."""

    at: float
    who: str
    did: Did
    key: int
    version: int


@dataclass(frozen=True, slots=True)
class StaleRead:
    """A read that got version ``served``, after version ``expected`` had been acknowledged."""

    began: float
    who: str
    key: int
    served: int
    expected: int


class Ledger:
    """The deeds of all clients, and the version of each row that a reader may expect."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._expected: dict[int, int] = {}
        self._lock = threading.Lock()
        self.deeds: list[Deed] = []
        self.stale: list[StaleRead] = []

    def note(self, who: str, did: Did, key: int, version: int) -> None:
        """Record a deed. "acknowledged" raises the version that later readers may expect."""
        with self._lock:
            self.deeds.append(Deed(self._now(), who, did, key, version))
            if did == "acknowledged":
                self._expected[key] = max(self._expected.get(key, 0), version)

    def begin(self, key: int) -> tuple[int, float]:
        """The oldest version that a read may get when the read begins now, and the time now."""
        with self._lock:
            return self._expected.get(key, 0), self._now()

    def judge(self, who: str, key: int, version: int, begun: tuple[int, float]) -> bool:
        """Whether the read that got this version was stale; ``begun`` is what ``begin`` gave."""
        expected, began = begun
        if version >= expected:
            return False
        with self._lock:
            self.stale.append(StaleRead(began, who, key, version, expected))
        return True

    @property
    def loads(self) -> int:
        """How many rows were loaded from the database."""
        return sum(deed.did == "loaded" for deed in self.deeds)

    def explain(self) -> list[str]:
        """How one stale read happened, a line per step; empty when no stale read can be explained.

        Only a stale read whose cause had ended before the read began can be explained. Of these
        reads the one with the fewest lines is chosen.
        """
        stories = [story for read in self.stale if (story := self._story(read))]
        return min(stories, key=len) if stories else []

    def _story(self, read: StaleRead) -> list[str]:
        deeds = [deed for deed in self.deeds if deed.key == read.key and deed.at <= read.began]
        newer = [
            deed
            for deed in deeds
            if deed.version == read.expected and deed.did in ("committed", "acknowledged")
        ]
        cause = _late_arrival(deeds, newer, read)
        if cause is None:
            return []
        before: Did = "committed" if cause.did == "acknowledged" else "loaded"
        beginnings = [
            deed
            for deed in deeds
            if (deed.who, deed.did, deed.version) == (cause.who, before, read.served)
        ]
        return _lines(sorted([*beginnings[-1:], *newer, cause], key=lambda deed: deed.at), read)


def _late_arrival(deeds: list[Deed], newer: list[Deed], read: StaleRead) -> Deed | None:
    """The first deed that put the old version into the cache after the newer was acknowledged."""
    acknowledged = next((deed.at for deed in newer if deed.did == "acknowledged"), None)
    if acknowledged is None:
        return None
    for deed in deeds:
        arrives = deed.version == read.served and deed.did in ("acknowledged", "filled")
        if arrives and deed.at > acknowledged:
            return deed
    return None


def _lines(steps: list[Deed], read: StaleRead) -> list[str]:
    zero = steps[0].at
    lines = [
        f"{(step.at - zero) * 1e3:6.1f} ms  {step.who}: {_SENTENCES[step.did].format(step.version)}"
        for step in steps
    ]
    lines.append(
        f"{(read.began - zero) * 1e3:6.1f} ms  {read.who}: reads, and gets version "
        f"{read.served}: STALE, version {read.expected} was acknowledged"
    )
    return lines
