"""What a lock costs without contention, and how long a waiter waits after a release.

``python -m benchmarks.distributed_lock``: a private Valkey. Uncontended: one client in a
closed loop, ratios of times measured in turns; below 1, kvlab is quicker. Woken: one holder and N
waiters in threads. Each waiter takes the lock and gives it back. The measure is the median of the
seconds from a release to the next acquire, in turns as above.

redis-py's waiter asks every 100 ms by default. It is also measured with a poll of 1 ms, which costs
the server a command for each waiter and millisecond. Its lock has no fence, and it polls where
kvlab and python-redis-lock are woken. All clients have one protocol and one timeout.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import redis

from benchmarks._common import fair, mean_seconds, report
from kvlab import Held, Kv, Lock, Script
from kvlab.core.wire import encode
from kvlab.instruments import compare
from kvlab.server import engines

PAIRS, TURNS, WOKEN_TURNS = 300, 15, 7
WAITERS = (1, 10)
TTL = 30
QUICK = 0.001
"""Seconds between two questions of a redis-py waiter that is in a hurry."""

MakeLock = Callable[[], AbstractContextManager[Any]]
"""Makes a context manager that waits for the lock; a new one for each thread."""


def ours(kv: Kv) -> Callable[[], Any]:
    """A pair of ops, for the comparison with raw(). The peers are compared with ``kv.hold``."""
    lock = Lock("bench", TTL)

    def pair() -> None:
        held = kv.run(lock.try_acquire())
        assert held is not None
        kv.run(lock.release(held))

    return pair


def raw(client: redis.Redis, kv: Kv) -> Callable[[], Any]:
    """The same scripts with the same arguments by plain redis-py; only the token changes."""
    lock = Lock("raw", TTL)
    taking = lock.try_acquire()
    token = next(arg for arg in taking.args if isinstance(arg, str))
    lines = []
    for op in (taking, lock.release(Held(token, 1))):
        assert isinstance(op.command, Script)
        client.script_load(op.command.source)
        lines.append(encode(op, kv.prefix)[1:])
    numbers = itertools.count()

    def pair() -> None:
        new = f"{next(numbers):032d}"
        for line in lines:
            client.evalsha(
                *(a.replace(token, new) if isinstance(a, str) and token in a else a for a in line)
            )

    return pair


def peers(client: redis.Redis) -> Iterator[tuple[str, MakeLock]]:
    """Name and lock of each peer that is installed."""

    def of_redis_py() -> AbstractContextManager[Any]:
        return client.lock("bench:redis-py", timeout=TTL)

    def quick() -> AbstractContextManager[Any]:
        return client.lock("bench:redis-py quick", timeout=TTL, sleep=QUICK)

    yield f"redis-py {redis.__version__} Lock", of_redis_py
    yield f"redis-py Lock, a poll of {QUICK * 1e3:g} ms", quick
    try:
        import redis_lock
    except ImportError:
        print("python-redis-lock is absent: pip install python-redis-lock")
        return

    def of_redis_lock() -> AbstractContextManager[Any]:
        lock: AbstractContextManager[Any] = redis_lock.Lock(client, "bench", expire=TTL)
        return lock

    yield f"python-redis-lock {importlib.metadata.version('python-redis-lock')}", of_redis_lock


def entered(make: MakeLock) -> Callable[[], None]:
    """Take the lock and give it back."""

    def pair() -> None:
        with make():
            pass

    return pair


def handover(make: MakeLock, waiters: int, blocked: Callable[[], int]) -> Callable[[], float]:
    """Median seconds from a release to the next acquire; ``blocked``: clients in BLPOP."""

    def measure() -> float:
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
        with make():
            about.wait()
            # A waiter that polls never blocks: all waiters get the same time to settle.
            until = time.perf_counter() + 0.15
            while blocked() < waiters and time.perf_counter() < until:
                time.sleep(0.005)
            released = time.perf_counter()
        for thread in threads:
            thread.join()
        return statistics.median(waits)

    return measure


def main() -> None:
    """Print all comparisons."""
    with (
        engines.start("valkey") as server,
        redis.Redis.from_url(fair(server.url)) as client,
        Kv(server.client()) as kv,
    ):
        print(f"valkey {server.version}; {PAIRS} pairs a turn, {TURNS} turns")
        print("\nacquire and release, uncontended")
        raw_pair = partial(mean_seconds, raw(client, kv), PAIRS)
        our_pair = partial(mean_seconds, ours(kv), PAIRS)
        report("ops / raw redis-py", compare(our_pair, raw_pair, turns=TURNS))
        others, lock = list(peers(client)), Lock("held", TTL)

        def hold() -> AbstractContextManager[Any]:
            return kv.hold(lock, wait=TTL)

        held_pair = partial(mean_seconds, entered(hold), PAIRS)
        for name, make in others:
            their_pair = partial(mean_seconds, entered(make), PAIRS)
            report(f"hold / {name}", compare(held_pair, their_pair, turns=TURNS))

        def blocked() -> int:
            return int(client.info("clients")["blocked_clients"])

        for waiters in WAITERS:
            print(f"\nfrom a release to the next acquire, {waiters} waiting")
            mine = handover(hold, waiters, blocked)
            for name, make in others:
                theirs = handover(make, waiters, blocked)
                report(f"hold / {name}", compare(mine, theirs, turns=WOKEN_TURNS))


if __name__ == "__main__":
    main()
