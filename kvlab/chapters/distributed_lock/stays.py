"""Many clients and one lock: which client was inside when.

A ``Stay`` begins when its client has the lock and ends just before its client gives the lock back,
on the monotonic clock of this process. Two stays overlap only when both clients were inside,
whatever the server says. Any context manager counts as a lock, ``nullcontext`` too.

Not promised: stays of clients in other processes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import redis

from kvlab import Kv, Lock
from kvlab.core.checks import whole

MakeLock = Callable[[], AbstractContextManager[Any]]
AT_MOST = 30.0
"""Seconds that a thread waits for the others to start."""


@dataclass(frozen=True, slots=True)
class Stay:
    """One client's wait and stay, in seconds since the first client asked for the lock.

    ``held`` is what the client's ``with`` statement gave it.
    """

    asked: float
    began: float
    ended: float
    held: Any = None


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients that each added one to a number: their stays, and the number at the end."""

    stays: tuple[Stay, ...]
    number: int

    @property
    def most_inside(self) -> int:
        """The largest number of clients that were inside at the same moment."""
        return most_inside(self.stays)


def without_lock(kv: Kv, *, clients: int) -> Crowd:
    """The worst case without a lock: every client has read the number before any client writes."""
    all_have_read = threading.Barrier(whole("clients", clients, 1, 1024))
    return _add_up(kv, clients, nullcontext, lambda: all_have_read.wait(AT_MOST))


def under_lock(kv: Kv, lock: Lock, *, clients: int) -> Crowd:
    """Every client adds one while it holds the lock."""
    return _add_up(kv, clients, lambda: kv.hold(lock), lambda: None)


def _add_up(kv: Kv, clients: int, make: MakeLock, between: Callable[[], object]) -> Crowd:
    key = f"{kv.prefix}number"
    kv.client.set(key, 0, ex=60)
    stays = stays_of(clients, make, lambda _: add_one(kv.client, key, between))
    number: Any = kv.client.get(key)
    return Crowd(tuple(stays), int(number))


def stays_of(n: int, make: MakeLock, body: Callable[[Any], object]) -> list[Stay]:
    """Run ``with make() as held: body(held)`` in ``n`` threads at once; stays in order of entry.

    Each thread first takes the lock once without a body. That visit opens the thread's connection
    and is not in the result. Raises what a thread raises.
    """
    ready = threading.Barrier(whole("n", n, 1, 1024))

    def visit() -> Stay:
        ready.wait(AT_MOST)
        with make():
            pass
        ready.wait(AT_MOST)
        asked = time.perf_counter()
        with make() as held:
            began = time.perf_counter()
            body(held)
            ended = time.perf_counter()
        return Stay(asked, began, ended, held)

    with ThreadPoolExecutor(n) as pool:
        stays = [future.result() for future in [pool.submit(visit) for _ in range(n)]]
    first = min(stay.asked for stay in stays)
    counted = [
        replace(stay, asked=stay.asked - first, began=stay.began - first, ended=stay.ended - first)
        for stay in stays
    ]
    return sorted(counted, key=lambda stay: stay.began)


def most_inside(stays: Iterable[Stay]) -> int:
    """The largest number of clients that were inside at the same moment."""
    moves = sorted(move for stay in stays for move in ((stay.began, 1), (stay.ended, -1)))
    inside = most = 0
    for _, step in moves:  # at equal times, the clients that leave come first
        inside += step
        most = max(most, inside)
    return most


def add_one(client: redis.Redis, key: str, between: Callable[[], object]) -> None:
    """Read a number and write back the number plus one, in two commands.

    ``between`` is called after the read and before the write.
    """
    number: Any = client.get(key)
    between()
    client.set(key, int(number) + 1, ex=60)
