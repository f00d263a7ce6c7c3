"""Cache-aside: its contract on every engine, crowds, failures. Races: explored/."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis
from support import SteppedClock, cancelled_amid, twin

from kvlab import CacheAside, Key, Kv, Lookup, NaiveCacheAside, Op, WriteThrough
from kvlab.cache_aside.cache import READ
from kvlab.errors import (
    InvalidArgument,
    LoadsItself,
    NotJson,
    OutcomeUnknown,
    ServerRefused,
    ServerUnavailable,
)
from kvlab.instruments import Proxy
from kvlab.server.running_server import RunningServer

READERS = 64
Run = Callable[[Any], Any]

steady = CacheAside("users", 300, jitter=0, early=0)


class Loader:
    """Counts its calls; returns what ``value`` is when called."""

    def __init__(self, value: Any = None) -> None:
        self.value, self.calls = value, 0
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        with self._lock:
            self.calls += 1
        return self.value


def never() -> Any:
    raise AssertionError("the loader was called")


def ttls(kv: Kv) -> dict[str, int]:
    """What is left of each key's life, in ms; the name without the prefix."""
    names = [name.decode() for name in kv.client.scan_iter(kv.prefix + "*")]
    return {name.removeprefix(kv.prefix): kv.client.pttl(name) for name in names}


# --- contract: every engine, every way of travelling -----------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", [], False, {}, 1.5, {"a": ["ü", "\ud800", None]}])
def test_loads_once_then_serves(run: Any, value: Any) -> None:
    load = Loader(value)
    assert run(steady.fetch(7, load)) == value
    again = run(steady.fetch(7, load))
    assert again == value
    assert type(again) is type(value)
    assert load.calls == 1


def test_the_ops_by_hand(run: Any) -> None:
    op = steady.read("k")
    leader = run(op)
    assert (leader.hit, leader.wait) == (False, 0)
    assert run(op) == leader, "the same op again is the same lease"
    follower = run(steady.read("k"))
    assert (follower.hit, follower.lease) == (False, None)
    assert 9 < follower.wait <= 10

    fill = steady.fill("k", leader.lease, {"name": "Ada"})
    assert run(fill).stored
    assert run(fill).stored, "sent twice it still says that it was stored"
    assert run(steady.read("k")) == Lookup(True, {"name": "Ada"})
    assert run(steady.invalidate("k")) is None
    assert run(steady.invalidate("k")) is None
    assert not run(fill).stored
    assert run(steady.read("k")).lease not in (None, leader.lease)


def test_a_lease_given_back_is_free(run: Any) -> None:
    leader = run(steady.read("k"))
    run(steady.release("k", "not-the-lease"))
    with pytest.raises(InvalidArgument, match="lease"):
        steady.release("k", "")
    assert run(steady.read("k")).lease is None
    run(steady.release("k", leader.lease))
    assert run(steady.read("k")).lease is not None
    assert not run(steady.fill("k", leader.lease, 1)).stored


def test_an_op_run_again_after_its_fill_is_a_new_lease(run: Any) -> None:
    op = steady.read("k")
    first = run(op)
    run(steady.fill("k", first.lease, "old"))
    run(steady.invalidate("k"))
    second = run(op)
    assert second.lease != first.lease
    assert not run(steady.fill("k", first.lease, "old")).stored


def test_every_key_has_a_ttl(run: Any) -> None:
    cache = CacheAside("users", 300, jitter=0, negative_ttl=20, early=0)
    lease = run(cache.read("full")).lease
    run(cache.read("led"))
    run(cache.fill("full", lease, "x"))
    run(cache.fetch("absent", Loader(None)))
    found = ttls(run.kv)
    assert set(found) == {
        "cache:users:{full}:entry",
        "cache:users:{led}:lease",
        "cache:users:{absent}:entry",
    }
    assert 290_000 < found["cache:users:{full}:entry"] <= 300_000
    assert 9_000 < found["cache:users:{led}:lease"] <= 10_000
    assert 19_000 < found["cache:users:{absent}:entry"] <= 20_000


