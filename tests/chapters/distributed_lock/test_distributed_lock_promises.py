"""What the invariants of chapter 5 ask, on explored runs of a few commands."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from kvlab import fenced_set
from kvlab.chapters.distributed_lock import promises
from kvlab.instruments import World, explore

KEY = promises.LOCK_KEYS[0]


def takes(kv: Any) -> Any:
    return kv.set(KEY, "a", ex=10, nx=True)


def sets(key: str, kv: Any) -> Any:
    return kv.set(key, "a")


def sleeps(kv: Any) -> Any:
    return kv.blpop("wake", 1)


def wakes(kv: Any) -> Any:
    return kv.rpush("wake", "1")


def test_a_ttl_that_ended_before_the_first_step_is_told_from_one_after_it() -> None:
    seen = set[tuple[bool, bool]]()

    def note(world: World) -> bool:
        seen.add((promises.began_after_expiry(world, client=1), world.results[1] is True))
        return True

    explore([takes, takes], invariant=note, expiries=True, progress=False)
    # B comes second; B comes after A's TTL has ended; B comes first, and its own TTL ends
    assert seen == {(False, False), (True, True), (False, True)}


@pytest.mark.parametrize("key", promises.LOCK_KEYS)
def test_a_lock_is_taken_when_either_key_is_there(key: str) -> None:
    seen: list[bool] = []

    def note(world: World) -> bool:
        seen.append(promises.lock_is_taken(world))
        return True

    for client in (partial(sets, key), lambda kv: kv.get(key)):
        explore([client], invariant=note, progress=False)
    assert seen == [True, False]


@pytest.mark.parametrize(("clients", "in_vain"), [([sleeps, wakes], False), ([sleeps], True)])
def test_a_wait_until_its_end_without_a_fault_is_in_vain(clients: Any, in_vain: bool) -> None:
    seen = set[bool]()

    def note(world: World) -> bool:
        seen.add(promises.waited_in_vain(world))
        return True

    explore(clients, invariant=note, progress=False)
    assert in_vain in seen


def test_the_row_is_read_from_either_key() -> None:
    rows: list[str | None] = []

    def note(world: World) -> bool:
        rows.append(promises.what_the_row_says(world))
        return True

    writers = (
        lambda kv: kv.get("row"),
        lambda kv: kv.set("row", "A"),
        lambda kv: kv.run(fenced_set("row", "B", 1)),
    )
    for writer in writers:
        explore([writer], invariant=note, progress=False)
    assert rows == [None, "A", "B"]
