"""Concurrent async gets: AutoBatch beside redis-py with a blocking pool of 50.

    python -m benchmarks.pipeline [--url redis://...]

Burst: every get is awaited by a task of its own, all started at once (closed load); the measure
is the seconds of the whole burst, and every reply is checked. Users: each awaits one get after the
other at a round trip of 1 ms, by a proxy in this process. Subjects take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

from kvlab import AutoBatch, Key, Op, aconnect, connect
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.measure.comparison import compare

BURST = 5_000
USERS, EACH = 300, 20
ROUND_TRIP = 0.001
Get = Callable[[int], Awaitable[bytes | None]]


def key(i: int) -> Key:
    return Key(f"pipeline:{i}")


async def burst(get: Get, n: int = BURST) -> float:
    """Seconds for ``n`` gets at once."""
    gc.collect()
    began = time.perf_counter()
    got = await asyncio.gather(*map(get, range(n)))
    took = time.perf_counter() - began
    assert got == [b"%d" % i for i in range(n)], "a reply went astray"
    return took


async def users(get: Get, n: int = USERS, each: int = EACH) -> float:
    """Seconds for ``n`` users who await ``each`` gets one after the other."""

    async def user(i: int) -> None:
        for _ in range(each):
            assert await get(i) == b"%d" % i

    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*map(user, range(n)))
    return time.perf_counter() - began


async def getters(url: str) -> dict[str, Get]:
    """Name to a way of getting; all on one server and one namespace."""
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=50, timeout=None)
    peer = redis.asyncio.Redis(connection_pool=pool)
    akv = await aconnect(url, prefix="bench-pipeline", timeout=30, allow_remote=True)
    await akv.run([Op("SET", key(i), str(i), "EX", 600) for i in range(BURST)])

    def through(auto: AutoBatch) -> Get:
        return lambda i: auto.run(Op("GET", key(i)))

    ways: dict[str, Get] = {"redis-py": lambda i: peer.get(akv.name(key(i)))}
    ways["AutoBatch"] = through(AutoBatch(akv))
    for flying in (1, 8):
        ways[f"{flying} in flight"] = through(AutoBatch(akv, in_flight=flying))
    ways["100 a batch"] = through(AutoBatch(akv, max_batch=100))
    return ways


def report(runner: asyncio.Runner, ways: dict[str, Get], names: list[str], load: Any) -> None:
    """Print how many times as fast AutoBatch is as each of the others."""
    for name in names:
        result = compare(
            lambda n=name: runner.run(load(ways[n])),  # type: ignore[misc]
            lambda: runner.run(load(ways["AutoBatch"])),
        )
        theirs, ours = (statistics.median(side) * 1e3 for side in (result.a, result.b))
        print(f"  {name:12} / AutoBatch {result}  [{theirs:.0f} / {ours:.0f} ms]")


def main() -> None:
    """Print each ratio (above 1: AutoBatch is faster) with its interval, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    given = parser.parse_args()
    with connect(given.url, prefix="bench-pipeline") as kv, asyncio.Runner() as runner:
        pool = kv.client.connection_pool.connection_kwargs
        url = given.url or (
            f"unix://{pool['path']}" if "path" in pool else f"redis://{pool['host']}:{pool['port']}"
        )
        ways = runner.run(getters(url))
        print(f"{BURST:,} gets at once")
        report(runner, ways, [name for name in ways if name != "AutoBatch"], burst)
        with Proxy(url) as proxy:
            ways = runner.run(getters(proxy.url))
            proxy.delay(ROUND_TRIP)
            print(f"{USERS} users, {EACH} gets each, round trip {ROUND_TRIP * 1e3:g} ms and more")
            report(runner, ways, [n for n in ways if n.endswith("flight")] + ["redis-py"], users)
        kv.clear()


if __name__ == "__main__":
    main()