@pytest.mark.parametrize("foreign", [b"not json", b"NaN", b'{"a":', b"", b"[" * 100_000])
def test_an_unreadable_entry_is_a_miss_and_replaced(run: Any, foreign: bytes) -> None:
    run(Op("HSET", steady.key("k", "entry"), "value", foreign))
    run(Op("PEXPIRE", steady.key("k", "entry"), 60_000))
    load = Loader("good")
    assert run(steady.fetch("k", load)) == "good"
    assert run(steady.fetch("k", load)) == "good"
    assert load.calls == 1


@pytest.mark.parametrize("what", ["entry", "lease"])
@pytest.mark.parametrize(
    "command", [("SET", "x"), ("LPUSH", "x"), ("HSET", "a", "b")], ids=lambda c: c[0]
)
def test_keys_of_another_type_are_replaced(any_kv: Kv, what: str, command: Any) -> None:
    verb, *args = command
    any_kv.run(Op(verb, steady.key("k", what), *args))
    load = Loader("good")
    assert any_kv.run(steady.fetch("k", load)) == "good"
    assert any_kv.run(steady.fetch("k", load)) == "good"
    assert load.calls == 1
    assert all(left > 0 for left in ttls(any_kv).values())


NO_JSON = [float("nan"), float("inf"), (1, 2), {1: "a"}, {1, 2}, b"x", 10**5000]


@pytest.mark.parametrize("value", NO_JSON, ids=lambda value: type(value).__name__)
def test_what_json_cannot_carry_is_refused_and_the_lease_is_free(run: Any, value: Any) -> None:
    with pytest.raises(NotJson) as caught:
        run(steady.fetch("k", lambda: value))
    assert isinstance(caught.value, TypeError)
    assert ttls(run.kv) == {}


def test_deep_and_circular_values_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(NotJson):
            steady.fill("k", "lease", value)


def test_a_loader_that_raises_gives_the_lease_back(run: Any) -> None:
    def broken() -> Any:
        raise LookupError("no database")

    with pytest.raises(LookupError):
        run(steady.fetch("k", broken))
    assert ttls(run.kv) == {}
    assert run(steady.fetch("k", Loader(1))) == 1


def test_an_invalidation_during_the_load_stops_the_fill(run: Any) -> None:
    kv = run.kv

    def load() -> str:
        kv.run(steady.invalidate("k"))
        return "old"

    assert run(steady.fetch("k", load)) == "old", "the leader's caller gets what was loaded"
    assert ttls(kv) == {}


def test_ten_megabytes_and_awkward_keys(any_kv: Kv) -> None:
    big = "x" * 10_000_000
    with Kv(any_kv.client, prefix=any_kv.prefix, timeout=30, deadline=30) as patient:
        assert patient.run(steady.fetch("big", Loader(big))) == big
        assert patient.run(steady.fetch("big", never)) == big
    keys = ["", "a\nb", "a\0b", "{a}", "}{", "a:b", "\ud800", "k" * 10_000_000, "~", "1 "]
    for i, key in enumerate(keys):
        any_kv.run(steady.fetch(key, Loader(i)))
    assert [any_kv.run(steady.fetch(key, never)) for key in keys] == list(range(len(keys)))


def test_names_and_prefixes_are_apart(kv: Kv) -> None:
    other, inner = CacheAside("orders", 300), kv.within("inner")
    for i, (where, cache) in enumerate([(kv, steady), (kv, other), (inner, steady)]):
        assert where.run(cache.fetch("k", Loader(i))) == i
    kv.run(steady.invalidate("k"))
    assert kv.run(other.fetch("k", never)) == 1
    assert inner.run(steady.fetch("k", never)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"ttl": True},
        {"ttl": "9"},
        {"jitter": 1},
        {"jitter": -0.1},
        {"early": -1},
        {"early": float("nan")},
        {"lease": 0},
        {"negative_ttl": 0},
        {"name": 1.5},
    ],
    ids=str,
)
def test_bad_arguments_fail_at_construction(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="not"):
        CacheAside(**{"name": "users", "ttl": 300} | arguments)


