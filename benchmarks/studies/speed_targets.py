"""The targets of speed, what a run measured, and why a target is missed.

    python -m benchmarks.speed [--full] [--save]

measures the rows of the benchmarks that have a target, peers in turns, then the figures that have
no peer: building an op, the slowest calls of each road, the memory of an idle connection.
``--save`` keeps them in ``benchmarks/results/speed.json``, and writes the table of
``benchmarks/README.md`` from that file and from ``board_size.txt`` beside it, which is what
``python -m benchmarks.studies.board_size --largest 10000000`` has printed.
Schedules a second: ``python -m benchmarks.studies.interleave``.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import threading
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

import kvlab
from benchmarks.leaderboard import WRITES
from benchmarks.speed import TASKS
from kvlab import FixedWindow, Key, Lock, Op
from kvlab.bench import BenchRun, runner
from kvlab.bench.case import BARE, fair
from kvlab.server import engines
from kvlab.workshop import readme

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
THREADS, CALLS = 200, 50
CONNECTIONS = 400
LARGEST = "10,000,000"


@dataclass(frozen=True, slots=True)
class Target:
    """Our time over the peer's, at most; None: an anchor from outside Python, and no target.

    * ``why``: the reason when a run misses it, and what was tried.
    * ``floor``: the peer in the same case that shows how low our time could be at all.
    """

    at_most: float | None
    why: str = ""
    floor: str = BARE


_SOCKET = "socket, kernel and server alone take the floor; they cost both the same"
_TWICE = (
    "two structures are written where the peer writes one, which is the floor; the script that "
    "keeps them alike takes the rest; tried: steps of 250 and 1,000, trips of 2,000 and 8,000"
)
TARGETS: Mapping[tuple[str, str, str], Target] = {
    ("core", "GET", "raw redis-py"): Target(0.6, _SOCKET),
    ("core", "async GET", "raw redis.asyncio"): Target(
        0.6, "a batch leaves in the turn after the await, so that other calls can join; " + _SOCKET
    ),
    ("speed", "storm", "redis-py, a pool of 50"): Target(
        0.1,
        "asyncio's task and future for each get take the floor, without any client; tried: no "
        "coroutine between a caller and its future, one write and one timer for a batch",
        TASKS,
    ),
    ("speed", "storm", "valkey-glide"): Target(None, floor=TASKS),
    ("speed", "request", "the best peers together"): Target(0.25),
    ("rate_limiting", "FixedWindow.hit", "limits FixedWindowRateLimiter"): Target(
        0.85,
        "our script reads the server's clock and answers what remains and when to retry, which "
        "costs the server two commands more; tried: fewer steps to build, pack and run an op",
    ),
    ("rate_limiting", "FixedWindow.hit", "throttled-py fixed_window"): Target(
        0.85,
        "the peer runs no script, and loses the TTL when it crashes; our script on a bare socket "
        "takes the floor, and to build, pack and decode an op that may be retried takes the rest",
    ),
    ("distributed_lock", "hold", "redis-py Lock"): Target(
        0.8,
        "two scripts (fence, owner, spent token, wake-up) where the peer has SET and one script; "
        "tried: no generator around each op of a flow. The rest is the flow that gives the lock "
        "back after an interrupt anywhere",
    ),
    ("distributed_lock", "hold", "python-redis-lock"): Target(0.8, _SOCKET),
    ("distributed_lock", "hold, 1 waiting", "python-redis-lock"): Target(
        1.0, "waking a thread takes most of it, and varies more than the two differ"
    ),
    ("cache_aside", "hit", "dogpile.cache"): Target(
        0.9, "a script that can hand out the lease, where the peer has GET; " + _SOCKET
    ),
    ("sessions", "read", "the seed's GET, then EXPIRE"): Target(0.8, _SOCKET),
    ("leaderboard", "load, ties first", "ZADD, 500 a command"): Target(1.5, _TWICE, WRITES),
    ("leaderboard", "load, ties shared", "ZADD, 500 a command"): Target(1.5),
    ("leaderboard", "load, ties dense", "ZADD, 500 a command"): Target(1.5, _TWICE, WRITES),
}
Row = Mapping[str, Any]


def rows_of(run: BenchRun) -> Iterator[Row]:
    """The rows with a target: ratio and interval, and the floor's ratio to the same peer."""
    found = {row.key: row for row in run.rows}
    for key, target in TARGETS.items():
        if (row := found.get(key)) is None:
            continue
        ratio, low, high = row.compared.ratio, row.compared.low, row.compared.high
        benchmark, case, peer = key
        floor = found.get((benchmark, case, target.floor))
        yield {
            "benchmark": benchmark,
            "case": case,
            "peer": peer,
            "version": row.version,
            "ratio": round(ratio, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "floor": None if floor is None else round(ratio / floor.compared.ratio, 4),
        }


def is_missed(row: Row) -> bool:
    """Whether the row's target is not reached."""
    at_most = TARGETS[row["benchmark"], row["case"], row["peer"]].at_most
    return at_most is not None and bool(row["ratio"] > at_most)


def table(kept: Mapping[str, Any], boards: str) -> str:
    """The part of ``benchmarks/README.md``, as Markdown."""
    lines = ["| what | against | at most | measured | floor | why not |", "| --- " * 6 + "|"]
    for row in kept["rows"]:
        target = TARGETS[row["benchmark"], row["case"], row["peer"]]
        measured = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        floor = "" if row["floor"] is None else f"{row['floor']:.2f}"
        why = target.why if is_missed(row) else ""
        what = f"{row['benchmark'].replace('_', ' ')}: {row['case']}"
        peer = f"{row['peer']} {row['version']}".strip()
        lines.append(
            f"| {what} | {peer} | {target.at_most or 'anchor'} | {measured} | {floor} | {why} |"
        )
    facts = kept["environment"]
    where = f"{facts['engine']} {facts['engine_version']}, Python {facts['python']}"
    lines += [
        "",
        f"{kept['length']}; {where}, {facts['cpus']} CPUs, loopback, {facts['cores']}. Floor: the "
        "same commands, packed beforehand, on a bare socket, or what the row says, measured by the "
        "same peer.",
        "",
        *[f"* {figure}" for figure in (*kept["figures"], *largest(boards))],
    ]
    return "\n".join(lines)


def largest(boards: str) -> Iterator[str]:
    """What the study of boards says of the largest board: times by those at 10,000, memory."""
    for line in boards.splitlines():
        if LARGEST in line and re.match(r"(first|shared|dense) ", line):
            yield f"a board, ties {line}"


# --- figures without a peer --------------------------------------------------------------------


def building() -> Iterator[str]:
    """Microseconds of CPU to build an op."""
    limiter, lock, key = FixedWindow("b", 10, 60), Lock("b", 20), Key("k")
    makes: dict[str, Callable[[], object]] = {
        "Op(GET)": lambda: Op("GET", key),
        "limiter.hit": lambda: limiter.hit("192.0.2.1"),
        "lock.try_acquire": lock.try_acquire,
    }
    for name, make in makes.items():
        times = timeit.repeat(make, number=5_000, repeat=15, timer=time.process_time)
        yield f"building {name}: {min(times) / 5_000 * 1e6:.1f} µs of CPU (at most 4)"


def slowest(url: str) -> Iterator[str]:
    """The slowest call of a thousand, of 200 threads that call at once."""
    with kvlab.connect(url) as kv, redis.Redis.from_url(fair(url), max_connections=500) as client:
        roads = {"kvlab": lambda: kv.run(Op("GET", Key("k"))), "redis-py": lambda: client.get("k")}
        for name, call in roads.items():
            times: list[float] = []

            def work(call: Callable[[], object] = call, times: list[float] = times) -> None:
                for _ in range(CALLS):
                    began = time.perf_counter()
                    call()
                    times.append(time.perf_counter() - began)

            threads = [threading.Thread(target=work) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            times.sort()
            tail, median = times[int(len(times) * 0.999)], statistics.median(times)
            said = f"p99.9 {tail * 1e3:.1f} ms, median {median * 1e3:.1f} ms"
            yield f"{THREADS} threads, {name}: {said}"


def memory(url: str) -> Iterator[str]:
    """The growth of this process for a connection that is open and idle."""
    process = psutil.Process()
    with ExitStack() as stack:
        kv = stack.enter_context(kvlab.connect(url))
        pool = redis.ConnectionPool.from_url(fair(url), max_connections=CONNECTIONS)
        stack.callback(pool.disconnect)

        def kvlabs() -> None:
            for connection in [kv._connections.get() for _ in range(CONNECTIONS)]:
                kv._connections.put(connection, complete=True)

        def redispys() -> None:
            for connection in [pool.get_connection() for _ in range(CONNECTIONS)]:
                pool.release(connection)

        for name, fill in (("kvlab", kvlabs), ("redis-py", redispys)):
            gc.collect()
            before = process.memory_info().rss
            fill()
            grown = (process.memory_info().rss - before) / CONNECTIONS
            yield f"an idle connection, {name}: {grown / 1024:.1f} KB"


def measured(*, full: bool) -> dict[str, Any]:
    """Measure all rows and figures."""
    names = [*dict.fromkeys(benchmark for benchmark, _, _ in TARGETS)]
    run = runner.run(runner.plan(ROOT, names, short=not full, url="", seed=1))
    with engines.start("valkey") as server:
        figures = [*building(), *slowest(server.url), *memory(server.url)]
    rounds = len(run.settings["rounds"])
    return {
        "length": f"A {'full' if full else 'short'} run of {rounds} rounds",
        "environment": dict(run.environment),
        "rows": [*rows_of(run)],
        "figures": figures,
    }


def main() -> None:
    """Print the rows and the figures; keep them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--full", action="store_true", help="as many turns as kvlab bench")
    parser.add_argument("--save", action="store_true", help="keep the run; write its table")
    given = parser.parse_args()
    kept = measured(full=given.full)
    boards = (RESULTS / "board_size.txt").read_text(encoding="utf-8")
    print(table(kept, boards))
    there = {(row["benchmark"], row["case"], row["peer"]) for row in kept["rows"]}
    missing = [" / ".join(key[1:]) for key in TARGETS if key not in there]
    print("\nnot measured:", ", ".join(missing) or "nothing")
    if given.save:
        (RESULTS / "speed.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        file = ROOT / "benchmarks" / "README.md"
        text = readme.replaced(file.read_text(encoding="utf-8"), "speed", table(kept, boards))
        file.write_text(text, encoding="utf-8")
