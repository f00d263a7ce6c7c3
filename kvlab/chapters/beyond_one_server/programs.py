"""Programs that a failover breaks, and those that it does not: for explorer and real servers.

A client returns what a test can compare: a truth, a number, or None. What is not on the server (a
database, a file) is in ``DATABASE``, and every ``setup`` makes it new.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlab import (
    CacheAside,
    FeatureFlags,
    FixedWindow,
    Key,
    Leaderboard,
    Lock,
    Op,
    SessionStore,
    WriteThrough,
)
from kvlab.errors import BatchFailed, Outage
from kvlab.instruments import World, step

DOOR = Lock("door", ttl=10)
SESSIONS = SessionStore(idle=1800, absolute=86400)
LIMITER = FixedWindow("api", limit=1, window=86400)
BOARD = Leaderboard("game")
FLAGS = FeatureFlags(defaults={"checkout": False})
CACHE = CacheAside("profiles", ttl=300, jitter=0, early=0)
WRITER = WriteThrough(CACHE)
WAIT: Op[Any] = Op("WAIT", 1, 20)
"""Answers how many replicas have got what this connection wrote, after 20 ms at most."""
MARK: Op[Any] = Op("SET", Key("mark"), 1, "EX", 60)
DATABASE: dict[str, Any] = {}


def confirmed(kv: Any, op: Any, is_done: Callable[[Any], bool]) -> None:
    """Until a replica has it: the op, then a mark and WAIT in one pipeline, then a look.

    WAIT speaks of what its own connection wrote, so a mark travels with WAIT, behind the op. A
    failover between the op and the mark shows in the look.
    """
    while True:
        try:
            kv.run(op)
            _, replicas = kv.run(MARK, WAIT)
            if replicas >= 1 and is_done(kv):
                return
        except (Outage, BatchFailed):
            continue


def until_answered(kv: Any, op: Any) -> Any:
    while True:
        try:
            return kv.run(op)
        except Outage:
            continue


# --- a lock: what it guards is a database, which takes a fence or does not ---


def new_database(_: Any) -> None:
    DATABASE.clear()
    DATABASE.update(fences=[], taken=[])


def holder(kv: Any) -> bool:
    if kv.run(DOOR.try_acquire()) is None:
        return False
    step("enters", "the room")
    step("leaves", "the room")
    return True


def one_inside(world: World) -> object:
    """at most one holder is inside"""
    if any(one.label == "enters" for one in world.trace):
        return world.most_inside("enters", "leaves") <= 1
    return world.results.count(True) <= 1  # a real run has no steps, and nobody has released


def write_with(fence: int) -> None:
    """The database takes a write whose fence is not older than the last that it took."""
    DATABASE["fences"].append(fence)
    step("writes the row", "the database")
    if fence >= max(DATABASE["taken"], default=0):
        DATABASE["taken"].append(fence)


def fenced_holder(kv: Any) -> bool:
    held = kv.run(DOOR.try_acquire())
    if held is not None:
        write_with(held.fence)
    return held is not None


_COUNTED = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 10) then return false end
return redis.call('INCR', KEYS[2])"""


def counted_holder(kv: Any) -> bool:
    """The fence is a counter on the server: a failover takes it back too."""
    number = until_answered(kv, Op("EVAL", _COUNTED, 2, Key("door"), Key("number")))
    if number is not None:
        write_with(number)
    return number is not None


def later_holders_have_higher_fences(_: World) -> object:
    """each holder has a higher fence than the holders before"""
    fences = DATABASE["fences"]
    return fences == sorted(set(fences)) and DATABASE["taken"] == sorted(DATABASE["taken"])


# --- sessions ---


def logged_in(kv: Any) -> None:
    DATABASE["id"] = kv.run(SESSIONS.create("ann")).id


def is_alive(kv: Any) -> bool:
    return kv.run(SESSIONS.read(DATABASE["id"])) is not None


def is_dead(kv: Any) -> bool:
    return not is_alive(kv)


def logs_out(kv: Any) -> bool:
    kv.run(SESSIONS.destroy(DATABASE["id"]))
    return is_alive(kv)


def logs_out_for_good(kv: Any) -> bool:
    confirmed(kv, SESSIONS.destroy(DATABASE["id"]), is_dead)
    return is_alive(kv)


