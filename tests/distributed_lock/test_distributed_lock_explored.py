"""The lock under every order of its clients' commands, each fault at each point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import LockNotOwnedError
from support import EVERY

from kvlab import Held, Lock, NaiveLock, fenced_get, fenced_set
from kvlab.errors import LockLost, LockNotAcquired
from kvlab.instruments import ClientCrashed, Story, World, explore, replay, step

LOCK = Lock("orders", 10)
KEY, HELD = b"lock:orders", b"kv:lock:{orders}:held"


def expiries(world: World, key: bytes = HELD) -> int:
    return sum(step.kind == "expire" and step.key == key for step in world.trace)


def alive(world: World) -> list[Any]:
    return [result for result in world.results if not isinstance(result, ClientCrashed)]


def take(kv: Any) -> Held | None:
    held: Held | None = kv.run(LOCK.try_acquire())
    return held


# --- a TTL from the first instant -------------------------------------------------------------


def every_key_ends(world: World) -> bool:
    """every key has a TTL, so that a dead holder is gone some day"""
    return all(world.kv.pttl(key) > 0 for key in world.kv.keys("*"))


def test_naive_a_crash_between_setnx_and_expire_locks_for_ever() -> None:
    clients = [lambda kv: NaiveLock(kv).acquire("orders")]
    story = explore(clients, invariant=every_key_ends, crashes=True)
    assert (story.violations, story.schedules, story.schedule) == (1, 2, "0 x0")
    assert not replay("0 x0", clients, invariant=every_key_ends).holds
    assert replay("0 0", clients, invariant=every_key_ends).holds


def whole_use(kv: Any) -> bool | None:
    held = take(kv)
    if held is None:
        return None
    kv.run(LOCK.renew(held))
    released: bool = kv.run(LOCK.release(held))
    return released


def test_whatever_happens_every_key_has_a_ttl() -> None:
    assert explore([whole_use] * 2, invariant=every_key_ends, **EVERY)


# --- only the owner releases ------------------------------------------------------------------


def b_keeps_it(key: bytes) -> Callable[[World], bool]:
    def invariant(world: World) -> bool:
        """what B took is there until its TTL ends"""
        took = world.results[1]
        if took is None or isinstance(took, ClientCrashed):
            return True
        last = max(n for n, step in enumerate(world.trace) if step.client == 1)
        ended = any(step.kind == "expire" and step.key == key for step in world.trace[last:])
        return ended or world.kv.exists(key) == 1

    return invariant


def naive_use(kv: Any) -> bool | None:
    lock = NaiveLock(kv)
    mine = lock.acquire("orders")
    return None if mine is None else lock.release("orders", mine)


def naive_theft() -> Story:
    stays = [naive_use, lambda kv: NaiveLock(kv).acquire("orders")]
    return explore(stays, invariant=b_keeps_it(KEY), expiries=True)


def test_naive_an_expiry_between_get_and_del_lets_a_delete_b_s_lock() -> None:
    story = naive_theft()
    assert story.complete
    assert story.violations
    assert story.shortest is not None
    assert [step.kind for step in story.shortest.trace].count("expire") == 1
    by_a = [e.commands[0][0] for e in story.shortest.trace if e.client == 0]
    assert by_a == [b"SETNX", b"EXPIRE", b"GET", b"DEL"]


def test_a_s_release_never_frees_b_s_lock() -> None:
    assert explore([whole_use, take], invariant=b_keeps_it(HELD), **EVERY)


def only_a_ttl_loses_a_lock(world: World) -> bool:
    """a release says False only of a hold whose TTL ended"""
    return alive(world).count(False) <= expiries(world)


def test_a_release_tells_the_truth_however_often_it_is_sent() -> None:
    assert explore([whole_use] * 2, invariant=only_a_ttl_loses_a_lock, **EVERY)


# --- one holder per life of the key -----------------------------------------------------------


class Room:
    """Who is inside, as they themselves know it, and in which order they came."""

    def __init__(self) -> None:
        self.empty()

    def empty(self, _: Any = None) -> None:
        self.inside = self.most = 0
        self.fences: list[int] = []

    def visit(self, fence: int) -> None:
        self.fences.append(fence)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            step("works inside")
        finally:
            self.inside -= 1

    def held_by_one(self, world: World) -> bool:
        """one is inside; another only after a TTL has ended; fences rise"""
        rising = all(a < b for a, b in zip(self.fences, self.fences[1:], strict=False))
        return rising and self.most <= 1 + expiries(world)


def visitor(room: Room) -> Callable[[Any], bool | None]:
    def visit(kv: Any) -> bool | None:
        held = take(kv)
        if held is None:
            return None
        room.visit(held.fence)
        released: bool = kv.run(LOCK.release(held))
        return released

    return visit


def test_one_holder_per_life_of_the_key() -> None:
    room = Room()
    clients = [visitor(room)] * 2
    assert explore(clients, invariant=room.held_by_one, setup=room.empty, **EVERY)


def test_naive_looking_before_taking_lets_two_in() -> None:
    """The control: a room whose door is GET, then SET."""
    room = Room()

    def visit(kv: Any) -> None:
        if kv.get("door") is None:
            kv.set("door", 1, ex=10)
            room.visit(len(room.fences))

    assert explore([visit] * 2, invariant=room.held_by_one, setup=room.empty).violations


def test_a_body_starts_locked_and_learns_of_its_loss() -> None:
    room = Room()

    def body(kv: Any) -> str:
        try:
            with kv.kv.hold(LOCK, wait=0) as held:
                room.visit(held.fence)
        except LockNotAcquired:
            return "refused"
        except LockLost:
            return "lost"
        return "done"

    def told(world: World) -> bool:
        """one inside; who lost the lock is told so, and nobody else"""
        return room.held_by_one(world) and world.results.count("lost") <= expiries(world)

    assert explore([body] * 2, invariant=told, setup=room.empty, **EVERY)

    def told_exactly(world: World) -> bool:
        """alone, its body is told of a loss if, and only if, its TTL ended"""
        return world.results == ["lost" if expiries(world) else "done"]

    assert explore([body], invariant=told_exactly, setup=room.empty, expiries=True)


# --- who was too late -------------------------------------------------------------------------


class Entries:
    """The row's writers in the order in which they took the lock."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def clear(self, _: Any) -> None:
        self.names.clear()

    def worker(self, name: str, take: Any, write: Any) -> Callable[[Any], Any]:
        def work(kv: Any) -> Any:
            held = take(kv)
            if held is None:
                return None
            self.names.append(name)
            return write(kv, name, held)

        return work

    def last_one_wrote(self, read: Any) -> Callable[[World], bool]:
        def invariant(world: World) -> bool:
            """the row says what the last holder wrote, unless its own TTL ended"""
            row = read(world.kv)
            if row is None and expiries(world, b"kv:fenced:{row}"):
                return True
            return not self.names or row == self.names[-1].encode()

        return invariant


