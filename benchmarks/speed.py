"""A storm of gets and a whole request, beside what people would pick instead.

    python -m benchmarks.speed [--full] [--save]

measures every row that has a target: see ``benchmarks.studies.speed_targets``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

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
    Op,
    SessionStore,
    aconnect,
)
from kvlab.bench import Bench, Case, Peer
from kvlab.bench.case import fair
from kvlab.feature_flags import Flag
from kvlab.instruments.faults.proxy import Proxy

BURST = 5_000
PATIENCE = 30
"""Seconds that each client of a storm waits for an answer."""
ROUND_TRIP = 0.001
TASKS = "tasks and futures alone"
"""The peer that shows what asyncio takes for a task and a future for each get, without a client."""
Get = Callable[[int], Awaitable[Any]]


def cases(bench: Bench) -> Iterator[Case]:
    """A storm on loopback; a request at a round trip of 1 ms."""
    gets = bench.runner.run(getters(bench))

    def measure(get: Get) -> Callable[[], list[float]]:
        return lambda: [bench.runner.run(storm(get))]

    ours = measure(gets.pop("kvlab"))
    what = f"{BURST:,} gets at once, a task for each"
    peers = {
        name: Peer(measure(get), name if name == "valkey-glide" else "")
        for name, get in gets.items()
    }
    yield Case("storm", what, ours, peers, long=True)
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
        fair(bench.url, PATIENCE), max_connections=50, timeout=None
    )
    peer = redis.asyncio.Redis(connection_pool=pool)
    akv: AsyncKv = await aconnect(
        bench.url, prefix=bench.kv.prefix, timeout=PATIENCE, allow_remote=True
    )
    bench.stack.callback(lambda: bench.runner.run(akv.close()))
    bench.stack.callback(lambda: bench.runner.run(pool.disconnect()))
    await akv.run([Op("SET", Key(f"s{i}"), i, "EX", 6_000) for i in range(BURST)])
    gets: dict[str, Get] = {
        "kvlab": lambda i: akv.run(Op("GET", Key(f"s{i}"))),
        "redis-py, a pool of 50": lambda i: peer.get(f"{akv.prefix}s{i}"),
    }
    gets[TASKS] = answered_by_nobody()
    try:
        gets["valkey-glide"] = await glide(bench, akv.prefix)
    except ModuleNotFoundError:
        bench.absent.append("valkey-glide is not installed: pip install valkey-glide")
    return gets


def answered_by_nobody() -> Get:
    """A task that awaits a future for each get; all futures are done in the next turn."""
    waiting: list[tuple[asyncio.Future[bytes], int]] = []

    def answer() -> None:
        for future, i in waiting:
            future.set_result(b"%d" % i)
        waiting.clear()

    async def get(i: int) -> bytes:
        loop = asyncio.get_running_loop()
        if not waiting:
            loop.call_soon(answer)
        waiting.append((loop.create_future(), i))
        return await waiting[-1][0]

    return get


async def glide(bench: Bench, prefix: str) -> Get:
    """The anchor outside Python: a client in Rust. It refuses more than 1,000 in flight."""
    from glide import (
        GlideClient,
        GlideClientConfiguration,
        NodeAddress,
        ProtocolVersion,
        ServerCredentials,
    )

    where = bench.kv.client.connection_pool.connection_kwargs
    password = where.get("password")
    host, port, path = where.get("host", ""), where.get("port", 0), where.get("path")
    settings = GlideClientConfiguration(
        [NodeAddress(host, port, unix_socket_path=path)],
        credentials=ServerCredentials(password, where.get("username")) if password else None,
        database_id=where.get("db"),
        request_timeout=1_000 * PATIENCE,
        protocol=ProtocolVersion.RESP2,  # as ``fair`` says for the other clients
    )
    client = await GlideClient.create(settings)
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


if __name__ == "__main__":
    from benchmarks.studies.speed_targets import main

    main()
