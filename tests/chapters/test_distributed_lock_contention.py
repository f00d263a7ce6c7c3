"""Who was inside is counted, not inferred; and the frozen holder's model agrees with itself."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from kvlab import Kv, Lock
from kvlab.chapters.distributed_lock_contention import (
    Stay,
    add_one,
    contend,
    in_turns,
    most_inside,
    polling,
    stays_chart,
    wake_up_chart,
    wake_ups,
)
from kvlab.chapters.distributed_lock_freeze import chart, frozen


def test_stays_that_touch_do_not_overlap() -> None:
    assert most_inside([Stay(0, 0, 1), Stay(0, 1, 2), Stay(0, 2, 3)]) == 1
    assert most_inside([Stay(0, 0, 1), Stay(0, 0.5, 2), Stay(0, 0.9, 3)]) == 3
    assert most_inside([]) == 0


def test_a_crowd_without_a_lock_is_inside_together_and_with_one_it_is_not(kv: Kv) -> None:
    key = kv.prefix + "number"
    everybody = threading.Barrier(8)
    free = contend(8, nullcontext, lambda _: add_one(kv.client, key, everybody.wait))
    assert (len(free), most_inside(free), int(kv.client.get(key))) == (8, 8, 1)
    kv.client.delete(key)
    one = contend(8, lambda: kv.hold(Lock("x", 60)), lambda _: add_one(kv.client, key))
    assert (len(one), most_inside(one), int(kv.client.get(key))) == (8, 1, 8)
    fences = [stay.held.fence for stay in one]
    assert fences == sorted(set(fences))
    assert stays_chart(one, title="x")


def test_a_waiter_that_does_not_wait_is_a_violation_in_each_turn() -> None:
    lock = threading.Lock()
    found = wake_ups(
        {"none": nullcontext, "lock": lambda: lock}, turns=3, seed=1, held=(0.05, 0.05)
    )
    assert found["none"].overlaps == 3
    assert found["lock"].overlaps == 0
    assert all(len(each.seconds) == 3 for each in found.values())
    assert wake_up_chart(found, title="x")


def test_turns_are_put_together_and_races_counted() -> None:
    calls: list[str] = []
    found = in_turns(
        {
            "a": (lambda: calls.append("a"), lambda: "freed"),
            "b": (lambda: calls.append("b"), lambda: None),
        },
        turns=3, count=4, warmup=1, seed=1,
    )  # fmt: skip
    assert "".join(calls) == ("a" * 5 + "b" * 5) * 3
    assert [(r.count, r.violations) for r in found.values()] == [(12, 3), (12, 0)]


def test_polling_asks_until_it_is_given_and_gives_back_whatever_happens() -> None:
    answers, back = [None, None, "token"], []
    with pytest.raises(LookupError), polling(lambda: answers.pop(0), back.append, every=0) as token:
        assert token == "token"
        raise LookupError
    assert (answers, back) == ([], ["token"])


@pytest.mark.parametrize(
    ("ttl", "pause", "both", "late", "stopped"),
    [
        (10, 1, 0, False, False),  # A is back in time
        (5, 7, 2, True, True),  # B came and went while A was frozen
        (5, 4, 1, False, True),  # A writes while B is inside
        (5, 3, 0, False, True),  # to the moment
    ],
)
def test_a_frozen_holder(ttl: float, pause: float, both: float, late: bool, stopped: bool) -> None:
    story = frozen(ttl, pause)
    assert (story.both, story.late, story.check_stops_a) == (both, late, stopped)
    assert chart(story)