@pytest.mark.parametrize("version", [-1, 2**53, 1.0, True, "1"])
def test_bad_versions_are_refused(version: Any) -> None:
    with pytest.raises(InvalidArgument, match="version"):
        steady.fill("k", "lease", 1, version=version)


# --- round trips -----------------------------------------------------------------------------


def test_round_trips(any_kv: Kv) -> None:
    any_kv.run(steady.fetch("k", Loader(1)))  # on a cluster the node of this key learns scripts
    any_kv.run(steady.invalidate("k"))

    def cost(what: Any) -> int:
        before = any_kv.round_trips
        any_kv.run(what)
        return any_kv.round_trips - before

    assert cost(steady.fetch("k", Loader(1))) == 2
    assert cost(steady.fetch("k", never)) == 1
    assert cost(steady.read("k")) == cost(steady.invalidate("k")) == 1
    lease = any_kv.run(steady.read("k")).lease
    assert cost(steady.fill("k", lease, 1)) == 1
    any_kv.run(Op("HSET", steady.key("k", "entry"), "value", "not json"))
    assert cost(steady.fetch("k", Loader(1))) == 3
    any_kv.client.script_flush()
    assert any_kv.run(steady.fetch("k", never)) == 1


# --- stampede --------------------------------------------------------------------------------


def crowd(n: int, read: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(n)

    def one() -> Any:
        barrier.wait(20)
        return read()

    with ThreadPoolExecutor(n) as pool:
        return [f.result(30) for f in [pool.submit(one) for _ in range(n)]]


def test_naive_64_readers_make_64_loads(kv: Kv) -> None:
    naive = NaiveCacheAside(kv.client, prefix=kv.prefix)
    all_missed = threading.Barrier(READERS)
    load = Loader("v")

    def slow() -> Any:
        all_missed.wait(20)
        return load()

    crowd(READERS, lambda: naive.get("k", slow))
    assert load.calls == READERS


class Arrivals:
    """A trace hook: ``all_here`` once ``n`` reads of the cache have been answered."""

    def __init__(self, n: int) -> None:
        self.n, self.reads = n, 0
        self.all_here = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, trip: Any) -> None:
        with self._lock:
            self.reads += sum(op.command is READ for op in trip.ops)
            if self.reads >= self.n:
                self.all_here.set()


def test_64_threads_make_one_load(kv: Kv) -> None:
    arrivals = Arrivals(READERS)
    load = Loader("v")

    def slow() -> Any:
        assert arrivals.all_here.wait(20)
        return load()

    kv.settings = replace(kv.settings, trace=arrivals)
    assert crowd(READERS, lambda: kv.run(steady.fetch("k", slow))) == ["v"] * READERS
    assert load.calls == 1


def test_64_tasks_make_one_load(kv: Kv) -> None:
    arrivals, all_here = Arrivals(READERS), asyncio.Event()
    load = Loader("v")

    def trace(trip: Any) -> None:
        arrivals(trip)
        if arrivals.all_here.is_set():
            all_here.set()

    async def slow() -> Any:
        await all_here.wait()
        return load()

    async def main() -> list[Any]:
        async with twin(kv, trace=trace) as akv:
            return await asyncio.gather(*(akv.run(steady.fetch("k", slow)) for _ in range(READERS)))

    assert asyncio.run(main()) == ["v"] * READERS
    assert load.calls == 1


PROCESS = """
import sys, redis
from kvlab import CacheAside, Kv, NaiveCacheAside
url, prefix = sys.argv[1:]
client = redis.Redis.from_url(url)
kv = Kv(client, prefix=prefix)
def load():
    client.incr(prefix + "loads")
    print("loading", flush=True)
    sys.stdin.readline()
    return "v"
def hear(word):
    print(word, flush=True)
    sys.stdin.readline()
hear("ready")
hear("got " + NaiveCacheAside(client, prefix=prefix).get("k", load))
print("got", kv.run(CacheAside("users", 300).fetch("k", load)), flush=True)
"""


