"""Write-through under every order of its clients' commands, each fault at each point."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import EVERY
from support.stepped_cache import TTL, cache, change, db, explored, naive_read, read, renew

from kvlab import NaiveWriteThrough, Saved, WriteThrough
from kvlab.instruments import ClientCrashed, World, replay

users = WriteThrough(cache)
VERSION = b"kv:cache:users:{k}:version"


def naive_save(kv: Any) -> Any:
    return NaiveWriteThrough(kv).save("k", lambda: [db.write()[0]])


def naive_remove(kv: Any) -> None:
    NaiveWriteThrough(kv).remove("k", db.delete)


def read_versioned(kv: Any) -> Any:
    return kv.run(users.fetch("k", db.read_versioned))


def save(kv: Any) -> Any:
    return kv.run(users.save("k", db.write))


def remove(kv: Any) -> Any:
    return kv.run(users.remove("k", db.delete))


def save_and_invalidate(kv: Any) -> None:
    save(kv)
    kv.run(cache.invalidate("k"))


def names(given: Any) -> str | None:
    return "+".join(client.__name__ for client in given) if isinstance(given, tuple) else None


# --- what is cached when all are done ---------------------------------------------------------


def naive_is_fresh(world: World) -> bool:
    """what is cached is the row"""
    raw: Any = world.kv.get("user:k")
    return raw is None or json.loads(raw) == db.row


@pytest.mark.parametrize(
    ("clients", "schedule", "stale", "orders"),
    [
        ((naive_save, naive_save), "0 1 1 0", 2, 6),
        ((naive_read, naive_remove), "0 0 1 1 0", 1, 8),
        ((naive_read, naive_save), "0 0 1 1 0", 1, 10),
    ],
    ids=names,
)
def test_naive_the_cache_ends_stale(clients: Any, schedule: str, stale: int, orders: int) -> None:
    """Two writers change places; a deleted row comes back; a fill lands over a write."""
    story = explored(*clients, invariant=naive_is_fresh)
    assert (story.schedule, story.violations, story.schedules) == (schedule, stale, orders)
    assert not replay(schedule, clients, setup=db.reset, invariant=naive_is_fresh).holds


def is_fresh(world: World) -> bool:
    """what is cached is the row, and the newest write was told so

    Where a writer died, or the server forgot the version before its time, the TTL is the bound.
    """
    cached = world.kv.run(cache.read("k"))
    ends = all(0 < world.kv.pttl(key) <= TTL * 1000 for key in world.kv.keys("*"))
    forgotten = any(step.key == VERSION for step in world.trace)
    committed = {step.client for step in world.trace if step.label.endswith("COMMIT")}
    died = any(isinstance(world.results[client], ClientCrashed) for client in committed)
    told = [result for result in world.results if getattr(result, "version", None) == db.version]
    fresh = (not cached.hit or cached.value == db.row) and all(saved.cached for saved in told)
    return ends and (fresh or forgotten or died)


@pytest.mark.parametrize(
    "clients",
    [
        (save, save),
        (save, remove),
        (read, save),
        (read, remove),
        (read_versioned, remove),
        (renew, remove),
    ],
    ids=names,
)
def test_the_cache_ends_fresh_whatever_happens(clients: Any) -> None:
    assert explored(*clients, invariant=is_fresh, reduce=True, **EVERY)


@pytest.mark.parametrize(
    "clients",
    [
        (save, save, save),
        (read, save, save),
        (read, save, remove),
        (renew, save, remove),
        (read_versioned, save, remove),
        (read_versioned, read, save),
        (save, save_and_invalidate, read),  # timeline C of the module among them
    ],
    ids=names,
)
def test_with_three_clients(clients: Any) -> None:
    assert explored(*clients, invariant=is_fresh, reduce=True)


def test_the_limit_of_a_write_without_a_version() -> None:
    """A writer that only invalidates gives no version, so a ``save`` under way cannot know."""
    story = explored(save, change, invariant=is_fresh)
    assert (story.schedule, story.violations, story.schedules) == ("0 1 1 0", 1, 6)


@pytest.mark.parametrize(
    "flaw", [{"crashes": True}, {"expiries": True}], ids=lambda f: next(iter(f))
)
def test_the_limits_of_a_writer_that_dies_and_of_a_lost_version(flaw: Any) -> None:
    """What ``is_fresh`` makes allowance for does happen: then the TTL is the bound."""

    def fresh(world: World) -> bool:
        cached = world.kv.run(cache.read("k"))
        return not cached.hit or cached.value == db.row

    story = explored(save, save, invariant=fresh, **flaw)
    assert 0 < story.violations < story.schedules
    assert story.schedule in ("0 0 1 x1", f"0 1 1 e:{VERSION.decode()} 0")


# --- what is cached on the way ----------------------------------------------------------------


def landed(world: World) -> list[int]:
    """The versions that came into the cache, in order: by SETEX, or a script that answered 1."""
    found = []
    for step in world.trace:
        for command in step.commands:
            if command[0] == b"SETEX":
                found.append(command[3])
            elif command[0] == b"EVALSHA" and command[2] == b"3" and step.replies == (1,):
                found.append(command[7])  # of both scripts with three keys
    return [int(json.loads(value)[1:]) for value in found]


def never_goes_back(world: World) -> bool:
    """an older version never replaces a newer one"""
    return landed(world) == sorted(landed(world))


def test_with_versions_the_cache_never_goes_back() -> None:
    """Timelines A and B of the module; D is what readers without versions can see."""
    assert explored(read_versioned, save, save, invariant=never_goes_back)
    for reader, writer in ((read, save), (naive_read, naive_save)):
        story = explored(reader, writer, writer, invariant=never_goes_back)
        assert 0 < story.violations < story.schedules


# --- a lost request or reply ------------------------------------------------------------------


def undisturbed(world: World) -> bool:
    """the row is stored, and the writer is told so"""
    return world.results == [Saved("v1", 1, cached=True)] and is_fresh(world)


def test_what_is_lost_is_sent_again() -> None:
    faults = {"lost_replies": True, "lost_requests": True, "script_flushes": True, "max_faults": 2}
    assert explored(save, invariant=undisturbed, **faults)
