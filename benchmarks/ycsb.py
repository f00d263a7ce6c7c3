"""The mixes A to F of YCSB for a cache before a database, beside the tutorial's cache-aside.

The mixes are the core workloads of B. Cooper et al., "Benchmarking cloud serving systems with
YCSB", SoCC 2010: which share of the operations reads, updates, inserts, scans a short range, or
reads, changes and writes; and which rows are popular. An update writes the database first and then
invalidates. The database is a dict, so the figures are those of the cache. Every row that is read
must be the newest one. As in YCSB, all rows are in the cache before a mix begins.

Why kvlab takes longer, but for scans. A hit is a script in place of GET: it looks for the end of
the entry's life too, and costs the server 6 µs more; kvlab's own code costs what redis-py's costs.
A miss has two scripts in place of GET and SETEX. They take the lease and compare it, so that one
caller loads, and no fill lands over an invalidation; and the value is read back from its JSON,
which must give it unchanged. A miss costs the server about 28 µs more, and the client 22. (CPU time
on Valkey 9.1 and Python 3.11, client and server on one core.)

Not promised: YCSB's own numbers. YCSB measures a store, and this is a cache before one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvlab import CacheAside, NaiveCacheAside
from kvlab.bench import Bench, Case, Measure, Peer
from kvlab.instruments.measure.workload import Zipf

ROWS, SCAN, TTL, SEED = 1_000, 20, 300, 1
POPULAR = Zipf(ROWS, 0.99)
PIECE, DRAWN = 10, 20_000
"""Operations of a measured piece, since a mix is a mean over several; and of a whole mix."""
LESS = "many may load at once, and a fill may land after an invalidation; a round trip for each row"
Rows = dict[int, dict[str, Any]]
Read = Callable[[list[int]], list[Any]]


@dataclass(frozen=True)
class Mix:
    """``shares``: of each kind of operation, in all 1. ``latest``: the newest rows are popular."""

    what: str
    shares: Mapping[str, float]
    latest: bool = False

    def operations(self, count: int, seed: int) -> list[tuple[str, int]]:
        """The kind of each operation, and its row; rows from ``ROWS`` on are new ones."""
        names = list(self.shares)
        draws = np.random.default_rng([seed, 0x9C5B]).random(count)
        kinds = np.searchsorted(np.cumsum(list(self.shares.values()))[:-1], draws, side="right")
        inserted, found = 0, []
        for kind, rank in zip(kinds, POPULAR.keys(count, seed), strict=True):
            row = ROWS - 1 + inserted - int(rank) if self.latest else int(rank)
            if names[kind] == "insert":
                row, inserted = ROWS + inserted, inserted + 1
            found.append((names[kind], row))
        return found


MIXES = {
    "A": Mix("half reads, half updates", {"read": 0.5, "update": 0.5}),
    "B": Mix("95 % reads, 5 % updates", {"read": 0.95, "update": 0.05}),
    "C": Mix("reads alone", {"read": 1.0}),
    "D": Mix("95 % reads of the latest rows, 5 % inserts", {"read": 0.95, "insert": 0.05}, True),
    "E": Mix(f"95 % scans of {SCAN} rows, 5 % inserts", {"scan": 0.95, "insert": 0.05}),
    "F": Mix("half reads, half reads with a change", {"read": 0.5, "change": 0.5}),
}


def cases(bench: Bench) -> Iterator[Case]:
    """A case a mix: one client, a closed loop, the time of an operation."""
    for name, mix in MIXES.items():
        peers = {"the tutorial's GET, then SETEX": Peer(tutorial(bench, name), "", LESS)}
        yield Case(f"mix {name}", mix.what, ours(bench, name), peers)


def ours(bench: Bench, name: str) -> Measure:
    """kvlab's cache: a scan reads all its rows in one round trip, and fills in another."""
    kv, cache, rows = bench.kv, CacheAside(f"ycsb-{name}", TTL), first_rows()

    def read(wanted: list[int]) -> list[Any]:
        if len(wanted) == 1:
            return [kv.run(cache.fetch(wanted[0], lambda: rows[wanted[0]]))]
        lookups = kv.run([cache.read(row) for row in wanted])
        pairs = list(zip(wanted, lookups, strict=True))
        kv.run([cache.fill(row, one.lease, rows[row]) for row, one in pairs if one.lease])
        return [one.value if one.hit else rows[row] for row, one in pairs]

    return played(MIXES[name], rows, read, lambda row: kv.run(cache.invalidate(row)))


def tutorial(bench: Bench, name: str) -> Measure:
    """The seed's cache-aside: a round trip a row, and another for a miss."""
    rows = first_rows()
    cache = NaiveCacheAside(bench.kv.client, TTL, f"{bench.kv.prefix}tutorial-{name}:")

    def read(wanted: list[int]) -> list[Any]:
        return [cache.get(row, lambda row=row: rows[row]) for row in wanted]  # type: ignore[misc]

    return played(MIXES[name], rows, read, cache.invalidate)


def first_rows() -> Rows:
    return {row: {"id": row, "version": 1, "name": "x" * 100} for row in range(ROWS)}


def played(mix: Mix, rows: Rows, read: Read, forget: Callable[[int], object]) -> Measure:
    """The seconds of an operation, the mean of a piece of the mix. Each side plays the same."""
    todo = itertools.cycle(mix.operations(DRAWN, SEED))
    read(list(rows))

    def write(row: int) -> None:
        version = rows[row]["version"] + 1 if row in rows else 1
        rows[row] = {"id": row, "version": version, "name": "x" * 100}
        forget(row)

    def measure() -> list[float]:
        began = time.perf_counter()
        for kind, row in itertools.islice(todo, PIECE):
            if kind in ("read", "scan", "change"):
                wanted = list(range(row, min(row + SCAN, ROWS))) if kind == "scan" else [row]
                assert read(wanted) == [rows[one] for one in wanted], "an old row was read"
            if kind in ("update", "insert", "change"):
                write(row)
        return [(time.perf_counter() - began) / PIECE]

    return measure
