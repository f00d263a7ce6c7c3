"""How long a waiter waits after the holder of a lock has begun its release.

Not promised: a wake-up without the time that the threads of this interpreter add to it. Compare
locks that were measured in one run.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pandas as pd
import redis

from kvlab import Kv, Lock, NaiveLock
from kvlab.chapters.distributed_lock.stays import AT_MOST, MakeLock
from kvlab.core.checks import real, whole
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.measure.turns import orders

POLLING = 0.1
"""Seconds that a polling waiter sleeps: redis-py's default, and ours around the naive lock."""
QUICK = 0.001
"""Seconds that redis-py's waiter sleeps when a program asks it to hurry: the other fair setting."""
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
    release meets a polling waiter at any point of the waiter's sleep. Each turn draws from a part
    of its own, of ``turns`` equal parts, so that no seed has all its releases late in the sleep.
    The locks have a random order within a turn. One turn of each lock comes before and is not
    counted.

    A row for each turn of each lock. Columns: ``lock``; ``ms`` from release to entry, at least
    ``SHORTEST``; ``violation``, whether the waiter was inside before the holder had begun its
    release; ``label``, the lock's name and the number of its violations.
    """
    whole("turns", turns, 1)
    low = real("stay", stay[0], 0)
    high = real("stay", stay[1], 0)
    drawn = orders(locks, seed)
    rows = []
    with ThreadPoolExecutor(1) as pool:
        for turn, seconds in enumerate([low, *spread_stays(turns, low, high, seed)]):
            for name in next(drawn) if turn else locks:
                wait = _one_wait(pool, locks[name], seconds)
                if turn:
                    rows.append((name, max(wait * 1e3, SHORTEST), wait < 0))
    frame = pd.DataFrame(rows, columns=["lock", "ms", "violation"])
    violations = frame.groupby("lock")["violation"].sum()
    labels = {name: f"{name}\n{violations[name]} violations in {turns} turns" for name in locks}
    order = frame["lock"].map([*locks].index)
    frame = frame.iloc[order.argsort(kind="stable")].reset_index(drop=True)
    return frame.assign(label=frame["lock"].map(labels))


def spread_stays(turns: int, low: float, high: float, seed: int) -> list[float]:
    """A random stay out of each of ``turns`` equal parts of ``low``…``high``, in random order."""
    draw = random.Random(seed)
    parts = draw.sample(range(turns), turns)
    return [low + (high - low) * (part + draw.random()) / turns for part in parts]


def finding(woken: pd.DataFrame) -> str:
    """The median waits of :func:`four_locks`: woken, and after redis-py's usual sleep.

    The poll of 1 ms is left to the chart: ten turns do not tell its wait from a woken one.
    """
    median = woken.groupby("lock")["ms"].median()
    return (
        f"A woken waiter waits {median['hardened']:.1f} ms, "
        f"redis-py's waiter {median['redis-py Lock']:.0f} ms"
    )


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


def four_locks(kv: Kv, lock: Lock, *, turns: int, seed: int) -> pd.DataFrame:
    """:func:`wake_ups` of the naive lock in a polling loop, of redis-py's lock, and of ``lock``.

    redis-py's lock comes twice: as it is, and with a waiter that asks every millisecond.
    """
    naive = NaiveLock(kv.client, kv.prefix)
    locks: dict[str, MakeLock] = {
        "naive": lambda: polling(
            lambda: naive.acquire("wake"), lambda token: naive.release("wake", token), every=POLLING
        ),
        "redis-py Lock": lambda: kv.client.lock(f"{kv.prefix}peer", timeout=10, sleep=POLLING),
        "redis-py, 1 ms": lambda: kv.client.lock(f"{kv.prefix}peer", timeout=10, sleep=QUICK),
        "hardened": lambda: kv.hold(lock),
    }
    return wake_ups(locks, turns=turns, seed=seed)


def commands_while_waiting(url: str, prefix: str, lock: Lock, *, seconds: float) -> pd.DataFrame:
    """The commands of a waiter of ``lock`` and of two of redis-py's lock, counted by a proxy.

    redis-py's waiters ask every ``POLLING`` and every ``QUICK`` seconds, for a lock each. All wait
    while another client holds the locks for ``seconds``. The counts include the command that takes
    the lock.
    """
    slow, quick = f"{prefix}peer", f"{prefix}quick peer"
    waiters: dict[str, tuple[Callable[[redis.Redis], object], tuple[str, ...]]] = {
        "kvlab": (
            lambda client: Kv(client, prefix=prefix).run(lock.acquire(wait=30)),
            ("EVALSHA", "BLPOP"),
        ),
        "redis-py": (lambda c: c.lock(slow, timeout=10, sleep=POLLING).acquire(), ("SET",)),
        "redis-py, 1 ms": (lambda c: c.lock(quick, timeout=10, sleep=QUICK).acquire(), ("SET",)),
    }
    proxies: dict[str, Proxy] = {}
    asked: dict[str, Future[object]] = {}
    with ExitStack() as stack, redis.Redis.from_url(url) as holder:
        pool = stack.enter_context(ThreadPoolExecutor(len(waiters)))
        holding = Kv(holder, prefix=prefix)
        with holding.hold(lock), holder.lock(slow, timeout=10), holder.lock(quick, timeout=10):
            for name, (wait, _) in waiters.items():
                proxies[name] = stack.enter_context(Proxy(url))
                client = stack.enter_context(redis.Redis.from_url(proxies[name].url))
                asked[name] = pool.submit(wait, client)
            time.sleep(seconds)
        rows = [
            (name, bool(asked[name].result()), _counts(proxies[name], *commands))
            for name, (_, commands) in waiters.items()
        ]
    return pd.DataFrame(rows, columns=["waiter of", "came in", "sent"]).set_index("waiter of")


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
