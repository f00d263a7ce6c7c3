"""How often a cache serves what is known to be old, while several writers change a few hot rows.

A read is **stale** when it is served a version older than one whose writer had been told "done"
before the read began: committed, and its call to the cache over. A version that is still on its
way is nobody's broken promise and is not counted.

Guarantee: no read is counted that was fresh by this rule. What a reader may expect is noted down
before it asks, what a writer has done after its call returned, so a late note can hide a stale
read and never invents one.

Writers are threads in a closed loop with seeded think times; readers arrive by the workload given.
``pause`` is the mean of an exponential delay between each answer of the database and the cache
command that follows it, in writers and in loading readers alike. It stands for what happens there
to a busy process: a collected heap, a stolen core, a slow network. 0 adds none.

Not promised: the same count twice. Keys, think times and pauses are seeded, threads are not.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pandas as pd
from matplotlib.figure import Figure

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.style import bar_look, colour, panels
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.workload import ClosedLoop, OpenLoop, Uniform
from kvlab.instruments.palette import INK

Row = dict[str, Any]
Load = Callable[[], Row | None]
Commit = Callable[[], tuple[Row, int]]
Did = Literal["committed", "acknowledged", "loaded", "filled"]

_SAID: dict[Did, str] = {
    "committed": "database has version {}, cache not yet told",
    "acknowledged": "cache told of version {}, the call returns",
    "loaded": "finds nothing in the cache, loads version {}",
    "filled": "fills version {}, the call returns",
}


class Database(Protocol):
    """What is used of an Origin."""

    def read(self, customer_id: int) -> Row | None: ...
    def save(self, customer_id: int, **fields: str) -> tuple[Row, int]: ...


@dataclass(frozen=True, slots=True)
class Event:
    """At second ``at`` somebody had done this with this version of a row."""

    at: float
    who: str
    did: Did
    key: int
    version: int


@dataclass(frozen=True, slots=True)
class StaleRead:
    """``served`` an old version; ``known`` was acknowledged before the read began."""

    began: float
    who: str
    key: int
    served: int
    known: int


class Ledger:
    """Who had done what by when, and the newest version of each row that readers may expect."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._known: dict[int, int] = {}
        self._lock = threading.Lock()
        self.events: list[Event] = []
        self.stale: list[StaleRead] = []

    def note(self, who: str, did: Did, key: int, version: int) -> None:
        """It is done: ``acknowledged`` raises what later readers of the row may expect."""
        with self._lock:
            self.events.append(Event(self._now(), who, did, key, version))
            if did == "acknowledged":
                self._known[key] = max(self._known.get(key, 0), version)

    def begin(self, key: int) -> tuple[int, float]:
        """What a read that begins now may expect at least, and this moment."""
        with self._lock:
            return self._known.get(key, 0), self._now()

    def served(self, who: str, key: int, version: int, begun: tuple[int, float]) -> bool:
        """Whether this read was stale; ``begun`` is what ``begin`` gave."""
        known, began = begun
        if version >= known:
            return False
        with self._lock:
            self.stale.append(StaleRead(began, who, key, version, known))
        return True

    def schedule(self) -> list[str]:
        """How one stale read came about, a line per step; empty without one.

        Of all stale reads one whose cause was over before it began, with the fewest lines.
        """
        stories = [story for read in self.stale if (story := self._story(read))]
        return min(stories, key=len) if stories else []

    def _story(self, read: StaleRead) -> list[str]:
        mine = [e for e in self.events if e.key == read.key and e.at <= read.began]
        newer = [e for e in mine if e.version == read.known]
        told = next((e.at for e in newer if e.did == "acknowledged"), None)
        causes = [
            e
            for e in mine
            if e.version == read.served
            and e.did in ("acknowledged", "filled")
            and told is not None
            and e.at > told
        ]
        if told is None or not causes:
            return []
        cause = causes[0]
        before: Did = "committed" if cause.did == "acknowledged" else "loaded"
        first = [e for e in mine if (e.who, e.did, e.version) == (cause.who, before, read.served)]
        newer = [e for e in newer if e.did in ("committed", "acknowledged")]
        steps = sorted([*first[-1:], *newer, cause], key=lambda e: e.at)
        zero = steps[0].at
        lines = [f"{(e.at - zero) * 1e3:6.1f} ms  {e.who}: {_SAID[e.did].format(e.version)}"
                 for e in steps]  # fmt: skip
        return [
            *lines,
            f"{(read.began - zero) * 1e3:6.1f} ms  {read.who}: asks, and is served version "
            f"{read.served}: STALE, {read.known} was acknowledged",
        ]


