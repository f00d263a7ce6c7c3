"""Leaderboards: how rank and around grow with the board, the time of a load, memory, a peer.

``python -m benchmarks.leaderboard`` [--largest 10000000] [--rows 1000000]. A private server, which
holds nothing but the boards; closed loop, one client, seeded; subjects take turns, and a ratio
compares two medians of the same turn.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from tqdm.auto import tqdm

from benchmarks._common import report
from kvlab import Kv, Leaderboard, Op
from kvlab.instruments.measure.comparison import compare
from kvlab.instruments.measure.machine import environment
from kvlab.server import engines

TIES = ("first", "shared", "dense")
BASE = 10_000
TURNS = 9
CALLS = 300  # a turn's, for each subject
SEED = 7


def median_seconds(call: Callable[[str], Any], members: list[str]) -> float:
    """Median seconds of ``call(member)``, called once for each member."""
    taken = []
    for member in members:
        started = time.perf_counter()
        call(member)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def rows(size: int) -> Iterator[tuple[str, int]]:
    """Members p0, p1 … with random scores; about two members share a score."""
    draw = random.Random(SEED)
    return ((f"p{i}", draw.randrange(max(size // 2, 1))) for i in range(size))


def bytes_a_member(kv: Kv, board: Leaderboard) -> float:
    """Bytes by MEMORY USAGE, which samples 2,000 elements of each key."""
    keys = [kv.name(key) for key in board.top(1).keys]
    used = sum(kv.client.memory_usage(key, samples=2_000) or 0 for key in keys)
    return used / kv.run(board.page(1, 1)).total


def scale(kv: Kv, sizes: list[int]) -> None:
    """Medians by size, and their ratios to a board of ``BASE``."""
    for ties in TIES:
        boards: dict[int, Leaderboard] = {}
        memory: dict[int, float] = {}
        for size in sizes:
            boards[size] = Leaderboard(f"n{size}", ties=ties)
            with tqdm(total=size, desc=f"load {ties}", unit=" members", leave=False) as bar:
                kv.run(boards[size].load(rows(size), progress=bar.update))
            memory[size] = bytes_a_member(kv, boards[size])
        subjects: dict[str, Callable[[Leaderboard, str], Op[Any]]] = {
            "rank": lambda board, member: board.rank(member),
            "around 5": lambda board, member: board.around(member, 5),
            "submit add": lambda board, member: board.submit(member, 1, "add"),
        }
        draw = random.Random(SEED)
        medians: dict[tuple[str, int], list[float]] = {}
        for turn in range(TURNS + 1):
            for name, make in subjects.items():
                for size in draw.sample(sizes, len(sizes)):
                    board, some = boards[size], [f"p{draw.randrange(size)}" for _ in range(CALLS)]
                    got = median_seconds(lambda m: kv.run(make(board, m)), some)  # noqa: B023
                    if turn:  # the first is the warm-up
                        medians.setdefault((name, size), []).append(got)
        for name in subjects:
            for size in sizes:
                own, base = medians[name, size], medians[name, BASE]
                ratios = sorted(a / b for a, b in zip(own, base, strict=True))
                print(
                    f"{ties:7} {name:11} {size:>11,} members {statistics.median(own) * 1e6:4.0f} µs"
                    f"   {statistics.median(ratios):.2f} × {BASE:,}"
                    f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                )
        for size in sizes:
            print(f"{ties:7} memory      {size:>11,} members  {memory[size]:6.0f} bytes a member")
        kv.clear()


def load(kv: Kv, count: int, turns: int) -> None:
    """A load, over a plain pipelined ZADD of the same rows."""
    pairs = list(rows(count))

    def timed(work: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            kv.clear()
            started = time.perf_counter()
            work()
            return time.perf_counter() - started

        return run

    def one_pair_a_command() -> None:
        for start in range(0, count, 4_000):
            pipe = kv.client.pipeline(transaction=False)
            for member, score in pairs[start : start + 4_000]:
                pipe.zadd(f"{kv.prefix}bare", {member: score})
            pipe.execute()

    def many_pairs_a_command() -> None:
        for start in range(0, count, 4_000):
            pipe = kv.client.pipeline(transaction=False)
            for chunk in range(start, min(start + 4_000, count), 500):
                pipe.zadd(f"{kv.prefix}bare", dict(pairs[chunk : chunk + 500]))
            pipe.execute()

    for ties in TIES:
        board = Leaderboard("load", ties=ties)
        ours = timed(lambda: kv.run(board.load(pairs)))  # noqa: B023
        for bare in (one_pair_a_command, many_pairs_a_command):
            name = f"{ties} load / ZADD, {bare.__name__.replace('_', ' ')}"
            report(name, compare(ours, timed(bare), turns=turns, warmup=0))
    kv.clear()


def overhead(kv: Kv) -> None:
    """An op over the raw redis-py call of the same command."""
    board = Leaderboard("raw", ties="first")
    kv.run(board.load(rows(BASE)))
    some = [f"p{i}" for i in random.Random(SEED).sample(range(BASE), CALLS)]
    for name, make in {
        "rank": lambda m: board.rank(m),
        "submit best": lambda m: board.submit(m, 1, "best"),
    }.items():
        op: Op[Any] = make("p1")
        kv.run(op)
        sha, keys = op.command.sha, [kv.name(key) for key in op.keys]  # type: ignore[union-attr]
        position = op.args.index("p1")
        before, after = op.args[len(keys) : position], op.args[position + 1 :]

        def raw(m: str) -> Any:
            return kv.client.evalsha(sha, len(keys), *keys, *before, m, *after)  # noqa: B023

        got = compare(
            lambda: median_seconds(lambda m: kv.run(make(m)), some),  # noqa: B023
            lambda: median_seconds(raw, some),
            turns=TURNS,
        )
        report(f"{name} / raw evalsha", got)
    kv.clear()


def peer(kv: Kv) -> None:
    """The part of the PyPI package ``leaderboard`` that runs on this redis-py."""
    try:
        from leaderboard.leaderboard import Leaderboard as Peer
    except ImportError:
        print("leaderboard (PyPI) is not installed: pip install --no-deps leaderboard")
        return
    client = redis.Redis(connection_pool=kv.client.connection_pool)
    theirs = Peer(f"{kv.prefix}peer", redis_connection=client, page_size=11)
    try:
        theirs.rank_member("p1", 1)
    except (redis.RedisError, TypeError, AttributeError, ValueError) as problem:
        print(f"leaderboard (PyPI) cannot write on redis-py {redis.__version__}: {problem}")
    client.delete(f"{kv.prefix}peer")
    board = Leaderboard("ours", ties="shared")
    kv.run(board.load(rows(BASE)))
    client.zadd(f"{kv.prefix}peer", dict(rows(BASE)))
    some = [f"p{i}" for i in random.Random(SEED).sample(range(BASE), CALLS)]
    for name, ours, call in (
        ("around 5", lambda m: kv.run(board.around(m, 5)), theirs.around_me),
        ("rank and score", lambda m: kv.run(board.rank(m)), theirs.score_and_rank_for),
    ):
        got = compare(
            lambda: median_seconds(ours, some),  # noqa: B023
            lambda: median_seconds(call, some),  # noqa: B023
            turns=TURNS,
        )
        report(f"{name} / leaderboard (PyPI)", got)
    kv.clear()


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaderboard")
    parser.add_argument("--largest", type=int, default=1_000_000, help="members of the largest")
    parser.add_argument("--rows", type=int, default=100_000, help="members to load")
    parser.add_argument("--turns", type=int, default=6, help="of loading")
    given = parser.parse_args()
    sizes = [10**p for p in range(3, 9) if 10**p <= max(given.largest, BASE)]
    with (
        engines.start("valkey") as server,
        server.client() as client,
        Kv(client, prefix="bench") as kv,
    ):
        print(", ".join(f"{k} {v}" for k, v in environment(kv).items()))
        print(f"closed loop of one client, seed {SEED}, {TURNS} turns of {CALLS} calls, medians")
        overhead(kv)
        peer(kv)
        load(kv, given.rows, given.turns)
        scale(kv, sizes)


if __name__ == "__main__":
    main()
