"""What libraries of one family promise, as an invariant over a run of two clients.

An adapter's clients get a redis-py client and the URL of the same server. What they return, and
what is left on the server, is all that a promise asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio
from redis.connection import parse_url

from kvlab.instruments import World, step

Client = Callable[[Any, str], Any]
"""One client of a library: gets a redis-py client, and the URL of its server."""

FAULTS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "crash": {"crashes": True},
    "lost reply": {"lost_replies": True},
    "lost request": {"lost_requests": True},
    "expiry": {"expiries": True},
    "clock": {"clock_jumps": [7200.0, -7200.0]},
}
"""The columns of the matrix: the faults of one run, one at most."""


@dataclass(frozen=True)
class Family:
    """``invariant`` gets the world, and a function by which a third client tries it too.

    ``inherent``: faults under which no library of this family can keep the promise, and why;
    ``meaningless``: faults that are no fault for it, and why."""

    name: str
    promise: str
    invariant: Callable[[World, Callable[[], Any]], bool]
    inherent: Mapping[str, str] = field(default_factory=dict)
    meaningless: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """``package``: its distribution, "" for kvlab's own; ``modules`` are imported before any run.

    ``expected``: exceptions by which its clients say no; ``setup`` gets a client before each run;
    ``undriven``: why the explorer cannot drive it, where that is known; such a library may be one
    that cannot be installed beside the others, and then has no adapter that is called.
    """

    family: Family
    name: str
    package: str
    clients: tuple[Client, Client]
    modules: tuple[str, ...] = ()
    setup: Callable[[Any], object] | None = None
    expected: tuple[str, ...] = ()
    undriven: str = ""


def elsewhere(kv: Any, url: str) -> Any:
    """The client of a library that cannot be installed beside the others: never called."""
    raise NotImplementedError


inside: list[Callable[[str], None]] = [lambda label: step(label, "the room")]
"""How a client says where it is; the last one counts. A replay puts its own there."""


def connected(url: str) -> redis.Redis:
    """A client as ``redis.Redis()`` makes one: it retries, and one by ``from_url`` does not."""
    address = parse_url(url)
    return redis.Redis(host=address["host"], port=address["port"])


def aconnected(url: str) -> redis.asyncio.Redis:
    """The same for asyncio."""
    address = parse_url(url)
    return redis.asyncio.Redis(host=address["host"], port=address["port"])


def enter_and_leave() -> None:
    """The body under a lock."""
    inside[-1]("enters")
    inside[-1]("leaves")


def _ended(world: World) -> bool:
    """Whether every client has returned: none crashed, none raised."""
    return not any(isinstance(result, BaseException) for result in world.results)


def limits(world: World, third: Callable[[], Any]) -> bool:
    """One of two hits is admitted, and no counter stays for ever."""
    admitted = [result for result in world.results if result is True]
    assert len(admitted) <= 1, "over the limit: both are admitted"
    assert admitted or not _ended(world), "denied within the limit: neither is admitted"
    for key in world.kv.keys("*"):
        stays = world.kv.type(key) == b"string" and world.kv.ttl(key) == -1
        assert not stays, "for ever: a counter without a TTL is left"
    return True


def excludes(world: World, third: Callable[[], Any]) -> bool:
    """At most one is inside; who comes later gets in, when all TTLs have ended at the latest."""
    assert world.most_inside("enters", "leaves") <= 1, "two clients are inside"
    if not _ended(world):
        for key in world.kv.keys("*"):
            if world.kv.ttl(key) >= 0:
                world.kv.delete(key)
    free = "no lock is held, and it is not free" if _ended(world) else "for ever locked"
    assert third() is True, free
    return True


def loads_once(world: World, third: Callable[[], Any]) -> bool:
    """Two readers of a cold key load it once, and both have the value."""
    if _ended(world):
        assert {value for value, _ in world.results} == {"v0"}, "a reader has a wrong value"
        assert sum(loads for _, loads in world.results) == 1, "two loads of one cold key"
    return True


def stays_fresh(world: World, third: Callable[[], Any]) -> bool:
    """After a write and its invalidation the cache does not keep the old value."""
    if world.results[1] is True:
        assert not any(
            b"v0" in (world.kv.get(key) or b"")
            for key in world.kv.keys("*")
            if world.kv.type(key) == b"string"
        ), "a fill has landed over a later invalidation"
    return True


def stays_out(world: World, third: Callable[[], Any]) -> bool:
    """After a log-out that has returned, no session of this visitor is left."""
    if world.results[1] is True:
        left = [
            world.kv.get(key) or b""
            for key in world.kv.keys("*")
            if world.kv.type(key) == b"string"
        ]
        assert not any(b"ann" in one for one in left), "a slow request has undone the log-out"
    return True


def counts(world: World, third: Callable[[], Any]) -> bool:
    """Two adds of 1 make 2; one that raised counts once or not at all."""
    total = third() - 1
    assert total <= 2, "a score is counted twice"
    assert total >= sum(isinstance(one, float) for one in world.results), "a score is lost"
    return True


def hands_out(world: World, third: Callable[[], Any]) -> bool:
    """One job is handed to one of two workers, and no job disappears."""
    got = [result for result in world.results if result not in (None, False)]
    got = [result for result in got if not isinstance(result, BaseException)]
    assert len(got) <= 1, "two workers have the same job"
    left = b"".join(
        repr(world.kv.lrange(key, 0, -1)).encode()
        for key in world.kv.keys("*")
        if world.kv.type(key) == b"list"
    ) + b"".join(
        repr(world.kv.smembers(key)).encode()
        for key in world.kv.keys("*")
        if world.kv.type(key) == b"set"
    )
    assert got or b"job" in left, "the job has disappeared"
    return True


NO_LEASE = "a lease that ends does not stop its holder: only a fence at what the lock guards does"
THE_WINDOW = "the end of the counter's TTL is the end of the window"
THE_ENTRY = "the end of an entry's TTL makes the next reader load again"
LIMITER = Family(
    "rate limiter",
    "never over the limit, never denied within the limit, never for ever",
    limits,
    meaningless={"expiry": THE_WINDOW},
)
LOCK = Family(
    "lock",
    "one holder; free when nobody holds it; never for ever",
    excludes,
    inherent={"expiry": NO_LEASE},
)
LOAD = Family(
    "cache, cold key", "one load for all readers", loads_once, meaningless={"expiry": THE_ENTRY}
)
FRESH = Family("cache, invalidation", "no fill lands over a later invalidation", stays_fresh)
SESSION = Family("sessions", "a log-out stays", stays_out)
SCORE = Family("scores", "no score lost or doubled", counts)
QUEUE = Family("queue", "each job to one worker, none disappears", hands_out)