def plain_set(kv: Any, name: str, held: Any) -> None:
    kv.set("row", name)


def set_with_fence(kv: Any, name: str, held: Held) -> bool:
    accepted: bool = kv.run(fenced_set("row", name, held.fence))
    return accepted


def late_writes(take: Any, write: Any, read: Any, **faults: Any) -> Story:
    entries = Entries()
    return explore(
        {name: entries.worker(name, take, write) for name in "AB"},
        invariant=entries.last_one_wrote(read),
        setup=entries.clear,
        **faults,
    )


@pytest.mark.parametrize("take", [lambda kv: NaiveLock(kv).acquire("orders"), take])
def test_without_fences_a_holder_whose_ttl_ran_out_writes_late(take: Any) -> None:
    story = late_writes(take, plain_set, lambda kv: kv.get("row"), expiries=True)
    assert story.complete
    assert story.violations
    assert story.shortest is not None
    assert story.shortest.trace[-1].commands == ((b"SET", b"row", b"A"),)


def test_a_row_that_checks_fences_refuses_the_late_write() -> None:
    def read(kv: Any) -> bytes | None:
        row: bytes | None = kv.run(fenced_get("row"))
        return row

    assert late_writes(take, set_with_fence, read, **EVERY | {"crashes": False})


# --- lost answers -----------------------------------------------------------------------------


