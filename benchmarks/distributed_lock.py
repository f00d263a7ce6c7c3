"""What a lock costs without contention, and how long a waiter waits after a release.

Woken: one holder and N waiters in threads. Each waiter takes the lock and gives it back. The
measure is the median of the seconds from a release to the next acquire. redis-py's waiter asks
every 100 ms by default. It is also measured with a poll of 1 ms, which costs the server a command
for each waiter and millisecond.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import redis

from kvlab import Held, Lock, Script
from kvlab.bench import Bench, Case, Measure, Peer
from kvlab.bench.case import BARE
from kvlab.core.wire import encode

WAITERS = (1, 10)
TTL = 30
QUICK = 0.001
"""Seconds between two questions of a redis-py waiter that is in a hurry."""
NO_FENCE = "has no fence"

MakeLock = Callable[[], AbstractContextManager[Any]]
"""Makes a context manager that waits for the lock; a new one for each thread."""
Lockers = Iterator[tuple[str, str, str, MakeLock]]
"""The peer's name, its package, what it does less, its lock."""


def cases(bench: Bench) -> Iterator[Case]:
    """Uncontended, then woken."""
    kv = bench.kv
    client = redis.Redis.from_url(bench.peer_url)
    bench.stack.callback(client.close)
    by_hand = Peer(bench.calls(raw(bench)), "redis")
    ours = bench.calls(pair(bench))
    what = "taken and given back by one client, nobody waits"
    yield Case("two ops", what, ours, {"the same scripts by redis-py": by_hand})
    others, lock = [*redis_py(bench, client)], Lock("held", TTL)
    others += bench.installed(lambda bench: redis_lock(bench, client))

    def hold() -> AbstractContextManager[Any]:
        return kv.hold(lock, wait=TTL)

    peers = {
        name: Peer(bench.calls(entered(make)), package, less)
        for name, package, less, make in others
    }
    peers[BARE] = Peer(bench.calls(bare(bench)))
    yield Case("hold", what, bench.calls(entered(hold)), peers)

    def blocked() -> int:
        return int(client.info("clients")["blocked_clients"])

    for waiters in WAITERS:
        peers = {
            name: Peer(handover(make, waiters, blocked), package, less)
            for name, package, less, make in others
        }
        what = "from a release to the next acquire"
        woken = handover(hold, waiters, blocked)
        yield Case(f"hold, {waiters} waiting", what, woken, peers, long=True)


def pair(bench: Bench) -> Callable[[], None]:
    """A pair of ops, for the comparison with raw(). The peers are compared with ``kv.hold``."""
    lock, kv = Lock("bench", TTL), bench.kv

    def pair() -> None:
        held = kv.run(lock.try_acquire())
        assert held is not None
        kv.run(lock.release(held))

    return pair


def raw(bench: Bench) -> Callable[[], None]:
    """The same scripts with the same arguments by plain redis-py; only the token changes."""
    lock, client = Lock("raw", TTL), bench.kv.client
    evalsha: Any = client.evalsha
    taking = lock.try_acquire()
    token = next(arg for arg in taking.args if isinstance(arg, str))
    lines = []
    for op in (taking, lock.release(Held(token, 1))):
        assert isinstance(op.command, Script)
        client.script_load(op.command.source)
        lines.append(encode(op, bench.kv.prefix)[1:])
    numbers = itertools.count()

    def pair() -> None:
        new = f"{next(numbers):032d}"
        for line in lines:
            evalsha(
                *(a.replace(token, new) if isinstance(a, str) and token in a else a for a in line)
            )

    return pair


def bare(bench: Bench) -> Callable[[], None]:
    """The same scripts, packed beforehand; only the token changes."""
    lock, token, numbers = Lock("bare", TTL), "0" * 32, itertools.count(1)
    taking = lock.try_acquire()
    drawn = next(arg for arg in taking.args if isinstance(arg, str))
    requests = [
        bench.packed(op).replace(drawn.encode(), token.encode())
        for op in (taking, lock.release(Held(drawn, 1)))
    ]
    ask = bench.bare()

    def pair() -> None:
        new = b"%032d" % next(numbers)
        taken, given_back = (ask(request.replace(token.encode(), new)) for request in requests)
        assert taken[0] == given_back == 1

    return pair


def redis_py(bench: Bench, client: redis.Redis) -> Lockers:
    """redis-py's own lock, as it is and in a hurry."""
    key = f"{bench.kv.prefix}redis-py"
    yield "redis-py Lock", "redis", NO_FENCE, lambda: client.lock(key, timeout=TTL)

    quick = partial(client.lock, f"{key} quick", timeout=TTL, sleep=QUICK)
    yield f"redis-py Lock, a poll of {QUICK * 1e3:g} ms", "", NO_FENCE, quick


def redis_lock(bench: Bench, client: redis.Redis) -> Lockers:
    """python-redis-lock, which wakes its waiters."""
    import redis_lock

    def make() -> AbstractContextManager[Any]:
        lock: AbstractContextManager[Any] = redis_lock.Lock(client, bench.kv.prefix, expire=TTL)
        return lock

    yield "python-redis-lock", "python-redis-lock", NO_FENCE, make


def entered(make: MakeLock) -> Callable[[], None]:
    """Take the lock and give it back."""

    def pair() -> None:
        with make():
            pass

    return pair


def handover(make: MakeLock, waiters: int, blocked: Callable[[], int]) -> Measure:
    """Median seconds from a release to the next acquire; ``blocked``: clients in BLPOP."""

    def measure() -> list[float]:
        released, waits, about = 0.0, list[float](), threading.Barrier(waiters + 1)

        def wait() -> None:
            nonlocal released
            about.wait()
            with make():
                waits.append(time.perf_counter() - released)
                released = time.perf_counter()

        threads = [threading.Thread(target=wait) for _ in range(waiters)]
        for thread in threads:
            thread.start()
        before = blocked()
        with make():
            about.wait()
            # A waiter that polls never blocks: all waiters get the same time to settle.
            until = time.perf_counter() + 0.15
            while blocked() < before + waiters and time.perf_counter() < until:
                time.sleep(0.005)
            released = time.perf_counter()
        for thread in threads:
            thread.join()
        return [statistics.median(waits)]

    return measure
