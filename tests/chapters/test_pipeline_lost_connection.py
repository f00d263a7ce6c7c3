"""Forced cuts, replies held back, and the counting beside the times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import redis

from kvlab import Key, Kv, Op
from kvlab.chapters import pipeline_charts as batch_charts
from kvlab.chapters.pipeline_batches import bursts, by_distance, throughput
from kvlab.chapters.pipeline_lost_connection import (
    NotObserved,
    cut_and_repeated,
    cut_midway,
    deaths_in_turns,
    held_back,
)
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer


def ten(executor: Kv, *, atomic: bool, batch: str = "t") -> list[Any]:
    return executor.run([Op("INCRBY", Key(f"{batch}:{i}"), 1) for i in range(10)], atomic=atomic)


@pytest.mark.parametrize(("atomic", "applied"), [(False, 3), (True, 0)])
def test_a_cut_is_where_it_is_wanted(
    kv: Kv, server: RunningServer, atomic: bool, applied: int
) -> None:
    def work(client: redis.Redis) -> None:
        ten(Kv(client, prefix=kv.prefix), atomic=atomic)

    told = cut_and_repeated(kv, server.url, "INCRBY", 4, work, "t:*")
    assert told.applied == applied
    assert told.steps[-1] == f"server: {10 - applied} counters say 1, {applied} say 2"


def test_a_cut_that_never_comes_is_an_error(kv: Kv, server: RunningServer) -> None:
    with pytest.raises(NotObserved, match="INCRBY number 11"):
        cut_midway(server.url, "INCRBY", 11, lambda c: ten(Kv(c, prefix=kv.prefix), atomic=False))


def test_the_server_holds_what_is_not_read(kv: Kv, server: RunningServer) -> None:
    kv.run(Op("SET", Key("big"), "x" * 100_000))

    def ask(n: int) -> int:
        get = Op("GET", Key("big"))
        return held_back(server.url, "GET", lambda c: Kv(c, prefix=kv.prefix).run([get] * n))

    assert ask(400) > 10_000_000  # 40 MB, less what the sockets take
    assert ask(1) == 0


def test_each_way_has_the_same_deaths_and_its_own_violations(kv: Kv, server: RunningServer) -> None:
    made = iter(range(10_000))

    def make() -> Sequence[Op[Any]]:
        batch = next(made)
        return [Op("INCRBY", Key(f"{batch}:{i}"), 1) for i in range(10)]

    deaths = deaths_in_turns(
        kv, server.url, make, turns=2, batches=6, every=3,
        ways={"naive": ("INCRBY", lambda to, ops: to.run(ops)),
              "hardened": ("INCRBY", lambda to, ops: to.run(ops, atomic=True))},
    )  # fmt: skip
    assert deaths.died == 4
    assert {way: run.violations for way, run in deaths.runs.items()} == {"naive": 4, "hardened": 0}
    assert {run.count for run in deaths.runs.values()} == {8}
    assert deaths.prices["naive"].ratio == 1


def test_wrong_replies_are_counted_and_trips_are_arithmetic(kv: Kv, server: RunningServer) -> None:
    ops = [Op("ECHO", str(i), decode=int) for i in range(12)]
    right = throughput(kv.run, ops, range(12), sizes=(1, 5, 12), turns=2)
    assert list(right["trips"]) == [12, 3, 1]
    assert right["wrong"].sum() == 0
    wrong = throughput(kv.run, ops, [*range(11), 99], sizes=(1, 5), turns=2)
    assert list(wrong["wrong"]) == [3, 3]
    with Proxy(server.url) as proxy, Kv(redis.Redis.from_url(proxy.url), prefix=kv.prefix) as far:
        frame = by_distance(
            far.run, lambda: far.run(Op("PING")), proxy, ops, [*range(11), 99],
            sizes=(4, 12), delays=(0, 0.001), repeats=1,
        )  # fmt: skip
    assert list(frame["trips"]) == [3, 1, 3, 1]
    assert (frame["network"] == frame["trips"] * frame["distance"]).all()
    assert list(frame["wrong"]) == [1, 1, 1, 1]
    assert (
        batch_charts.knob(frame, 5, 0.001).axes[0].get_title(loc="left").startswith("12 values, 5")
    )


def test_bursts_take_turns_and_count_what_is_wrong() -> None:
    order: list[str] = []

    async def burst(name: str, reply: int) -> list[int]:
        order.append(name)
        return [reply]

    frame: pd.DataFrame = asyncio.run(
        bursts({"a": lambda: burst("a", 1), "b": lambda: burst("b", 2)}, [1], turns=2)
    )
    assert order == ["a", "b"] * 3
    assert frame.groupby("subject")["wrong"].sum().to_dict() == {"a": 0, "b": 2}
    assert set(frame["turn"]) == {1, 2}
