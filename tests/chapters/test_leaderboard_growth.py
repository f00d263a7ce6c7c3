"""The instruments of growing boards: right counts, in turns, and nothing swallowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from kvlab import Kv, Leaderboard
from kvlab.chapters import leaderboard_growth as scale
from kvlab.errors import InvalidArgument
from kvlab.instruments import Proxy, Uniform
from kvlab.instruments.measure import experiment
from kvlab.server.engines import RunningServer


def test_the_writer_writes_before_and_during_the_block_and_not_after() -> None:
    steps: list[int] = []
    with scale.written_meanwhile(lambda: steps.append(1), pause=0):
        assert steps
        while len(steps) < 10:
            pass
    after = len(steps)
    assert len(steps) == after >= 10


def test_what_the_writer_raises_reaches_the_caller() -> None:
    steps: list[int] = []

    def third_fails() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise LookupError("third")

    with pytest.raises(LookupError), scale.written_meanwhile(third_fails, pause=0):
        while len(steps) < 3:
            pass


def test_runs_take_turns_and_join_into_one_result() -> None:
    order: list[str] = []

    def run(name: str) -> experiment.Result:
        order.append(name)
        outcomes = iter(["found", "missing"] * 5)
        made = experiment.run(
            lambda _: next(outcomes), Uniform(3), seed=1, count=10, progress=False
        )
        return replace(made, violations=made.counts["missing"])

    runs = scale.in_turns({"a": lambda: run("a"), "b": lambda: run("b")}, turns=3)
    assert order == ["a", "b"] * 4
    whole = scale.together(runs["a"])
    assert (len(runs["a"]), whole.violations) == (3, 15)
    assert whole.counts == {"found": 15, "missing": 15}
    assert whole.latency.max == max(result.latency.max for result in runs["a"])
    assert scale.median_ratio(runs, "a", "a") == 1
    assert scale.median_ratio(runs, "a", "b") == pytest.approx(
        1 / scale.median_ratio(runs, "b", "a")
    )
    unchecked = replace(runs["b"][0], violations=None)
    assert scale.together([runs["b"][1], unchecked]).violations is None


def test_each_call_loses_one_reply(kv: Kv, server: RunningServer) -> None:
    with Proxy(server.url) as proxy, redis.Redis.from_url(proxy.url) as client:
        key = f"{kv.prefix}n"
        lost = scale.lose_replies(
            proxy, "INCRBY", lambda _: client.incr(key), 5, (redis.ConnectionError,)
        )
        assert lost == proxy.swallowed == 5
        assert kv.client.get(key) == b"5"
        with pytest.raises(InvalidArgument, match="call 0 sent no GET"):
            scale.lose_replies(proxy, "GET", lambda _: None, 1, ())


def test_growth_asks_every_size_equally_often_and_counts_wrong_answers() -> None:
    asked: list[int] = []

    def ask(size: int, member: int) -> bool:
        assert 0 <= member < size
        asked.append(size)
        return size != 20

    turns = scale.growth({"ask": ask}, [10, 20], turns=3, calls=5, seed=1)
    assert (asked.count(10), asked.count(20)) == (4 * 5, 4 * 5)
    assert dict(turns.groupby("members")["wrong"].sum()) == {10: 0, 20: 3 * 5}
    assert list(turns["turn"].unique()) == [1, 2, 3]


def test_grown_is_the_median_of_the_ratios_of_each_turn() -> None:
    rows = [("a", n, turn, us, 0) for turn, us_ in enumerate([(1, 2), (10, 30), (2, 20)], 1)
            for n, us in zip((10, 1000), us_, strict=True)]  # fmt: skip
    frame = scale.pd.DataFrame(rows, columns=["ask", "members", "turn", "µs", "wrong"])
    assert scale.grown(frame)["a"] == 3
    figure = scale.growth_chart(frame, title="t", theory_of="a")
    dashes = figure.axes[0].lines[-1].get_ydata()
    assert list(dashes) == pytest.approx([2, 6])  # the median at 10, times log 1000 / log 10


def test_loading_loads_every_member_each_turn(kv: Kv) -> None:
    pairs = [(f"p{i}", i) for i in range(600)]
    made: list[str] = []

    def make(name: str) -> Leaderboard:
        made.append(name)
        return Leaderboard(name, ties="shared")

    loads = scale.loading(kv, {"shared": make}, pairs, turns=2)
    assert {kv.run(Leaderboard(n, ties="shared").page(1, 1)).total for n in made} == {600}
    assert list(loads["board"].unique()) == ["ZADD of 1", "ZADD of 500", "shared"]
    assert {kv.client.zcard(f"{kv.prefix}load ZADD of {n} {t}") for n in (1, 500) for t in (0, 1, 2)} == {600}  # fmt: skip  # noqa: E501
    assert set(scale.rates(loads)["load by"]) == set(loads["board"])
    heights = [bar.get_height() for bar in scale.memory_chart(loads).axes[0].patches]
    assert heights == list(loads.groupby("board")["bytes"].median()[["ZADD of 500", "shared"]])
