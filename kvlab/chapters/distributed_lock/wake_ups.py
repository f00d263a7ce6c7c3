"""How long a waiter waits after the holder of a lock has begun its release.

Not promised: a wake-up without the time that the threads of this interpreter add to it. Compare
locks that were measured in one run.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pandas as pd
import redis

from kvlab import Kv, Lock, NaiveLock
from kvlab.chapters.distributed_lock.stays import AT_MOST, MakeLock
from kvlab.core.checks import real, whole
from kvlab.instruments.faults.proxy import Proxy

POLLING = 0.1
"""Seconds that a polling waiter sleeps: redis-py's default, and ours around the naive lock."""
SHORTEST = 0.01
"""Milliseconds: a waiter that did not wait has this wait, since a log axis has no 0."""


def wake_ups(
    locks: Mapping[str, MakeLock],
    *,
    turns: int,
    seed: int,
    stay: tuple[float, float] = (0.05, 0.15),
) -> pd.DataFrame:
    """Let one client hold each lock while another waits, ``turns`` times; the locks take turns.

    The holder stays for a random time (seconds) between the two numbers of ``stay``, so that its
    release meets a polling waiter at any point of the waiter's sleep. One turn of each lock comes
    before and is not counted.

    A row for each turn of each lock. Columns: ``lock``; ``ms`` from release to entry, at least
    ``SHORTEST``; ``violation``, whether the waiter was inside before the holder had begun its
    release; ``label``, the lock's name and the number of its violations.
    """
    whole("turns", turns, 1)
    low = real("stay", stay[0], 0)
    high = real("stay", stay[1], 0)
    draw = random.Random(seed)
    rows = []
    with ThreadPoolExecutor(1) as pool:
        for turn in range(1 + turns):
            seconds = draw.uniform(low, high)
            for name, make in locks.items():
                wait = _one_wait(pool, make, seconds)
                if turn:
                    rows.append((name, max(wait * 1e3, SHORTEST), wait < 0))
    frame = pd.DataFrame(rows, columns=["lock", "ms", "violation"])
    violations = frame.groupby("lock")["violation"].sum()
    labels = {name: f"{name}\n{violations[name]} violations in {turns} turns" for name in locks}
    return frame.assign(label=frame["lock"].map(labels))


def _one_wait(pool: ThreadPoolExecutor, make: MakeLock, stay: float) -> float:
    """Seconds from the release to the entry; negative when the waiter did not wait."""
    asking = threading.Event()

    def enter() -> float:
        asking.set()
        with make():
            return time.perf_counter()

    with make():
        entry = pool.submit(enter)
        asking.wait(AT_MOST)
        time.sleep(stay)
        released = time.perf_counter()
    return entry.result() - released


def three_locks(kv: Kv, lock: Lock, *, turns: int, seed: int) -> pd.DataFrame:
    """:func:`wake_ups` of the naive lock in a polling loop, of redis-py's lock and of ``lock``."""
    naive = NaiveLock(kv.client, kv.prefix)
    locks: dict[str, MakeLock] = {
        "naive": lambda: polling(
            lambda: naive.acquire("wake"), lambda token: naive.release("wake", token), every=POLLING
        ),
        "redis-py Lock": lambda: kv.client.lock(f"{kv.prefix}peer", timeout=10, sleep=POLLING),
        "hardened": lambda: kv.hold(lock),
    }
    return wake_ups(locks, turns=turns, seed=seed)


def commands_while_waiting(url: str, prefix: str, lock: Lock, *, seconds: float) -> pd.DataFrame:
    """The commands of one waiter of ``lock`` and of one of redis-py's lock, counted by a proxy.

    Both wait while another client holds the locks for ``seconds``. The counts include the command
    that takes the lock.
    """
    peer = f"{prefix}peer"
    with (
        Proxy(url) as proxy,
        redis.Redis.from_url(url) as holder,
        redis.Redis.from_url(proxy.url) as waiter,
        ThreadPoolExecutor(2) as pool,
    ):
        holding, waiting = Kv(holder, prefix=prefix), Kv(waiter, prefix=prefix)
        with holding.hold(lock), holder.lock(peer, timeout=10):
            ours = pool.submit(waiting.run, lock.acquire(wait=30))
            theirs = pool.submit(waiter.lock(peer, timeout=10, sleep=POLLING).acquire)
            time.sleep(seconds)
        came_in = [ours.result() is not None, theirs.result()]
        kvlab_sent = _counts(proxy, "EVALSHA", "BLPOP")
        redis_py_sent = _counts(proxy, "SET")
    frame = pd.DataFrame({"waiter of": ["kvlab", "redis-py"], "sent": [kvlab_sent, redis_py_sent]})
    return frame.assign(**{"came in": came_in}).set_index("waiter of")


def _counts(proxy: Proxy, *names: str) -> str:
    return ", ".join(f"{proxy.commands.count(name)} {name}" for name in names)


@contextmanager
def polling(
    acquire: Callable[[], Any], release: Callable[[Any], object], *, every: float
) -> Iterator[Any]:
    """A loop that waits for a lock without a wait: try, sleep ``every`` seconds, try again."""
    while (token := acquire()) is None:
        time.sleep(every)
    try:
        yield token
    finally:
        release(token)
