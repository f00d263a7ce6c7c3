"""Who did what with which version of a row: decides which reads were stale, and explains one.

A read is **stale** when it is served a version older than a version that was acknowledged before
the read began: the writer had committed it, and its call to the cache had returned. A version
that has not been acknowledged yet makes no read stale.

Guarantee: no fresh read is counted as stale. The ledger notes what a reader may expect before the
reader asks, and what a writer has done after its call returned: a late note can hide a stale
read, and never invents one.
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
    "acknowledged": "has updated the cache after version {}, the call returns",
    "loaded": "finds nothing in the cache, loads version {}",
    "filled": "fills version {}, the call returns",
}


@dataclass(frozen=True, slots=True)
class Deed:
    """At second ``at`` somebody had done this with this version of a row."""

    at: float
    who: str
    did: Did
    key: int
    version: int


@dataclass(frozen=True, slots=True)
class StaleRead:
    """The read got version ``served``; version ``expected`` was acknowledged before it began."""

    began: float
    who: str
    key: int
    served: int
    expected: int


class Ledger:
    """Notes who has done what, and the version of each row that readers may expect."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._expected: dict[int, int] = {}
        self._lock = threading.Lock()
        self.deeds: list[Deed] = []
        self.stale: list[StaleRead] = []

    def note(self, who: str, did: Did, key: int, version: int) -> None:
        """This has been done. "acknowledged" raises the version that later readers may expect."""
        with self._lock:
            self.deeds.append(Deed(self._now(), who, did, key, version))
            if did == "acknowledged":
                self._expected[key] = max(self._expected.get(key, 0), version)

    def begin(self, key: int) -> tuple[int, float]:
        """The oldest version that a read may get which begins now, and this moment."""
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
        """How one stale read came about, a line per step; empty when no read can be explained.

        Of the stale reads whose cause was over before they began, the one with the fewest lines.
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
        f"{(read.began - zero) * 1e3:6.1f} ms  {read.who}: asks, and is served version "
        f"{read.served}: STALE, version {read.expected} was acknowledged"
    )
    return lines
