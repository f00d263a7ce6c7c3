"""What an op costs over the raw redis-py call that carries the same command.

Closed loop, one client: each turn measures every variant once, so that a busy machine slows all of
them. Server: a private Valkey on loopback.

Not promised: anything about a network that is farther away; there the ratio goes to 1.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import redis
import redis.asyncio

from benchmarks._common import mean_seconds, mean_seconds_awaited, report
from kvlab import AsyncKv, Key, Kv, Op, Script
from kvlab.instruments import in_turns, ratio_over_turns
from kvlab.server import engines

TURNS, WARMUP = 40, 5
CALLS = 100
SCRIPT = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


def report_pairs(title: str, times: Mapping[str, Sequence[float]]) -> None:
    """A line for each pair of ``<name> op`` and ``<name> raw``."""
    for raw in [name for name in times if name.endswith(" raw")]:
        pair = raw.removesuffix(" raw")
        ratio = ratio_over_turns(times[f"{pair} op"], times[raw])
        report(f"{title} {pair}: op / raw", ratio)


def main() -> None:
    """Print the table; nothing is asserted."""
    print(f"closed loop, 1 client, {TURNS} turns of {CALLS} calls")
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

            times = _measured(
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
            report_pairs("sync", times)
        with asyncio.Runner() as runner:
            _async(runner, server.port, sha)


def _measured(variants: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    calls = {name: partial(mean_seconds, call, CALLS) for name, call in variants.items()}
    return in_turns(calls, turns=TURNS, warmup=WARMUP, seconds=math.inf)


def _async(runner: asyncio.Runner, port: int, sha: str) -> None:
    client = redis.asyncio.Redis(port=port)
    akv = AsyncKv(client, prefix="p")
    variants: dict[str, Callable[[], Awaitable[object]]] = {
        "GET raw": lambda: client.execute_command("GET", "p:k"),
        "GET op": lambda: akv.run(Op("GET", Key("k"))),
        "script raw": lambda: client.execute_command("EVALSHA", sha, 1, "p:n", 1),
        "script op": lambda: akv.run(Op(SCRIPT, Key("n"), 1)),
    }

    def measure(call: Callable[[], Awaitable[object]]) -> float:
        return runner.run(mean_seconds_awaited(call, CALLS))

    calls = {name: partial(measure, call) for name, call in variants.items()}
    report_pairs("async", in_turns(calls, turns=TURNS, warmup=WARMUP, seconds=math.inf))
    runner.run(akv.close())
    runner.run(client.aclose())


if __name__ == "__main__":
    main()
