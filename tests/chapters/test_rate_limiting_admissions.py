"""What limiters let through: counted, replayed, and their promised waits watched."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from kvlab import FixedWindow, Kv, NaiveSlidingWindow, SlidingWindowLog
from kvlab.chapters.rate_limiting_admissions import (
    admitted_past,
    bursts,
    most_within,
    replay,
    strips,
    watch_waits,
)
from kvlab.errors import InvalidArgument
from kvlab.server.running_server import RunningServer


def test_most_within_counts_half_open_intervals() -> None:
    assert most_within([], 1) == 0
    assert most_within([0, 1], 1) == 1
    assert most_within([0, 0.999999], 1) == 2
    times = np.random.default_rng(1).integers(0, 300, 80) / 100
    assert most_within(times, 0.5) == max(
        sum(1 for t in times if round(s * 100) <= round(t * 100) < round(s * 100) + 50)
        for s in times
    )


def test_bursts_are_drawn_again_and_stay_in_their_bounds() -> None:
    drawn = {"size": (3, 5), "gap": (1.0, 2.0), "spread": 0.1}
    moments = bursts(20, seed=7, **drawn)
    assert (moments == bursts(20, seed=7, **drawn)).all()
    assert (moments != bursts(20, seed=8, **drawn)[: len(moments)]).any()
    parts = np.split(moments, np.flatnonzero(np.diff(moments) > 0.5) + 1)
    assert len(parts) == 20
    assert {len(part) for part in parts} <= {3, 4, 5}
    assert all(part[-1] - part[0] <= 0.1 for part in parts)


def test_a_crowd_past_one_gate(kv: Kv, server: RunningServer) -> None:
    def check(client: object) -> bool:
        return NaiveSlidingWindow(client, limit=2, prefix=kv.prefix).check("k")

    assert admitted_past(server.url, "ZADD", check, clients=5) == 5


def test_answers_come_back_op_by_op(kv: Kv) -> None:
    limiters = [FixedWindow("a", 1, 86400), FixedWindow("b", 2, 86400)]
    answers = replay(kv, lambda: [limiter.hit("k") for limiter in limiters], [0, 0, 0])
    assert [[d.allowed for d in row] for row in answers] == [
        [True, False, False],
        [True, True, False],
    ]


def test_a_wait_is_watched_and_what_is_not_denied_is_refused(kv: Kv) -> None:
    log = {"log": SlidingWindowLog("w", 4, 0.2)}
    ((name, promised, no, yes),) = watch_waits(kv, log, "k", fill=4, cost=2)
    assert name == "log"
    assert 0 < promised <= 0.2
    assert no < 0 <= yes
    with pytest.raises(InvalidArgument, match="not denied"):
        watch_waits(kv, {"log": SlidingWindowLog("x", 4, 86400)}, "k", fill=1, cost=1)


def test_strips_draws_a_row_for_each_limiter() -> None:
    figure = strips([0, 0.1, 0.9], {"a": [0, 0.1], "b": []}, 0.5, title="t")
    assert isinstance(figure, Figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    with pytest.raises(InvalidArgument):
        strips([], {"a": []}, 0.5, title="t")
