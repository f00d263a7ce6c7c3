"""The tables of the load test chapter are taken from the runs they are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support.load_samples import flat, sample

from kvlab import Kv
from kvlab.chapters.load_tests.findings import findings_text, over_bound
from kvlab.chapters.load_tests.tables import (
    LIMITERS,
    accuracy,
    accuracy_chart,
    p99_of_a_pause,
    slow_calls,
    users_by_rate,
)
from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.record.parts import Finding
from kvlab.load.record.run import LoadRun

HOLDS = Finding("admissions", True, "none too many", ("first", "second"))
BROKEN = Finding("order", False, "no order explains the answers", ("first", "second"))


def with_windows(admitted: list[int]) -> LoadRun:
    keys = ["client-0", "client-1", "naive-0", "naive-0"]
    frame = pd.DataFrame({"key": keys, "second": range(4), "admitted": admitted, "bound": 2.0})
    return flat(
        [10] * 4, windows=frame.assign(busiest=admitted, busiest_bound=2.0), findings=(HOLDS,)
    )


def test_findings_say_the_verdict_first_and_as_much_evidence_as_asked() -> None:
    run = flat([10], findings=(HOLDS, BROKEN))
    assert findings_text(run).splitlines() == [
        "HOLDS: none too many",
        "BROKEN: no order explains the answers",
    ]
    assert findings_text(run, evidence=1).splitlines()[1] == "    first"


def test_windows_over_the_bound_are_counted_apart_from_the_controls() -> None:
    over = over_bound(with_windows([2, 3, 3, 9]))
    assert (str(over["hardened"]), str(over["naive"])) == ("1 of 2", "2 of 2")


def test_accuracy_has_theorys_worst_and_the_memory_of_a_full_limiter(kv: Kv) -> None:
    runs = dict.fromkeys(LIMITERS, with_windows([20, 1, 1, 1]))
    table = accuracy(kv, runs, limit=20, window=0.3).set_index("limiter")
    assert list(table["busiest"]) == [20] * 4
    worst = table["theory's worst"]
    assert (worst["sliding-log"], worst["fixed-window"]) == (20, 40)
    used = table["bytes at limit 1,000"]
    assert used["sliding-log"] > 10 * used["fixed-window"]
    title = accuracy_chart(table.reset_index(), 20).axes[0].get_title(loc="left")
    assert title.startswith("4 of 4 keep their own bound; limit 20, up to 20")


def test_slow_calls_are_counted_from_the_latencies() -> None:
    latency = Recorder()
    latency.record_all(np.array([0.01] * 90 + [0.5] * 10))
    run = replace(flat([100]), latency={"hit": latency})
    table = slow_calls({"closed": run})
    assert list(table.loc["closed"])[:3] == [100, 10, "10.0%"]


def test_users_by_rate_is_littles_law() -> None:
    run = sample(seconds=10)
    table = users_by_rate({"run": run}, users=20)
    assert table.loc["run", "users ÷ rate, ms"] == pytest.approx(20 / run.rate * 1e3)


def test_a_pause_is_in_the_99th_percentile_of_the_open_loop() -> None:
    title = p99_of_a_pause(20, 10, 1_000).axes[0].get_title(loc="left")
    assert title == "A pause of 2 s in 10 s: p99 is 0 s closed, 1.9 s open"
