"""Which reads count as stale, told by hand; and one run against databases and caches of dicts."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kvlab.chapters import write_through_staleness as staleness
from kvlab.chapters.write_through_staleness import Ledger
from kvlab.errors import InvalidArgument
from kvlab.instruments import ClosedLoop, OpenLoop


@pytest.fixture
def ledger() -> Ledger:
    ticks = itertools.count()
    return Ledger(now=lambda: next(ticks) / 1000)


def test_older_than_what_was_acknowledged_before_is_stale(ledger: Ledger) -> None:
    ledger.note("w", "acknowledged", 1, 5)
    assert ledger.served("r", 1, 4, ledger.begin(1))
    assert not ledger.served("r", 1, 5, ledger.begin(1))
    assert not ledger.served("r", 1, 6, ledger.begin(1)), "newer than expected is fresh"
    assert not ledger.served("r", 2, 4, ledger.begin(2)), "another row"
    assert [(read.served, read.known) for read in ledger.stale] == [(4, 5)]


def test_a_commit_that_is_not_acknowledged_promises_nothing(ledger: Ledger) -> None:
    ledger.note("w", "committed", 1, 5)
    assert not ledger.served("r", 1, 4, ledger.begin(1))


def test_what_is_acknowledged_during_a_read_is_not_held_against_it(ledger: Ledger) -> None:
    begun = ledger.begin(1)
    ledger.note("w", "acknowledged", 1, 5)
    assert not ledger.served("r", 1, 4, begun)


def test_an_older_version_acknowledged_later_lowers_nothing(ledger: Ledger) -> None:
    ledger.note("w2", "acknowledged", 1, 5)
    ledger.note("w1", "acknowledged", 1, 4)
    assert ledger.served("r", 1, 4, ledger.begin(1))


def test_a_late_writer_is_told_step_by_step(ledger: Ledger) -> None:
    ledger.note("w1", "committed", 1, 4)
    ledger.note("w2", "committed", 1, 5)
    ledger.note("w2", "acknowledged", 1, 5)
    ledger.note("w2", "acknowledged", 2, 9)
    ledger.note("w1", "acknowledged", 1, 4)
    ledger.served("r", 1, 4, ledger.begin(1))
    assert ledger.schedule() == [
        "   0.0 ms  w1: database has version 4, cache not yet told",
        "   1.0 ms  w2: database has version 5, cache not yet told",
        "   2.0 ms  w2: cache told of version 5, the call returns",
        "   4.0 ms  w1: cache told of version 4, the call returns",
        "   5.0 ms  r: asks, and is served version 4: STALE, 5 was acknowledged",
    ]


def test_a_late_fill_is_told_step_by_step(ledger: Ledger) -> None:
    ledger.note("r1", "loaded", 1, 4)
    ledger.note("w", "committed", 1, 5)
    ledger.note("w", "acknowledged", 1, 5)
    ledger.note("r1", "filled", 1, 4)
    ledger.served("r2", 1, 4, ledger.begin(1))
    assert [line.split("ms  ")[1].split(":")[0] for line in ledger.schedule()] == [
        "r1", "w", "w", "r1", "r2",
    ]  # fmt: skip


def test_a_stale_read_without_a_known_cause_is_not_explained(ledger: Ledger) -> None:
    ledger.note("w", "committed", 1, 4)
    ledger.note("w", "acknowledged", 1, 4)  # over before version 5 was: not the cause
    ledger.note("w", "committed", 1, 5)
    ledger.note("w", "acknowledged", 1, 5)
    ledger.served("r", 1, 4, ledger.begin(1))
    assert ledger.stale
    assert ledger.schedule() == []


class Table:
    """Rows in a dict, each with its version."""

    def __init__(self) -> None:
        self.rows = {key: {"version": 1} for key in (1, 2)}
        self._lock = threading.Lock()

    def read(self, customer_id: int) -> dict[str, Any]:
        return self.rows[customer_id]

    def save(self, customer_id: int, **fields: str) -> tuple[dict[str, Any], int]:
        with self._lock:
            version = self.rows[customer_id]["version"] + 1
            self.rows[customer_id] = {"version": version}
            return self.rows[customer_id], version


def measured(
    read: Callable[..., Any], write: Callable[..., Any], table: Table, **other: Any
) -> staleness.Staleness:
    settings: dict[str, Any] = {
        "keys": 2, "writers": 2, "think": 0.0005, "pause": 0, "seed": 1, "bucket": 0.01,
        "arrivals": OpenLoop(2000, workers=2), "duration": 0.1,
    }  # fmt: skip
    return staleness.measure(read, write, table, **settings | other)


def test_readers_of_the_database_itself_are_never_stale_and_those_of_a_frozen_copy_are() -> None:
    fresh = measured(lambda key, load: load(), lambda key, commit: commit(), Table())
    assert fresh.reads.violations == 0
    assert fresh.loads == fresh.reads.count
    assert fresh.over_time()["stale"].sum() == 0
    frozen = measured(
        lambda key, load: {"version": 1}, lambda key, commit: commit(), Table(), duration=0.2
    )
    assert frozen.writes.count > 0
    assert frozen.reads.violations == frozen.reads.counts["stale"] > 0
    assert frozen.per_1000 == 1000 * frozen.reads.violations / frozen.reads.count
    assert frozen.over_time()["stale"].max() > 0
    assert staleness.chart({"naive": frozen, "hardened": fresh}, title="x").axes


def test_a_writer_that_raises_ends_the_run_with_its_error() -> None:
    def broken(key: int, commit: Callable[[], object]) -> None:
        raise LookupError("the cache broke")

    with pytest.raises(LookupError, match="the cache broke"):
        measured(lambda key, load: load(), broken, Table(), arrivals=ClosedLoop(1))


@pytest.mark.parametrize("wrong", [{"keys": 0}, {"writers": 0}, {"think": -1}, {"pause": -1}])
def test_arguments_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        measured(lambda key, load: load(), lambda key, commit: commit(), Table(), **wrong)
