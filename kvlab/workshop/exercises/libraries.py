"""The exercises of chapter 11: say what a limiter promises; stay with a lock and repair its use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlab.instruments import Story, World, step
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, data, promise

# --- the short one: keeps_its_promise(world), of a limiter that allows one hit ---

Hit = Callable[[Any], bool]
COUNT = """
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], 3600) end
return n"""


def right_limiter(kv: Any) -> bool:
    kv.set("hits", 0, nx=True, ex=3600)
    return bool(kv.incr("hits") <= 1)


def look_then_count(kv: Any) -> bool:
    if int(kv.get("hits") or 0) >= 1:
        return False
    kv.eval(COUNT, 1, "hits")
    return True


def counts_two(kv: Any) -> bool:
    kv.eval(COUNT, 1, "hits")
    return bool(kv.eval(COUNT, 1, "hits") <= 1)


def end_comes_later(kv: Any) -> bool:
    count = kv.incr("hits")
    if count == 1:
        kv.expire("hits", 3600)
    return bool(count <= 1)


def _judged_by(
    promise_kept: Any, hit: Hit, explore: Explore, number: int = 2, **faults: bool
) -> Story:
    def invariant(world: World) -> bool:
        said = promise_kept(world)
        if not isinstance(said, bool):
            raise AssertionError(f"answer True or False, not {said!r:.60}")
        assert said, "the limiter is right, and keeps_its_promise said False"
        return True

    clients = dict(zip(("Ann", "Bob"), [hit] * number, strict=False))
    return explore(clients, invariant=invariant, client_options=TEXT, **faults)


@promise("a limiter that is right", "is accepted in every order, and wherever a client crashes")
def accepts_the_right(keeps_its_promise: Any, explore: Explore) -> Story:
    story = _judged_by(keeps_its_promise, right_limiter, explore)
    if not story.holds:
        return story
    return _judged_by(keeps_its_promise, right_limiter, explore, 1, crashes=True)


def _must_reject(why: str, story: Story) -> None:
    assert not story.holds, f"{why}, and keeps_its_promise said True"
    assert story.shortest is not None
    problem = story.shortest.problem or ""
    assert "answer True or False" not in problem, problem


@promise("over the limit", "a limiter that looks, then counts, is rejected")
def rejects_over(keeps_its_promise: Any, explore: Explore) -> None:
    story = _judged_by(keeps_its_promise, look_then_count, explore)
    _must_reject("two hits were admitted where one is allowed", story)


@promise("denied within the limit", "a limiter that counts a hit twice is rejected")
def rejects_denied(keeps_its_promise: Any, explore: Explore) -> None:
    story = _judged_by(keeps_its_promise, counts_two, explore)
    _must_reject("nobody was admitted, though nobody failed", story)


@promise("for ever", "a limiter that can leave its counter without a TTL is rejected")
def rejects_for_ever(keeps_its_promise: Any, explore: Explore) -> None:
    story = _judged_by(keeps_its_promise, end_comes_later, explore, 1, crashes=True)
    _must_reject("a crash left a counter that never ends", story)


# --- the longer one: take(kv, token), the key door ---


def _enters(take: Any, token: str) -> Callable[[Any], bool]:
    def enters(kv: Any) -> bool:
        held = take(kv, token)
        if held:
            step("enters", "the room")
            step("leaves", "the room")
        return bool(held)

    return enters


def _two_visitors(take: Any, explore: Explore, **faults: bool) -> Story:
    tokens = {"Ann": "ann's", "Bob": "bob's"}

    def told_the_truth(world: World) -> bool:
        inside = world.most_inside("enters", "leaves")
        assert inside <= 1, f"{inside} clients are in the room at once"
        owner, end = data(world).get("door"), data(world).ttl("door")
        assert owner is None or end > 0, "the door has no TTL: it is locked for ever"
        for (name, token), result in zip(tokens.items(), world.results, strict=True):
            refused = result is False and owner == token
            assert not refused, f"{name} was refused, and the door has {name}'s token"
            assert result is not True or owner == token, f"{name} was let in without the door"
        ended = all(isinstance(result, bool) for result in world.results)
        assert owner is not None or not ended, "nobody holds the door, and nobody failed"
        return True

    clients = {name: _enters(take, token) for name, token in tokens.items()}
    return explore(clients, invariant=told_the_truth, client_options=TEXT, **faults)


@promise("one holder", "two visitors come at once: one holds the door, in every order")
def one_holder(take: Any, explore: Explore) -> Story:
    return _two_visitors(take, explore)


@promise("a lost reply", "redis-py retries: who is refused does not hold the door")
def reply_lost(take: Any, explore: Explore) -> Story:
    return _two_visitors(take, explore, lost_replies=True)


@promise("a crash", "wherever a visitor crashes, the door has a TTL")
def visitor_crashes(take: Any, explore: Explore) -> Story:
    return _two_visitors(take, explore, crashes=True, lost_requests=True)


EXERCISES = (
    Exercise(
        number="11-short",
        function="keeps_its_promise",
        title="what a limiter promises",
        minutes=10,
        hints=(
            "A promise has three sentences: never over, never denied within, never for ever. "
            "Which of them may a crash excuse?",
            "A result is True, False, or an exception: count those that are True, and ask for "
            "isinstance(result, bool) before you call a hit denied.",
            "admitted = world.results.count(True); all(isinstance(r, bool) for r in "
            "world.results); all(world.kv.ttl(key) > 0 for key in world.kv.keys('*')).",
        ),
        promises=(accepts_the_right, rejects_over, rejects_denied, rejects_for_ever),
    ),
    Exercise(
        number="11",
        function="take",
        title="the lock that refuses its own holder",
        minutes=20,
        hints=(
            "The reply is lost and redis-py retries. What does the second SET NX find at the door?",
            "Your own token at the door means that the first SET has arrived. Look at the door "
            "before you say no.",
            "SET NX GET answers what stood there before: old = kv.set('door', token, nx=True, "
            "get=True, ex=30). Which two answers mean yes?",
        ),
        promises=(one_holder, reply_lost, visitor_crashes),
    ),
)
