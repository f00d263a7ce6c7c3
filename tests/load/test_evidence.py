"""What the processes of a load run saw is merged without loss."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from kvlab.load.evidence import COARSE, FINE, SHORT, Evidence, interval_seconds
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.settings import Bounds
from kvlab.load.record.parts import ANSWERED, TIMELINE, WAITED


def test_merged_percentiles_are_those_of_the_raw_samples() -> None:
    chance = random.Random(7)
    master, raw = Evidence(Decisions()), []
    for worker in range(3):
        seen = Evidence(Decisions())
        for _ in range(20_000):
            latency = chance.lognormvariate(-8 + worker, 0.8)
            seen.record("hit", 1000.0 + chance.random() * 5, latency)
            raw.append(round(latency * 1e9) / 1e9)
        data = seen.to_dict()
        data.pop("facts")
        master.add(json.loads(json.dumps(data)) | {"facts": {}})
    raw.sort()
    for percent in (50, 90, 99, 99.9, 100):
        exact = raw[max(int(np.ceil(round(percent / 100 * len(raw), 6))), 1) - 1]
        assert master.latency["hit"].percentile(percent) == pytest.approx(exact, rel=0.001)
    assert master.calls == len(raw)


def test_a_call_counts_in_the_second_in_which_it_ended() -> None:
    seen = Evidence(Decisions())
    seen.record("hit", 10.9, 0.5)
    seen.record("hit", 11.0, 0.2, problem="refused")
    seen.record("peek", 12.5, 0.1)
    for at in (12.0, 12.4, 12.9):
        seen.due(at)
    lines = seen.timeline(10.2, 2.5, {10: 4, 12: 2}, open_loop=True)
    assert list(lines.columns) == list(TIMELINE)
    assert lines["second"].tolist() == [0, 0.8, 1.8]  # the clock's seconds, as the run sees them
    assert lines["calls"].tolist() == [1, 1, 1]
    assert lines["errors"].tolist() == [0, 1, 0]
    assert lines["due"].tolist() == [0, 0, 3]
    assert lines["users"].tolist() == [4, 4, 2]
    assert lines["p50_us"].tolist() == pytest.approx([5e5, 2e5, 1e5], rel=1e-3)
    assert seen.errors == {"hit: refused": 1}


def test_a_short_run_has_intervals_of_a_quarter_second() -> None:
    seen = Evidence(Decisions(), interval_seconds(SHORT))
    for ended in (10.1, 10.24, 10.25, 10.6):
        seen.record("hit", ended, 0.01)
    seen.due(10.3)
    master = Evidence(Decisions(), interval_seconds(SHORT))
    master.add(seen.to_dict())
    lines = master.timeline(10.1, 0.6, {10: 2}, open_loop=True)
    assert lines["second"].tolist() == pytest.approx([0, 0.15, 0.4])
    assert lines["calls"].tolist() == [2, 1, 1]
    assert lines["due"].tolist() == [0, 1, 0]
    assert interval_seconds(SHORT) == FINE
    assert interval_seconds(SHORT + 1) == interval_seconds(600) == COARSE
    assert interval_seconds(3600) == 6
    assert interval_seconds(None) > COARSE


def test_the_stages_of_a_call_come_to_its_latency() -> None:
    seen, master = Evidence(Decisions()), Evidence(Decisions())
    seen.record("hit", 11.0, 0.5, waited=0.4)
    seen.record("hit", 12.0, 0.5)  # of a closed loop: nothing was due
    master.add(seen.to_dict())
    ends = {name: recorder.max for name, recorder in master.stages.items()}
    assert ends == pytest.approx({WAITED: 0.4, ANSWERED: 0.1})
    assert {recorder.count for recorder in master.stages.values()} == {1}


def test_a_closed_loop_has_nothing_due() -> None:
    lines = Evidence(Decisions()).timeline(0.0, 1.0, {}, open_loop=False)
    assert lines["due"].isna().all()
    assert lines["p50_us"].isna().all()


def test_decisions_of_two_processes_are_all_there() -> None:
    one, other = Decisions(), Decisions()
    for at in (1.0, 2.0):
        one.decided("a", at, at - 0.1, at + 0.1, allowed=True)
    one.unknown("a", 1.5, 1.6)
    other.decided("a", 1.5, 1.4, 1.6, allowed=True)
    other.decided("b", 3.0, 2.9, 3.1, allowed=False)
    other.decided_within("n", 4.0, 4.5, allowed=True)
    other.decided_within("n", 4.0, 4.6, allowed=False)
    one.add(other.to_dict())
    assert one.keys == ["a", "b"]
    assert sorted(one.admissions("a")) == [1.0, 1.5, 2.0]
    assert one.denials("b").tolist() == [3.0]
    assert one.timed("b").tolist() == [[3.0, 2.9, 3.1]]
    assert one.denied == 2
    assert one.unknown_spans("a").tolist() == [[1.5, 1.6]]
    assert one.untimed_keys == ["n"]
    windows = one.windows(1.0, 1.0, Bounds(5, 9), Bounds(4, 7)).sort_values(["key", "second"])
    assert windows.values.tolist() == [
        ["a", 0.0, 2, 5.0, 2, 9.0],
        ["a", 1.0, 1, 5.0, 2, 9.0],  # with the one at 1.5
        ["n", 3.0, 1, 4.0, 1, 7.0],
    ]
