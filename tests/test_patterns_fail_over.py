"""What a failover does to each pattern, as its shortest run, and what rescues it in every run.

A pattern says in its "Not promised" what a failover takes. Here each of these is produced, and
beside it stands the way out. Nothing else may be taken: the last test is the control.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

import kvlab
from kvlab import (
    CacheAside,
    FeatureFlags,
    FixedWindow,
    Kv,
    Leaderboard,
    Lock,
    Op,
    SessionStore,
    WriteThrough,
    fenced_get,
    fenced_set,
)
from kvlab.core.wire import RoundTrip
from kvlab.errors import Outage
from kvlab.instruments import World, explore, step
from kvlab.instruments.faults.failover import Failover

DOOR = Lock("door", ttl=10)
SESSIONS = SessionStore(idle=1800, absolute=86400)
LIMITER = FixedWindow("api", limit=1, window=86400)
BOARD = Leaderboard("game")
FLAGS = FeatureFlags(defaults={"checkout": False})
CACHE = CacheAside("profiles", ttl=300, jitter=0, early=0)
WRITER = WriteThrough(CACHE)
DATABASE: dict[str, Any] = {}


WAIT = Op("WAIT", 1, 100, blocking=0.1)
"""Answered when a replica has what this connection wrote."""


def outcome_known(kv: Any, op: Any) -> Any:
    """As a caller does that has an id for the request: the same op again, until it is answered."""
    while True:
        try:
            return kv.run(op)
        except Outage:
            continue


def confirmed(kv: Any, op: Any) -> None:
    """The op again and again, until one run of it and the WAIT after it were both answered.

    After an error nobody knows whether the write is still there.
    """
    while True:
        try:
            kv.run(op)
            kv.run(WAIT)
        except Outage:
            continue
        return


def holder(kv: Any) -> int | None:
    held = kv.run(DOOR.try_acquire())
    if held is None:
        return None
    step("enters", "the room")
    step("leaves", "the room")
    return int(held.fence)


def fenced_holder(kv: Any) -> int | None:
    held = kv.run(DOOR.try_acquire())
    if held is None:
        return None
    kv.run(fenced_set("row", str(held.fence), held.fence))
    return int(held.fence)


def one_inside(world: World) -> bool:
    return world.most_inside("enters", "leaves") <= 1


def the_last_writer_has_the_highest_fence(world: World) -> bool:
    """the writes that the resource took have rising fences"""
    row = world.kv.run(fenced_get("row"))
    fences = [result for result in world.results if isinstance(result, int)]
    return row is None or int(row) == max(fences)


def logs_out(kv: Any) -> Any:
    kv.run(SESSIONS.destroy(DATABASE["id"]))
    return kv.run(SESSIONS.read(DATABASE["id"]))


def logs_out_for_good(kv: Any) -> Any:
    confirmed(kv, SESSIONS.destroy(DATABASE["id"]))
    return kv.run(SESSIONS.read(DATABASE["id"]))


def logged_in(kv: Any) -> None:
    DATABASE["id"] = kv.run(SESSIONS.create("ann")).id


def is_out(world: World) -> bool:
    return world.results == [None]


def asks_twice(kv: Any) -> int:
    return sum(outcome_known(kv, LIMITER.hit("ann")).allowed for _ in range(2))


def asks_two_limits(kv: Any) -> int:
    """The limit is for each server's life: what a failover refills is bounded by one limit."""
    return sum(outcome_known(kv, LIMITER.hit("ann")).allowed for _ in range(4))


def within_the_limit(world: World) -> bool:
    return world.results[0] <= 1


def within_twice_the_limit(world: World) -> bool:
    return world.results[0] <= 2


def scores(kv: Any) -> Any:
    kv.run(BOARD.submit("ann", 5, mode="add", op_id="round-1"))
    return kv.run(BOARD.rank("ann"))


def scores_for_good(kv: Any) -> Any:
    """The game sends the round again after each error: the round counts once."""
    confirmed(kv, BOARD.submit("ann", 5, mode="add", op_id="round-1"))
    return kv.run(BOARD.rank("ann"))


def has_five(world: World) -> bool:
    entry = world.results[0]
    return entry is not None and entry.score == 5