def logs_out_and_waits(kv: Any) -> bool:
    """After a failover WAIT has a new connection, which has written nothing: it says 1 at once."""
    kv.run(SESSIONS.destroy(DATABASE["id"]))
    kv.run(WAIT)
    return is_alive(kv)


def rotates(kv: Any) -> bool:
    kv.run(SESSIONS.rotate(DATABASE["id"]))
    return is_alive(kv)


def rotates_for_good(kv: Any) -> bool:
    """A rotation that runs again after its answer came finds no session under the old id: right."""
    confirmed(kv, SESSIONS.rotate(DATABASE["id"]), is_dead)
    return is_alive(kv)


# --- a limiter ---


def asks_twice(kv: Any) -> int:
    return sum(until_answered(kv, LIMITER.hit("ann")).allowed for _ in range(2))


def asks_four_times(kv: Any) -> int:
    return sum(until_answered(kv, LIMITER.hit("ann")).allowed for _ in range(4))


def within_the_limit(world: World) -> object:
    """one hit is admitted at most"""
    return bool(world.results[0] <= 1)


def within_a_limit_for_each_server(world: World) -> object:
    """one hit is admitted at most by each server that took over"""
    return bool(world.results[0] <= 1 + sum(one.kind == "fail over" for one in world.trace))


# --- scores ---


def score(kv: Any) -> Any:
    entry = kv.run(BOARD.rank("ann"))
    return None if entry is None else float(entry.score)


def adds(kv: Any) -> Any:
    kv.run(BOARD.submit("ann", 5, mode="add", op_id="round-1"))
    return score(kv)


def adds_for_good(kv: Any) -> Any:
    confirmed(kv, BOARD.submit("ann", 5, mode="add", op_id="round-1"), score)
    return score(kv)


def adds_again_without_an_id(kv: Any) -> Any:
    confirmed(kv, BOARD.submit("ann", 5, mode="add"), score)
    return score(kv)


# --- flags ---


def switched_on(kv: Any) -> None:
    kv.run(FLAGS.set("checkout", True))


def is_on(kv: Any) -> bool:
    return bool(kv.run(FLAGS.read_all()).is_enabled("checkout", "ann"))


def switches_off(kv: Any) -> bool:
    kv.run(FLAGS.set("checkout", False))
    return is_on(kv)


def switches_off_for_good(kv: Any) -> bool:
    confirmed(kv, FLAGS.set("checkout", False), lambda kv: not is_on(kv))
    return is_on(kv)


# --- caches: an entry, an invalidation, a row that is written through ---


def load() -> int:
    return int(DATABASE["row"][0])


def row_one(kv: Any) -> None:
    DATABASE["row"] = (1, 1)
    kv.run(WRITER.fetch("ann", lambda: DATABASE["row"]))


def row_two() -> tuple[int, int]:
    DATABASE["row"] = (2, 2)
    return 2, 2


def invalidates(kv: Any) -> Any:
    row_two()
    kv.run(CACHE.invalidate("ann"))
    return kv.run(CACHE.fetch("ann", load))


def invalidates_for_good(kv: Any) -> Any:
    row_two()
    confirmed(kv, CACHE.invalidate("ann"), has_no_old_row)
    return kv.run(CACHE.fetch("ann", load))


def has_no_old_row(kv: Any) -> bool:
    return bool(kv.run(Op("HGET", CACHE.key("ann", "entry"), "value", idempotent=True)) != b"1")


def saves(kv: Any) -> Any:
    kv.run(WRITER.save("ann", row_two))
    return kv.run(CACHE.fetch("ann", load))


def saves_for_good(kv: Any) -> Any:
    """The same version again and again is one version."""
    confirmed(kv, WRITER.save("ann", row_two), has_no_old_row)
    return kv.run(CACHE.fetch("ann", load))


# --- a batch ---

PAYS: list[Op[Any]] = [Op("INCRBY", Key("{bank}:ann"), -5), Op("INCRBY", Key("{bank}:bob"), 5)]


def _sum(kv: Any) -> int:
    values = kv.run(
        [Op("GET", Key(f"{{bank}}:{name}"), idempotent=True) for name in ("ann", "bob")]
    )
    return sum(int(value or 0) for value in values)


def pays(kv: Any) -> int:
    kv.run(PAYS)
    return _sum(kv)


def pays_in_one_step(kv: Any) -> int:
    kv.run(*PAYS, atomic=True)
    return _sum(kv)
