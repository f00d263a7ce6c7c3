"""Write-through: its contract on every engine, late writers, failures. Races: explored/."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import SteppedClock, cancelled_amid

from kvlab import CacheAside, Fill, Key, Kv, NaiveWriteThrough, Op, Removed, Saved, WriteThrough
from kvlab.errors import InvalidArgument, NotJson, OutcomeUnknown, ServerUnavailable
from kvlab.instruments import Proxy
from kvlab.instruments.explorer.stepped_row import SteppedRow
from kvlab.instruments.faults.slow_database import Origin
from kvlab.server import engines
from kvlab.server.running_server import RunningServer
from kvlab.write_through.writer import STORE

cache = CacheAside("users", 300, jitter=0, early=0)
users = WriteThrough(cache)


def never() -> Any:
    raise AssertionError("the loader was called")


def pttl(kv: Kv, what: str) -> int:
    return int(kv.client.pttl(kv.prefix + cache.key("k", what).name))


# --- contract --------------------------------------------------------------------------------


def test_a_saved_row_is_served(run: Any) -> None:
    table = SteppedRow()
    assert run(cache.fetch("k", table.read)) == "v0"
    assert run(users.save("k", table.write)) == Saved("v1", 1, cached=True)
    assert run(cache.fetch("k", never)) == "v1"
    assert run(users.save("k", table.write)) == Saved("v2", 2, cached=True)
    assert run(users.fetch("k", never)) == "v2"


def test_a_removed_row_is_known_to_be_absent(run: Any) -> None:
    table = SteppedRow()
    run(users.save("k", table.write))
    assert run(users.remove("k", table.delete)) == Removed(2, cached=True)
    assert run(cache.fetch("k", never)) is None
    assert run(users.save("k", table.write)) == Saved("v3", 3, cached=True)
    assert run(cache.fetch("k", never)) == "v3"


def test_an_older_version_does_not_replace_a_newer_one(run: Any) -> None:
    run(users.save("k", lambda: ("new", 2)))
    assert run(users.save("k", lambda: ("old", 1))) == Saved("old", 1, cached=False)
    assert run(users.remove("k", lambda: 1)) == Removed(1, cached=False)
    assert run(cache.fetch("k", never)) == "new"
    run(users.remove("k", lambda: 4))
    assert not run(users.save("k", lambda: ("deleted row", 3))).cached
    assert run(cache.fetch("k", never)) is None


def test_versions_of_sixteen_digits_are_compared_exactly(run: Any) -> None:
    top = 2**53 - 1
    assert run(users.save("k", lambda: ("new", top))).cached
    assert not run(users.save("k", lambda: ("old", top - 1))).cached
    assert run(cache.fetch("k", never)) == "new"


def test_the_same_version_twice_is_the_same_write(run: Any) -> None:
    assert run(users.save("k", lambda: ("row", 1))).cached
    assert run(users.save("k", lambda: ("row", 1))).cached
    run(cache.invalidate("k"))
    assert not run(users.save("k", lambda: ("row", 1))).cached, "it stays invalidated"
    assert run(cache.fetch("k", lambda: "loaded")) == "loaded"


def test_a_fill_of_the_newest_known_version_is_stored(any_kv: Kv) -> None:
    any_kv.run(users.save("k", lambda: ("row", 2)))
    any_kv.run(cache.invalidate("k"))
    assert any_kv.run(users.fetch("k", lambda: ("row", 2))) == "row"
    assert any_kv.run(users.fetch("k", never)) == "row"


def test_a_fill_sent_again_after_a_save_is_not_what_the_entry_holds(any_kv: Kv) -> None:
    lease = any_kv.run(cache.read("k")).lease
    fill = cache.fill("k", lease, "loaded")
    assert any_kv.run(fill, fill) == (Fill(stored=True), Fill(stored=True))
    any_kv.run(users.save("k", lambda: ("saved", 1)))
    assert any_kv.run(fill) == Fill(stored=False)
    assert any_kv.run(cache.fetch("k", never)) == "saved"


def test_a_fill_that_its_version_refuses_ends_its_lease(any_kv: Kv) -> None:
    any_kv.run(users.save("k", lambda: ("row", 2)))
    any_kv.run(cache.invalidate("k"))
    lease = any_kv.run(cache.read("k")).lease
    assert any_kv.run(cache.fill("k", lease, "old", version=1)) == Fill(stored=False)
    assert any_kv.run(cache.read("k")).lease is not None  # the next caller loads at once


def test_every_key_has_a_ttl(any_kv: Kv) -> None:
    short = CacheAside("users", 2, jitter=0, negative_ttl=1, early=0, lease=10)
    any_kv.run(WriteThrough(short).save("k", lambda: ("row", 1)))
    assert 1_000 < pttl(any_kv, "entry") <= 2_000
    assert 9_000 < pttl(any_kv, "version") <= 10_000, "at least as long as a lease"
    any_kv.run(WriteThrough(short, remember=60).remove("k", lambda: 2))
    assert 0 < pttl(any_kv, "entry") <= 1_000
    assert 59_000 < pttl(any_kv, "version") <= 60_000
    any_kv.run(users.fetch("k", lambda: never()))
    assert len(list(any_kv.client.scan_iter(any_kv.prefix + "*"))) == 2


def test_a_fill_keeps_the_version_for_as_long_as_its_entry(any_kv: Kv) -> None:
    short = CacheAside("users", 20, jitter=0, early=0)
    any_kv.run(WriteThrough(short).save("k", lambda: ("row", 1)))
    any_kv.run(cache.invalidate("k"))
    any_kv.run(cache.fetch("k", lambda: "row"))
    version = pttl(any_kv, "version")
    assert 290_000 < pttl(any_kv, "entry") <= version
    any_kv.run(cache.invalidate("k"))
    any_kv.run(short.fetch("k", lambda: "row"))
    assert pttl(any_kv, "version") > 290_000, "and never for less than before"


def test_a_versioned_fill_is_remembered_at_least_as_long_as_a_lease(any_kv: Kv) -> None:
    short = CacheAside("users", 2, jitter=0, early=0, lease=10)
    any_kv.run(WriteThrough(short).fetch("k", lambda: ("row", 1)))
    assert 0 < pttl(any_kv, "entry") <= 2_000
    assert 8_000 < pttl(any_kv, "version") <= 10_000


def test_a_versioned_fill(any_kv: Kv) -> None:
    assert any_kv.run(users.fetch("k", lambda: ("v5", 5))) == "v5"
    assert 290_000 < pttl(any_kv, "version") <= 300_000
    assert not any_kv.run(users.save("k", lambda: ("v4", 4))).cached
    any_kv.run(cache.invalidate("k"))
    assert any_kv.run(users.fetch("k", lambda: ("lagging replica", 3))) == "lagging replica"
    assert any_kv.run(users.fetch("k", lambda: None)) is None
    assert any_kv.run(cache.fetch("k", never)) is None
    with pytest.raises(InvalidArgument, match="row, version"):
        any_kv.run(users.fetch("other", lambda: "row"))
    assert any_kv.run(users.fetch("other", lambda: ("row", 1))) == "row"


def test_nothing_is_cached_when_the_database_refuses(run: Any) -> None:
    run(users.save("k", lambda: ("row", 1)))
    lease = run(cache.read("led")).lease
    before = run.kv.round_trips

    def refused() -> Any:
        raise LookupError("not null constraint")

    for flow in (users.save("k", refused), users.remove("k", refused), users.save("led", refused)):
        with pytest.raises(LookupError):
            run(flow)
    assert run.kv.round_trips == before
    assert run(cache.fetch("k", never)) == "row"
    assert run(cache.fill("led", lease, 1)).stored


def test_no_row_to_change(run: Any) -> None:
    assert run(users.save("k", lambda: None)) == Saved(None, None, cached=False)
    assert run(users.remove("k", lambda: None)) == Removed(None, cached=False)
    assert not list(run.kv.client.scan_iter(run.kv.prefix + "*"))
    run(cache.fetch("k", lambda: "a row that somebody deleted elsewhere"))
    run(users.save("k", lambda: None))
    assert run(cache.fetch("k", lambda: None)) is None


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (("row", -1), InvalidArgument),
        (("row", 2**53), InvalidArgument),
        (("row", 1.0), InvalidArgument),
        (("row", True), InvalidArgument),
        ("row", InvalidArgument),
        (("row", 1, 2), InvalidArgument),
        (({1, 2}, 1), NotJson),
        ((float("nan"), 1), NotJson),
    ],
    ids=str,
)
def test_a_result_that_cannot_be_stored(kv: Kv, written: Any, error: type[Exception]) -> None:
    kv.run(cache.fetch("k", lambda: "stale"))
    with pytest.raises(error) as caught:
        kv.run(users.save("k", lambda: written))
    assert "has committed" in caught.value.__notes__[0]
    assert kv.run(cache.fetch("k", lambda: "fresh")) == "fresh"


def test_bad_arguments() -> None:
    for remember in (9.9, 0, -1, float("inf"), True, "60"):
        with pytest.raises(InvalidArgument, match="remember"):
            WriteThrough(cache, remember=remember)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="CacheAside"):
        WriteThrough("users")  # type: ignore[arg-type]


def test_a_bad_key_fails_before_the_database(kv: Kv) -> None:
    with pytest.raises(InvalidArgument):
        kv.run(users.save(1.5, never))  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["entry", "lease", "version"])
def test_keys_of_another_type_are_replaced(any_kv: Kv, what: str) -> None:
    any_kv.run(Op("LPUSH", cache.key("k", what), "x"))
    assert any_kv.run(users.save("k", lambda: ("row", 1))).cached
    assert any_kv.run(cache.fetch("k", never)) == "row"
    assert pttl(any_kv, "entry") > 0
    assert pttl(any_kv, "version") > 0


def test_round_trips(any_kv: Kv) -> None:
    any_kv.run(users.save("warm", lambda: ("row", 1)))

    def cost(flow: Any) -> int:
        before = any_kv.round_trips
        any_kv.run(flow)
        return any_kv.round_trips - before

    assert cost(users.save("k", lambda: ("row", 1))) == 1
    assert cost(users.remove("k", lambda: 2)) == 1
    assert cost(users.save("k", lambda: None)) == 1
    any_kv.client.script_flush()
    assert any_kv.run(users.save("k", lambda: ("row", 3))).cached


# --- the naive version ------------------------------------------------------------------------


def test_naive_caches_undefined_for_an_unknown_id(kv: Kv) -> None:
    NaiveWriteThrough(kv.client, prefix=kv.prefix).save("k", list)
    assert kv.client.get(kv.prefix + "user:k") == b"null"
    assert kv.client.ttl(kv.prefix + "user:k") == 300


# --- a writer that is late --------------------------------------------------------------------


def late_save(table: SteppedRow) -> Op[bool]:
    """What a writer that has committed is about to send."""
    steps = iter(users.save("k", table.write))
    write: Any = next(steps)
    storing: Op[bool] = steps.send(write.function())
    return storing


def test_the_tombstone_outlives_the_absence(stepped: tuple[Kv, SteppedClock]) -> None:
    """The absence is believed for negative_ttl; an old write is refused for longer."""
    kv, clock = stepped
    table = SteppedRow()
    late = late_save(table)
    kv.run(users.remove("k", table.delete))
    clock.step(31)
    assert not kv.run(late)
    assert kv.run(cache.fetch("k", table.read)) is None


def test_a_writer_held_for_longer_than_it_is_remembered(stepped: tuple[Kv, SteppedClock]) -> None:
    """The stated limit: after ``remember`` the old row lands, and ends with its TTL."""
    kv, clock = stepped
    table = SteppedRow()
    late = late_save(table)
    kv.run(users.remove("k", table.delete))
    clock.step(300.1)
    assert kv.run(late)
    assert kv.run(cache.fetch("k", never)) == "v1"
    assert 0 < pttl(kv, "entry") <= 300_000


# --- the cache fails after the commit --------------------------------------------------------


@pytest.fixture
def shaky(kv: Kv, server: RunningServer) -> Iterator[tuple[Kv, Proxy]]:
    """An executor through a proxy, with short patience."""
    with Proxy(server.url) as proxy:
        client = server.client()
        client.connection_pool.connection_kwargs["port"] = proxy.port
        with Kv(client, prefix=kv.prefix, timeout=0.2, deadline=0.5) as through:
            kv.run(users.save("warm", lambda: ("row", 1)))
            yield through, proxy
        client.close()


def test_server_down_after_the_commit(shaky: tuple[Kv, Proxy], kv: Kv) -> None:
    through, proxy = shaky
    kv.run(cache.fetch("k", lambda: "stale"))
    proxy.refuse()
    proxy.cut()
    saved = through.run(users.save("k", lambda: ("row", 1)))
    assert (saved.row, saved.version, saved.cached) == ("row", 1, False)
    assert isinstance(saved.error, ServerUnavailable)
    removed = through.run(users.remove("k", lambda: 2))
    assert (removed.version, removed.cached) == (2, False)
    assert isinstance(removed.error, ServerUnavailable)
    assert isinstance(through.run(users.save("k", lambda: None)).error, ServerUnavailable)
    assert 0 < pttl(kv, "entry") <= 300_000, "what is stale ends with its TTL"


def test_server_down_a_row_and_a_row_with_its_version_are_two_loads(
    shaky: tuple[Kv, Proxy],
) -> None:
    through, proxy = shaky
    proxy.refuse()
    proxy.cut()
    with ThreadPoolExecutor(1) as pool:

        def load() -> tuple[str, int]:  # while it is under way, somebody asks without a version
            bare = pool.submit(through.run, cache.fetch("k", lambda: "row"))
            return bare.result(timeout=10), 1

        assert through.run(users.fetch("k", load)) == "row"


def test_an_answer_that_never_comes(shaky: tuple[Kv, Proxy]) -> None:
    kv, proxy = shaky
    proxy.swallow_replies(100, only="EVALSHA", then="hang")
    saved = kv.run(users.save("k", lambda: ("row", 1)))
    assert isinstance(saved.error, OutcomeUnknown)


def test_a_server_out_of_memory_forgets_the_old_row() -> None:
    with engines.start("valkey") as server, server.client() as client, Kv(client) as kv:
        kv.run(users.save("warm", lambda: ("row", 1)))
        kv.run(cache.fetch("k", lambda: "stale"))
        kv.client.config_set("maxmemory", 1)
        saved = kv.run(users.save("k", lambda: ("row", 1)))
        assert (saved.row, saved.cached) == ("row", False)
        assert "OOM" in str(saved.error)
        assert kv.run(cache.fetch("k", lambda: "loaded")) == "loaded"


def test_a_cancelled_write_forgets_what_is_cached(kv: Kv) -> None:
    kv.run(cache.fetch("k", lambda: "stale"))
    cancelled_amid(kv, lambda stuck: users.save("k", stuck))
    assert kv.run(cache.fetch("k", lambda: "loaded")) == "loaded"


def test_cancelled_after_the_commit_the_row_is_stored_all_the_same(kv: Kv) -> None:
    flow = users.save("k", lambda: ("row", 1))
    steps = iter(flow)
    steps.send(None)
    storing = steps.send(("row", 1))
    assert storing.command is STORE
    again = steps.throw(asyncio.CancelledError())
    assert again is storing
    with pytest.raises(asyncio.CancelledError):
        steps.send(kv.run(again))
    assert kv.run(cache.fetch("k", never)) == "row"


# --- a real database -------------------------------------------------------------------------


def test_with_the_real_database(kv: Kv) -> None:
    with Origin(customer_count=20, order_count=200) as origin:
        profile = cache.fetch(7, lambda: origin.read(7))
        assert kv.run(profile) == origin.read(7)
        saved = kv.run(users.save(7, lambda: origin.update(7, name="Ada")))
        assert saved.cached
        assert kv.run(profile) == origin.read(7) == saved.row
        assert kv.run(users.save(99, lambda: origin.update(99, name="Nobody"))) == Saved(
            None, None, cached=False
        )
        assert kv.client.exists(kv.prefix + Key("cache:users:{99}:entry").name) == 0
        with pytest.raises(Exception, match="customers_name_not_empty"):
            kv.run(users.save(7, lambda: origin.update(7, name="")))
        assert kv.run(cache.fetch(7, never)) == origin.read(7)
        assert kv.run(users.remove(7, lambda: origin.remove(7))).cached
        assert kv.run(cache.fetch(7, never)) is None
        assert kv.run(users.save(7, lambda: origin.save(7, name="Back"))).cached
        assert kv.run(cache.fetch(7, never)) == origin.read(7)