@dataclass(frozen=True, slots=True)
class Staleness:
    """One run: its reads (``fresh`` and ``stale``, which are its violations), writes and loads."""

    reads: Result
    writes: Recorder
    loads: int
    ledger: Ledger

    @property
    def per_1000(self) -> float:
        """Stale reads per 1,000."""
        return 1000 * self.reads.share("stale")

    def over_time(self) -> pd.DataFrame:
        """Columns ``seconds`` (middle of the bucket) and ``stale`` per 1,000 reads of that time.

        Buckets without a read are left out.
        """
        rows = [
            ((i + 0.5) * self.reads.bucket, 1000 * counts.get("stale", 0) / sum(counts.values()))
            for i, counts in enumerate(self.reads.timeline)
            if counts
        ]
        return pd.DataFrame(rows, columns=["seconds", "stale"])


def measure(
    read: Callable[[int, Load], Row | None],
    write: Callable[[int, Commit], object],
    database: Database,
    *,
    keys: int,
    writers: int,
    think: float,
    pause: float,
    arrivals: OpenLoop | ClosedLoop,
    duration: float,
    seed: int,
    bucket: float = 0.25,
    name: str = "",
) -> Staleness:
    """Readers and writers of rows 1…``keys`` for ``duration`` seconds.

    ``read(key, load)`` reads through the cache, ``write(key, commit)`` calls ``commit``, which
    gives (row, version), and tells the cache. ``think``: mean seconds between a writer's writes.
    Raises what a reader or a writer raises.
    """
    whole("keys", keys, 1)
    whole("writers", writers, 1, 256)
    real("think", think, 0)
    real("pause", pause, 0)
    if not callable(read) or not callable(write):
        raise InvalidArgument("read and write must be callable")
    ledger, latencies, lock = Ledger(), Recorder(), threading.Lock()
    drawn, names = random.Random(f"{seed}/pauses"), _Names()
    over = threading.Event()

    def hold() -> None:
        if pause:
            with lock:
                seconds = drawn.expovariate(1 / pause)
            time.sleep(seconds)

    def ask(chosen: int) -> str:
        key, who, loaded = chosen + 1, names.mine(), [0]

        def load() -> Row | None:
            row = database.read(key)
            loaded[0] = _version(row)
            ledger.note(who, "loaded", key, loaded[0])
            hold()
            return row

        begun = ledger.begin(key)
        row = read(key, load)
        if loaded[0]:
            ledger.note(who, "filled", key, loaded[0])
        return "stale" if ledger.served(who, key, _version(row), begun) else "fresh"

    def write_until_over(number: int) -> None:
        rng, who, n = random.Random(f"{seed}/writer {number}"), f"writer {number}", 0
        while not over.wait(rng.expovariate(1 / think) if think else 0):
            key, n, given = rng.randint(1, keys), n + 1, [0]

            def commit(key: int = key, n: int = n, given: list[int] = given) -> tuple[Row, int]:
                row, version = database.save(key, name=f"write {n} of {who}")
                given[0] = version
                ledger.note(who, "committed", key, version)
                hold()
                return row, version

            began = time.perf_counter()
            write(key, commit)
            ledger.note(who, "acknowledged", key, given[0])
            with lock:
                latencies.record(time.perf_counter() - began)

    with ThreadPoolExecutor(writers) as pool:
        writing = [pool.submit(write_until_over, i + 1) for i in range(writers)]
        try:
            reads = experiment(
                ask, Uniform(keys), seed, arrivals=arrivals, duration=duration, bucket=bucket,
                check=lambda: len(ledger.stale), name=name, progress=False,
            )  # fmt: skip
        finally:
            over.set()
        for each in writing:
            each.result()
    return Staleness(reads, latencies, sum(e.did == "loaded" for e in ledger.events), ledger)


def chart(runs: Mapping[str, Staleness], *, title: str) -> Figure:
    """Stale reads per 1,000 over time, a panel per variant, all on one scale."""
    with panels(title, len(runs)) as (figure, side_by_side):
        for i, (axes, (name, measured)) in enumerate(zip(side_by_side, runs.items(), strict=True)):
            frame, shade = measured.over_time(), colour(name, i)
            axes.bar(
                frame["seconds"], frame["stale"], measured.reads.bucket * 0.9,
                **bar_look(name, shade),
            )  # fmt: skip
            axes.axhline(measured.per_1000, color=INK, lw=1.2, dashes=(5, 2))
            count = measured.reads.violations
            axes.set_title(f"{name}\n{count} stale of {measured.reads.count:,} reads", color=shade)
            axes.set_xlabel("seconds since the first read")
            axes.grid(False, axis="x")
        first = side_by_side[0]
        first.set_ylabel("stale reads per 1,000 (dashes: the whole run)")
        first.set_ylim(0, max(first.get_ylim()[1], 1))
        first.set_xlim(left=0)
    return figure


class _Names:
    """``reader 1``, ``reader 2``, … in the order in which threads first ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}

    def mine(self) -> str:
        with self._lock:
            me = threading.get_ident()
            return self._names.setdefault(me, f"reader {len(self._names) + 1}")


def _version(row: Row | None) -> int:
    return 0 if row is None else int(row["version"])
