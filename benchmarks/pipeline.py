"""Concurrent async gets: AutoBatch beside redis-py with a blocking pool of 50.

    python -m benchmarks.pipeline [--url redis://...]

Burst: a task for each get, all started at once (closed load). The measure is the seconds of the
whole burst, and every reply is checked. Users: each user awaits one get after the other, at a round
trip of 1 ms, which a proxy in this process adds. Subjects take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import redis.asyncio

from benchmarks._common import fair, opened, report
from kvlab import AutoBatch, Key, Op, aconnect
from kvlab.core.server_url import redis_url
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.measure.comparison import compare

BURST = 5_000
USERS, GETS = 300, 20
ROUND_TRIP = 0.001
Get = Callable[[int], Awaitable[bytes | None]]
Load = Callable[[Get], Coroutine[Any, Any, float]]


def key(i: int) -> Key:
    return Key(f"pipeline:{i}")


async def burst(get: Get, n: int = BURST) -> float:
    """Seconds for ``n`` gets at once."""
    gc.collect()
    began = time.perf_counter()
    got = await asyncio.gather(*map(get, range(n)))
    took = time.perf_counter() - began
    assert got == [b"%d" % i for i in range(n)], "a reply reached another caller"
    return took


async def users(get: Get, n: int = USERS, gets: int = GETS) -> float:
    """Seconds for ``n`` users who await ``gets`` gets one after the other."""

    async def user(i: int) -> None:
        for _ in range(gets):
            assert await get(i) == b"%d" % i

    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*map(user, range(n)))
    return time.perf_counter() - began


async def connected(url: str, prefix: str) -> dict[str, Get]:
    """A get for each client, by name; all on one server and in one namespace."""
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
        fair(url), max_connections=50, timeout=None
    )
    peer = redis.asyncio.Redis(connection_pool=pool)
    akv = await aconnect(url, prefix=prefix, timeout=30, allow_remote=True)
    await akv.run([Op("SET", key(i), str(i), "EX", 600) for i in range(BURST)])

    def through(auto: AutoBatch) -> Get:
        return lambda i: auto.run(Op("GET", key(i)))

    gets: dict[str, Get] = {"redis-py": lambda i: peer.get(akv.name(key(i)))}
    gets["AutoBatch"] = through(AutoBatch(akv))
    for flying in (1, 8):
        gets[f"{flying} in flight"] = through(AutoBatch(akv, in_flight=flying))
    gets["100 a batch"] = through(AutoBatch(akv, max_batch=100))
    return gets


def compare_all(
    runner: asyncio.Runner, getters: dict[str, Get], names: list[str], load: Load
) -> None:
    """Print how AutoBatch compares with each of the others."""

    def measure(name: str) -> float:
        return runner.run(load(getters[name]))

    for name in names:
        report(
            f"  AutoBatch / {name}", compare(partial(measure, "AutoBatch"), partial(measure, name))
        )


def main() -> None:
    """Print each ratio (below 1: AutoBatch is faster) with its interval, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=redis_url)
    given = parser.parse_args()
    with opened(given.url) as kv, asyncio.Runner() as runner:
        pool = kv.client.connection_pool.connection_kwargs
        url = given.url or (
            f"unix://{pool['path']}" if "path" in pool else f"redis://{pool['host']}:{pool['port']}"
        )
        gets = runner.run(connected(url, kv.prefix))
        print(f"{BURST:,} gets at once")
        compare_all(runner, gets, [name for name in gets if name != "AutoBatch"], burst)
        with Proxy(url) as proxy:
            gets = runner.run(connected(proxy.url, kv.prefix))
            proxy.delay(ROUND_TRIP)
            print(f"{USERS} users, {GETS} gets a user, round trip {ROUND_TRIP * 1e3:g} ms and more")
            names = [name for name in gets if name.endswith("flight")]
            compare_all(runner, gets, [*names, "redis-py"], users)
        kv.clear()


if __name__ == "__main__":
    main()
