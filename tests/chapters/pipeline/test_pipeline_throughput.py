"""Wrong replies are counted beside the times, and trips are arithmetic."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pandas as pd
import redis

from kvlab import AutoBatch, Key, Kv, Op, aconnect
from kvlab.chapters.pipeline import charts as pipeline_charts
from kvlab.chapters.pipeline.awaits import PEER, bursts, time_of_bursts, trips_of_awaits
from kvlab.chapters.pipeline.distance import at_farthest, by_distance
from kvlab.chapters.pipeline.round_trips import count_round_trips
from kvlab.chapters.pipeline.throughput import throughput_by_size
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.engines import RunningServer

OPS = [Op("ECHO", str(i), decode=int) for i in range(12)]


def test_throughput_counts_wrong_replies_and_trips(kv: Kv) -> None:
    right = throughput_by_size(kv.run, OPS, range(12), sizes=(1, 5, 12), turns=2)
    assert list(right["trips"]) == [12, 3, 1]
    assert right["wrong"].sum() == 0
    wrong = throughput_by_size(kv.run, OPS, [*range(11), 99], sizes=(1, 5), turns=2)
    assert list(wrong["wrong"]) == [3, 3]


def test_distance_is_arithmetic_beside_what_is_measured(kv: Kv, server: RunningServer) -> None:
    with Proxy(server.url) as proxy, Kv(redis.Redis.from_url(proxy.url), prefix=kv.prefix) as far:
        frame = by_distance(
            far.run,
            lambda: far.run(Op("PING")),
            proxy,
            OPS,
            [*range(11), 99],
            sizes=(4, 12),
            delays=(0, 0.001),
            repeats=1,
        )
    assert list(frame["trips"]) == [3, 1, 3, 1]
    assert (frame["network"] == frame["trips"] * frame["distance"]).all()
    assert list(frame["wrong"]) == [1, 1, 1, 1]
    assert list(at_farthest(frame)) == [4, 12]
    figure = pipeline_charts.predicted_time(frame, 5, 0.001)
    assert figure.axes[0].get_title(loc="left").startswith("12 values, 5 a run, 1 ms away: 3 trips")


def test_a_dashboard_is_four_commands_in_one_round_trip(kv: Kv, server: RunningServer) -> None:
    counts = count_round_trips(server.url, kv.prefix)
    assert list(counts["round trips"]) == [4, 1, 1]
    assert list(counts["commands"]) == [4, 4, 4]


def test_bursts_take_turns_and_count_what_is_wrong() -> None:
    order: list[str] = []

    async def burst(name: str, reply: int) -> list[int]:
        order.append(name)
        return [reply]

    subjects = {"a": partial(burst, "a", 1), "b": partial(burst, "b", 2)}
    frame = asyncio.run(bursts(subjects, [1], turns=2))
    assert [sorted(order[at : at + 2]) for at in (0, 2, 4)] == [["a", "b"]] * 3
    assert list(frame["subject"]) == order[2:]
    assert list(frame["place"]) == [0, 1, 0, 1]
    assert frame.groupby("subject")["wrong"].sum().to_dict() == {"a": 0, "b": 2}
    assert set(frame["turn"]) == {1, 2}


def test_concurrent_awaits_share_a_round_trip(kv: Kv, server: RunningServer) -> None:
    kv.run([Op("SET", Key(f"n:{i}"), i) for i in range(20)])
    gets = [Op("GET", Key(f"n:{i}")) for i in range(20)]
    wanted = [str(i).encode() for i in range(20)]

    async def at_once(executor: Any) -> list[Any]:
        return await asyncio.gather(*(executor.run(get) for get in gets))

    async def measured() -> tuple[pd.DataFrame, pd.DataFrame]:
        akv = await aconnect(server.url, prefix=kv.prefix)
        async with akv, AutoBatch(akv) as auto:
            executors = {"AsyncKv": akv, "AutoBatch": auto}
            trips = await trips_of_awaits({"tasks": at_once}, executors, wanted)
            return trips, await time_of_bursts(server.url, auto, gets, wanted, turns=2)

    trips, times = asyncio.run(measured())
    assert list(trips["round trips"]) == [1, 1]
    assert list(trips["wrong replies"]) == [0, 0]
    assert sorted(times["subject"].unique()) == ["AutoBatch", PEER]
    assert times["wrong"].sum() == 0
