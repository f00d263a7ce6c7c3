"""Locks: two clients try to enter one room. Who can be told not to wait is told so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import redis
import redis.asyncio

from benchmarks.libraries.caches import django_redis_cache
from benchmarks.libraries.promises import (
    LOCK,
    Client,
    Library,
    aconnected,
    connected,
    elsewhere,
    enter_and_leave,
)
from kvlab import Lock as KvlabLock
from kvlab.distributed_lock import NaiveLock

TTL = 30


def by_tutorial(kv: Any, url: str) -> bool:
    lock = NaiveLock(kv)
    token = lock.acquire("door", timeout=TTL)
    if token is None:
        return False
    enter_and_leave()
    lock.release("door", token)
    return True


def by_redis_py(kv: Any, url: str) -> bool:
    lock = connected(url).lock("door", timeout=TTL, blocking=False)
    if not lock.acquire():
        return False
    enter_and_leave()
    lock.release()
    return True


async def by_redis_py_async(kv: Any, url: str) -> bool:
    lock = aconnected(url).lock("door", timeout=TTL, blocking=False)
    if not await lock.acquire():
        return False
    enter_and_leave()
    await lock.release()
    return True


def by_python_redis_lock(kv: Any, url: str) -> bool:
    import redis_lock

    lock = redis_lock.Lock(connected(url), "door", expire=TTL)
    if not lock.acquire(blocking=False):
        return False
    enter_and_leave()
    lock.release()
    return True


def by_redlock_py(kv: Any, url: str) -> bool:
    import redlock

    locks = redlock.Redlock([url], retry_count=1)
    held = locks.lock("door", TTL * 1000)
    if not held:
        return False
    enter_and_leave()
    locks.unlock(held)
    return True


def by_sherlock(kv: Any, url: str) -> bool:
    import sherlock

    lock = sherlock.RedisLock("door", client=connected(url), expire=TTL)
    if not lock.acquire(blocking=False):
        return False
    enter_and_leave()
    lock.release()
    return True


def by_pottery(kv: Any, url: str) -> bool:
    from pottery import Redlock

    lock = Redlock(key="door", masters={connected(url)}, auto_release_time=TTL)
    if not lock.acquire(blocking=False):
        return False
    enter_and_leave()
    lock.release()
    return True


def by_walrus(kv: Any, url: str) -> bool:
    import walrus

    database = walrus.Database(connection_pool=redis.ConnectionPool.from_url(url))
    lock = database.lock("door", ttl=TTL * 1000)
    if not lock.acquire(block=False):
        return False
    enter_and_leave()
    lock.release()
    return True


async def by_aiocache(kv: Any, url: str) -> bool:
    from aiocache import Cache
    from aiocache.lock import RedLock

    async with RedLock(Cache.from_url(url), "door", lease=2):
        enter_and_leave()
    return True


async def by_cashews(kv: Any, url: str) -> bool:
    from cashews import Cache

    cache = Cache()
    cache.setup(url, client_side=False)
    token = "mine" + str(id(cache))
    if not await cache.set_lock("door", token, expire=TTL):
        return False
    enter_and_leave()
    await cache.unlock("door", token)
    return True


def by_django_redis(kv: Any, url: str) -> bool:
    lock = django_redis_cache(url).lock("door", timeout=TTL, blocking=False)
    if not lock.acquire():
        return False
    enter_and_leave()
    lock.release()
    return True


def by_huey(kv: Any, url: str) -> bool:
    from huey import RedisHuey
    from huey.exceptions import TaskLockedException

    try:
        with RedisHuey("app", url=url).lock_task("door"):
            enter_and_leave()
    except TaskLockedException:
        return False
    return True


def by_dramatiq(kv: Any, url: str) -> bool:
    from dramatiq.rate_limits import ConcurrentRateLimiter
    from dramatiq.rate_limits.backends import RedisBackend

    mutex = ConcurrentRateLimiter(RedisBackend(url=url), "door", limit=1, ttl=TTL * 1000)
    with mutex.acquire(raise_on_failure=False) as acquired:
        if acquired:
            enter_and_leave()
        return bool(acquired)


def by_redis_semaphore(kv: Any, url: str) -> bool:
    from redis_semaphore import NotAvailable, Semaphore

    semaphore = Semaphore(connected(url), count=1, namespace="door", blocking=False)
    try:
        semaphore.acquire()
    except NotAvailable:
        return False
    enter_and_leave()
    semaphore.release()
    return True


def by_redis_rate_limiters(kv: Any, url: str) -> bool:
    from limiters import SyncSemaphore

    with SyncSemaphore(connected(url), "door", 1, max_sleep=2):
        enter_and_leave()
    return True


def by_kvlab(kv: Any, url: str) -> bool:
    lock = KvlabLock("door", ttl=TTL)
    held = kv.run(lock.try_acquire())
    if held is None:
        return False
    enter_and_leave()
    kv.run(lock.release(held))
    return True


def _library(name: str, package: str, client: Client, *modules: str, says: str = "") -> Library:
    return Library(LOCK, name, package, (client, client), modules, expected=tuple(says.split()))


LOCKS = (
    _library("tutorial, SETNX lock", "", by_tutorial),
    _library("redis-py Lock", "redis", by_redis_py, says="LockNotOwnedError LockError"),
    _library("redis-py Lock, asyncio", "redis", by_redis_py_async,
             says="LockNotOwnedError LockError"),
    _library("python-redis-lock", "python-redis-lock", by_python_redis_lock, "redis_lock",
             says="NotAcquired"),
    _library("redlock-py", "redlock-py", by_redlock_py, "redlock", says="MultipleRedlockException"),
    _library("sherlock", "sherlock", by_sherlock, "sherlock", says="LockException"),
    _library("pottery Redlock", "pottery", by_pottery, "pottery",
             says="ReleaseUnlockedLock QuorumIsImpossible"),
    _library("walrus Lock", "walrus", by_walrus, "walrus"),
    _library("aiocache RedLock", "aiocache", by_aiocache, "aiocache.lock"),
    _library("cashews set_lock", "cashews", by_cashews, "cashews"),
    _library("django-redis lock", "django-redis", by_django_redis, "django_redis.cache",
             says="LockNotOwnedError LockError"),
    _library("huey lock_task", "huey", by_huey, "huey"),
    _library("dramatiq concurrent", "dramatiq", by_dramatiq, "dramatiq.rate_limits.backends"),
    _library("redis-semaphore", "redis-semaphore", by_redis_semaphore, "redis_semaphore"),
    _library("redis-rate-limiters semaphore", "redis-rate-limiters", by_redis_rate_limiters,
             "limiters", says="MaxSleepExceededError"),
    replace(
        _library("redbeat's lock of Beat", "celery-redbeat", elsewhere),
        undriven="Celery needs python-dateutil below 3, and the workbook has 4; the lock is "
        "redis-py's Lock, with a script of its own that renews it",
    ),
    _library("kvlab Lock", "", by_kvlab),
)  # fmt: skip
