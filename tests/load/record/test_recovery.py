"""Dips and recoveries that are known by arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.load_samples import flat

from kvlab.load.record.parts import Fault
from kvlab.load.record.recovery import recoveries

USUAL = [1000] * 10


@pytest.mark.parametrize(
    ("rates", "fault", "expected"),
    [
        # (before, lowest, seconds until back at 90 %)
        ([*USUAL, 0, 0, 950, 1000], Fault("pause", 10, 2), (1000, 0, 2)),
        ([*USUAL, 40, 300, 899, 900], Fault("cut", 10, 1), (1000, 40, 3)),
        # It began within an interval that was still good: that one is not the recovery.
        ([*USUAL, 950, 0, 100, 1000], Fault("pause", 10.9, 2), (1000, 0, 2.1)),
        ([*USUAL, 950, 500, 1000], Fault("flush", 10.5, 0), (1000, 500, 1.5)),
        # Up for one interval in the middle of the fault is not back.
        ([*USUAL, 0, 1000, 0, 1000, 1000], Fault("cut", 10, 3), (1000, 0, 3)),
        # A backlog fills the interval in which the fault ends: back when it ended, not before.
        ([*USUAL, 0, 2500, 1000], Fault("restart", 10, 1.5), (1000, 0, 1.5)),
        ([*USUAL, 900, 1000], Fault("flush", 10, 0), (1000, None, 0)),
        ([*USUAL, 899, 1000], Fault("flush", 10.25, 0), (1000, 899, 0.75)),
        ([*USUAL, 0, 0, 0], Fault("restart", 10, 1), (1000, 0, None)),
        ([0, 0, 1000, 1000], Fault("pause", 0.5, 2), (None, None, None)),
        # The median of the intervals before: one bad second does not lower it.
        ([10, *USUAL, 0, 900, 900], Fault("pause", 11, 1), (1000, 0, 1)),
        ([], Fault("pause", 1, 1), (None, None, None)),
    ],
)
def test_one_fault(rates: Sequence[int], fault: Fault, expected: tuple[float | None, ...]) -> None:
    (found,) = recoveries(flat(rates, [fault], seconds=float(len(rates) or 3)))
    assert found.fault is fault
    assert (found.before, found.lowest) == expected[:2]
    assert found.seconds == (None if expected[2] is None else pytest.approx(expected[2]))


def test_several_faults_each_have_their_own_time() -> None:
    faults = [Fault("cut", 15, 1), Fault("pause", 10, 2), Fault("flush", 20, 0)]
    run = flat([*USUAL, 0, 0, 500, 1000, 1000, 200, 1000, 1000, 1000, 1000, 990], faults)
    found = recoveries(run)
    assert [(r.fault.kind, r.before, r.lowest, r.seconds) for r in found] == [
        ("pause", 1000, 0, 3),
        ("cut", 1000, 200, 1),
        ("flush", 1000, None, 0),
    ]


def test_the_time_in_which_a_fault_showed_is_not_what_comes_before_the_next() -> None:
    # Seven bad seconds, three good ones before: their common median would be 100.
    faults = [Fault("cut", 3, 1), Fault("pause", 11, 1)]
    run = flat([1000] * 3 + [100] * 7 + [1000, 0, 950, 1000], faults)
    first, second = recoveries(run)
    assert (first.before, first.seconds) == (1000, 7)
    assert (second.before, second.lowest, second.seconds) == (1000, 0, 1)


def test_a_fault_not_over_when_the_next_begins() -> None:
    faults = [Fault("cut", 10, 1), Fault("pause", 12, 1)]
    first, second = recoveries(flat([*USUAL, 100, 100, 0, 1000], faults))
    assert (first.lowest, first.seconds) == (100, None)
    assert (second.before, second.lowest, second.seconds) == (1000, 0, 1)


def test_what_is_said_is_what_was_found() -> None:
    faults = [Fault("flush", 5, 0), Fault("pause", 10, 2), Fault("restart", 13, 0.5)]
    run = flat([*USUAL, 0, 450, 1000, 0], faults)
    assert [r.says for r in recoveries(run)] == [
        "flush at 5 s: no interval below 90 % of the 1,000/s before",
        "pause at 10 s for 2 s: from 1,000/s down to 0/s, back at 90 % after 2 s",
        "restart at 13 s for 0.5 s: from 1,000/s down to 0/s, "
        "not back at 90 % before the next fault or the end",
    ]
    (early,) = recoveries(flat([0, 1000], [Fault("cut", 0, 1)]))
    assert early.says == "cut at 0 s for 1 s: no complete interval before the fault to compare with"
