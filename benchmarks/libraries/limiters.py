"""Rate limiters: two hits at once, where one is allowed in an hour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import redis
import redis.asyncio

from benchmarks.libraries.promises import LIMITER, Client, Library, aconnected, connected
from kvlab import FixedWindow, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.rate_limiting import NaiveFixedWindow, NaiveSlidingWindow

HOUR = 3600


def by_limits(strategy: str) -> Client:
    def hit(kv: Any, url: str) -> bool:
        import limits

        storage = limits.storage.storage_from_string(url)
        limiter = getattr(limits.strategies, strategy)(storage)
        return bool(limiter.hit(limits.parse("1/hour"), "ann"))

    return hit


def by_throttled(using: str) -> Client:
    def hit(kv: Any, url: str) -> bool:
        from throttled import Throttled, rate_limiter, store

        quota = rate_limiter.per_hour(1, burst=1)
        limiter = Throttled("ann", using=using, quota=quota, store=store.RedisStore(server=url))
        return not limiter.limit().limited

    return hit


def by_pyrate(kv: Any, url: str) -> bool:
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket, SingleBucketFactory

    bucket = RedisBucket.init([Rate(1, Duration.HOUR)], connected(url), "bucket")
    limiter = Limiter(SingleBucketFactory(bucket, schedule_leak=False))
    return bool(limiter.try_acquire("ann", blocking=False))


def by_pyrate_with_its_thread(kv: Any, url: str) -> bool:
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

    bucket = RedisBucket.init([Rate(1, Duration.HOUR)], connected(url), "bucket")
    limiter = Limiter(bucket)
    return bool(limiter.try_acquire("ann", blocking=False))


async def by_asyncio_redis_rate_limit(kv: Any, url: str) -> bool:
    from asyncio_redis_rate_limit import RateLimiter, RateLimitError, RateSpec

    limiter = RateLimiter("ann", RateSpec(1, HOUR), aconnected(url), cache_prefix="app")
    try:
        async with limiter:
            return True
    except RateLimitError:
        return False


def by_ratelimit_io(kv: Any, url: str) -> bool:
    from ratelimit_io import Limit, RateLimiter, RateLimitExceededError

    try:
        RateLimiter(connected(url), limit=Limit(1, hours=1)).acquire_sync("ann")
    except RateLimitExceededError:
        return False
    return True


def by_huey(kv: Any, url: str) -> bool:
    from huey import RedisHuey
    from huey.exceptions import RateLimitExceeded

    try:
        RedisHuey("app", url=url).rate_limit("ann", 1, HOUR).acquire()
    except RateLimitExceeded:
        return False
    return True


def by_walrus(script: bool) -> Client:
    def hit(kv: Any, url: str) -> bool:
        import walrus
        from walrus.rate_limit import RateLimit, RateLimitLua

        kind = RateLimitLua if script else RateLimit
        database = walrus.Database(connection_pool=redis.ConnectionPool.from_url(url))
        return not kind(database, "app", limit=1, per=HOUR).limit("ann")

    return hit


def by_dramatiq(kv: Any, url: str) -> bool:
    from dramatiq.rate_limits import WindowRateLimiter
    from dramatiq.rate_limits.backends import RedisBackend

    limiter = WindowRateLimiter(RedisBackend(url=url), "ann", limit=1, window=60)
    with limiter.acquire(raise_on_failure=False) as acquired:
        return bool(acquired)


def by_redis_rate_limiters(kv: Any, url: str) -> bool:
    from limiters import MaxSleepExceededError, SyncTokenBucket

    bucket = SyncTokenBucket(connected(url), "ann", 1, float(HOUR), 1, max_sleep=1.0)
    try:
        with bucket:
            return True
    except MaxSleepExceededError:
        return False


def by_upstash(kv: Any, url: str) -> bool:
    from upstash_ratelimit import FixedWindow as Window
    from upstash_ratelimit import Ratelimit
    from upstash_redis import Redis

    rest = Redis(url=url.replace("redis://", "http://"), token="", rest_retries=0)
    return bool(Ratelimit(rest, Window(1, HOUR)).limit("ann").allowed)


def by_slowapi(kv: Any, url: str) -> bool:
    from slowapi import Limiter
    from slowapi.errors import RateLimitExceeded
    from starlette.applications import Starlette
    from starlette.requests import Request

    app = Starlette()
    app.state.limiter = limiter = Limiter(key_func=lambda request: "ann", storage_uri=url)

    @limiter.limit("1/hour")  # type: ignore[untyped-decorator]
    def page(request: Request) -> str:
        return "a page"

    facts = {"type": "http", "app": app, "method": "GET", "path": "/", "query_string": b""}
    try:
        page(request=Request({**facts, "headers": []}))
    except RateLimitExceeded:
        return False
    return True


def by_kvlab(kind: Any, **rule: Any) -> Client:
    def hit(kv: Any, url: str) -> bool:
        return bool(kv.run(kind("api", **rule).hit("ann")).allowed)

    return hit


def naively(kind: Any) -> Client:
    def hit(kv: Any, url: str) -> bool:
        return bool(kind(kv, limit=1).check("ann"))

    return hit


def _library(name: str, package: str, hit: Client, *modules: str) -> Library:
    return Library(LIMITER, name, package, (hit, hit), modules, expected=("StoreUnavailableError",))


LIMITERS = (
    _library("tutorial, fixed window", "", naively(NaiveFixedWindow)),
    _library("tutorial, sliding window", "", naively(NaiveSlidingWindow)),
    _library("limits, fixed window", "limits", by_limits("FixedWindowRateLimiter"), "limits"),
    _library("limits, moving window", "limits", by_limits("MovingWindowRateLimiter"), "limits"),
    _library(
        "limits, sliding counter", "limits", by_limits("SlidingWindowCounterRateLimiter"), "limits"
    ),
    _library("slowapi", "slowapi", by_slowapi, "slowapi"),
    *(
        _library(f"throttled-py, {kind}", "throttled-py", by_throttled(kind), "throttled")
        for kind in ("fixed_window", "sliding_window", "token_bucket", "leaking_bucket", "gcra")
    ),
    _library("pyrate-limiter", "pyrate-limiter", by_pyrate, "pyrate_limiter"),
    _library(
        "pyrate-limiter, its leak thread", "pyrate-limiter", by_pyrate_with_its_thread,
        "pyrate_limiter",
    ),
    _library(
        "asyncio-redis-rate-limit", "asyncio-redis-rate-limit", by_asyncio_redis_rate_limit,
        "asyncio_redis_rate_limit",
    ),
    _library("ratelimit-io", "ratelimit-io", by_ratelimit_io, "ratelimit_io"),
    _library("huey RateLimit", "huey", by_huey, "huey"),
    _library("walrus RateLimit", "walrus", by_walrus(script=False), "walrus"),
    _library("walrus RateLimitLua", "walrus", by_walrus(script=True), "walrus"),
    _library("dramatiq window", "dramatiq", by_dramatiq, "dramatiq.rate_limits.backends"),
    _library(
        "redis-rate-limiters bucket", "redis-rate-limiters", by_redis_rate_limiters, "limiters"
    ),
    replace(
        _library("upstash-ratelimit", "upstash-ratelimit", by_upstash, "upstash_ratelimit"),
        undriven="it speaks HTTP, and the explorer steps the connections of redis-py",
    ),
    _library("kvlab FixedWindow", "", by_kvlab(FixedWindow, limit=1, window=HOUR)),
    _library("kvlab SlidingWindowLog", "", by_kvlab(SlidingWindowLog, limit=1, window=HOUR)),
    _library(
        "kvlab SlidingWindowCounter", "", by_kvlab(SlidingWindowCounter, limit=1, window=HOUR)
    ),
    _library("kvlab TokenBucket", "", by_kvlab(TokenBucket, limit=1, window=HOUR)),
)  # fmt: skip
