"""5,000 concurrent async gets: AutoBatch against redis-py with a blocking pool of 50.

``python -m benchmarks.pipeline``. Closed load of one burst: every get is awaited by a task of its
own, all started at once; a sample is the whole burst. The subjects take turns.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable

import redis.asyncio

import kvlab
from kvlab import AsyncKv, AutoBatch, Key, Op, connect

N = 5_000
REPEATS = 9
Burst = Callable[[], Awaitable[list[bytes | None]]]


async def measure(url: str, n: int = N, repeats: int = REPEATS) -> dict[str, list[float]]:
    """Seconds of each burst, by subject."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=50, timeout=None)
    peer = redis.asyncio.Redis(connection_pool=pool)
    async with await kvlab.aconnect(url, prefix="bench") as akv:
        keys = [Key(f"pipeline:{i}") for i in range(n)]
        await akv.run([Op("SET", key, str(i), "EX", 600) for i, key in enumerate(keys)])
        wanted = [str(i).encode() for i in range(n)]
        autos = {
            (size, flying): AutoBatch(akv, max_batch=size, in_flight=flying)
            for size in SIZES
            for flying in FLYING
        }

        def burst_of(get: Callable[[Key], Awaitable[bytes | None]]) -> Burst:
            return lambda: asyncio.gather(*map(get, keys))

        def through(executor: AsyncKv) -> Burst:
            return burst_of(lambda key: executor.run(Op("GET", key)))

        subjects = {PEER: burst_of(lambda key: peer.get(akv.name(key)))}
        subjects |= {
            f"AutoBatch, {size} a batch, {flying} in flight": through(auto)
            for (size, flying), auto in autos.items()
        }
        subjects["AutoBatch as it is"] = through(AutoBatch(akv))
        subjects["kv.run([ops])"] = lambda: akv.run([Op("GET", key) for key in keys])
        taken: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(repeats + 1):
            for name, burst in subjects.items():
                gc.collect()
                started = time.perf_counter()
                got = await burst()
                taken[name].append(time.perf_counter() - started)
                assert got == wanted, f"{name}: a reply went astray"
        for auto in autos.values():
            await auto.close()
        await akv.clear()
    await peer.aclose()
    await pool.disconnect()
    return {name: seconds[1:] for name, seconds in taken.items()}  # the first is the warm-up


PEER = "redis-py, blocking pool of 50"
SIZES = (500,)
FLYING = (1, 2, 4, 8)


def main() -> None:
    with connect() as kv:
        url = f"redis://{kv.where}" if ":" in kv.where else f"unix://{kv.where}"
    taken = asyncio.run(measure(url))
    base = taken[PEER]
    print(f"{N:,} concurrent gets, {REPEATS} bursts each, interleaved")
    print(f"{'':38} {'median ms':>9}  {'ops/s':>8}  ratio of rates: median (lowest to highest)")
    for name, seconds in taken.items():
        ratios = sorted(b / s for b, s in zip(base, seconds, strict=True))
        middle = statistics.median(seconds)
        print(
            f"{name:38} {middle * 1000:9.1f}  {N / middle:8,.0f}  "
            f"{statistics.median(ratios):.1f} x ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        )


if __name__ == "__main__":
    main()
