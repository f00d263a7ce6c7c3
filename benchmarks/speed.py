"""Where speed must end up: a storm of gets, a whole request, and a table of targets.

    python -m benchmarks.speed [--full]

prints each row of the other benchmarks that has a target, with its interval, then the figures that
have no peer: building an op, the slowest calls of each road, the memory of an idle connection.
Schedules a second: ``python -m benchmarks.studies.interleave``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import threading
import time
import timeit
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import redis
import redis.asyncio

import kvlab
from kvlab import (
    AsyncKv,
    CacheAside,
    FeatureFlags,
    FixedWindow,
    FlagWatcher,
    Key,
    Leaderboard,
    Lock,
    Op,
    SessionStore,
    aconnect,
)
from kvlab.bench import Bench, Case, Peer, runner
from kvlab.bench.case import fair
from kvlab.feature_flags import Flag
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines

BURST = 5_000
ROUND_TRIP = 0.001
THREADS, CALLS = 200, 50
CONNECTIONS = 400
TARGETS = {
    ("core", "GET", "raw redis-py"): 0.6,
    ("core", "async GET", "raw redis.asyncio"): 0.6,
    ("speed", "storm", "redis-py, a pool of 50"): 0.1,
    ("speed", "request", "the best peers together"): 0.25,
    ("rate_limiting", "FixedWindow.hit", "limits FixedWindowRateLimiter"): 0.85,
    ("rate_limiting", "FixedWindow.hit", "throttled-py fixed_window"): 0.85,
    ("distributed_lock", "hold", "redis-py Lock"): 0.8,
    ("distributed_lock", "hold", "python-redis-lock"): 0.8,
    ("cache_aside", "hit", "dogpile.cache"): 0.9,
    ("sessions", "read", "the seed's GET, then EXPIRE"): 0.8,
    ("leaderboard", "load, ties first", "ZADD, 500 a command"): 1.5,
    ("leaderboard", "load, ties shared", "ZADD, 500 a command"): 1.5,
    ("leaderboard", "load, ties dense", "ZADD, 500 a command"): 1.5,
}
"""Our time over the peer's, at most."""
Get = Callable[[int], Awaitable[Any]]


def cases(bench: Bench) -> Iterator[Case]:
    """A storm on loopback; a request at a round trip of 1 ms."""
    gets = bench.runner.run(getters(bench))

    def measure(get: Get) -> Callable[[], list[float]]:
        return lambda: [bench.runner.run(storm(get))]

    ours = measure(gets.pop("kvlab"))
    what = f"{BURST:,} gets at once, a task for each"
    yield Case(
        "storm", what, ours, {name: Peer(measure(get)) for name, get in gets.items()}, long=True
    )
    proxy = bench.stack.enter_context(Proxy(bench.url))
    for theirs in bench.installed(lambda bench: [by_peers(bench, proxy.url)]):
        mine = by_kvlab(bench, proxy.url)
        proxy.delay(ROUND_TRIP)
        what = "limit, session, two flags, cached profile, score, at a round trip of 1 ms"
        together = {"the best peers together": Peer(bench.calls(theirs))}
        yield Case("request", what, bench.calls(mine), together)


async def storm(get: Get) -> float:
    """Seconds of a burst of which every reply is checked."""
    gc.collect()
    began = time.perf_counter()
    got = await asyncio.gather(*map(get, range(BURST)))
    took = time.perf_counter() - began
    assert got == [b"%d" % i for i in range(BURST)], "a reply reached another caller"
    return took


async def getters(bench: Bench) -> dict[str, Get]:
    """A get for each client, on one namespace."""
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
        fair(bench.url), max_connections=50, timeout=None
    )
    peer = redis.asyncio.Redis(connection_pool=pool)
    akv: AsyncKv = await aconnect(bench.url, prefix=bench.kv.prefix, timeout=30, allow_remote=True)
    bench.stack.callback(lambda: bench.runner.run(akv.close()))
    bench.stack.callback(lambda: bench.runner.run(pool.disconnect()))
    await akv.run([Op("SET", Key(f"s{i}"), i, "EX", 6_000) for i in range(BURST)])
    gets: dict[str, Get] = {
        "kvlab": lambda i: akv.run(Op("GET", Key(f"s{i}"))),
        "redis-py, a pool of 50": lambda i: peer.get(f"{akv.prefix}s{i}"),
    }
    try:
        gets["valkey-glide"] = await glide(bench, akv.prefix)
    except ModuleNotFoundError:
        bench.absent.append("valkey-glide is not installed: pip install valkey-glide")
    return gets