def test_eight_processes(kv: Kv, server: RunningServer) -> None:
    """The naive cache, then the hardened one; "go" lets a process begin, and its load end."""
    command = [sys.executable, "-c", PROCESS, server.url, kv.prefix]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) for _ in range(8)
    ]

    try:
        assert [heard(p) for p in processes] == ["ready"] * 8
        for p in processes:
            say(p)
        # Each of them loads: nobody fills before all have missed.
        assert [heard(p) for p in processes] == ["loading"] * 8
        for p in processes:
            say(p)
        assert [heard(p) for p in processes] == ["got v"] * 8
        assert kv.client.getdel(kv.prefix + "loads") == b"8"
        for _ in range(2):
            for p in processes:
                say(p)
        outputs = [p.communicate(timeout=30)[0].split() for p in processes]
        assert all(words[-2:] == ["got", "v"] for words in outputs)
        assert kv.client.get(kv.prefix + "loads") == b"1"
    finally:
        for p in processes:
            p.kill()
            p.wait()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


# --- what the naive version caches ------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", []])
def test_naive_never_caches_falsy_values(kv: Kv, value: Any) -> None:
    load = Loader(value)
    for _ in range(10):
        NaiveCacheAside(kv.client, prefix=kv.prefix).get("k", load)
    assert load.calls == 10


def test_naive_serves_what_it_cached(kv: Kv) -> None:
    naive, load = NaiveCacheAside(kv.client, prefix=kv.prefix), Loader({"id": 7})
    assert [naive.get(7, load) for _ in range(3)] == [{"id": 7}] * 3
    assert load.calls == 1
    assert kv.client.ttl(kv.prefix + "user:7") == 300


# --- leaders that fail -----------------------------------------------------------------------


