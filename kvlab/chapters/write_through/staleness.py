"""How often a cache serves a version that is known to be old, while writers change a few hot rows.

Which read counts as stale is the ledger's decision: see ``write_through_ledger``. Writers are
threads in a closed loop with seeded think times. Readers arrive as the workload says.

``pause`` is the mean of an exponential delay between each answer of the database and the cache
command that follows it, in writers and in readers that load. The delay stands for what stops a
busy process at that point: garbage collection, a lost core, a slow network. 0 adds none.

Not promised: the same count twice. Keys, think times and pauses are seeded, threads are not.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from kvlab.chapters.write_through.ledger import Ledger
from kvlab.core.checks import real, whole
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.workload import ClosedLoop, OpenLoop, Uniform

READERS = OpenLoop(200, workers=6)

Row = dict[str, Any]
Load = Callable[[], Row | None]
Commit = Callable[[], tuple[Row, int]]


class Database(Protocol):
    """The part of an Origin that is used here."""

    def read(self, customer_id: int) -> Row | None: ...
    def save(self, customer_id: int, **fields: str) -> tuple[Row, int]: ...


class Clears(Protocol):
    """The part of a Kv that is used here."""

    def clear(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Variant:
    """``read(key, load)`` reads through the cache.

    ``write(key, commit)`` calls ``commit``, which returns (row, version), and updates the cache.
    """

    read: Callable[[int, Load], Row | None]
    write: Callable[[int, Commit], object]


@dataclass(frozen=True, slots=True)
class Staleness:
    """One run: its reads ("fresh" or "stale"; stale reads are the violations) and its writes."""

    reads: Result
    writes: int
    ledger: Ledger

    @property
    def per_1000(self) -> float:
        """Stale reads per 1,000 reads."""
        return 1000 * self.reads.share("stale")

    @property
    def loads_per_1000(self) -> float:
        """Loads per 1,000 reads."""
        return 1000 * self.ledger.loads / self.reads.count

    def over_time(self) -> pd.DataFrame:
        """Columns ``seconds`` (middle of the bucket) and ``stale`` per 1,000 reads of the bucket.

        Buckets without a read are left out.
        """
        rows = [
            ((i + 0.5) * self.reads.bucket, 1000 * counts.get("stale", 0) / sum(counts.values()))
            for i, counts in enumerate(self.reads.timeline)
            if counts
        ]
        return pd.DataFrame(rows, columns=["seconds", "stale"])


def measure(
    variant: Variant,
    database: Database,
    *,
    pause: float,
    duration: float,
    keys: int = 2,
    writers: int = 4,
    think: float = 0.025,
    arrivals: OpenLoop | ClosedLoop = READERS,
    seed: int = 1,
    bucket: float = 0.25,
    name: str = "",
) -> Staleness:
    """Readers and writers of the rows 1 to ``keys`` for ``duration`` seconds.

    ``think``: the mean seconds that a writer waits between two writes. Raises what a reader or a
    writer raises.
    """
    whole("keys", keys, 1)
    whole("writers", writers, 1, 256)
    real("think", think, 0)
    real("pause", pause, 0)
    ledger, pauses = Ledger(), _Pauses(pause, seed)
    readers = _Readers(variant, database, ledger, pauses)
    crew = [
        _Writer(f"writer {number}", variant, database, ledger, pauses, seed)
        for number in range(1, writers + 1)
    ]
    with _at_work(crew, keys, think):
        reads = experiment(
            readers.ask,
            Uniform(keys),
            seed,
            arrivals=arrivals,
            duration=duration,
            bucket=bucket,
            check=lambda: len(ledger.stale),
            name=name,
            progress=False,
        )
    return Staleness(reads, sum(writer.writes for writer in crew), ledger)


def measure_each(
    variants: Mapping[str, Variant], kv: Clears, database: Database, **settings: Any
) -> dict[str, Staleness]:
    """``measure`` with the same settings for every variant, each in an empty namespace."""
    runs = {}
    for name, variant in variants.items():
        kv.clear()
        runs[name] = measure(variant, database, name=name, **settings)
    return runs


class _Pauses:
    """Exponential delays with one seeded source for all threads."""

    def __init__(self, mean: float, seed: int) -> None:
        self._mean = mean
        self._random = random.Random(f"{seed}/pauses")
        self._lock = threading.Lock()

    def pause(self) -> None:
        if not self._mean:
            return
        with self._lock:
            seconds = self._random.expovariate(1 / self._mean)
        time.sleep(seconds)


class _Readers:
    """The readers of one run. A reader is the thread that asks."""

    def __init__(
        self, variant: Variant, database: Database, ledger: Ledger, pauses: _Pauses
    ) -> None:
        self._variant, self._database = variant, database
        self._ledger, self._pauses = ledger, pauses
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}

    def ask(self, chosen: int) -> str:
        key, who, loaded = chosen + 1, self._name(), 0

        def load() -> Row | None:
            nonlocal loaded
            row = self._database.read(key)
            loaded = _version(row)
            self._ledger.note(who, "loaded", key, loaded)
            self._pauses.pause()
            return row

        begun = self._ledger.begin(key)
        row = self._variant.read(key, load)
        if loaded:
            self._ledger.note(who, "filled", key, loaded)
        return "stale" if self._ledger.judge(who, key, _version(row), begun) else "fresh"

    def _name(self) -> str:
        """``reader 1``, ``reader 2`` and so on, in the order in which threads first ask."""
        with self._lock:
            me = threading.get_ident()
            return self._names.setdefault(me, f"reader {len(self._names) + 1}")


class _Writer:
    """One writer: changes a row, updates the cache, waits, and begins again."""

    def __init__(
        self,
        name: str,
        variant: Variant,
        database: Database,
        ledger: Ledger,
        pauses: _Pauses,
        seed: int,
    ) -> None:
        self._name, self._variant, self._database = name, variant, database
        self._ledger, self._pauses = ledger, pauses
        self._random = random.Random(f"{seed}/{name}")
        self.writes = 0

    def write_until(self, over: threading.Event, keys: int, think: float) -> None:
        while not over.wait(self._random.expovariate(1 / think) if think else 0):
            self._write(self._random.randint(1, keys))

    def _write(self, key: int) -> None:
        self.writes += 1
        committed = 0

        def commit() -> tuple[Row, int]:
            nonlocal committed
            name = f"write {self.writes} of {self._name}"
            row, committed = self._database.save(key, name=name)
            self._ledger.note(self._name, "committed", key, committed)
            self._pauses.pause()
            return row, committed

        self._variant.write(key, commit)
        self._ledger.note(self._name, "acknowledged", key, committed)


@contextmanager
def _at_work(crew: Sequence[_Writer], keys: int, think: float) -> Iterator[None]:
    """The writers write while the body runs. Raises what a writer raised."""
    over = threading.Event()
    with ThreadPoolExecutor(len(crew)) as pool:
        writing = [pool.submit(writer.write_until, over, keys, think) for writer in crew]
        try:
            yield
        finally:
            over.set()
        for future in writing:
            future.result()


def _version(row: Row | None) -> int:
    return 0 if row is None else int(row["version"])