async def glide(bench: Bench, prefix: str) -> Get:
    """The anchor outside Python: a client in Rust. It refuses more than 1,000 in flight."""
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    where = bench.kv.client.connection_pool.connection_kwargs
    address = NodeAddress(where["host"], where["port"])
    client = await GlideClient.create(GlideClientConfiguration([address]))
    bench.stack.callback(lambda: bench.runner.run(client.close()))
    few = asyncio.Semaphore(900)

    async def get(i: int) -> Any:
        async with few:
            return await client.get(f"{prefix}s{i}")

    return get


# --- a whole request ---------------------------------------------------------------------------


def by_kvlab(bench: Bench, url: str) -> Callable[[], object]:
    """One round trip; the flags are answered by a watcher's snapshot."""
    kv = bench.stack.enter_context(kvlab.connect(url, prefix=bench.kv.prefix, allow_remote=True))
    limiter, sessions = FixedWindow("speed", 10**6, 3600), SessionStore()
    cache, board, flags = CacheAside("profile", 3600), Leaderboard("speed"), FeatureFlags("speed")
    kv.run(flags.set("a", True), flags.set("b", Flag(50)))
    kv.run(board.load((f"m{i}", i) for i in range(1_000)))
    kv.run(cache.fetch("7", lambda: {"name": "Ann"}))
    sid = kv.run(sessions.create("7")).id
    watcher = bench.stack.enter_context(FlagWatcher(kv, flags))
    assert watcher.wait_for(2), "the flags have not come"

    def request() -> object:
        snapshot = watcher.snapshot
        shown = snapshot.is_enabled("a", "7"), snapshot.is_enabled("b", "7")
        read = limiter.hit("7"), sessions.read(sid), cache.read("7"), board.rank("m500")
        return shown, kv.run(*read)

    return request


def by_peers(bench: Bench, url: str) -> Callable[[], object]:
    """limits, a pipeline of GET and EXPIRE, HMGET, dogpile.cache, the package leaderboard."""
    import limits
    from dogpile.cache import make_region
    from leaderboard.leaderboard import Leaderboard as Theirs

    client = redis.Redis.from_url(fair(url))
    bench.stack.callback(client.close)
    prefix = f"{bench.kv.prefix}peer:"
    storage = limits.storage.storage_from_string(fair(url))
    limiter, item = (
        limits.strategies.FixedWindowRateLimiter(storage),
        limits.RateLimitItemPerHour(10**6),
    )
    region = make_region(key_mangler=lambda key: prefix + key).configure(
        "dogpile.cache.redis", arguments={"url": fair(url), "redis_expiration_time": 3600}
    )
    region.get_or_create("7", lambda: {"name": "Ann"})
    board = Theirs(f"{prefix}board", redis_connection=client)
    client.zadd(f"{prefix}board", {f"m{i}": i for i in range(1_000)})
    client.set(f"{prefix}session", json.dumps({"user": 7}), ex=3600)
    client.hset(f"{prefix}flags", mapping={"a": 1, "b": 0})

    def request() -> object:
        with client.pipeline(transaction=False) as pipe:
            pipe.get(f"{prefix}session")
            pipe.expire(f"{prefix}session", 1800)
            session, _ = pipe.execute()
        return (
            limiter.hit(item, prefix, "7"),
            json.loads(session),
            client.hmget(f"{prefix}flags", "a", "b"),
            region.get_or_create("7", lambda: {"name": "Ann"}),
            board.score_and_rank_for("m500"),
        )

    return request


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
        yield f"building {name}: {min(times) / 5_000 * 1e6:.2f} µs (at most 4)"


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


def main() -> None:
    """Print the table, then the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="as many turns as kvlab bench")
    given = parser.parse_args()
    names = [*dict.fromkeys(benchmark for benchmark, _, _ in TARGETS)]
    root = Path(__file__).parent.parent
    run = runner.run(runner.plan(root, names, short=not given.full, url="", seed=1))
    for row in run.rows:
        if (target := TARGETS.get(row.key)) is not None:
            word = "reached" if row.compared.ratio <= target else "missed"
            print(f"{row.name}: {row.compared.ratio:.2f} of the time (at most {target}: {word})")
            print(f"    {run.says(row)}")
    missing = [" / ".join(key[1:]) for key in TARGETS if key not in {row.key for row in run.rows}]
    print("not measured:", ", ".join(missing) or "nothing")
    with engines.start("valkey") as server:
        for figures in (building(), slowest(server.url), memory(server.url)):
            print(*figures, sep="\n")


if __name__ == "__main__":
    main()
