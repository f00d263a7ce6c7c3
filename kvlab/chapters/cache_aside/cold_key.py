"""Many readers ask for one cold key at the same moment: who loads, and when is everybody served?

Guarantee: no load begins before every reader has looked into the cache. The cache therefore
decides how many loads there are, and not the thread scheduler:

1. the readers start together
2. each reader looks into the cache and finds nothing
3. after the last look, every reader that wants to load may load
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kvlab.core.checks import whole
from kvlab.core.settings import Settings
from kvlab.errors import KvlabError

PATIENCE = 30.0

Load = Callable[[], Any]
Span = tuple[float, float]


class NotEverybodyLooked(KvlabError):
    """A load was held back, and some reader never looked into the cache."""


class Traced(Protocol):
    """The part of a Kv that is used here: its settings, with the trace hook."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Visit:
    """One reader: the value it got, when it asked and was answered, and the loads it made.

    Times are seconds since the first reader asked.
    """

    value: Any
    asked: float
    answered: float
    loads: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class ColdKey:
    """What all readers of one cold key did."""

    visits: tuple[Visit, ...]

    @property
    def loads(self) -> int:
        """How many loads all readers made together."""
        return sum(len(visit.loads) for visit in self.visits)

    @property
    def last_answer(self) -> float:
        """Seconds until the last reader was served."""
        return max(visit.answered for visit in self.visits)


def read_cold_key(
    readers: int,
    fetch: Callable[[int, Load], Any],
    load: Callable[[int], Any],
    *,
    key: int = 7,
    kv: Traced | None = None,
) -> ColdKey:
    """``fetch(key, load)`` in as many threads as there are ``readers``, all started together.

    A reader has looked when it begins to load. With ``kv``, it has also looked when a round trip
    of that executor was answered in its thread: this counts the readers that wait for another
    one's load. Raises what a reader raises.
    """
    whole("readers", readers, 1, 1024)
    gate = _LoadGate(readers)
    start = threading.Barrier(readers)
    with _traced(kv, gate.looked), ThreadPoolExecutor(readers) as pool:
        reading = [
            pool.submit(_Reader(fetch, load, key, gate).visit, start) for _ in range(readers)
        ]
        return ColdKey(_from_zero([future.result() for future in reading]))


@contextmanager
def _traced(kv: Traced | None, trace: Callable[[object], None]) -> Iterator[None]:
    """The executor calls ``trace`` after each round trip of the body."""
    if kv is None:
        yield
        return
    before = kv.settings
    kv.settings = replace(before, trace=trace)
    try:
        yield
    finally:
        kv.settings = before


class _LoadGate:
    """Stays closed until every reader has looked into the cache."""

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._looked: set[int] = set()
        self._lock = threading.Lock()
        self._open = threading.Event()

    def looked(self, _: object = None) -> None:
        """The calling thread has looked."""
        with self._lock:
            self._looked.add(threading.get_ident())
            if len(self._looked) == self._readers:
                self._open.set()

    def wait(self) -> None:
        if not self._open.wait(PATIENCE):
            raise NotEverybodyLooked(f"{len(self._looked)} of {self._readers} readers looked")


class _Reader:
    """One reader: its loads wait at the gate and are timed."""

    def __init__(
        self,
        fetch: Callable[[int, Load], Any],
        load: Callable[[int], Any],
        key: int,
        gate: _LoadGate,
    ) -> None:
        self._fetch, self._load, self._key, self._gate = fetch, load, key, gate
        self._loads: list[Span] = []

    def visit(self, start: threading.Barrier) -> Visit:
        start.wait(PATIENCE)
        asked = time.perf_counter()
        value = self._fetch(self._key, self._load_after_all_looked)
        return Visit(value, asked, time.perf_counter(), tuple(self._loads))

    def _load_after_all_looked(self) -> Any:
        self._gate.looked()
        self._gate.wait()
        began = time.perf_counter()
        try:
            return self._load(self._key)
        finally:
            self._loads.append((began, time.perf_counter()))


def _from_zero(visits: list[Visit]) -> tuple[Visit, ...]:
    zero = min(visit.asked for visit in visits)
    return tuple(
        Visit(
            visit.value,
            visit.asked - zero,
            visit.answered - zero,
            tuple((began - zero, ended - zero) for began, ended in visit.loads),
        )
        for visit in visits
    )
