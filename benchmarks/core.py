"""What an op costs over the raw redis-py call that carries the same command.

Closed loop, one client, interleaved: each round measures every variant once, in an order that
turns, so that whatever else the machine does falls on all of them. A ratio is the median over the
rounds of (op / raw in the same round), with its quartiles. Server: a private Valkey on loopback.

Not promised: anything about a network that is farther away; there the ratio goes to 1.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import redis
import redis.asyncio

from kvlab import AsyncKv, Key, Kv, Op, Script
from kvlab.server import engines

ROUNDS = 40
CALLS = 100
SCRIPT = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")

Times = dict[str, list[float]]


def measure(variants: dict[str, Callable[[], object]]) -> Times:
    """Microseconds per call of each variant, one figure a round."""
    times: Times = {name: [] for name in variants}
    names = list(variants)
    for round_number in range(-5, ROUNDS):  # five rounds of warm-up
        for name in _turned(names, round_number):
            call = variants[name]
            began = time.perf_counter()
            for _ in range(CALLS):
                call()
            if round_number >= 0:
                times[name].append((time.perf_counter() - began) / CALLS * 1e6)
    return times


async def ameasure(variants: dict[str, Callable[[], Awaitable[object]]]) -> Times:
    """:func:`measure`, awaited."""
    times: Times = {name: [] for name in variants}
    names = list(variants)
    for round_number in range(-5, ROUNDS):
        for name in _turned(names, round_number):
            call = variants[name]
            began = time.perf_counter()
            for _ in range(CALLS):
                await call()
            if round_number >= 0:
                times[name].append((time.perf_counter() - began) / CALLS * 1e6)
    return times


def _turned(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def report(title: str, times: Times) -> None:
    """One line for each pair ``<name> raw`` and ``<name> op``."""
    for raw in [name for name in times if name.endswith(" raw")]:
        pair = raw.removesuffix(" raw")
        ops = times[f"{pair} op"]
        ratios = [op / base for op, base in zip(ops, times[raw], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{title:6} {pair:12} raw {statistics.median(times[raw]):7.1f} µs   "
            f"op {statistics.median(ops):7.1f} µs   ratio {middle:.2f} [{low:.2f}, {high:.2f}]"
        )


def main() -> None:
    """Print the table; nothing is asserted."""
    print(f"closed loop, 1 client, {ROUNDS} rounds of {CALLS} calls; median [quartiles]")
    with engines.start("valkey") as server:
        print(f"{server.name} {server.version}, redis-py {redis.__version__}")
        with server.client() as client, Kv(client, prefix="p") as kv:
            sha = str(client.script_load(SCRIPT.source))
            ten = [Op("GET", Key("k"))] * 10

            def pipeline() -> object:
                pipe = client.pipeline(transaction=False)
                for _ in range(10):
                    pipe.execute_command("GET", "p:k")
                return pipe.execute()

            times = measure(
                {
                    "GET raw": lambda: client.execute_command("GET", "p:k"),
                    "GET op": lambda: kv.run(Op("GET", Key("k"))),
                    "SET raw": lambda: client.execute_command("SET", "p:k", "v", "EX", 60),
                    "SET op": lambda: kv.run(Op("SET", Key("k"), "v", "EX", 60)),
                    "script raw": lambda: client.execute_command("EVALSHA", sha, 1, "p:n", 1),
                    "script op": lambda: kv.run(Op(SCRIPT, Key("n"), 1)),
                    "10 GETs raw": pipeline,
                    "10 GETs op": lambda: kv.run(ten),
                }
            )
            report("sync", times)
        asyncio.run(_async(server.port, sha))


async def _async(port: int, sha: str) -> None:
    client = redis.asyncio.Redis(port=port)
    async with client, AsyncKv(client, prefix="p") as akv:
        times = await ameasure(
            {
                "GET raw": lambda: client.execute_command("GET", "p:k"),
                "GET op": lambda: akv.run(Op("GET", Key("k"))),
                "script raw": lambda: client.execute_command("EVALSHA", sha, 1, "p:n", 1),
                "script op": lambda: akv.run(Op(SCRIPT, Key("n"), 1)),
            }
        )
        report("async", times)


if __name__ == "__main__":
    main()
