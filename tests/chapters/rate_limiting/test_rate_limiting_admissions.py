"""What limiters admit: counted, replayed, and judged by each limiter's own promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvlab import Decision, Kv, NaiveSlidingWindow, Op, SlidingWindowLog
from kvlab.chapters.rate_limiting import admissions, costs
from kvlab.chapters.rate_limiting.admissions import (
    KINDS,
    Replay,
    admitted_at_once,
    admitted_past,
    bursts,
    most_within,
    replay_bursts,
)
from kvlab.chapters.rate_limiting.charts import KNOB_MAX, replay_chart, worst_interval_chart
from kvlab.chapters.rate_limiting.waits import watch_waits
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.server_clock import ServerTimeOutsideCall
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


def test_at_once_the_naive_limiter_admits_everybody_and_the_others_their_limit(
    kv: Kv, server: RunningServer
) -> None:
    crowd = admitted_at_once(kv, server.url, clients=6, limit=2)
    assert crowd[crowd.variant == "naive"]["admitted"].to_list() == [6]
    assert crowd[crowd.variant == "hardened"]["admitted"].to_list() == [2, 2, 2, 2]


def test_a_load_is_replayed_on_all_four_and_nobody_breaks_a_promise(kv: Kv) -> None:
    replayed = replay_bursts(kv, np.array([0.0, 0.0, 0.0]), limit=2, window=1.0)
    assert list(replayed.admitted) == list(KINDS)
    assert all(len(times) == 2 for times in replayed.admitted.values())
    verdicts = replayed.verdicts()
    assert verdicts["too many"].to_list() == [0, 0, 0, 0]
    assert verdicts["most"].to_list() == [2, 2, 2, 2]
    assert verdicts["theory"].to_list() == [4, 2, 3, 3]


def test_admissions_beyond_a_promise_are_counted() -> None:
    times = [0.0, 0.1, 0.2, 0.3]
    load = Replay(2, 1.0, 1000.0, np.array(times), dict.fromkeys(KINDS, times))
    assert (load.verdicts()["too many"] > 0).all()
    (axes,) = replay_chart(load, title="t").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(KINDS)[::-1]
    with pytest.raises(InvalidArgument):
        replay_chart(replace(load, asked=np.array([])), title="t")


@pytest.mark.parametrize(("limit", "burst"), [(1, 1), (20, 20), (KNOB_MAX, KNOB_MAX)])
def test_the_axis_of_the_worst_interval_does_not_move(limit: int, burst: int) -> None:
    (axes,) = worst_interval_chart(limit, burst).axes
    tallest = max(bar.get_height() for bar in axes.patches)
    assert axes.get_ylim() == worst_interval_chart().axes[0].get_ylim()
    assert tallest < axes.get_ylim()[1]


class _AnHourBack:
    """A limiter that says of each decision that it was made an hour ago."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._limiter = SlidingWindowLog(*args, **settings)

    def hit(self, key: str, cost: int = 1) -> Op[Decision]:
        return self._late(self._limiter.hit(key, cost))

    def peek(self, key: str, cost: int = 1) -> Op[Decision]:
        return self._late(self._limiter.peek(key, cost))

    def _late(self, op: Op[Decision]) -> Op[Decision]:
        def decode(raw: Any) -> Decision:
            decision = op.decode(raw)
            return replace(decision, at=decision.at - 3600)

        return Op(op.command, *op.args, decode=decode)


@pytest.mark.parametrize("chapter", ["replay", "race", "waits"])
def test_a_time_that_the_server_says_is_not_believed(
    chapter: str, kv: Kv, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "KINDS", {"sliding-log": _AnHourBack})
    monkeypatch.setattr(costs, "SlidingWindowLog", _AnHourBack)
    with pytest.raises(ServerTimeOutsideCall, match="server times lie outside"):
        if chapter == "replay":
            replay_bursts(kv, np.array([0.0]), limit=2, window=0.1)
        elif chapter == "race":
            costs._hardened_race(kv, 30, 0.4, seed=1)
        else:
            watch_waits(kv, {"log": _AnHourBack("w", 1, 0.1)}, "k", fill=1, cost=1)
