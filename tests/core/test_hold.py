"""Bodies under a lock: they start with it, learn of its loss, and leave it behind free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from support import twin

from kvlab import AsyncKv, Flow, Held, Kv, Lock, Op
from kvlab.core.wire import RoundTrip
from kvlab.errors import (
    InvalidArgument,
    LockLost,
    LockNotAcquired,
    OutcomeUnknown,
    ServerUnavailable,
)
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer

LOCK = Lock("orders", 60)
HELD = "lock:{orders}:held"
CONTENDERS = 50


class Clock:
    """An executor's clock that goes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Renewals:
    """A trace hook that tells when renewals were answered, and keeps the renewer busy then."""

    def __init__(self, busy: float = 0) -> None:
        self.seen, self.busy = 0, busy
        self.changed = threading.Condition()

    def __call__(self, trip: RoundTrip) -> None:
        if "distributed_lock/renew" in str(trip.ops[0]):
            with self.changed:
                self.seen += 1
                self.changed.notify_all()
            threading.Event().wait(self.busy)

    def wait_for(self, n: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.seen >= n, 20)


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[Proxy]:
    with Proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, kv: Kv) -> Iterator[Callable[..., Kv]]:
    """Executors in the namespace of ``kv`` by way of the proxy."""
    opened: list[Kv] = []

    def make(**settings: Any) -> Kv:
        opened.append(Kv(redis.Redis.from_url(proxy.url), prefix=kv.prefix, **settings))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
        each.client.close()


