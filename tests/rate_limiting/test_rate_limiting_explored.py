"""Rate limiting in every order: each naive flaw is found, and the hardened ones have none there.

Windows are months long, so nothing is given back during a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from contracts.limiter import KINDS, LONG

from kvlab import Decision, NaiveFixedWindow, NaiveSlidingWindow
from kvlab.errors import OutcomeUnknown
from kvlab.instruments import World, explore, replay

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

FAULTS: dict[str, Any] = {
    "crashes": True,
    "lost_replies": True,
    "lost_requests": True,
    "script_flushes": True,
    "clock_jumps": [3600.0, -3600.0],
}


def naive_fixed(kv: Any) -> bool:
    return NaiveFixedWindow(kv).check("ann")


def naive_sliding(kv: Any) -> bool:
    return NaiveSlidingWindow(kv, limit=1).check("ann")


def every_key_expires(world: World) -> bool:
    """every key has a TTL"""
    return all(world.kv.pttl(key) > 0 for key in world.kv.scan_iter())


# --- the counter with a TTL -------------------------------------------------------------------


def test_naive_a_crash_leaves_a_counter_that_never_ends() -> None:
    story = explore([naive_fixed], crashes=True, invariant=every_key_expires)
    assert story.schedule == "0 x0"  # between INCR and EXPIRE
    after = replay(story.schedule, [naive_fixed] * 13, invariant=every_key_expires)
    assert after.shortest is not None
    assert after.shortest.results[1:] == (True,) * 9 + (False,) * 3  # and nobody sets a TTL
    assert not after.holds


def test_naive_a_lost_reply_leaves_one_too() -> None:
    story = explore([naive_fixed], lost_replies=True, invariant=every_key_expires)
    assert story.schedule == "r0 0"  # INCR, sent again, answers 2


def test_naive_a_lost_reply_counts_twice() -> None:
    def counted_once(world: World) -> bool:
        return world.kv.get("ratelimit:ann") == b"1"

    assert explore([naive_fixed], invariant=counted_once)
    assert not explore([naive_fixed], lost_replies=True, invariant=counted_once).holds


# --- look, then add ---------------------------------------------------------------------------


def test_naive_sliding_36_of_54_orders_admit_two_of_one() -> None:
    story = explore([naive_sliding] * 2, invariant=lambda world: sum(world.results) == 1)
    assert (story.violations, story.schedules, story.complete) == (36, 54, True)
    assert not replay(
        str(story.schedule), [naive_sliding] * 2, invariant=lambda world: sum(world.results) == 1
    ).holds


def test_naive_sliding_a_crash_leaves_a_log_that_never_ends() -> None:
    story = explore([naive_sliding], crashes=True, invariant=every_key_expires)
    assert story.schedule == "0 0 0 x0"  # between ZADD and EXPIRE


@pytest.mark.parametrize("jump", [61, -2])
def test_naive_sliding_a_wrong_clock_does_not_see_what_others_used(jump: int) -> None:
    def another(kv: Any) -> None:
        assert NaiveSlidingWindow(kv, limit=1, clock=lambda: time.time() - 1).check("ann")

    def denied(world: World) -> bool:
        return world.results == [False]

    assert explore([naive_sliding], setup=another, invariant=denied)
    story = explore([naive_sliding], setup=another, invariant=denied, clock_jumps=jump)
    assert (story.violations, story.schedules) == (1, 2)


# --- the hardened ones over the same space ----------------------------------------------------


def hits(limiter: Any, costs: Sequence[int], *, op_ids: bool) -> list[Callable[[Any], Decision]]:
    def client(cost: int, op_id: str | None) -> Callable[[Any], Decision]:
        return lambda kv: kv.run(limiter.hit("ann", cost, op_id))

    return [client(cost, f"op{n}" if op_ids else None) for n, cost in enumerate(costs)]


def used(world: World, limiter: Any) -> int:
    peeked = world.kv.run(limiter.peek("ann"))
    return peeked.limit - peeked.remaining


def keeps_its_word(limiter: Any, costs: Sequence[int]) -> Callable[[World], bool]:
    """Within the limit, what fits is admitted, what is denied is not counted, all expires."""
    counter = b"kv:" + limiter.hit("ann").keys[0].name.encode()

    def invariant(world: World) -> bool:
        lives = 1 + sum(step.key == counter for step in world.trace)  # the key's: its TTL ended
        paired = list(zip(costs, world.results, strict=True))
        answers = [(cost, one) for cost, one in paired if isinstance(one, Decision)]
        admitted = sum(cost for cost, decision in answers if decision.allowed)
        denied = [cost for cost, decision in answers if not decision.allowed]
        unknown = sum(cost for cost, one in paired if not isinstance(one, Decision))
        assert admitted <= limiter.limit * lives, f"{admitted} of {limiter.limit} admitted"
        if lives == 1:
            count = used(world, limiter)
            assert admitted <= count <= admitted + unknown, f"{admitted} admitted, {count} counted"
            assert count + min(denied, default=limiter.limit + 1) > limiter.limit, "it fitted"
        return every_key_expires(world)

    return invariant


def spend(limiter: Any, costs: Sequence[int], **op_ids: bool) -> dict[str, Any]:
    return {
        "clients": hits(limiter, costs, **op_ids),
        "invariant": keeps_its_word(limiter, costs),
    }


@each_kind
def test_no_order_and_no_fault_breaks_its_word(kind: Any) -> None:
    limiter = kind("api", limit=2, window=LONG)
    assert explore(**spend(limiter, (2, 1, 1), op_ids=False), **FAULTS, expiries=True)


@each_kind
def test_with_op_ids_two_faults_in_one_run_do_not_either(kind: Any) -> None:
    limiter = kind("api", limit=2, window=LONG)
    sent_again = {"crashes": True, "lost_replies": True, "max_faults": 2}
    assert explore(**spend(limiter, (2, 1), op_ids=True), **sent_again)


@each_kind
@pytest.mark.parametrize("op_id", [None, "a"])
def test_a_lost_reply_is_unknown_without_an_op_id_and_known_with_one(kind: Any, op_id: Any) -> None:
    limiter, seen = kind("api", limit=9, window=LONG), set()

    def sent_twice_counts_once(world: World) -> bool:
        seen.update(map(type, world.results))
        return used(world, limiter) == 3

    clients = [lambda kv: kv.run(limiter.hit("ann", 3, op_id))]
    assert explore(clients, lost_replies=True, invariant=sent_twice_counts_once)
    assert seen == ({Decision} if op_id else {Decision, OutcomeUnknown})


@each_kind
def test_two_callers_with_one_op_id_count_once(kind: Any) -> None:
    limiter = kind("api", limit=9, window=LONG)

    def as_one(world: World) -> bool:
        told = {result for result in world.results if isinstance(result, Decision)}
        return len(told) == 1 and used(world, limiter) == 3

    clients = [lambda kv: kv.run(limiter.hit("ann", 3, "a"))] * 2
    assert explore(clients, invariant=as_one, **FAULTS)
    apart = [lambda kv: kv.run(limiter.hit("ann", 3))] * 2  # the control
    assert not explore(apart, invariant=as_one).holds


def test_its_timeline_tells_the_count_from_the_answer_kept_beside_it() -> None:
    limiter = KINDS[0]("api", limit=9, window=LONG)
    shown = replay("r0", [lambda kv: kv.run(limiter.hit("ann", 3, "a"))]).shortest
    assert shown is not None
    assert len(shown.states[-1]) == 2
    assert str(shown).count(" = ") == 2
    assert ":op:a = " in str(shown)