def one_is_inside(world: World) -> bool:
    """the key is there, so somebody must know that it is theirs"""
    return any(world.results) or not world.kv.keys("*")


def test_naive_a_lost_reply_to_setnx_locks_everybody_out_for_ever() -> None:
    clients = [lambda kv: NaiveLock(kv).acquire("orders")]
    story = explore(clients, invariant=one_is_inside, lost_replies=True)
    assert (story.schedule, story.violations) == ("r0 0", 1)
    assert not replay("r0 0", clients, invariant=every_key_ends).holds


def test_redis_py_s_lock_says_no_while_it_holds() -> None:
    def attempt(kv: Any) -> bool:
        answer: bool = kv.lock("peer", timeout=10).acquire(blocking=False)
        return answer

    story = explore([attempt], invariant=one_is_inside, lost_replies=True)
    assert (story.schedule, story.violations) == ("r0 0", 1)
    assert story.shortest is not None
    assert story.shortest.results == (False,)


def test_redis_py_s_lock_says_not_owned_of_a_release_that_worked() -> None:
    def use(kv: Any) -> None:
        lock = kv.lock("peer", timeout=10)
        if lock.acquire(blocking=False):
            lock.release()

    def truth(world: World) -> bool:
        return not isinstance(world.results[0], LockNotOwnedError)

    story = explore([use], invariant=truth, lost_replies=True, lost_requests=True)
    assert story.violations == 1
    assert "r0" in str(story.schedule)


def test_a_lost_answer_locks_nobody_out() -> None:
    def somebody_knows(world: World) -> bool:
        """the lock is taken, so somebody must know that it is theirs"""
        return any(alive(world)) or not world.kv.exists(HELD)

    losses = {"lost_replies": True, "lost_requests": True, "script_flushes": True}
    assert explore([take] * 2, invariant=somebody_knows, **losses)


# --- waiting ----------------------------------------------------------------------------------


def waits(kv: Any) -> bool | None:
    held = kv.run(LOCK.acquire(60))
    if held is None:
        return None
    released: bool = kv.run(LOCK.release(held))
    return released


def everybody_gets_it(world: World) -> bool:
    """no wait is in vain, and only a TTL that ended loses a lock"""
    times_up = sum(step.kind == "time out" for step in world.trace)
    assert None not in alive(world), "waited in vain"
    return alive(world).count(False) <= expiries(world) + times_up


def everybody_is_woken(world: World) -> bool:
    """nobody's time is up, unless whoever was to wake them failed"""
    kinds = {step.kind for step in world.trace}
    assert kinds != {"go", "time out"}, "nobody woke the waiter"
    return everybody_gets_it(world) and every_key_ends(world)


def test_a_waiter_is_woken_and_gets_it_also_from_a_holder_that_crashed() -> None:
    assert explore([waits] * 2, invariant=everybody_is_woken, **EVERY | {"expiries": False})


def test_a_waiter_gets_it_though_time_passes() -> None:
    # No lost replies: how long a waiter waits is up to the server's ms, and so is what a client
    # that sleeps before it sends again finds its own clock to say.
    assert explore([waits] * 2, invariant=everybody_gets_it, expiries=True)


def test_of_two_waiters_one_may_die_with_the_wake_up() -> None:
    held: list[Held] = []

    def is_held(kv: Any) -> None:
        held[:] = [kv.run(LOCK.try_acquire())]

    def let_go(kv: Any) -> bool:
        released: bool = kv.run(LOCK.release(held[0]))
        return released

    clients = {"holder": let_go, "B": waits, "C": waits}
    assert explore(clients, setup=is_held, invariant=everybody_is_woken, crashes=True)


def test_polling_without_being_woken_is_seen() -> None:
    """The control: a release that wakes nobody, DEL."""

    def wakes_nobody(kv: Any) -> bool | None:
        if kv.run(LOCK.acquire(60)) is None:
            return None
        return bool(kv.delete(HELD))

    story = explore([wakes_nobody] * 2, invariant=everybody_is_woken)
    assert story.complete
    assert story.violations
