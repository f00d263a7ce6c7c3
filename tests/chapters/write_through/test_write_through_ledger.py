"""Which reads count as stale, and how one of them is explained."""

from __future__ import annotations

import itertools

import pytest

from kvlab.chapters.write_through.ledger import Ledger


@pytest.fixture
def ledger() -> Ledger:
    ticks = itertools.count()
    return Ledger(now=lambda: next(ticks) / 1000)


def test_older_than_what_was_acknowledged_before_is_stale(ledger: Ledger) -> None:
    ledger.note("w", "acknowledged", 1, 5)
    assert ledger.judge("r", 1, 4, ledger.begin(1))
    assert not ledger.judge("r", 1, 5, ledger.begin(1))
    assert not ledger.judge("r", 1, 6, ledger.begin(1)), "newer than expected is fresh"
    assert not ledger.judge("r", 2, 4, ledger.begin(2)), "another row"
    assert [(read.served, read.expected) for read in ledger.stale] == [(4, 5)]


def test_a_commit_that_is_not_acknowledged_promises_nothing(ledger: Ledger) -> None:
    ledger.note("w", "committed", 1, 5)
    assert not ledger.judge("r", 1, 4, ledger.begin(1))


def test_what_is_acknowledged_during_a_read_is_not_held_against_it(ledger: Ledger) -> None:
    begun = ledger.begin(1)
    ledger.note("w", "acknowledged", 1, 5)
    assert not ledger.judge("r", 1, 4, begun)


def test_an_older_version_acknowledged_later_lowers_nothing(ledger: Ledger) -> None:
    ledger.note("w2", "acknowledged", 1, 5)
    ledger.note("w1", "acknowledged", 1, 4)
    assert ledger.judge("r", 1, 4, ledger.begin(1))


def test_a_late_writer_is_explained_step_by_step(ledger: Ledger) -> None:
    ledger.note("w1", "committed", 1, 4)
    ledger.note("w2", "committed", 1, 5)
    ledger.note("w2", "acknowledged", 1, 5)
    ledger.note("w2", "acknowledged", 2, 9)
    ledger.note("w1", "acknowledged", 1, 4)
    ledger.judge("r", 1, 4, ledger.begin(1))
    assert ledger.explain() == [
        "   0.0 ms  w1: commits version 4; the cache does not know it yet",
        "   1.0 ms  w2: commits version 5; the cache does not know it yet",
        "   2.0 ms  w2: has updated the cache for version 5; the call has returned",
        "   4.0 ms  w1: has updated the cache for version 4; the call has returned",
        "   5.0 ms  r: reads, and gets version 4: STALE, version 5 was acknowledged",
    ]


def test_a_late_fill_is_explained_step_by_step(ledger: Ledger) -> None:
    ledger.note("r1", "loaded", 1, 4)
    ledger.note("w", "committed", 1, 5)
    ledger.note("w", "acknowledged", 1, 5)
    ledger.note("r1", "filled", 1, 4)
    ledger.judge("r2", 1, 4, ledger.begin(1))
    assert [line.split("ms  ")[1].split(":")[0] for line in ledger.explain()] == [
        "r1",
        "w",
        "w",
        "r1",
        "r2",
    ]


def test_a_stale_read_without_a_known_cause_is_not_explained(ledger: Ledger) -> None:
    ledger.note("w", "committed", 1, 4)
    ledger.note("w", "acknowledged", 1, 4)  # over before version 5 was: not the cause
    ledger.note("w", "committed", 1, 5)
    ledger.note("w", "acknowledged", 1, 5)
    ledger.judge("r", 1, 4, ledger.begin(1))
    assert ledger.stale
    assert ledger.explain() == []
