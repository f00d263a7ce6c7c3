"""Chapter 5: give a lock back, and a job that loses its lock and does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kvlab import Lock, fenced_get, fenced_set
from kvlab.errors import LockNotAcquired
from kvlab.instruments.explorer.clients.client_thread import step
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, data, promise

# --- the short one: release(kv, token) ---


@promise("releases its own lock", "release deletes the lock of its token and answers True")
def its_own(release: Any, explore: Explore) -> Story:
    def deleted(world: World) -> bool:
        left, answer = data(world).get("lock"), world.results[0]
        assert left is None, "the lock was A's, and release left it there"
        assert answer, f"release deleted the lock and answered {answer!r}"
        return True

    return explore(
        {"A": lambda kv: release(kv, "A")},
        setup=_held_by("A"),
        invariant=deleted,
        client_options=TEXT,
    )


@promise("leaves the lock of another", "somebody else's lock stays as it is, its TTL included")
def of_another(release: Any, explore: Explore) -> Story:
    def untouched(world: World) -> bool:
        holder, answer = data(world).get("lock"), world.results[0]
        assert holder is not None, "the lock was B's, and A's release deleted it"
        assert holder == "B", f"the lock was B's, and A's release left {holder!r}"
        assert data(world).ttl("lock") > 0, "B's lock has lost its TTL"
        assert isinstance(answer, BaseException) or not answer, f"nothing deleted, but {answer!r}"
        return True

    return explore(
        {"A": lambda kv: release(kv, "A")},
        setup=_held_by("B"),
        invariant=untouched,
        crashes=True,
        client_options=TEXT,
    )


@promise("no lock is no error", "without a lock release answers False")
def nothing_there(release: Any, explore: Explore) -> Story:
    def refused(world: World) -> bool:
        assert not world.results[0], f"there was no lock, and release answered {world.results[0]!r}"
        return True

    return explore({"A": lambda kv: release(kv, "A")}, invariant=refused, client_options=TEXT)


@promise("a TTL that ends in the middle", "B's new lock survives A's late release")
def ends_in_the_middle(release: Any, explore: Explore) -> Story:
    def takes(kv: Any) -> Any:
        return kv.set("lock", "B", nx=True, ex=10)

    def b_keeps_its_lock(world: World) -> bool:
        kinds = [(event.kind, event.client) for event in world.trace]
        expired_after_b = ("go", 1) in kinds and (
            ("expire", None) in kinds[kinds.index(("go", 1)) :]
        )
        if world.results[1] and not expired_after_b:
            assert data(world).get("lock") == "B", (
                "B had taken the lock, and A's release deleted it"
            )
        return True

    return explore(
        {"A": lambda kv: release(kv, "A"), "B": takes},
        setup=_held_by("A"),
        invariant=b_keeps_its_lock,
        expiries=True,
        client_options=TEXT,
    )


def _held_by(name: str) -> Callable[[Any], object]:
    return lambda kv: kv.set("lock", name, ex=10)


# --- the long one: job(kv, lock, rows, work) ---

LOCK = Lock("exercise", ttl=60)


@promise("an undisturbed job", "each row is written and the lock is free")
def undisturbed(job: Any, explore: Explore) -> Story:
    def written(world: World) -> bool:
        rows = [world.kv.run(fenced_get(row)) for row in ("a", "b")]
        assert rows == [b"A", b"B"], f"the rows hold {rows}, not A and B"
        assert _is_free(world), "the job has ended, and the lock is still taken"
        return True

    return explore({"job": lambda kv: job(kv.kv, LOCK, ["a", "b"], str.upper)}, invariant=written)


@promise("no lock, no work", "LockNotAcquired reaches the caller after one try")
def no_lock_no_work(job: Any, explore: Explore) -> Story:
    begun: list[str] = []

    def somebody_holds_it(kv: Any) -> None:
        begun.clear()
        kv.run(LOCK.try_acquire())

    def refused(world: World) -> bool:
        assert not begun, "somebody else holds the lock, and the job began its work"
        _must_raise(world.results[0], "LockNotAcquired", "the lock is taken")
        return True

    def work(row: str) -> str:
        begun.append(row)
        return "C"

    def tries(kv: Any) -> str:
        return _error_of(lambda: job(kv.kv, LOCK, ["c"], work))

    return explore({"job": tries}, setup=somebody_holds_it, invariant=refused)


@promise(
    "a job that fails", "what work raises reaches the caller, and the lock is free immediately"
)
def fails(job: Any, explore: Explore) -> Story:
    def work(row: str) -> str:
        step("work raises LookupError", "work")
        raise LookupError("no such row")

    def free(world: World) -> bool:
        _must_raise(world.results[0], "LookupError", "work raised it")
        assert _is_free(world), "work raised, and the lock stays taken for its whole TTL"
        return True

    return explore(
        {"job": lambda kv: _error_of(lambda: job(kv.kv, LOCK, ["c"], work))}, invariant=free
    )


@promise("a job that is too slow", "after the TTL no row is written and none begins; LockLost")
def too_slow(job: Any, explore: Explore) -> Story:
    begun: list[str] = []

    def work(row: str) -> str:
        begun.append(row)
        time.sleep(61 if row == "e" else 1)
        return "late"

    def stopped(world: World) -> bool:
        row_d, row_e = (world.kv.run(fenced_get(row)) for row in ("d", "e"))
        assert row_e is None, "the TTL ended during work('e'), and e was written"
        assert begun == ["d", "e"], f"the lock was lost during e, and the work went on: {begun}"
        assert row_d == b"late", "d was done in time, and it is not written"
        _must_raise(world.results[0], "LockLost", "the lock was lost")
        return True

    return explore(
        {"job": lambda kv: _error_of(lambda: job(kv.kv, LOCK, ["d", "e", "f"], work))},
        setup=lambda kv: begun.clear(),
        invariant=stopped,
    )


@promise("a late write", "the row of a later holder stays, and the late one gets LockLost")
def late_write(job: Any, explore: Explore) -> Story:
    holders: list[str] = []

    def work(row: str) -> str:
        holders.append("A")
        return "A's"

    def later(kv: Any) -> None:
        held = kv.run(LOCK.try_acquire())
        if held:
            holders.append("B")
            kv.run(fenced_set("g", "B's", held.fence))

    def last_holder_wrote_last(world: World) -> bool:
        row = world.kv.run(fenced_get("g"))
        if holders[-1:] == ["B"]:
            assert row != b"A's", "B took the lock after A, and A's write is the last"
        refused = any(
            event.client == 0 and 0 in event.replies and "fenced:{g}" in str(event.commands)
            for event in world.trace
        )
        said = world.results[0]
        assert not (refused and said == "nothing"), "A's write was refused, and A raised nothing"
        return True

    return explore(
        {"A": lambda kv: _error_of(lambda: job(kv.kv, LOCK, ["g"], work)), "B": later},
        setup=lambda kv: holders.clear(),
        invariant=last_holder_wrote_last,
        expiries=True,
    )


def _error_of(call: Callable[[], object]) -> str:
    """The name of the error that a call raises; "nothing" without one."""
    try:
        call()
    except (LookupError, LockNotAcquired) as error:
        return type(error).__name__
    except Exception as error:
        if type(error).__name__ == "LockLost":
            return "LockLost"
        raise
    return "nothing"


def _must_raise(said: object, wanted: str, why: str) -> None:
    assert said == wanted, f"{why}: the caller must get {wanted}, and got {said}"


def _is_free(world: World) -> bool:
    return world.kv.run(LOCK.try_acquire()) is not None


EXERCISES = (
    Exercise(
        number="05-short",
        function="release",
        title="release your own lock",
        minutes=10,
        hints=(
            "Between your GET and your DEL other clients can send commands. After which of them "
            "is your DEL wrong?",
            "The comparison and the deletion must be one step of the server.",
            "A script is one step: kv.eval(SCRIPT, 1, 'lock', token), with redis.call('GET', "
            "KEYS[1]) == ARGV[1] in it. WATCH, MULTI and EXEC do the same in Python.",
        ),
        promises=(its_own, of_another, nothing_there, ends_in_the_middle),
    ),
    Exercise(
        number="05",
        function="job",
        title="a job that loses its lock, and then writes nothing",
        minutes=25,
        hints=(
            "What becomes of the lock when work raises? And when the job is slower than the TTL?",
            "with kv.hold(lock, wait=0) as held: enters only with the lock, and releases "
            "the lock however the body ends. held.check() raises LockLost; it needs no round trip.",
            "After each work(row): held.check(), then fenced_set(row, value, held.fence). When "
            "fenced_set answers False, a higher fence has written: raise held.lost('...').",
        ),
        promises=(undisturbed, no_lock_no_work, fails, too_slow, late_write),
    ),
)