class Waiter:
    """A flow on a clock of the test's own: ``during(n)`` runs in its n-th pause."""

    def __init__(self, kv: Kv, during: Callable[[int], None]) -> None:
        self.now, self.pauses = 0.0, []
        self._during = during
        self.kv = Kv(kv.client, prefix=kv.prefix, clock=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self._during(len(self.pauses))


def test_a_waiter_gets_the_leaders_value(kv: Kv) -> None:
    lease = kv.run(steady.read("k")).lease

    def during(n: int) -> None:
        if n == 3:
            kv.run(steady.fill("k", lease, "from the leader"))

    waiter = Waiter(kv, during)
    assert waiter.kv.run(steady.fetch("k", never)) == "from the leader"
    assert waiter.pauses == [0.005, 0.0075, 0.01125]
    assert waiter.kv.round_trips == 4


def test_a_waiter_looks_again_when_the_lease_ends(kv: Kv) -> None:
    kv.run(Op("SET", steady.key("k", "lease"), "a dead leader's", "PX", 3_000))
    waiter = Waiter(kv, lambda n: shorten(waiter.pauses[-1]))
    left = 3.0

    def shorten(pause: float) -> None:
        nonlocal left
        left -= pause
        if left > 0.001:
            kv.run(Op("PEXPIRE", steady.key("k", "lease"), round(left * 1000)))
        else:
            kv.run(Op("DEL", steady.key("k", "lease")))

    assert waiter.kv.run(steady.fetch("k", Loader("mine"))) == "mine"
    assert sum(waiter.pauses) <= 3.0
    assert waiter.pauses[-1] < 0.25


def test_a_waiter_takes_over_at_once_when_the_leader_gives_up(kv: Kv) -> None:
    lease = kv.run(steady.read("k")).lease
    waiter = Waiter(kv, lambda n: kv.run(steady.release("k", lease)))
    load = Loader("mine")
    assert waiter.kv.run(steady.fetch("k", load)) == "mine"
    assert (load.calls, len(waiter.pauses)) == (1, 1)
    assert kv.run(steady.fetch("k", never)) == "mine"


def test_after_two_leases_a_waiter_loads_for_itself(kv: Kv) -> None:
    def another_leader(n: int) -> None:  # each takes the lease, and none fills
        assert n < 1000, "it would wait for ever"
        kv.run(Op("SET", steady.key("k", "lease"), "another", "PX", 10_000))

    another_leader(0)
    waiter = Waiter(kv, another_leader)
    load = Loader("my own")
    assert waiter.kv.run(steady.fetch("k", load)) == "my own"
    assert load.calls == 1
    assert 20 <= sum(waiter.pauses) < 20.3
    assert not kv.run(steady.read("k")).hit


def test_a_load_longer_than_its_lease(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    second = Loader("new")

    def slow() -> str:
        clock.step(10.1)
        assert kv.run(steady.fetch("k", second)) == "new"
        return "old"

    assert kv.run(steady.fetch("k", slow)) == "old"
    assert kv.run(steady.fetch("k", never)) == "new", "the late fill did not land"
    assert second.calls == 1


def test_a_late_fill_does_not_land_under_the_next_lease(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    late = kv.run(steady.read("k")).lease
    clock.step(10.1)
    current = kv.run(steady.read("k")).lease
    assert not kv.run(steady.fill("k", late, "old")).stored
    kv.run(steady.release("k", late))
    assert kv.run(steady.fill("k", current, "new")).stored


def test_a_cancelled_leader_gives_the_lease_back(kv: Kv) -> None:
    cancelled_amid(kv, lambda stuck: steady.fetch("k", stuck))
    assert ttls(kv) == {}


def test_a_reader_cancelled_before_its_answer_gives_the_lease_back(
    kv: Kv, server: RunningServer
) -> None:
    kv.run(steady.fetch("warm", Loader(1)))
    kv.run(steady.invalidate("warm"))

    async def main() -> None:
        with Proxy(server.url) as proxy:
            # The lease is granted, but its answer never arrives.
            lost = proxy.swallow_replies(1, only="EVALSHA", then="hang")
            through = Kv(server.client(), prefix=kv.prefix)
            through.client.connection_pool.connection_kwargs["port"] = proxy.port
            async with twin(through) as akv:
                task = asyncio.create_task(akv.run(steady.fetch("k", never)))
                assert await asyncio.to_thread(lost.wait, 10)
                assert list(ttls(kv)) == ["cache:users:{k}:lease"]
                for _ in range(10):  # Python 3.11's wait_for, in redis-py's sending, loses a cancel
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(main())
    assert ttls(kv) == {}


# --- early renewal and jitter ----------------------------------------------------------------


def always(u: float) -> Callable[[], float]:
    return lambda: u


def test_one_caller_renews_early_while_the_others_get_the_old_value(kv: Kv) -> None:
    cache = CacheAside("users", 300, jitter=0, early=1e6, random=always(0.9))
    kv.run(cache.fetch("k", Loader("old")))
    arrivals = Arrivals(READERS)
    load = Loader("new")

    def slow() -> Any:
        assert arrivals.all_here.wait(20)
        return load()

    kv.settings = replace(kv.settings, trace=arrivals)
    got = crowd(READERS, lambda: kv.run(cache.fetch("k", slow)))
    assert sorted(got) == ["new"] + ["old"] * (READERS - 1)
    assert load.calls == 1


def test_without_early_renewal_an_entry_is_served_to_its_end(
    stepped: tuple[Kv, SteppedClock],
) -> None:
    kv, clock = stepped
    cache = CacheAside("users", 300, jitter=0, early=0, random=always(1 - 1e-16))
    kv.run(cache.fetch("k", lambda: clock.step(5)))
    kv.run(cache.invalidate("k"))
    kv.run(cache.fetch("k", lambda: clock.step(5) or "slow"))
    clock.step(299.9)
    assert kv.run(cache.fetch("k", never)) == "slow"
    clock.step(0.2)
    assert kv.run(cache.fetch("k", Loader("next"))) == "next"


def test_the_renewal_is_due_by_the_formula(stepped: tuple[Kv, SteppedClock]) -> None:
    """A load of 2 s, β = 3, u = 1 − e⁻¹: −β·δ·ln(1 − u) is 6 s before the end."""
    kv, clock = stepped
    u = 0.6321205588285577
    cache = CacheAside("users", 300, jitter=0, early=3, random=always(u))
    kv.run(cache.fetch("k", lambda: clock.step(2) or "v"))
    clock.step(293.95)
    assert kv.run(cache.read("k")) == Lookup(True, "v")
    clock.step(0.1)
    renewing = kv.run(cache.read("k"))
    assert renewing.hit
    assert renewing.lease
    assert kv.run(cache.read("k")) == Lookup(True, "v"), "another caller is at it"


def test_a_renewal_that_outlives_the_entry_still_lands(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    cache = CacheAside("users", 300, jitter=0, early=1, random=always(0.99))
    kv.run(cache.fetch("k", lambda: clock.step(1) or "old"))
    clock.step(299)

    def load() -> str:
        clock.step(5)
        assert kv.run(cache.read("k")).wait > 0, "nobody else loads meanwhile"
        return "new"

    assert kv.run(cache.fetch("k", load)) == "new"
    assert kv.run(steady.fetch("k", never)) == "new"


def test_a_failing_renewal_leaves_the_old_value_and_the_lease_free(kv: Kv) -> None:
    cache = CacheAside("users", 300, jitter=0, early=1e6, random=always(0.9))
    kv.run(cache.fetch("k", Loader("old")))

    def broken() -> Any:
        raise LookupError

    assert kv.run(cache.fetch("k", broken)) == "old"
    assert list(ttls(kv)) == ["cache:users:{k}:entry"]
    with pytest.raises(NotJson):
        kv.run(cache.fetch("k", lambda: {1}))
    assert list(ttls(kv)) == ["cache:users:{k}:entry"]


def test_an_entry_that_lost_its_ttl_gets_it_back(kv: Kv) -> None:
    kv.run(steady.fetch("k", Loader("old")))
    kv.client.persist(kv.prefix + "cache:users:{k}:entry")
    assert kv.run(steady.fetch("k", Loader("new"))) == "new"
    assert ttls(kv)["cache:users:{k}:entry"] > 0


def test_jitter_spreads_the_lives_below_the_ttl(kv: Kv) -> None:
    cache = CacheAside("users", 100, jitter=0.2, negative_ttl=10, random=random.Random(1).random)
    lives = [cache.life("v") for _ in range(1000)]
    assert 80_000 <= min(lives) < 81_000
    assert 99_000 < max(lives) <= 100_000
    assert len(set(lives)) > 900
    assert {steady.life(value) for value in ("v", 0, "", [], False)} == {300_000}
    assert all(8_000 <= cache.life(None) <= 10_000 for _ in range(100))
    assert CacheAside("users", 5, jitter=0).life(None) == 5_000


# --- the server fails ------------------------------------------------------------------------


@pytest.fixture
def shaky(kv: Kv, server: RunningServer) -> Iterator[tuple[Kv, Proxy]]:
    """An executor through a proxy, with short patience."""
    with Proxy(server.url) as proxy:
        client = server.client()
        client.connection_pool.connection_kwargs["port"] = proxy.port
        with Kv(client, prefix=kv.prefix, timeout=0.2, deadline=0.5) as through:
            kv.run(steady.fetch("warm", Loader(1)))
            yield through, proxy
        client.close()


def test_server_down_the_loader_answers(shaky: tuple[Kv, Proxy]) -> None:
    kv, proxy = shaky
    proxy.refuse()
    proxy.cut()
    load = Loader("v")
    assert [kv.run(steady.fetch("k", load)) for _ in range(3)] == ["v"] * 3
    assert load.calls == 3
    with pytest.raises(ServerUnavailable):
        kv.run(steady.invalidate("k"))


def test_server_down_one_load_at_a_time(shaky: tuple[Kv, Proxy]) -> None:
    kv, proxy = shaky
    proxy.refuse()
    proxy.cut()
    joined = threading.Semaphore(0)
    load, share = Loader({"v": [1]}), kv._shared.run

    def counted(*args: Any, **kwargs: Any) -> Any:
        joined.release()
        return share(*args, **kwargs)

    def slow() -> Any:
        for _ in range(16):
            assert joined.acquire(timeout=20)
        # All have asked; those that came second wait on this call or find it under way.
        return load()

    kv._shared.run = counted  # type: ignore[method-assign]
    rows = crowd(16, lambda: kv.run(steady.fetch("k", slow)))
    assert load.calls == 1
    for row in rows:  # each caller has its own copy
        assert row == {"v": [1]}
        row["v"].append(2)
    assert load.value == {"v": [1]}


def test_server_down_a_value_that_is_no_json_is_refused_as_ever(shaky: tuple[Kv, Proxy]) -> None:
    kv, proxy = shaky
    proxy.refuse()
    proxy.cut()
    with pytest.raises(NotJson):
        kv.run(steady.fetch("k", lambda: {1, 2}))


def test_a_loader_that_fetches_its_own_key_is_told(shaky: tuple[Kv, Proxy]) -> None:
    kv, proxy = shaky
    users, far = WriteThrough(steady), kv.within("far")
    ways: list[Callable[[], Any]] = [
        lambda: kv.run(steady.fetch("k", ways[0])),
        lambda: (kv.run(users.fetch("k", ways[1])), 1),
        lambda: asyncio.run(asyncio.to_thread(kv.run, steady.fetch("k", ways[2]))),
    ]
    for down in (False, True):
        if down:
            proxy.refuse()
            proxy.cut()
        for way in ways:
            with pytest.raises(LoadsItself, match=r"cache:users:\{k\}"):
                way()
        # Another key, and the same key in another namespace, are no circle.
        assert kv.run(steady.fetch("a", lambda: kv.run(steady.fetch("b", lambda: 1)))) == 1
        assert kv.run(steady.fetch("c", lambda: far.run(steady.fetch("c", lambda: 2)))) == 2
    far.close()


def test_a_task_that_a_loader_leaves_behind_is_outside(kv: Kv) -> None:
    async def give_back(_: float) -> None:  # while the task waits for the lease
        await asyncio.to_thread(kv.run, steady.release("k", leases.pop()))

    leases: list[str] = []

    async def main() -> None:
        async with twin(kv, sleep=give_back) as akv:
            loaded = asyncio.Event()
            left: list[asyncio.Task[Any]] = []

            async def later() -> Any:
                await loaded.wait()
                await akv.run(steady.invalidate("k"))
                leases.append((await akv.run(steady.read("k"))).lease or "")
                return await akv.run(steady.fetch("k", lambda: "again"))

            async def load() -> Any:
                left.append(asyncio.create_task(later()))
                return "v"

            async def circle() -> Any:
                return await asyncio.gather(akv.run(steady.fetch("own", circle)))

            assert await akv.run(steady.fetch("k", load)) == "v"
            loaded.set()
            assert await left[0] == "again"
            with pytest.raises(LoadsItself):
                await circle()

    asyncio.run(main())


def test_a_failing_load_is_shared_by_those_who_wait_for_it(kv: Kv) -> None:
    loads: list[str] = []

    class Group:
        """Callers of one executor, such as one process: their pauses end when ``go`` is set."""

        def __init__(self, name: str) -> None:
            self.name, self.paused, self.go = name, threading.Semaphore(0), threading.Event()
            self.kv = Kv(kv.client, prefix=kv.prefix, sleep=self.pause)

        def pause(self, _: float) -> None:
            self.paused.release()
            assert self.go.wait(20)

        def load(self) -> Any:
            loads.append(self.name)
            for _ in range(7):
                assert self.paused.acquire(timeout=20)
            raise LookupError(self.name)

        def read(self) -> str:
            try:
                return self.kv.run(steady.fetch("k", self.load))  # type: ignore[no-any-return]
            except LookupError as problem:
                self.go.set()
                return str(problem)

    for name in ("first", "second"):  # who comes after the failure loads again
        group = Group(name)
        assert crowd(8, group.read) == [name] * 8
        group.kv.close()
    assert loads == ["first", "second"]
    assert kv.run(steady.fetch("k", lambda: "v")) == "v"


def test_a_failing_load_is_shared_by_tasks(kv: Kv) -> None:
    loads, reads = 0, 8

    async def main() -> None:
        paused, go = asyncio.Semaphore(0), asyncio.Event()

        async def pause(_: float) -> None:
            paused.release()
            await go.wait()

        async def load() -> Any:
            nonlocal loads
            loads += 1
            for _ in range(reads - 1):
                await paused.acquire()
            go.set()
            raise LookupError("no database")

        async with twin(kv, sleep=pause) as akv:
            came = await asyncio.gather(
                *(akv.run(steady.fetch("k", load)) for _ in range(reads)), return_exceptions=True
            )
            assert [str(one) for one in came] == ["no database"] * reads
            assert loads == 1
            assert await akv.run(steady.fetch("k", lambda: "v")) == "v"

    asyncio.run(main())


def test_another_process_loads_once_more_after_a_failure(kv: Kv) -> None:
    # Two executors are as two processes: they share the server alone.
    def fails() -> Any:
        waits = other.run(steady.read("k"))
        assert (waits.hit, waits.lease) == (False, None)
        raise LookupError("here")

    with Kv(kv.client, prefix=kv.prefix) as other:
        with pytest.raises(LookupError):
            kv.run(steady.fetch("k", fails))
        assert other.run(steady.fetch("k", lambda: "there")) == "there"


def test_server_lost_between_read_and_fill(shaky: tuple[Kv, Proxy]) -> None:
    kv, proxy = shaky

    def load() -> str:
        proxy.refuse()
        proxy.cut()
        return "v"

    assert kv.run(steady.fetch("k", load)) == "v"


def test_an_answer_that_never_comes(shaky: tuple[Kv, Proxy]) -> None:
    kv, proxy = shaky
    proxy.swallow_requests(100, only="EVALSHA", then="hang")
    assert kv.run(steady.fetch("k", Loader("v"))) == "v"
    with pytest.raises(OutcomeUnknown):
        kv.run(steady.read("k"))


def test_a_server_out_of_memory(running: Callable[[str], RunningServer]) -> None:
    from kvlab.server import engines

    with engines.start("valkey") as server, Kv(server.client()) as kv:
        kv.run(steady.fetch("warm", Loader("hot")))
        kv.client.config_set("maxmemory", 1)
        load = Loader("v")
        assert kv.run(steady.fetch("k", load)) == "v"
        assert kv.run(steady.fetch("warm", never)) == "hot"
        kv.client.config_set("maxmemory", 0)

        def full() -> str:
            kv.client.config_set("maxmemory", 1)
            return "v"

        assert kv.run(steady.fetch("k", full)) == "v"
        assert list(ttls(kv)) == ["cache:users:{warm}:entry"], "the lease was given back"
        kv.client.config_set("maxmemory", 0)
        kv.client.close()


def test_a_refusal_that_is_the_callers_to_see(kv: Kv, server: RunningServer) -> None:
    kv.client.acl_setuser(
        "reader", enabled=True, nopass=True, keys=["*"], commands=["+get", "+ping"]
    )
    client = redis.Redis(server.host, server.port, username="reader", password="x")
    try:
        with Kv(client, prefix=kv.prefix) as limited, pytest.raises(ServerRefused) as caught:
            limited.run(steady.fetch("k", never))
        assert caught.value.code == "NOPERM"
    finally:
        client.close()
        kv.client.acl_deluser("reader")


def test_the_entry_can_be_read_by_people(kv: Kv) -> None:
    kv.run(steady.fetch("k", Loader({"name": "Ada"})))
    entry = kv.run(Op("HGETALL", Key("cache:users:{k}:entry")))
    fields = dict(zip(entry[::2], entry[1::2], strict=True))
    assert json.loads(fields[b"value"]) == {"name": "Ada"}
    assert 0 <= float(fields[b"load"]) < 10_000
