"""Chapter 1: remember a value, and a cached loader that honours invalidations."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kvlab import CacheAside
from kvlab.instruments.explorer.clients.client_thread import step
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, data, promise

VALUES: tuple[Any, ...] = ({"name": "Ada"}, 0, "", False, [], None)
Cached = Callable[[str, Callable[[], object]], object]
"""A learner's function with its client: key, loader → value."""

CALLER_GOT_IT = "load raised LookupError, and the caller got it"
"""What the client of a trial returns when all is well."""


# --- the short one: remember(kv, key, load) ---


@promise("one load for three reads", "each value is loaded once and comes back as it was")
def loaded_once(remember: Any, explore: Explore) -> Story:
    def reads(kv: Any) -> str:
        return _three_reads_of_each(lambda key, load: remember(kv, key, load))

    return explore({"reader": reads}, invariant=_no_complaint, client_options=TEXT)


@promise("every key ends", "a key has a TTL of at most 60 s, after a crash too")
def every_key_ends(remember: Any, explore: Explore) -> Story:
    def has_ttl(world: World) -> bool:
        for key in data(world).keys("*"):
            ttl = data(world).ttl(key)
            assert ttl > 0, f"{key} has no TTL: a stale value would stay for ever"
            assert ttl <= 60, f"{key} lives for {ttl} s, and 60 were promised"
        return True

    return explore(
        {"reader": lambda kv: remember(kv, "user:7", lambda: "Ada")},
        invariant=has_ttl,
        crashes=True,
        client_options=TEXT,
    )


@promise("a TTL that ends in the middle", "the reader gets the value, from the cache or from load")
def ends_in_the_middle(remember: Any, explore: Explore) -> Story:
    def reads(kv: Any) -> Any:
        return remember(kv, "user:7", lambda: "Ada")

    def got_it(world: World) -> bool:
        assert world.results == ["Ada"], f"the value is 'Ada', and the reader got {world.results}"
        return True

    return explore(
        {"reader": reads}, setup=reads, invariant=got_it, expiries=True, client_options=TEXT
    )


@promise("a failed load", "the error reaches the caller, and the next caller loads again")
def failed_load(remember: Any, explore: Explore) -> Story:
    def reads(kv: Any) -> str:
        return _failed_then_loaded(lambda key, load: remember(kv, key, load))

    return explore({"reader": reads}, invariant=_no_complaint, client_options=TEXT)


# --- the long one: cached(kv, cache, key, load) ---

CACHE = CacheAside("exercise", ttl=60)


@promise("one load for three reads", "each value is loaded once, empty values and None too")
def cached_once(cached: Any, explore: Explore) -> Story:
    def reads(kv: Any) -> str:
        return _three_reads_of_each(lambda key, load: cached(kv.kv, CACHE, key, load))

    return explore({"reader": reads}, invariant=_no_complaint)


@promise("an invalidation during the load", "what was loaded before it is not cached")
def overtaken(cached: Any, explore: Explore) -> Story:
    table = {"row": "old"}

    def load() -> str:
        step("SELECT row", "row", reads=True)
        return table["row"]

    def writes(kv: Any) -> None:
        step("UPDATE row", "row")
        table["row"] = "new"
        kv.run(CACHE.invalidate("row"))

    def nothing_old(world: World) -> bool:
        found = world.kv.run(CACHE.read("row"))
        assert not found.hit or found.value == "new", "the row changed, and the old row is cached"
        return True

    def first(kv: Any) -> None:
        table["row"] = "old"

    return explore(
        {"reader": lambda kv: cached(kv.kv, CACHE, "row", load), "writer": writes},
        setup=first,
        invariant=nothing_old,
    )


@promise("a failed load", "the error reaches the caller, and the lease is free for the next one")
def gives_the_lease_back(cached: Any, explore: Explore) -> Story:
    def fails(kv: Any) -> str:
        try:
            cached(kv.kv, CACHE, "flaky", _fails)
        except LookupError:
            return CALLER_GOT_IT
        return "load raised LookupError, and the caller did not get it"

    def lease_is_free(world: World) -> bool:
        _no_complaint(world)
        found = world.kv.run(CACHE.read("flaky"))
        assert found.lease or found.wait == 0, (
            f"the lease of the failed load is still held, for {found.wait:.0f} s more"
        )
        assert not found.hit, f"the load failed, and {found.value!r} is cached"
        return True

    return explore({"reader": fails}, invariant=lease_is_free)


@promise("two readers at once", "both get the row, whoever has the lease")
def two_readers(cached: Any, explore: Explore) -> Story:
    def reads(kv: Any) -> Any:
        return cached(kv.kv, CACHE, "row", lambda: "Ada")

    def both_got_it(world: World) -> bool:
        assert world.results == ["Ada", "Ada"], f"two readers of one row got {world.results}"
        return True

    return explore({"one": reads, "two": reads}, invariant=both_got_it)


def _three_reads_of_each(cached: Cached) -> str:
    """What is wrong with three reads of each value; empty when nothing is."""
    for number, value in enumerate(VALUES):
        loads: list[object] = []

        def load(value: object = value, loads: list[object] = loads) -> object:
            loads.append(value)
            return value

        answers = [cached(f"key:{number}", load) for _ in range(3)]
        if json.dumps(answers, default=repr) != json.dumps([value] * 3):
            return f"three reads of {value!r} gave {answers}"
        if len(loads) != 1:
            return f"three reads of {value!r} took {len(loads)} loads; one is enough"
    return ""


def _fails() -> object:
    """A loader; the run shows that it raised."""
    step("load raises LookupError", "load")
    raise LookupError("the database is down")


def _failed_then_loaded(cached: Cached) -> str:
    try:
        answer = cached("flaky", _fails)
    except LookupError:
        pass
    else:
        return f"load raised LookupError, and the caller got {answer!r}"
    again = cached("flaky", lambda: "Ada")
    return (
        CALLER_GOT_IT
        if again == "Ada"
        else f"after a failed load the next load's value was {again!r}"
    )


def _no_complaint(world: World) -> bool:
    complaint = world.results[0]
    assert complaint in ("", CALLER_GOT_IT) or not isinstance(complaint, str), complaint
    return True


EXERCISES = (
    Exercise(
        number="01-short",
        function="remember",
        title="remember a value",
        minutes=10,
        hints=(
            "Is 0 in the cache the same as nothing in the cache? And None?",
            "Redis holds text. json.dumps makes text of a value, 'null' of None; only a missing "
            "key answers None.",
            "found = kv.get(key); if found is not None: return json.loads(found). Otherwise load, "
            "and kv.set(key, json.dumps(value), ex=60): value and TTL in one command.",
        ),
        promises=(loaded_once, every_key_ends, ends_in_the_middle, failed_load),
    ),
    Exercise(
        number="01",
        function="cached",
        title="a cached loader",
        minutes=20,
        hints=(
            "Which field of the Lookup says that something was found, also when it is None?",
            "A fill is accepted under the lease of the read before it; an invalidation takes "
            "that lease away. Who gives the lease back when load raises?",
            "hit: return the value. No lease: return load(). Otherwise load in a try; on an error "
            "run cache.release(key, lease) and raise again. Then cache.fill(key, lease, value).",
        ),
        promises=(cached_once, overtaken, gives_the_lease_back, two_readers),
    ),
)
