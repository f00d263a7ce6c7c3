"""Cache-aside under every order of its clients' commands, each fault at each point."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import EVERY
from support.stepped_cache import (
    LEASE,
    TTL,
    cache,
    change,
    db,
    explored,
    naive_read,
    read,
    renew,
)

from kvlab import NaiveCacheAside
from kvlab.instruments import ClientCrashed, World, replay

ENTRY, HELD = b"kv:cache:users:{k}:entry", b"kv:cache:users:{k}:lease"


def naive_change(kv: Any) -> None:
    db.write()
    NaiveCacheAside(kv).invalidate("k")


def crashed(world: World) -> list[bool]:
    return [isinstance(result, ClientCrashed) for result in world.results]


def pauses(world: World) -> list[float]:
    """Seconds that clients waited, to three digits."""
    labels = [step.label.split() for step in world.trace]
    return [float(label[1]) for label in labels if label[:1] == ["sleeps"]]


def every_key_ends(world: World) -> bool:
    return all(0 < world.kv.pttl(key) <= TTL * 1000 for key in world.kv.keys("*"))


# --- stampede ---------------------------------------------------------------------------------


def one_load(_: World) -> bool:
    """a key that was missed is loaded once"""
    return db.loads == 1


def test_naive_two_readers_load_twice() -> None:
    clients = [naive_read, naive_read]
    story = explored(*clients, invariant=one_load)
    assert (story.violations, story.schedules) == (18, 20), "all but one after the other"
    assert story.schedule is not None
    assert not replay(story.schedule, clients, setup=db.reset, invariant=one_load).holds
    assert replay("0 0 0 1", clients, setup=db.reset, invariant=one_load).holds


def one_load_while_the_lease_lives(world: World) -> bool:
    """one load, and one more only where the leader died or its lease or entry ended"""
    ended = sum(step.kind == "expire" for step in world.trace)
    served = [result for result in world.results if not isinstance(result, ClientCrashed)]
    return (
        db.loads <= 1 + sum(crashed(world)) + ended
        and served == ["v0"] * len(served)
        and sum(pauses(world)) <= LEASE + 0.01
        and (any(crashed(world)) or not world.kv.exists(HELD))
        and every_key_ends(world)
    )


def test_two_readers_make_one_load_whatever_happens() -> None:
    assert explored(read, read, invariant=one_load)
    # What costs a resend is tried with one reader below: each of its pauses has many orders here.
    faults = {"crashes": True, "lost_replies": True, "expiries": True}
    assert explored(read, read, invariant=one_load_while_the_lease_lives, reduce=True, **faults)


def undisturbed(world: World) -> bool:
    """a lost request or reply, or script, costs a round trip: no load and no lease's time"""
    return (
        (world.results, db.loads) == (["v0"], 1)
        and sum(pauses(world)) < LEASE / 2
        and bool(world.kv.exists(ENTRY))
        and not world.kv.exists(HELD)
    )


def test_what_is_lost_is_sent_again() -> None:
    faults = {"lost_replies": True, "lost_requests": True, "script_flushes": True, "max_faults": 2}
    assert explored(read, invariant=undisturbed, **faults)


def test_a_waiter_leads_when_the_dead_leaders_lease_ends() -> None:
    """1. first: lease  2. first dies  3. second: looks, pauses at most 250 ms, until it has it"""
    story = replay("0 x0", [read, read], setup=db.reset, invariant=waited_for_a_lease)
    assert story.holds, story


def waited_for_a_lease(world: World) -> bool:
    """the second waits for one lease, looks every 250 ms or sooner, and then loads"""
    waited = sum(pauses(world))  # less what has passed in fact
    return LEASE / 2 < waited <= LEASE + 0.01 and max(pauses(world)) <= 0.25 and db.loads == 1


# --- stale fill -------------------------------------------------------------------------------


def naive_is_fresh(world: World) -> bool:
    """what is cached is the row"""
    raw: Any = world.kv.get("user:k")
    return raw is None or json.loads(raw) == db.row


def test_naive_a_fill_lands_over_an_invalidation() -> None:
    clients = [naive_read, naive_change]
    story = explored(*clients, invariant=naive_is_fresh)
    assert (story.violations, story.schedules) == (1, 10)
    assert story.schedule == "0 0 1 1 0", "miss, load; update, delete; fill"
    assert not replay(story.schedule, clients, setup=db.reset, invariant=naive_is_fresh).holds


def is_fresh(world: World) -> bool:
    """what is cached is the row; if who changed it died on the way, it ends with its TTL"""
    cached = world.kv.run(cache.read("k"))
    fresh = not cached.hit or cached.value == db.row
    return every_key_ends(world) and (fresh or any(crashed(world)[1:]))


@pytest.mark.parametrize("reader", [read, renew])
def test_a_fill_never_lands_over_an_invalidation(reader: Any) -> None:
    assert explored(reader, change, invariant=is_fresh, reduce=True, **EVERY)


@pytest.mark.parametrize(
    "clients",
    [
        (read, change, change),
        (read, read, change),
        (renew, change, change),
        (renew, renew, change),
    ],
    ids=lambda clients: "+".join(client.__name__ for client in clients),
)
def test_with_three_clients(clients: Any) -> None:
    assert explored(*clients, invariant=is_fresh, reduce=True)
