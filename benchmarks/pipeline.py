"""Concurrent async gets: AutoBatch beside redis-py with a blocking pool of 50.

Burst: a task for each get, all started at once. The measure is the seconds of the whole burst, and
every reply is checked. Users: each user awaits one get after the other, at a round trip of 1 ms,
which a proxy in this process adds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import redis.asyncio

from kvlab import AutoBatch, Key, Op, aconnect
from kvlab.bench import Bench, Case, Measure, Peer
from kvlab.bench.case import fair
from kvlab.instruments.faults.proxy import Proxy

BURST = 5_000
USERS, GETS = 300, 20
ROUND_TRIP = 0.001
PATIENCE = 30.0
"""Seconds: the last of 5,000 calls waits for the others."""
Get = Callable[[int], Awaitable[bytes | str | None]]
Load = Callable[[Get], Coroutine[Any, Any, float]]


def key(i: int) -> Key:
    return Key(f"pipeline:{i}")


def cases(bench: Bench) -> Iterator[Case]:
    """A burst without a delay, and users at a round trip of 1 ms."""
    gets = bench.runner.run(connected(bench, bench.url))
    yield case(bench, f"{BURST:,} gets at once", "a task for each get", gets, burst)
    proxy = bench.stack.enter_context(Proxy(bench.url))
    gets = bench.runner.run(connected(bench, proxy.url))
    proxy.delay(ROUND_TRIP)
    what = f"{GETS} gets a user, one after the other, at a round trip of {ROUND_TRIP * 1e3:g} ms"
    del gets["100 a batch"]
    yield case(bench, f"{USERS} users", what, gets, users)


def case(bench: Bench, name: str, what: str, gets: dict[str, Get], load: Load) -> Case:
    """AutoBatch beside each of the others."""

    def measure(get: Get) -> Measure:
        return lambda: [bench.runner.run(load(get))]

    ours = measure(gets.pop("AutoBatch"))
    peers = {other: Peer(measure(get)) for other, get in gets.items()}
    return Case(name, what, ours, peers, subject="AutoBatch", long=True)


async def burst(get: Get) -> float:
    """Seconds for all gets at once."""
    began = time.perf_counter()
    got = await asyncio.gather(*map(get, range(BURST)))
    took = time.perf_counter() - began
    assert got == [b"%d" % i for i in range(BURST)], "a reply reached another caller"
    return took


async def users(get: Get) -> float:
    """Seconds for users who await their gets one after the other."""

    async def user(i: int) -> None:
        for _ in range(GETS):
            assert await get(i) == b"%d" % i

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:  # one that fails leaves no other behind
        for i in range(USERS):
            group.create_task(user(i))
    return time.perf_counter() - began


async def connected(bench: Bench, url: str) -> dict[str, Get]:
    """A get for each client, by name; all on one server and in one namespace."""
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
        fair(url, PATIENCE), max_connections=50, timeout=None
    )
    peer = redis.asyncio.Redis(connection_pool=pool)
    akv = await aconnect(url, prefix=bench.kv.prefix, timeout=PATIENCE, allow_remote=True)
    bench.stack.callback(lambda: bench.runner.run(akv.close()))
    bench.stack.callback(lambda: bench.runner.run(pool.disconnect()))
    await akv.run([Op("SET", key(i), str(i), "EX", 6_000) for i in range(BURST)])

    def through(auto: AutoBatch) -> Get:
        return lambda i: auto.run(Op("GET", key(i)))

    gets: dict[str, Get] = {"redis-py, a pool of 50": lambda i: peer.get(akv.name(key(i)))}
    gets["AutoBatch"] = through(AutoBatch(akv))
    for flying in (1, 8):
        gets[f"AutoBatch, {flying} in flight"] = through(AutoBatch(akv, in_flight=flying))
    gets["100 a batch"] = through(AutoBatch(akv, max_batch=100))
    return gets
