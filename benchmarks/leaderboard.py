"""Leaderboards: an op beside the raw script, a load beside a bare ZADD, and the PyPI package.

How rank and around grow with the board, and memory: ``python -m benchmarks.studies.board_size``.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import redis

from kvlab import Leaderboard, Op
from kvlab.bench import Bench, Case, Measure, Peer
from kvlab.core.wire import encode
from kvlab.leaderboard.board import Ties

TIES: tuple[Ties, ...] = ("first", "shared", "dense")
MEMBERS, LOADED = 10_000, 10_000
SEED = 7
WRITES = "the same writes by redis-py"


def rows(size: int) -> Iterator[tuple[str, int]]:
    """Members p0, p1 … with random scores; about two members share a score."""
    draw = random.Random(SEED)
    return ((f"p{i}", draw.randrange(max(size // 2, 1))) for i in range(size))


def cases(bench: Bench) -> Iterator[Case]:
    """Ops on a board of 10,000 members; then loads."""
    first, shared = Leaderboard("raw", ties="first"), Leaderboard("ours", ties="shared")
    for board in (first, shared):
        bench.kv.run(board.load(rows(MEMBERS)))
    drawn = random.Random(SEED).sample(range(MEMBERS), 1_000)
    names = itertools.cycle(f"p{i}" for i in drawn)
    makes: dict[str, Callable[[str], Op[Any]]] = {
        "rank": first.rank,
        "submit best": lambda member: first.submit(member, 1, "best"),
    }
    for name, make in makes.items():
        ours = bench.calls(lambda make=make: bench.kv.run(make(next(names))))  # type: ignore[misc]
        script = raw(bench, make)
        by_hand = Peer(bench.calls(lambda script=script: script(next(names))), "redis")  # type: ignore[misc]
        what = f"a board of {MEMBERS:,} members, which member is drawn at random"
        yield Case(name, what, ours, {"the same script by redis-py": by_hand})
    yield from bench.installed(lambda bench: package(bench, shared, names))
    for ties in TIES:
        yield loads(bench, ties)


def raw(bench: Bench, make: Callable[[str], Op[Any]]) -> Callable[[str], Any]:
    """The same script by plain redis-py, with prepared arguments; only the member changes."""
    op, kv = make("p1"), bench.kv
    kv.run(op)
    _, *words = encode(op, kv.prefix)
    position = words.index("p1")
    before, after = words[:position], words[position + 1 :]
    call: Any = kv.client.evalsha
    return lambda member: call(*before, member, *after)


def package(bench: Bench, board: Leaderboard, names: Iterator[str]) -> Iterator[Case]:
    """The part of the PyPI package ``leaderboard`` that runs on this redis-py: reads."""
    from leaderboard.leaderboard import Leaderboard as Theirs

    key = f"{bench.kv.prefix}peer"
    client = redis.Redis.from_url(bench.peer_url)
    bench.stack.callback(client.close)
    theirs = Theirs(key, redis_connection=client, page_size=11)
    client.zadd(key, dict(rows(MEMBERS)))
    for name, make, call in (
        ("around 5", partial(board.around, n=5), theirs.around_me),
        ("rank and score", board.rank, theirs.score_and_rank_for),
    ):
        ours = bench.calls(lambda make=make: bench.kv.run(make(next(names))))  # type: ignore[misc]
        other = bench.calls(lambda call=call: call(next(names)))  # type: ignore[misc]
        less = "reads in several round trips, which a change may divide"
        peers = {"leaderboard (PyPI)": Peer(other, "leaderboard", less)}
        yield Case(name, f"a board of {MEMBERS:,} members, ties share a rank", ours, peers)


def loads(bench: Bench, ties: Ties) -> Case:
    """A load, beside plain pipelined ZADDs of the same rows."""
    pairs, board = [*rows(LOADED)], Leaderboard("load", ties=ties)
    kv = bench.kv.within(f"load-{ties}")

    def timed(work: Callable[[], object]) -> Measure:
        def measure() -> float:
            for key in kv.client.scan_iter(f"{kv.prefix}*", 1_000):
                kv.client.delete(key)  # not UNLINK: what it frees later takes time from the load
            began = time.perf_counter()
            work()
            return time.perf_counter() - began

        return lambda: [measure() for _ in range(3)]

    ours = timed(lambda: kv.run(board.load(pairs)))
    peers = {
        f"ZADD, {size} a command": Peer(timed(partial(zadds, kv, pairs, size))) for size in (1, 500)
    }
    if ties != "shared":
        peers[WRITES] = Peer(timed(partial(zadds, kv, pairs, 500, ties)))
    return Case(f"load, ties {ties}", f"{LOADED:,} members", ours, peers, long=True)


def zadds(kv: Any, pairs: Sequence[tuple[str, int]], size: int, ties: Ties = "shared") -> None:
    """Pipelines of 4,000 pairs, ``size`` pairs a command; what ``ties`` needs is written too."""
    for start in range(0, len(pairs), 4_000):
        pipe = kv.client.pipeline(transaction=False)
        part = pairs[start : start + 4_000]
        for place in range(0, len(part), size):
            now = dict(part[place : place + size])
            if ties == "first":
                places = {member: f"{start + place + i:016d}" for i, member in enumerate(now)}
                pipe.hset(f"{kv.prefix}places", mapping=places)
                now = {places[member] + member: score for member, score in now.items()}
            elif ties == "dense":
                pipe.zadd(f"{kv.prefix}levels", {str(score): score for score in now.values()})
            pipe.zadd(f"{kv.prefix}bare", now)
        pipe.execute()
