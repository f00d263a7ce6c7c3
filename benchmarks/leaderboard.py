"""Leaderboards: how rank and around grow with the board, the time of a load, memory, a peer.

``python -m benchmarks.leaderboard`` [--largest 10000000] [--rows 1000000]. A private server, which
holds nothing but the boards; closed loop, one client, seeded; subjects take turns, and a ratio
compares two medians of the same turn.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import redis
from tqdm.auto import tqdm

from benchmarks._common import report
from kvlab import Kv, Leaderboard, Op
from kvlab.instruments import compare, in_turns, ratio_over_turns
from kvlab.instruments.measure.machine import environment
from kvlab.leaderboard.board import Ties
from kvlab.server import engines

TIES: tuple[Ties, ...] = ("first", "shared", "dense")
BASE = 10_000
TURNS = 9
CALLS = 300  # a turn's, for each subject
SEED = 7


READS: dict[str, Callable[[Leaderboard, str], Op[Any]]] = {
    "rank": lambda board, member: board.rank(member),
    "around 5": lambda board, member: board.around(member, 5),
    "submit add": lambda board, member: board.submit(member, 1, "add"),
}


def median_seconds(call: Callable[[str], Any], members: Sequence[str]) -> float:
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
    """Each call on a board of each size, over the same call on a board of ``BASE``; memory."""
    for ties in TIES:
        boards, draw = {size: loaded(kv, size, ties) for size in sizes}, random.Random(SEED)
        times = in_turns(
            {
                (name, size): partial(drawn_median, kv, name, boards[size], size, draw)
                for name in READS
                for size in sizes
            },
            turns=TURNS,
            seconds=math.inf,
        )
        for name, size in [key for key in times if key[1] != BASE]:
            ratio = ratio_over_turns(times[name, size], times[name, BASE])
            report(f"{ties} {name}: {size:,} / {BASE:,}", ratio)
        for size in sizes:
            used = bytes_a_member(kv, boards[size])
            print(f"{ties} memory: {size:,} members, {used:.0f} bytes a member")
        kv.clear()


def loaded(kv: Kv, size: int, ties: Ties) -> Leaderboard:
    """A board of ``size`` members."""
    board = Leaderboard(f"n{size}", ties=ties)
    with tqdm(total=size, desc=f"load {ties}", unit=" members", leave=False) as bar:
        kv.run(board.load(rows(size), progress=bar.update))
    return board


def drawn_median(kv: Kv, name: str, board: Leaderboard, size: int, draw: random.Random) -> float:
    """Median seconds of the call ``name`` for members drawn at random."""
    members = [f"p{draw.randrange(size)}" for _ in range(CALLS)]
    return median_seconds(lambda member: kv.run(READS[name](board, member)), members)


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

    def load_board(board: Leaderboard) -> None:
        kv.run(board.load(pairs))

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
        ours = timed(partial(load_board, Leaderboard("load", ties=ties)))
        for bare in (one_pair_a_command, many_pairs_a_command):
            name = f"{ties} load / ZADD, {bare.__name__.replace('_', ' ')}"
            report(name, compare(ours, timed(bare), turns=turns, warmup=0))
    kv.clear()


def overhead(kv: Kv) -> None:
    """An op over the raw redis-py call of the same command."""
    board = Leaderboard("raw", ties="first")
    kv.run(board.load(rows(BASE)))
    members = [f"p{i}" for i in random.Random(SEED).sample(range(BASE), CALLS)]
    makes: dict[str, Callable[[str], Op[Any]]] = {
        "rank": board.rank,
        "submit best": lambda member: board.submit(member, 1, "best"),
    }
    for name, make in makes.items():
        ours = partial(median_seconds, partial(_run, kv, make), members)
        by_hand = partial(median_seconds, raw(kv, make), members)
        report(f"{name} / raw evalsha", compare(ours, by_hand, turns=TURNS))
    kv.clear()


def _run(kv: Kv, make: Callable[[str], Op[Any]], member: str) -> Any:
    return kv.run(make(member))


def raw(kv: Kv, make: Callable[[str], Op[Any]]) -> Callable[[str], Any]:
    """The same script by plain redis-py, with prepared arguments; only the member changes."""
    op = make("p1")
    kv.run(op)
    sha, keys = op.command.sha, [kv.name(key) for key in op.keys]  # type: ignore[union-attr]
    position = op.args.index("p1")
    before, after = op.args[len(keys) : position], op.args[position + 1 :]
    return lambda member: kv.client.evalsha(sha, len(keys), *keys, *before, member, *after)


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
    members = [f"p{i}" for i in random.Random(SEED).sample(range(BASE), CALLS)]
    for name, make, call in (
        ("around 5", lambda member: board.around(member, 5), theirs.around_me),
        ("rank and score", board.rank, theirs.score_and_rank_for),
    ):
        ours = partial(median_seconds, partial(_run, kv, make), members)
        other = partial(median_seconds, call, members)
        report(f"{name} / leaderboard (PyPI)", compare(ours, other, turns=TURNS))
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
