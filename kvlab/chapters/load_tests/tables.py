"""The tables and the knob of the load test chapter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kvlab import FixedWindow, Kv, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.instruments import charts
from kvlab.instruments.measure import theory
from kvlab.load.record.run import LoadRun

LIMITERS = {
    "fixed-window": FixedWindow,
    "sliding-log": SlidingWindowLog,
    "sliding-counter": SlidingWindowCounter,
    "token-bucket": TokenBucket,
}
FULL = 1_000
SLOW = 0.1
"""Seconds from which a call counts as slow."""


def accuracy(kv: Kv, runs: Mapping[str, LoadRun], limit: int, window: float) -> pd.DataFrame:
    """A row for each algorithm of ``LIMITERS``: what its run let through, and what it may.

    ``busiest``: the most admissions in any interval of a window's length. ``theory's worst``: the
    most that the algorithm may admit in one. The last column is the memory of one full limiter.
    """
    worst = {
        "fixed-window": theory.fixed_window_worst(limit),
        "sliding-log": theory.sliding_log_worst(limit),
        "sliding-counter": theory.sliding_counter_worst(limit),
        "token-bucket": theory.token_bucket_worst(limit, limit / window, window),
    }
    rows = []
    for name, run in runs.items():
        assert run.windows is not None
        busiest = int(run.windows["busiest"].max())
        rows.append((name, busiest, worst[name], run.verdict, _bytes_when_full(kv, name)))
    names = ["limiter", "busiest", "theory's worst", "its own bound", f"bytes at limit {FULL:,}"]
    return pd.DataFrame(rows, columns=names)


def accuracy_chart(table: pd.DataFrame, limit: int) -> Figure:
    """The busiest interval of each algorithm, against the limit. ``table``: as of ``accuracy``."""
    holding = (table["its own bound"] == "HOLDS").sum()
    return charts.bars(
        table,
        x="limiter",
        y="busiest",
        limit=limit,
        title=f"{holding} of {len(table)} keep their own bound; "
        f"limit {limit}, up to {table['busiest'].max()} in one interval",
        ylabel="admitted in the busiest window's length",
    )


def slow_calls(runs: Mapping[str, LoadRun]) -> pd.DataFrame:
    """A row for each run: its calls, and how many of them took longer than ``SLOW`` seconds."""
    rows = []
    for name, run in runs.items():
        seconds, answered = run.latency_all.curve()
        share = float(1 - answered[seconds < SLOW].max(initial=0))
        rows.append((name, run.calls, round(share * run.calls), f"{share:.1%}", run.verdict))
    names = ["run", "calls", f"slower than {SLOW:g} s", "share", "verdict"]
    return pd.DataFrame(rows, columns=names).set_index("run")


def users_by_rate(runs: Mapping[str, LoadRun], users: int) -> pd.DataFrame:
    """Little's law in a closed loop: users ÷ rate is one round of a user, a call and a wait."""
    rows = [
        (name, run.rate, users / run.rate * 1e3, run.latency_all.mean * 1e3, run.verdict)
        for name, run in runs.items()
    ]
    names = ["run", "calls a second", "users ÷ rate, ms", "of it in a call, ms", "verdict"]
    return pd.DataFrame(rows, columns=names).set_index("run")


def p99_of_a_pause(users: int, seconds: int, rate: float) -> Figure:
    """The 99th percentile of a run with one pause, by the length of the pause, in both loops.

    ``rate``: calls a second of the closed loop between pauses.
    """
    pauses = np.linspace(0, 2, 21)
    closed = [theory.closed_loop_pause(99, float(p), seconds, users, rate) for p in pauses]
    opened = [theory.open_loop_pause(99, float(p), seconds) for p in pauses]
    loops = ["closed loop"] * len(pauses) + ["open loop"] * len(pauses)
    frame = pd.DataFrame({"pause": [*pauses] * 2, "loop": loops, "wait": closed + opened})
    title = (
        f"A pause of 2 s in {seconds} s: p99 is {closed[-1]:.3g} s closed, {opened[-1]:.3g} s open"
    )
    return charts.lines(
        frame,
        x="pause",
        y="wait",
        by="loop",
        title=title,
        xlabel="pause (s)",
        ylabel="wait in the 99th percentile (s)",
    )


def _bytes_when_full(kv: Kv, name: str) -> int:
    full = LIMITERS[name]("size", limit=FULL, window=60)
    kv.run([full.hit(name) for _ in range(FULL)])
    key = kv.name(full.hit(name).keys[0])
    return int(kv.client.memory_usage(key, samples=0) or 0)
