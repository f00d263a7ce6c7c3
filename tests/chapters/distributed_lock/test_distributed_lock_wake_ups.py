"""A waiter's wait is counted from the release; one that does not wait is a violation."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from statistics import fmean

import pytest

from kvlab import Kv, Lock
from kvlab.chapters.distributed_lock.wake_ups import (
    SHORTEST,
    commands_while_waiting,
    four_locks,
    polling,
    spread_stays,
    wake_ups,
)
from kvlab.server.running_server import RunningServer


def test_a_waiter_that_does_not_wait_is_a_violation_in_each_turn() -> None:
    lock = threading.Lock()
    measured = wake_ups(
        {"none": nullcontext, "lock": lambda: lock}, turns=3, seed=1, stay=(0.05, 0.05)
    )
    assert measured.groupby("lock")["violation"].sum().to_dict() == {"none": 3, "lock": 0}
    assert measured.groupby("lock")["ms"].count().to_dict() == {"none": 3, "lock": 3}
    assert (measured["ms"] >= SHORTEST).all()
    assert set(measured["label"]) == {
        "none\n3 violations in 3 turns",
        "lock\n0 violations in 3 turns",
    }


def test_four_locks_are_measured_and_none_lets_the_waiter_in_early(kv: Kv) -> None:
    measured = four_locks(kv, Lock("x", 60), turns=1, seed=1)
    assert measured["lock"].to_list() == [
        "naive",
        "redis-py Lock",
        "redis-py, 1 ms",
        "hardened",
    ]
    assert not measured["violation"].any()


def test_no_seed_has_all_its_releases_late_in_a_sleep() -> None:
    for seed in range(20):
        stays = spread_stays(10, 0.05, 0.15, seed)
        assert sorted(int(stay * 100) for stay in stays) == list(range(5, 15))
        assert 0.095 < fmean(stays) < 0.105


def test_a_woken_waiter_sends_one_blpop(kv: Kv, server: RunningServer) -> None:
    kv.run(Lock("x", 60).try_acquire())  # loads the script
    kv.clear()
    sent = commands_while_waiting(server.url, kv.prefix, Lock("x", 60), seconds=0.3)
    assert sent.loc["kvlab", "sent"] == "2 EVALSHA, 1 BLPOP"
    asked = [int(sent.loc[name, "sent"].split()[0]) for name in ("redis-py", "redis-py, 1 ms")]
    assert 1 < asked[0] < asked[1]
    assert sent["came in"].all()


def test_polling_asks_until_it_is_given_and_gives_back_whatever_happens() -> None:
    answers, back = [None, None, "token"], []
    with pytest.raises(LookupError), polling(lambda: answers.pop(0), back.append, every=0) as token:
        assert token == "token"
        raise LookupError
    assert (answers, back) == ([], ["token"])
