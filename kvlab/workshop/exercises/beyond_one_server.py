"""The exercises of chapter 14: a fence that rises through a failover; points that stay."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from kvlab.instruments import Story, World
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, data, each_key_ends, promise


def _explored(explore: Explore, clients: Any, must_be: Any, **options: Any) -> Story:
    """Explore with failovers, on servers of their own, which keep a log of their writes."""
    options |= {"url": None, "failovers": True, "client_options": TEXT}
    story = explore(clients, invariant=must_be, **options)
    if story.undecided and story.shortest is not None:
        sent = [[words[0] for words in step.commands] for step in story.shortest.trace]
        assert not any(b"MULTI" in names and b"WAIT" in names for names in sent), (
            "a WAIT inside a MULTI does not wait, and answers 0. kv.pipeline() is a MULTI; "
            "kv.pipeline(transaction=False) is none"
        )
    return story


def _without_a_fault(explore: Explore, client: Any, must_be: Any) -> Story | None:
    """The run of one client in which nothing fails. Failovers are allowed, so WAIT is answered."""
    story = _explored(explore, {"ann": client}, must_be, max_schedules=1)
    return None if story.holds else story


def _with_two_faults(explore: Explore, clients: Any, must_be: Any, **options: Any) -> Story:
    """One run without a fault, then one fault in a run, then two: the first that shows something.

    A function that does not end when nothing fails is so not tried with faults.
    """
    for bound in ({"max_schedules": 1}, {"max_faults": 1}, {"max_faults": 2}):
        story = _explored(explore, clients, must_be, **options, **bound)
        if story.shortest is not None:
            break
    return story


# --- the short one: take(kv) ---


@promise("a free lock, a taken lock", "a whole number; None for ten seconds; then a higher number")
def free_and_taken(take: Any, explore: Explore) -> Story | None:
    def comes_three_times(kv: Any) -> tuple[Any, ...]:
        first, second = take(kv), take(kv)
        time.sleep(11)
        return first, second, take(kv)

    def must_be(world: World) -> bool:
        (said,) = world.results
        assert isinstance(said, tuple), f"take raised {type(said).__name__}"
        first, second, third = said
        assert type(first) is int, f"the lock is free, so a whole number, not {_short(first)}"
        assert second is None, f"the lock is taken, so None, not {_short(second)}"
        assert type(third) is int, f"after 11 seconds the lock is free, and take says {third!r:.40}"
        assert third > first, "the lock has ended, and the next fence is not higher"
        return True

    return _without_a_fault(explore, comes_three_times, must_be)


@promise("a failover", "the store forgets, and the next fence is higher all the same")
def rises(take: Any, explore: Explore) -> Story:
    fences: list[Any] = []

    def nobody(kv: Any) -> None:
        fences.clear()

    def holder(kv: Any) -> Any:
        fence = take(kv)
        if fence is not None:
            fences.append(fence)
        return fence

    def must_be(world: World) -> bool:
        for before, after in pairwise(fences):
            assert after != before, (
                "two holders have the same fence: the database cannot refuse the older one"
            )
            assert after > before, "the later holder has the lower fence: its write is refused"
        return True

    clients = {"ann": holder, "bob": holder}
    return _with_two_faults(explore, clients, must_be, setup=nobody)


def _short(said: object) -> str:
    """A time of the server differs from run to run."""
    return "a number" if type(said) in (int, float) else f"{said!r:.40}"


# --- the longer one: add(kv, op_id, points) ---


@promise("counted once", "the same op_id counts once, another counts too; other keys have a TTL")
def counted_once(add: Any, explore: Explore) -> Story | None:
    def reports(kv: Any) -> None:
        for op_id, points in (("game-1", 5), ("game-1", 5), ("game-2", 3)):
            add(kv, op_id, points)

    def must_be(world: World) -> bool:
        score = data(world).get("score")
        assert score == "8", f"5 for game-1, told twice, and 3 for game-2: 8 points, not {score}"
        each_key_ends(world, "one key more for each op_id", "score")
        return True

    return _without_a_fault(explore, reports, must_be)


@promise("faults", "a failover, a lost reply, a WAIT in vain, any two: the points stay, once")
def points_stay(add: Any, explore: Explore) -> Story:
    def adds_and_looks(kv: Any) -> Any:
        add(kv, "game-1", 5)
        return kv.get("score")

    def must_be(world: World) -> bool:
        (score,) = world.results
        failed = isinstance(score, BaseException)
        assert not failed, f"add raised {type(score).__name__}: it must begin again"
        lost = any(step.kind == "fail over" for step in world.trace)
        when = ", and a failover has taken the points back" if lost else " and added nothing"
        assert score is not None, f"add has returned{when}"
        assert score == "5", f"game-1 has 5 points, and the score is {score}"
        return True

    return _with_two_faults(explore, {"ann": adds_and_looks}, must_be, lost_replies=True)


EXERCISES = (
    Exercise(
        number="14-short",
        function="take",
        title="a fence that rises through a failover",
        minutes=10,
        hints=(
            "The counter is on the server, so a failover takes the counter back too. Which number "
            "does a new server have that is higher than all before?",
            "The time of the server. The lock and the fence must be one step, so read the time in "
            "the script: redis.call('TIME') gives seconds and microseconds.",
            "local now = redis.call('TIME'), then fence = math.max(last + 1, now[1] * 1000000 + "
            "now[2]). Keep the fence with string.format('%.0f', fence): Lua writes 1.8e+15.",
        ),
        promises=(free_and_taken, rises),
    ),
    Exercise(
        number="14",
        function="add",
        title="points that stay",
        minutes=25,
        hints=(
            "When your function returns, who has the points? Which command says that a replica has "
            "them, and what does it say on a new connection?",
            "One pipeline, and no MULTI: the script, then WAIT. While WAIT answers 0, begin again: "
            "the op_id makes that harmless. What does your second attempt write?",
            "A retry writes nothing, so its WAIT is answered immediately. Put a SET mark 1 with EX "
            "between the script and WAIT, in the same pipeline: WAIT then waits for the mark.",
        ),
        promises=(counted_once, points_stay),
    ),
)
