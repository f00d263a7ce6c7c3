"""The round trips of every public op, counted on the wire: scripts warm, connections made.

``promised`` is the design's number; ``count`` is what a proxy before the server saw. The README's
table, two chapters and a test are made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import redis

import kvlab
from kvlab import (
    CacheAside,
    FeatureFlags,
    FixedWindow,
    Key,
    Kv,
    Leaderboard,
    Lock,
    NaiveCacheAside,
    NaiveFixedWindow,
    NaiveFlags,
    NaiveLeaderboard,
    NaiveLock,
    NaiveSessions,
    NaiveSlidingWindow,
    NaiveWriteThrough,
    Op,
    SessionStore,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
    WriteThrough,
    fenced_get,
    fenced_set,
)
from kvlab.instruments.faults.proxy import Proxy
from kvlab.pipeline import NaivePipeline, add_to_counters, dashboard
from kvlab.server import engines

Make = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One op: ``make`` gives what is run; ``before`` prepares, and is not counted.

    ``naive`` does the same with the tutorial's version, where it has one.
    """

    pattern: str
    op: str
    promised: int
    make: Make
    before: Callable[[], object] = lambda: None
    naive: Callable[[], object] | None = None


def cases(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    """Every public op of the eight patterns. ``kv`` prepares; the naive versions use ``client``."""
    for some in (_caches, _limiters, _sessions, _locks, _boards, _batches, _flags):
        yield from some(kv, client)


def count(kv: Kv, counter: Callable[[], int], case: Case, run: Callable[[Any], object]) -> int:
    """What ``counter`` (of the wire) rose by while ``run`` ran the case, after a warm-up."""
    for _ in range(2):
        kv.clear()
        case.before()
        what = case.make()
        start = counter()
        run(what)
        seen = counter() - start
    return seen


def counted(pattern: str = "") -> pd.DataFrame:
    """The round trips of the ops of one pattern, or of all, counted now before a private server.

    Columns: ``pattern``, ``op``, ``naive`` ("" where the tutorial has no such op), ``hardened``.
    """
    rows = []
    with (
        engines.start(engines.first()) as server,
        Proxy(server.url) as proxy,
        kvlab.connect(server.url) as kv,
        kvlab.connect(proxy.url) as far,
    ):

        def seen(case: Case, run: Callable[[Any], object]) -> int:
            return count(kv, lambda: proxy.requests, case, run)

        for case in cases(kv, far.client):
            if pattern in ("", case.pattern):
                naive = seen(case, naively(case)) if case.naive else ""
                rows.append((case.pattern, case.op, naive, seen(case, on(far))))
    return pd.DataFrame(rows, columns=["pattern", "op", "naive", "hardened"])


def on(kv: Kv) -> Callable[[Any], object]:
    """A ``run`` for what a case makes: one op, a flow, a list, or a tuple for one round trip."""
    return lambda what: kv.run(*what) if isinstance(what, tuple) else kv.run(what)


def naively(case: Case) -> Callable[[Any], object]:
    """The tutorial's version of a case, whatever was made for ours."""
    return lambda _: case.naive() if case.naive else None


def _caches(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    cache, old = CacheAside("c", ttl=60, early=0), NaiveCacheAside(client, prefix=kv.prefix)
    through = WriteThrough(cache)
    old_through = NaiveWriteThrough(client, prefix=kv.prefix)

    def fill() -> None:
        kv.run(cache.fetch("k", lambda: 1))
        old.get("k", lambda: 1)

    def leased() -> Any:
        return cache.fill("k", kv.run(cache.read("k")).lease or "", 1)

    def one() -> int:
        return 1

    name = "cache-aside"
    yield Case(name, "fetch, a hit", 1, lambda: cache.fetch("k", one), fill,
               lambda: old.get("k", one))  # fmt: skip
    yield Case(name, "fetch, a miss that loads", 2, lambda: cache.fetch("k", one),
               naive=lambda: old.get("k", one))  # fmt: skip
    yield Case(name, "read", 1, lambda: cache.read("k"))
    yield Case(name, "fill", 1, leased)
    yield Case(name, "release", 1, lambda: cache.release("k", "l"))
    yield Case(name, "invalidate", 1, lambda: cache.invalidate("k"), fill,
               lambda: old.invalidate("k"))  # fmt: skip
    name = "write-through"
    yield Case(name, "save, after the database", 1, lambda: through.save("k", lambda: (1, 1)),
               naive=lambda: old_through.save("k", lambda: [1]))  # fmt: skip
    yield Case(name, "remove, after the database", 1, lambda: through.remove("k", lambda: 2), fill,
               lambda: old_through.remove("k", lambda: None))  # fmt: skip
    yield Case(name, "fetch, a hit", 1, lambda: through.fetch("k", lambda: (1, 1)), fill)


def _limiters(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    naive: dict[type[Any], Callable[[], object]] = {
        FixedWindow: lambda: NaiveFixedWindow(client, prefix=kv.prefix).check("ip"),
        SlidingWindowLog: lambda: NaiveSlidingWindow(client, prefix=kv.prefix).check("ip"),
    }
    for kind in (FixedWindow, SlidingWindowLog, SlidingWindowCounter, TokenBucket):
        limiter, name = kind("api", limit=10, window=60), f"rate limiting, {kind.__name__}"
        yield Case(name, "hit", 1, partial(limiter.hit, "ip"), naive=naive.get(kind))
        yield Case(name, "peek", 1, partial(limiter.peek, "ip"))
        yield Case(name, "forget", 1, partial(limiter.forget, "ip"))


def _sessions(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    store, old = SessionStore(), NaiveSessions(client, prefix=kv.prefix)
    live: dict[str, str] = {}

    def login() -> None:
        session = kv.run(store.create("ann"))
        live["id"], live["old"] = session.id, old.create("ann")
        live["handle"] = kv.run(store.list("ann"))[0].handle

    name = "sessions"
    yield Case(name, "create", 1, lambda: store.create("ann"), naive=lambda: old.create("ann"))
    yield Case(name, "read", 1, lambda: store.read(live["id"]), login,
               lambda: old.read(live["old"]))  # fmt: skip
    yield Case(name, "update", 1, lambda: store.update(live["id"], cart=1), login,
               lambda: old.update(live["old"], cart=1))  # fmt: skip
    yield Case(name, "rotate", 1, lambda: store.rotate(live["id"]), login)
    yield Case(name, "destroy", 1, lambda: store.destroy(live["id"]), login,
               lambda: old.destroy(live["old"]))  # fmt: skip
    yield Case(
        name, "destroy_listed", 1, lambda: store.destroy_listed("ann", live["handle"]), login
    )
    yield Case(name, "destroy_all", 1, lambda: store.destroy_all("ann"), login)
    yield Case(name, "list", 1, lambda: store.list("ann"), login)


def _locks(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    lock, old = Lock("orders", ttl=10), NaiveLock(client, prefix=kv.prefix)
    held: dict[str, Any] = {}

    def hold() -> None:
        held["new"], held["old"] = kv.run(lock.try_acquire()), old.acquire("orders")

    name = "distributed lock"
    yield Case(name, "try_acquire", 1, lock.try_acquire, naive=lambda: old.acquire("orders"))
    yield Case(name, "acquire, when free", 1, lambda: lock.acquire(1))
    yield Case(name, "renew", 1, lambda: lock.renew(held["new"]), hold)
    yield Case(name, "release", 1, lambda: lock.release(held["new"]), hold,
               lambda: old.release("orders", held["old"]))  # fmt: skip
    yield Case(name, "fenced_set", 1, lambda: fenced_set("x", "v", 1))
    yield Case(name, "fenced_get", 1, lambda: fenced_get("x"))


def _boards(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    board, old = Leaderboard("game"), NaiveLeaderboard(client, prefix=kv.prefix)

    def fill() -> None:
        kv.run(board.load([(f"m{i}", i) for i in range(9)]))
        for i in range(9):
            old.update_score(f"m{i}", i)

    name = "leaderboard"
    yield Case(name, "submit, set", 1, lambda: board.submit("m1", 5), fill,
               lambda: old.update_score("m1", 5))  # fmt: skip
    yield Case(name, "submit, best", 1, lambda: board.submit("m1", 5, "best"), fill)
    yield Case(name, "submit, add", 1, lambda: board.submit("m1", 5, "add", op_id="1"), fill,
               lambda: old.increment_score("m1", 5))  # fmt: skip
    yield Case(name, "top", 1, lambda: board.top(3), fill, lambda: old.get_top_players(3))
    yield Case(name, "rank", 1, lambda: board.rank("m1"), fill, lambda: old.get_user_rank("m1"))
    yield Case(name, "around", 1, lambda: board.around("m4", 2), fill,
               lambda: old.get_player_context("m4"))  # fmt: skip
    yield Case(name, "page", 1, lambda: board.page(2, 3), fill)
    yield Case(name, "remove", 1, lambda: board.remove("m1"), fill)
    yield Case(name, "load, 4,000 members", 1,
               lambda: board.load([(f"m{i}", i) for i in range(4000)]))  # fmt: skip


def _batches(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    old = NaivePipeline(client, prefix=kv.prefix)
    counters = {f"c{i}": 1 for i in range(100)}
    name = "pipeline"
    yield Case(name, "dashboard, four ops", 1, lambda: dashboard(7), naive=lambda: old.dashboard(7))
    yield Case(name, "a hundred counters", 1, lambda: add_to_counters("g", counters),
               naive=lambda: old.batch_update_counters(counters))  # fmt: skip
    yield Case(
        name, "a list of 1,200 ops", 3, lambda: [Op("GET", Key(f"k{i}")) for i in range(1200)]
    )


def _flags(kv: Kv, client: redis.Redis) -> Iterator[Case]:
    flags, flat, name = FeatureFlags(), NaiveFlags(client, prefix=kv.prefix), "feature flags"
    yield Case(
        name, "set", 1, lambda: flags.set("new", True), naive=lambda: flat.set_flag("new", True)
    )
    yield Case(name, "set_many", 1, lambda: flags.set_many({"a": True, "b": False}))
    yield Case(name, "remove", 1, lambda: flags.remove("new"))
    yield Case(name, "read_all", 1, flags.read_all, naive=flat.get_all_flags)