def switches_off(kv: Any) -> bool:
    kv.run(FLAGS.set("checkout", False))
    return kv.run(FLAGS.read_all()).is_enabled("checkout", "ann")


def switches_off_for_good(kv: Any) -> bool:
    confirmed(kv, FLAGS.set("checkout", False))
    return kv.run(FLAGS.read_all()).is_enabled("checkout", "ann")


def switched_on(kv: Any) -> None:
    kv.run(FLAGS.set("checkout", True))


def is_off(world: World) -> bool:
    return world.results == [False]


def row_one(kv: Any) -> None:
    DATABASE["row"] = (1, 1)
    kv.run(WRITER.fetch("ann", lambda: DATABASE["row"]))


def saves(kv: Any) -> Any:
    def write() -> tuple[int, int]:
        DATABASE["row"] = (2, 2)
        return DATABASE["row"]

    kv.run(WRITER.save("ann", write))
    return kv.run(WRITER.fetch("ann", lambda: DATABASE["row"]))


def saves_and_drops_the_entry(kv: Any) -> Any:
    saves(kv)
    confirmed(kv, CACHE.invalidate("ann"))
    return kv.run(WRITER.fetch("ann", lambda: DATABASE["row"]))


def sees_two(world: World) -> bool:
    return world.results == [2]


@dataclass(frozen=True)
class Case:
    """``naive`` breaks ``promise`` after a failover; ``rescued`` keeps ``holds`` in every run."""

    clients: tuple[Callable[[Any], Any], ...]
    promise: Callable[[World], bool]
    rescued: tuple[Callable[[Any], Any], ...]
    holds: Callable[[World], bool]
    setup: Callable[[Any], None] | None = None


CASES: Mapping[str, Case] = {
    "two holders": Case(
        (holder, holder), one_inside,
        (fenced_holder, fenced_holder), the_last_writer_has_the_highest_fence,
    ),
    "a log-out that returns": Case((logs_out,), is_out, (logs_out_for_good,), is_out, logged_in),
    "a limiter that is full again": Case(
        (asks_twice,), within_the_limit, (asks_two_limits,), within_twice_the_limit
    ),
    "a score that is lost": Case((scores,), has_five, (scores_for_good,), has_five),
    "a flag that comes back": Case(
        (switches_off,), is_off, (switches_off_for_good,), is_off, switched_on
    ),
    "a row that is older than the saved one": Case(
        (saves,), sees_two, (saves_and_drops_the_entry,), sees_two, row_one
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_failover_takes_what_is_not_promised_and_there_is_a_way_out(name: str) -> None:
    case = CASES[name]
    broken = explore(case.clients, setup=case.setup, invariant=case.promise, failovers=True)
    assert broken.violations
    assert broken.shortest is not None
    assert " p1" in f" {broken.schedule}"
    rescued = explore(
        case.rescued, setup=case.setup, invariant=case.holds, failovers=True, reduce=True
    )
    assert rescued.holds
    assert rescued.faults["failovers"]


@pytest.mark.parametrize("name", CASES)
def test_without_a_failover_nothing_is_taken(name: str) -> None:
    case = CASES[name]
    assert explore(case.clients, setup=case.setup, invariant=case.promise)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_what_the_explorer_shows_happens_on_a_real_primary_and_its_replica(
    name: str, lost: bool
) -> None:
    """Each shortest run begins with a write of client 0, which a failover then loses.

    The control: the replica has got that write.
    """
    case = CASES[name]
    trips = []

    def after_the_first(trip: RoundTrip) -> None:
        trips.append(trip)
        if len(trips) == 1:
            if not lost:
                pair.part()
            pair.promote()

    with Failover() as pair, kvlab.connect(pair.url, prefix="real") as kv:
        for prefix in ("warm", "real"):  # so that the primary knows the scripts
            if case.setup is not None:
                case.setup(kv.within(prefix))
            if prefix == "warm":
                case.clients[0](kv.within(prefix))
        if lost:
            pair.part()
        traced = Kv(kv.client, prefix=kv.within("real").prefix, trace=after_the_first)
        results = [client(traced) for client in case.clients]
    if name == "two holders":
        assert (None in results) is not lost
    else:
        assert case.promise(World(results, kv, ())) is not lost  # type: ignore[arg-type]
