"""Stale reads: one run against databases and caches of dicts, and the three variants of kvlab."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kvlab import Kv
from kvlab.chapters.write_through.staleness import Staleness, Variant, measure, measure_each
from kvlab.chapters.write_through.staleness_chart import staleness_chart, staleness_table
from kvlab.chapters.write_through.variants import variants
from kvlab.errors import InvalidArgument
from kvlab.instruments import ClosedLoop, OpenLoop


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
    read: Callable[..., Any], write: Callable[..., Any], database: Table, **other: Any
) -> Staleness:
    settings: dict[str, Any] = {
        "keys": 2,
        "writers": 2,
        "think": 0.0005,
        "pause": 0,
        "bucket": 0.01,
        "arrivals": OpenLoop(2000, workers=2),
        "duration": 0.1,
    }
    return measure(Variant(read, write), database, **settings | other)


def test_readers_of_the_database_itself_are_never_stale_and_those_of_a_frozen_copy_are() -> None:
    fresh = measured(lambda key, load: load(), lambda key, commit: commit(), Table())
    assert fresh.reads.violations == 0
    assert fresh.loads_per_1000 == 1000
    assert fresh.over_time()["stale"].sum() == 0
    frozen = measured(
        lambda key, load: {"version": 1}, lambda key, commit: commit(), Table(), duration=0.2
    )
    assert frozen.writes > 0
    assert frozen.reads.violations == frozen.reads.counts["stale"] > 0
    assert frozen.per_1000 == 1000 * frozen.reads.violations / frozen.reads.count
    assert frozen.over_time()["stale"].max() > 0
    runs = {"naive": frozen, "hardened": fresh}
    assert staleness_chart(runs, title="x").axes
    table = staleness_table({0.005: runs}).data
    assert list(table["stale"]) == [frozen.reads.violations, 0]


def test_the_hardened_variant_serves_nothing_stale(kv: Kv) -> None:
    settings: dict[str, Any] = {"pause": 0.001, "think": 0.002, "duration": 0.2}
    runs = measure_each(variants(kv), kv, Table(), **settings)
    assert list(runs) == ["cache-aside", "naive", "hardened"]
    assert all(run.writes > 0 for run in runs.values())
    assert runs["hardened"].reads.violations == 0


def test_a_writer_that_raises_ends_the_run_with_its_error() -> None:
    def broken(key: int, commit: Callable[[], object]) -> None:
        raise LookupError("the cache broke")

    with pytest.raises(LookupError, match="the cache broke"):
        measured(lambda key, load: load(), broken, Table(), arrivals=ClosedLoop(1))


@pytest.mark.parametrize("wrong", [{"keys": 0}, {"writers": 0}, {"think": -1}, {"pause": -1}])
def test_arguments_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        measured(lambda key, load: load(), lambda key, commit: commit(), Table(), **wrong)
