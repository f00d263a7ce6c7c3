"""Caches before a database, whose one row is a key of the same server."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import redis

from benchmarks.libraries.promises import FRESH, LOAD, Client, Library, connected
from kvlab import CacheAside
from kvlab.cache_aside import NaiveCacheAside

TTL = 60
Load = Callable[[], str]
Reader = Callable[[Any, str, Load], Any]
"""Reads the row through the cache; what it does on a miss is up to the library."""
Forgetter = Callable[[Any, str], Any]
"""Invalidates the row in the cache."""


def first_row(kv: Any) -> None:
    kv.set("row", "v0")


def reads(read: Reader) -> Client:
    """A reader of a cold key: the value, and how often it was loaded for this reader."""

    @functools.wraps(read)
    def reader(kv: Any, url: str) -> tuple[Any, int]:
        loads = []

        def load() -> str:
            loads.append(1)
            return str(kv.get("row").decode())

        return read(kv, url, load), len(loads)

    return reader


def writes(forget: Forgetter) -> Client:
    """A writer of the row, who invalidates the cache."""

    @functools.wraps(forget)
    def writer(kv: Any, url: str) -> bool:
        kv.set("row", "v1")
        forget(kv, url)
        return True

    return writer


# --- synchronous ---


def by_tutorial(kv: Any, url: str, load: Load) -> Any:
    return NaiveCacheAside(kv, ttl=TTL).get("row", load)


def tutorial_forgets(kv: Any, url: str) -> None:
    NaiveCacheAside(kv, ttl=TTL).invalidate("row")


def _dogpile(url: str) -> Any:
    from dogpile.cache import make_region

    return make_region().configure(
        "dogpile.cache.redis",
        arguments={
            "url": url, "redis_expiration_time": TTL, "distributed_lock": True,
            "thread_local_lock": False, "lock_timeout": 2, "lock_sleep": 0.5,
        },
    )  # fmt: skip


def by_dogpile(kv: Any, url: str, load: Load) -> Any:
    return _dogpile(url).get_or_create("cached", load)


def dogpile_forgets(kv: Any, url: str) -> None:
    _dogpile(url).delete("cached")


def _cachelib(url: str) -> Any:
    from cachelib import RedisCache

    return RedisCache(connected(url), key_prefix="c:")


def by_cachelib(kv: Any, url: str, load: Load) -> Any:
    cache = _cachelib(url)
    if (found := cache.get("cached")) is None:
        found = load()
        cache.set("cached", found, timeout=TTL)
    return found


def cachelib_forgets(kv: Any, url: str) -> None:
    _cachelib(url).delete("cached")


def _flask_caching(url: str) -> Any:
    from flask import Flask
    from flask_caching import Cache

    app = Flask("app")
    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url})
    return app, cache


def by_flask_caching(kv: Any, url: str, load: Load) -> Any:
    app, cache = _flask_caching(url)
    with app.app_context():
        return cache.cached(timeout=TTL, key_prefix="cached")(load)()


def flask_caching_forgets(kv: Any, url: str) -> None:
    app, cache = _flask_caching(url)
    with app.app_context():
        cache.delete("cached")


def django_redis_cache(url: str) -> Any:
    """Its cache, without a project around it."""
    from django.conf import settings
    from django_redis.cache import RedisCache

    if not settings.configured:
        settings.configure()
    return RedisCache(url, {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"}})


def by_django_redis(kv: Any, url: str, load: Load) -> Any:
    return django_redis_cache(url).get_or_set("cached", load, timeout=TTL)


def django_redis_forgets(kv: Any, url: str) -> None:
    django_redis_cache(url).delete("cached")


def by_walrus(kv: Any, url: str, load: Load) -> Any:
    import walrus

    database = walrus.Database(connection_pool=redis.ConnectionPool.from_url(url))
    cache = database.cache(name="c", default_timeout=TTL)
    return cache.cached(key_fn=lambda *_: "cached")(load)()


def walrus_forgets(kv: Any, url: str) -> None:
    import walrus

    database = walrus.Database(connection_pool=redis.ConnectionPool.from_url(url))
    database.cache(name="c").delete("cached")


CACHED = CacheAside("rows", ttl=TTL)


def by_kvlab(kv: Any, url: str, load: Load) -> Any:
    return kv.run(CACHED.fetch("row", load))


def kvlab_forgets(kv: Any, url: str) -> None:
    kv.run(CACHED.invalidate("row"))


# --- on asyncio ---


def areads(read: Reader) -> Client:
    @functools.wraps(read)
    async def reader(kv: Any, url: str) -> tuple[Any, int]:
        loads = []

        async def load() -> str:
            loads.append(1)
            return str((await kv.get("row")).decode())

        return await read(kv, url, load), len(loads)  # type: ignore[arg-type]

    return reader


def awrites(forget: Forgetter) -> Client:
    @functools.wraps(forget)
    async def writer(kv: Any, url: str) -> bool:
        await kv.set("row", "v1")
        await forget(kv, url)
        return True

    return writer


async def by_aiocache(kv: Any, url: str, load: Load) -> Any:
    from aiocache import Cache, cached
    from aiocache.serializers import StringSerializer

    cache = Cache.from_url(url)
    decorated = cached(ttl=TTL, key="cached", cache=Cache.REDIS, serializer=StringSerializer())
    decorated.cache = cache
    return await decorated.decorator(load)


async def by_aiocache_stampede(kv: Any, url: str, load: Load) -> Any:
    from aiocache import Cache, cached_stampede

    decorated = cached_stampede(lease=2, ttl=TTL, key="cached", cache=Cache.REDIS)
    decorated.cache = Cache.from_url(url)
    return await decorated.decorator(load)


async def aiocache_forgets(kv: Any, url: str) -> None:
    from aiocache import Cache

    await Cache.from_url(url).delete("cached")


def _cashews(url: str) -> Any:
    from cashews import Cache

    cache = Cache()
    cache.setup(url, client_side=False)
    return cache


async def by_cashews(kv: Any, url: str, load: Load) -> Any:
    return await _cashews(url).cache(ttl=TTL, key="cached")(load)()


async def by_cashews_locked(kv: Any, url: str, load: Load) -> Any:
    cache = _cashews(url)
    return await cache.locked(key="cached", ttl=1, check_interval=0.5)(
        cache.cache(ttl=TTL, key="cached")(load)
    )()


async def cashews_forgets(kv: Any, url: str) -> None:
    await _cashews(url).delete("cached")


# (name, package, reads, invalidates, on asyncio, whether one load is promised, modules)
_ALL: tuple[tuple[str, str, Any, Any, bool, bool, str], ...] = (
    ("tutorial, cache-aside", "", by_tutorial, tutorial_forgets, False, True, ""),
    ("dogpile.cache", "dogpile.cache", by_dogpile, dogpile_forgets, False, True,
     "dogpile.cache.backends.redis"),
    ("cachelib", "cachelib", by_cachelib, cachelib_forgets, False, False, "cachelib"),
    ("flask-caching", "flask-caching", by_flask_caching, flask_caching_forgets, False, False,
     "flask_caching.backends.rediscache"),
    ("django-redis get_or_set", "django-redis", by_django_redis, django_redis_forgets, False,
     False, "django_redis.cache"),
    ("walrus cache", "walrus", by_walrus, walrus_forgets, False, False, "walrus"),
    ("aiocache cached", "aiocache", by_aiocache, aiocache_forgets, True, False, "aiocache"),
    ("aiocache cached_stampede", "aiocache", by_aiocache_stampede, aiocache_forgets, True, True,
     "aiocache"),
    ("cashews cache", "cashews", by_cashews, cashews_forgets, True, False, "cashews"),
    ("cashews locked", "cashews", by_cashews_locked, cashews_forgets, True, True, "cashews"),
    ("kvlab CacheAside", "", by_kvlab, kvlab_forgets, False, True, ""),
)  # fmt: skip


def _libraries(one: tuple[str, str, Any, Any, bool, bool, str]) -> list[Library]:
    name, package, read, forget, on_asyncio, promises_one_load, modules = one
    reader = areads(read) if on_asyncio else reads(read)
    writer = awrites(forget) if on_asyncio else writes(forget)
    names = tuple(modules.split())
    found = [Library(FRESH, name, package, (reader, writer), names, first_row)]
    if promises_one_load:
        found.append(Library(LOAD, name, package, (reader, reader), names, first_row))
    return found


CACHES = tuple(library for one in _ALL for library in _libraries(one))
