"""Write-through: races of writers and readers, forced one by one, then in every order."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import SteppedClock, twin

from kvlab import (
    CacheAside,
    Call,
    Key,
    Kv,
    NaiveCacheAside,
    NaiveWriteThrough,
    Now,
    Op,
    Removed,
    Saved,
    Wait,
    WriteThrough,
    engines,
)
from kvlab.engines import RunningServer
from kvlab.errors import InvalidArgument, NotJson, OutcomeUnknown, ServerUnavailable
from kvlab.instruments import Proxy, gated
from kvlab.instruments.origin import Origin
from kvlab.write_through import STORE

cache = CacheAside("users", 300, jitter=0, early=0)
users = WriteThrough(cache)


class Table:
    """A database of one row; each write gets the next version."""

    def __init__(self, row: Any = "v0") -> None:
        self.row, self.version = row, 0

    def read(self) -> Any:
        return self.row

    def read_versioned(self) -> Any:
        return None if self.row is None else (self.row, self.version)

    def write(self) -> tuple[Any, int]:
        self.version += 1
        self.row = f"v{self.version}"
        return self.row, self.version

    def delete(self) -> int:
        self.version += 1
        self.row = None
        return self.version


def never() -> Any:
    raise AssertionError("the loader was called")


def pttl(kv: Kv, what: str) -> int:
    return int(kv.client.pttl(kv.prefix + cache.key("k", what).name))


# --- contract --------------------------------------------------------------------------------


def test_a_saved_row_is_served(run: Any) -> None:
    table = Table()
    assert run(cache.fetch("k", table.read)) == "v0"
    assert run(users.save("k", table.write)) == Saved("v1", 1, cached=True)
    assert run(cache.fetch("k", never)) == "v1"
    assert run(users.save("k", table.write)) == Saved("v2", 2, cached=True)
    assert run(users.fetch("k", never)) == "v2"


def test_a_removed_row_is_known_to_be_absent(run: Any) -> None:
    table = Table()
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


# --- forced schedules: the naive version, and the hardened one under the same ----------------


def cached(kv: Kv) -> Any:
    """What readers of the naive cache get without a load."""
    raw = kv.client.get(kv.prefix + "user:k")
    return None if raw is None else json.loads(raw)


def two_writers_naive(kv: Kv, url: str) -> bool:
    """Hold writer 1 before its cache write, let writer 2 pass. True: the cache is stale."""
    table = Table()
    held = gated(url, before="SETEX")
    with ThreadPoolExecutor(1) as pool:
        first = NaiveWriteThrough(held, prefix=kv.prefix)
        writing = pool.submit(first.save, "k", lambda: [table.write()[0]])
        assert held.gate.reached.wait(10)
        NaiveWriteThrough(kv.client, prefix=kv.prefix).save("k", lambda: [table.write()[0]])
        held.gate.open()
        assert writing.result(10) == "v1"
    held.close()
    return bool(cached(kv) != table.row)


def two_writers(kv: Kv, url: str) -> bool:
    table = Table()
    held = gated(url, before="EVALSHA")
    with ThreadPoolExecutor(1) as pool, Kv(held, prefix=kv.prefix) as first:
        writing = pool.submit(first.run, users.save("k", table.write))
        assert held.gate.reached.wait(10)
        assert kv.run(users.save("k", table.write)).cached
        held.gate.open()
        assert writing.result(10) == Saved("v1", 1, cached=False)
    held.close()
    return bool(kv.run(cache.fetch("k", never)) != table.row)


def deleted_row_naive(kv: Kv, url: str) -> bool:
    """Hold a reader before its fill, delete the row. True: the row is back in the cache."""
    table = Table("row")
    held = gated(url, before="SETEX")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(NaiveCacheAside(held, prefix=kv.prefix).get, "k", table.read)
        assert held.gate.reached.wait(10)
        NaiveWriteThrough(kv.client, prefix=kv.prefix).remove("k", table.delete)
        held.gate.open()
        assert reading.result(10) == "row"
    held.close()
    return cached(kv) is not None


def deleted_row(kv: Kv, url: str) -> bool:
    table = Table("row")
    held = gated(url, before="EVALSHA", nth=2)
    with ThreadPoolExecutor(1) as pool, Kv(held, prefix=kv.prefix) as reader:
        reading = pool.submit(reader.run, cache.fetch("k", table.read))
        assert held.gate.reached.wait(10)
        assert kv.run(users.remove("k", table.delete)).cached
        held.gate.open()
        assert reading.result(10) == "row"
    held.close()
    return kv.run(cache.fetch("k", table.read)) is not None


@pytest.mark.parametrize(
    ("schedule", "wrong"),
    [(two_writers_naive, 100), (two_writers, 0), (deleted_row_naive, 100), (deleted_row, 0)],
)
def test_100_forced_schedules(
    kv: Kv, server: RunningServer, schedule: Callable[[Kv, str], bool], wrong: int
) -> None:
    kv.run(cache.fetch("warm", lambda: 1))
    kv.run(users.save("warm", lambda: (1, 1)))
    found = 0
    for _ in range(100):
        found += schedule(kv, server.url)
        kv.clear()
    assert found == wrong


def test_naive_caches_undefined_for_an_unknown_id(kv: Kv) -> None:
    NaiveWriteThrough(kv.client, prefix=kv.prefix).save("k", list)
    assert kv.client.get(kv.prefix + "user:k") == b"null"
    assert kv.client.ttl(kv.prefix + "user:k") == 300


# --- the timelines of the module, in every order ---------------------------------------------


class Client:
    """A flow stepped by hand: one op or one call of user code at a time."""

    def __init__(self, kv: Kv, flow: Any) -> None:
        self.kv, self.steps = kv, iter(flow)
        self.done = False
        self._go_on(None)

    def _go_on(self, value: Any) -> None:
        try:
            self.todo = self.steps.send(value)
            while isinstance(self.todo, Now):
                self.todo = self.steps.send(0.0)
        except StopIteration:
            self.done = True

    def step(self) -> bool:
        """Make the next step; False if it was only a pause."""
        todo, value = self.todo, None
        if isinstance(todo, Call):
            value = todo.function(*todo.args)
        elif isinstance(todo, Op):
            value = self.kv.run(todo)
        self._go_on(value)
        return not isinstance(todo, Wait)


class World:
    """One run: a table, its cache, and what was seen in the cache after each step."""

    def __init__(self, kv: Kv, key: str) -> None:
        self.kv, self.key = kv, key
        self.table = Table()
        self.seen: list[Any] = []

    def cached(self) -> Any:
        """The cached row; "nothing" if there is none."""
        raw = self.kv.run(Op("HGET", cache.key(self.key, "entry"), "value"))
        return "nothing" if raw is None else json.loads(raw)

    def is_fresh(self) -> bool:
        return self.cached() in ("nothing", self.table.row)

    def never_went_back(self) -> bool:
        versions = [int(row[1:]) for row in self.seen if row not in ("nothing", None)]
        return versions == sorted(versions)


_keys = itertools.count()
Start = Callable[[World], list[Any]]


def explore(kv: Kv, start: Start, *, watch: bool) -> Iterator[World]:
    """Run the flows that ``start`` makes in every order of their steps."""
    todo: list[list[int]] = [[]]
    while todo:
        prefix = todo.pop()
        world = World(kv, f"k{next(_keys)}")
        clients = [Client(kv, flow) for flow in start(world)]
        path, asleep = [], set[int]()
        while unfinished := [i for i, c in enumerate(clients) if not c.done]:
            awake = [i for i in unfinished if i not in asleep]
            if not awake:  # what they wait for has happened before they paused
                asleep.clear()
                continue
            if len(path) < len(prefix):
                choice = prefix[len(path)]
            else:
                choice = awake[0]
                todo += [[*path, other] for other in awake[1:]]
            path.append(choice)
            if not clients[choice].step():
                asleep.add(choice)  # until another one has done something
                continue
            asleep.clear()
            if watch:
                world.seen.append(world.cached())
        yield world


def counted(kv: Kv, start: Start, holds: Callable[[World], bool]) -> tuple[int, int]:
    """How many orders there are, and in how many of them ``holds`` is false."""
    watch = holds is World.never_went_back
    outcomes = [holds(world) for world in explore(kv, start, watch=watch)]
    return len(outcomes), outcomes.count(False)


# The seed's steps as flows, so that the same explorer can order them.


def naive_read(world: World) -> Generator[Any, Any, None]:
    if (yield Op("HGET", cache.key(world.key, "entry"), "value")) is None:
        row = yield Call(world.table.read)
        if row:
            yield from naive_store(world, row)


def naive_save(world: World) -> Generator[Any, Any, None]:
    row, _ = yield Call(world.table.write)
    yield from naive_store(world, row)


def naive_remove(world: World) -> Generator[Any, Any, None]:
    yield Call(world.table.delete)
    yield Op("DEL", cache.key(world.key, "entry"))


def naive_store(world: World, row: Any) -> Generator[Any, Any, None]:
    yield Op("HSET", cache.key(world.key, "entry"), "value", json.dumps(row))


def invalidating(world: World) -> Generator[Any, Any, None]:
    yield Call(world.table.write)
    yield cache.invalidate(world.key)


def fetch(world: World) -> Any:
    return cache.fetch(world.key, world.table.read)


def fetch_versioned(world: World) -> Any:
    return users.fetch(world.key, world.table.read_versioned)


def save(world: World) -> Any:
    return users.save(world.key, world.table.write)


def remove(world: World) -> Any:
    return users.remove(world.key, world.table.delete)


def all_of(*programs: Callable[[World], Any]) -> Start:
    return lambda world: [program(world) for program in programs]


@pytest.mark.parametrize(
    "programs",
    [
        (naive_save, naive_save),
        (naive_read, naive_save),
        (naive_read, naive_remove),
        (naive_read, invalidating),
    ],
    ids=lambda programs: "+".join(p.__name__ for p in programs),
)
def test_the_explorer_finds_the_naive_races(kv: Kv, programs: Any) -> None:
    orders, stale = counted(kv, all_of(*programs), World.is_fresh)
    assert 0 < stale < orders


def renew(world: World) -> Any:
    """A reader that finds an entry due for renewal."""
    lease = world.kv.run(cache.read(world.key)).lease
    world.kv.run(cache.fill(world.key, lease, world.table.row))
    eager = CacheAside("users", 300, jitter=0, early=1e6, random=lambda: 0.9)
    return eager.fetch(world.key, world.table.read)


@pytest.mark.parametrize(
    "programs",
    [
        (fetch, invalidating, invalidating),
        (fetch, fetch, invalidating),
        (renew, invalidating, invalidating),
        (save, save, save),
        (fetch, save, save),
        (fetch, save, remove),
        (fetch, fetch, remove),
        (renew, save, remove),
        (fetch_versioned, save, remove),
        (fetch_versioned, fetch, save),
    ],
    ids=lambda programs: "+".join(p.__name__ for p in programs),
)
def test_the_cache_is_fresh_after_every_order(kv: Kv, programs: Any) -> None:
    orders, stale = counted(kv, all_of(*programs), World.is_fresh)
    assert orders >= 90
    assert stale == 0


def test_the_explorer_finds_the_stated_limit(kv: Kv) -> None:
    """A writer that only invalidates gives no version, so a ``save`` under way cannot know."""
    orders, stale = counted(kv, all_of(save, invalidating), World.is_fresh)
    assert (orders, stale) == (6, 1)


def test_with_versions_the_cache_never_goes_back(kv: Kv) -> None:
    """Timelines A to C for every order; D is what readers without versions can see."""
    orders, back = counted(kv, all_of(fetch_versioned, save, save), World.never_went_back)
    assert (orders, back) == (orders, 0)
    orders, back = counted(kv, all_of(fetch, save, save), World.never_went_back)
    assert 0 < back < orders, "the limit that the module states"
    orders, back = counted(kv, all_of(naive_read, naive_save, naive_save), World.never_went_back)
    assert 0 < back < orders


def test_timeline_c_a_reader_fills_after_the_newer_write(kv: Kv) -> None:
    table = Table()
    first, second = Client(kv, users.save("k", table.write)), users.save("k", table.write)
    first.step()
    kv.run(second)
    kv.run(cache.invalidate("k"))
    assert kv.run(cache.fetch("k", table.read)) == "v2"
    first.step()
    assert first.done
    assert kv.run(cache.fetch("k", never)) == "v2"


def test_the_tombstone_outlives_the_absence(stepped: tuple[Kv, SteppedClock]) -> None:
    """The absence is believed for negative_ttl; an old write is refused for longer."""
    kv, clock = stepped
    table = Table()
    late = Client(kv, users.save("k", table.write))
    late.step()
    kv.run(users.remove("k", table.delete))
    clock.step(31)
    late.step()
    assert kv.run(cache.fetch("k", table.read)) is None


def test_a_writer_held_for_longer_than_it_is_remembered(stepped: tuple[Kv, SteppedClock]) -> None:
    """The stated limit: after ``remember`` the old row lands, and ends with its TTL."""
    kv, clock = stepped
    table = Table()
    late = Client(kv, users.save("k", table.write))
    late.step()
    kv.run(users.remove("k", table.delete))
    clock.step(300.1)
    late.step()
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


@pytest.mark.parametrize("lose", ["swallow_requests", "swallow_replies"])
def test_a_lost_store_is_sent_again(shaky: tuple[Kv, Proxy], lose: str) -> None:
    kv, proxy = shaky
    lost = getattr(proxy, lose)(1, only="EVALSHA")
    assert kv.run(users.save("k", lambda: ("row", 1))) == Saved("row", 1, cached=True)
    assert lost.is_set()


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

    async def main() -> None:
        async with twin(kv) as akv:
            writing = asyncio.Event()

            async def stuck() -> Any:
                writing.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(akv.run(users.save("k", stuck)))
            await writing.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
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