def in_asyncio(kv: Kv, body: Callable[[AsyncKv], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    async def main() -> Any:
        async with twin(kv, **settings) as akv:
            return await body(akv)

    return asyncio.run(main())


def is_free(kv: Kv) -> bool:
    return not kv.client.exists(kv.prefix + HELD)


def lose(kv: Kv) -> None:
    assert kv.client.pexpire(kv.prefix + HELD, 0)


def kill(proxy: Proxy) -> None:
    proxy.refuse()
    proxy.cut()


# --- one by one ----------------------------------------------------------------------------


class Section:
    """Counts who is inside; ``meet`` runs inside."""

    def __init__(self) -> None:
        self.inside = self.most = self.passed = 0
        self._counting = threading.Lock()

    def enter(self) -> None:
        with self._counting:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self._counting:
            self.inside -= 1
            self.passed += 1


def all_at_once(work: Callable[[int], None]) -> None:
    start = threading.Barrier(CONTENDERS)

    def begin(n: int) -> None:
        start.wait(20)
        work(n)

    with ThreadPoolExecutor(CONTENDERS) as threads:
        list(threads.map(begin, range(CONTENDERS)))


def test_threads_pass_one_by_one(kv: Kv) -> None:
    unlocked, locked, fences = Section(), Section(), []
    meeting = threading.Barrier(CONTENDERS)

    def without(_: int) -> None:
        unlocked.enter()
        meeting.wait(20)
        unlocked.leave()

    def under_lock(_: int) -> None:
        with kv.hold(LOCK, wait=60) as held:
            locked.enter()
            kv.run(Op("PING"))
            held.check()
            fences.append(held.fence)
            locked.leave()

    all_at_once(without)
    assert (unlocked.most, unlocked.passed) == (CONTENDERS, CONTENDERS)
    all_at_once(under_lock)
    assert (locked.most, locked.passed) == (1, CONTENDERS)
    assert fences == sorted(set(fences))
    assert is_free(kv)


def test_tasks_pass_one_by_one(kv: Kv) -> None:
    unlocked, locked, fences = Section(), Section(), []

    async def body(akv: AsyncKv) -> None:
        meeting = asyncio.Barrier(CONTENDERS)

        async def without() -> None:
            unlocked.enter()
            await meeting.wait()
            unlocked.leave()

        async def under_lock() -> None:
            async with akv.hold(LOCK, wait=60) as held:
                locked.enter()
                await akv.run(Op("PING"))
                held.check()
                fences.append(held.fence)
                locked.leave()

        await asyncio.gather(*(without() for _ in range(CONTENDERS)))
        await asyncio.gather(*(under_lock() for _ in range(CONTENDERS)))

    in_asyncio(kv, body)
    assert (unlocked.most, unlocked.passed) == (CONTENDERS, CONTENDERS)
    assert (locked.most, locked.passed) == (1, CONTENDERS)
    assert fences == sorted(set(fences))
    assert is_free(kv)


# --- starting and ending -------------------------------------------------------------------


@pytest.mark.parametrize("wait", [0, 0.01])
def test_not_acquired_the_body_does_not_start(kv: Kv, wait: float) -> None:
    kv.run(LOCK.try_acquire())
    with (
        pytest.raises(LockNotAcquired, match="'orders' was not free within") as refused,
        kv.hold(LOCK, wait=wait),
    ):
        raise AssertionError("the body ran")
    assert refused.value.wait == wait

    async def body(akv: AsyncKv) -> None:
        async with akv.hold(LOCK, wait=wait):
            raise AssertionError("the body ran")

    with pytest.raises(LockNotAcquired):
        in_asyncio(kv, body)


def test_no_server_the_body_does_not_start(through: Callable[..., Kv], proxy: Proxy) -> None:
    kill(proxy)
    with pytest.raises(ServerUnavailable), through().hold(LOCK):
        raise AssertionError("the body ran")


def test_a_release_that_always_fails_is_tried_twice_and_told(kv: Kv) -> None:
    tried = []

    def broken(answer: Any) -> bool:
        tried.append(answer)
        raise ValueError("not today")

    class Broken(Lock):
        def release(self, held: Held) -> Op[bool]:
            return Op("PING", decode=broken)

    with pytest.raises(ValueError, match="not today"), kv.hold(Broken("orders", 60)):
        pass
    assert len(tried) == 2


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("renew", [False, True])
def test_whatever_ends_the_body_frees_the_lock(
    kv: Kv, error: type[BaseException], renew: bool
) -> None:
    with pytest.raises(error), kv.hold(LOCK, renew=renew):
        assert not is_free(kv)
        raise error
    assert is_free(kv)


@pytest.mark.parametrize("renew", [False, True])
def test_cancellation_frees_the_lock(kv: Kv, renew: bool) -> None:
    async def body(akv: AsyncKv) -> None:
        inside = asyncio.Event()

        async def work() -> None:
            async with akv.hold(LOCK, renew=renew):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        assert not is_free(kv)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    in_asyncio(kv, body)
    assert is_free(kv)


@pytest.mark.parametrize("at", ["acquire", "release"])
def test_cancelled_with_the_answer_on_its_way_nothing_stays_taken(
    kv: Kv, proxy: Proxy, at: str
) -> None:
    async def main() -> None:
        client = redis.asyncio.Redis.from_url(proxy.url)
        async with AsyncKv(client, prefix=kv.prefix, timeout=20) as akv:
            await akv.run(LOCK.release((await akv.run(LOCK.try_acquire())) or Held("", 0)))

            armed: asyncio.Future[threading.Event] = asyncio.get_running_loop().create_future()

            def arm() -> None:
                lose = proxy.swallow_replies if at == "acquire" else proxy.swallow_requests
                armed.set_result(lose(1, only="EVALSHA", then="hang"))

            async def work() -> None:
                async with akv.hold(LOCK):
                    arm()

            if at == "acquire":
                arm()
            task = asyncio.create_task(work())
            assert await asyncio.to_thread((await armed).wait, 10)
            for _ in range(10):  # until it reads: Python 3.11's wait_for, in redis-py's sending,
                await asyncio.sleep(0)  # loses a cancellation that comes as it ends
            assert not is_free(kv)  # the server took it, or never heard of the release
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await client.aclose()

    asyncio.run(main())
    assert is_free(kv)


# --- loss ----------------------------------------------------------------------------------


def test_the_body_is_told_when_its_time_is_over(kv: Kv) -> None:
    clock = Clock()
    timed = Kv(kv.client, prefix=kv.prefix, clock=clock)
    with timed.hold(LOCK) as held:
        assert held.remaining == 60
        clock.now = 59.9
        held.check()
        clock.now = 60
        with pytest.raises(LockLost, match="its 60 s have passed"):
            held.check()
        assert held.remaining == 0
    # The server still had it as ours: nobody else was inside, so the end says nothing.
    assert is_free(kv)
    timed.close()


def test_time_counts_from_before_the_acquire_was_sent(kv: Kv) -> None:
    clock = Clock()

    def slow_answer(trip: RoundTrip) -> None:
        clock.now += 10

    timed = Kv(kv.client, prefix=kv.prefix, clock=clock, trace=slow_answer)
    with timed.hold(LOCK) as held:
        assert clock.now >= 10
        assert held.remaining == 60 - clock.now
    timed.close()


def test_a_renewal_counts_from_before_it_was_sent(kv: Kv) -> None:
    clock = Clock()

    def slow_answer(trip: RoundTrip) -> None:
        clock.now += 5

    timed = Kv(kv.client, prefix=kv.prefix, clock=clock, trace=slow_answer)
    with timed.hold(LOCK) as held:
        clock.now = 30
        assert timed.run(held.renewal())
        assert held.remaining == 90 - clock.now < 60
        clock.now = 89.999
        held.check()
        clock.now = 90
        with pytest.raises(LockLost, match="its 60 s have passed"):
            held.check()
    timed.close()


def test_a_lock_without_a_time_of_its_own_counts_from_its_answer(kv: Kv) -> None:
    clock = Clock()

    class Timeless(Lock):
        def acquire(self, wait: float) -> Any:
            return Flow(lambda: iter(self.try_acquire()))

    with Kv(kv.client, prefix=kv.prefix, clock=clock) as timed:
        clock.now = 7
        with timed.hold(Timeless("orders", 60)) as held:
            assert (held.held.since, held.remaining) == (None, 60)


def test_a_hold_that_waits_can_be_printed(kv: Kv) -> None:
    with pytest.raises(LockNotAcquired) as refused, kv.hold(LOCK), kv.hold(LOCK, wait=0):
        pytest.fail("two at once")
    frames = [entry.locals for entry in refused.traceback]
    assert [repr(f["holding"]) for f in frames if "holding" in f] == [f"<not yet holding {LOCK}>"]


def test_a_hold_has_one_body_at_a_time(kv: Kv) -> None:
    hold = kv.hold(LOCK, wait=0)
    with hold as first:
        with pytest.raises(InvalidArgument, match="has a body"):
            hold.__enter__()
        first.check()
    assert is_free(kv)
    with hold as second:
        assert second.fence > first.fence
    assert is_free(kv)


def test_a_loss_is_raised_at_the_end(kv: Kv) -> None:
    with pytest.raises(LockLost, match="the release found it gone") as lost, kv.hold(LOCK) as held:
        lose(kv)
        assert kv.run(LOCK.try_acquire()) is not None
    assert lost.value.fence == held.fence
    assert not is_free(kv)  # the other's

    async def body(akv: AsyncKv) -> None:
        async with akv.hold(LOCK):
            lose(kv)

    lose(kv)
    with pytest.raises(LockLost):
        in_asyncio(kv, body)


def test_the_body_s_own_error_goes_first_and_tells_the_loss(kv: Kv) -> None:
    with pytest.raises(KeyError) as error, kv.hold(LOCK):
        lose(kv)
        raise KeyError
    assert "is lost: the release found it gone" in error.value.__notes__[0]


def test_a_lost_release_answer_is_no_loss(kv: Kv, through: Callable[..., Kv], proxy: Proxy) -> None:
    client = through()
    client.run(LOCK.release(client.run(LOCK.try_acquire()) or Held("", 0)))
    with client.hold(LOCK):
        done = proxy.swallow_replies(1, only="EVALSHA")
    assert done.is_set()
    assert is_free(kv)


def test_a_server_that_dies_under_the_body(through: Callable[..., Kv], proxy: Proxy) -> None:
    clock = Clock()
    client = through(clock=clock, deadline=0.001)
    # done in time; freed by its TTL
    with pytest.raises((ServerUnavailable, OutcomeUnknown)), client.hold(LOCK):
        kill(proxy)
    proxy.heal()
    with (
        pytest.raises(LockLost, match="its 1 s have passed") as lost,
        client.hold(Lock("another", 1)),
    ):
        kill(proxy)
        clock.now += 1
    assert isinstance(lost.value.__cause__, ServerUnavailable | OutcomeUnknown)
    proxy.heal()
    with pytest.raises(KeyError) as error, client.hold(Lock("a third", 1)):
        kill(proxy)
        raise KeyError
    assert "releasing lock 'a third' failed" in error.value.__notes__[0]


# --- renewal -------------------------------------------------------------------------------


def renewing_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("renew")]


SHORT = Lock("orders", 1.2)


def test_renewed_a_body_outlives_its_ttl(kv: Kv) -> None:
    renewals = Renewals(busy=0.2)  # the end waits for a renewal that is under way
    traced = Kv(kv.client, prefix=kv.prefix, trace=renewals)
    with traced.hold(SHORT, renew=True) as held:
        renewals.wait_for(5)  # a third of a TTL apart, the first perhaps twice
        held.check()
        assert len(renewing_threads()) == 1
        assert kv.run(SHORT.try_acquire()) is None
    assert not renewing_threads()
    assert is_free(kv)
    traced.close()


def test_renewed_on_asyncio(kv: Kv) -> None:
    renewals = Renewals()

    async def body(akv: AsyncKv) -> None:
        async with akv.hold(SHORT, renew=True) as held:
            await asyncio.to_thread(renewals.wait_for, 5)
            held.check()
            assert len(asyncio.all_tasks()) == 2
        assert len(asyncio.all_tasks()) == 1

    in_asyncio(kv, body, trace=renewals)
    assert is_free(kv)


def test_a_renewal_that_finds_it_gone_reaches_the_body(kv: Kv) -> None:
    with (
        pytest.raises(LockLost, match="the release found it gone"),
        kv.hold(SHORT, renew=True) as held,
    ):
        (thread,) = renewing_threads()
        lose(kv)
        thread.join(10)
        with pytest.raises(LockLost, match="a renewal found it gone"):
            held.check()
        assert held.remaining == 0


def test_renewals_without_an_answer_reach_the_body(
    kv: Kv, through: Callable[..., Kv], proxy: Proxy
) -> None:
    renewals = Renewals()
    client = through(deadline=0.001, trace=renewals)
    with pytest.raises(LockLost), client.hold(SHORT, renew=True) as held:
        renewals.wait_for(1)
        kill(proxy)
        with pytest.raises(LockLost, match="have passed") as lost:
            while True:
                held.check()
        assert isinstance(lost.value.__cause__, ServerUnavailable | OutcomeUnknown)
