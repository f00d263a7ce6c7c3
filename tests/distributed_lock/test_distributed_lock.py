"""The lock's promises on every engine, over real sockets, threads and time.

What the simple version gets wrong in some order of commands: ``explored/test_distributed_lock.py``.
"""

from __future__ import annotations

import itertools
import math
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support import SteppedClock, over_rest

from kvlab import Held, Kv, Lock, NaiveLock, Op, fenced_get, fenced_set
from kvlab.errors import InvalidArgument, OutcomeUnknown, ServerRefused, ServerUnavailable
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.faults.resp import HANDSHAKE
from kvlab.server.running_server import RunningServer

LOCK = Lock("orders", 60)


def key(kv: Kv, what: str, name: str = "orders") -> str:
    return f"{kv.prefix}lock:{{{name}}}:{what}"


def taken(kv: Kv, lock: Lock = LOCK) -> Held:
    held = kv.run(lock.try_acquire())
    assert held is not None
    return held


def end_ttl(kv: Kv, name: str) -> None:
    """The key's time is over, now."""
    assert kv.client.pexpire(name, 0)


def naive(kv: Kv, client: redis.Redis | None = None) -> NaiveLock:
    return NaiveLock(client or kv.client, kv.prefix)


def until_blocked(kv: Kv, clients: int) -> None:
    for _ in range(100_000):
        if kv.client.info("clients")["blocked_clients"] == clients:
            return
    raise AssertionError(f"{clients} clients never blocked")


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[Proxy]:
    with Proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, kv: Kv) -> Iterator[Kv]:
    """``kv`` again, by way of the proxy, scripts known to the server."""
    kv.run(LOCK.release(taken(kv)))
    kv.clear()
    client = redis.Redis.from_url(proxy.url)
    with Kv(client, prefix=kv.prefix) as through:
        yield through
    client.close()


# --- contract ------------------------------------------------------------------------------


def test_one_holder_the_same_op_is_the_same_hold_and_only_the_owner_acts(run: Any) -> None:
    op = LOCK.try_acquire()
    mine = run(op)
    assert mine is not None
    assert run(op) == mine
    assert run(LOCK.try_acquire()) is None
    assert run(Lock("other", 60).try_acquire()) is not None
    stranger = Held("f" * 32, mine.fence)
    assert run(LOCK.renew(stranger)) is False
    assert run(LOCK.release(stranger)) is False
    assert run(LOCK.renew(mine)) is True
    assert run(LOCK.release(mine)) is True
    theirs = run(LOCK.try_acquire())
    assert theirs is not None
    assert theirs.fence > mine.fence
    assert run(LOCK.release(mine)) is True  # as at first, and without harm to the new holder
    assert run(LOCK.renew(mine)) is False
    assert run(op) is None
    assert run(LOCK.renew(theirs)) is True
    assert run(LOCK.release(theirs)) is True
    assert run(op) is None  # free, but this attempt is over


def test_a_flow_takes_waits_and_gives_up(run: Any) -> None:
    held = run(LOCK.acquire(0))
    assert held.since is not None
    assert run(LOCK.acquire(0)) is None
    assert run(LOCK.acquire(0.05)) is None
    run(LOCK.release(held))
    again = LOCK.acquire(0)
    assert run(again) is not None
    assert run(again) is None  # each run is an attempt of its own


def test_a_waiter_gets_a_lock_whose_time_ends(run: Any) -> None:
    short = Lock("short", 0.05)
    first = run(short.try_acquire())
    second = run(short.acquire(30))
    assert second.fence > first.fence
    assert run(short.release(first)) is False


def test_every_key_has_a_ttl(any_kv: Kv) -> None:
    held = taken(any_kv)
    assert any_kv.run(LOCK.acquire(0.01)) is None
    any_kv.run(fenced_set("row", "x", held.fence))
    names = set(any_kv.client.scan_iter(any_kv.prefix + "*"))
    any_kv.run(LOCK.release(held))
    names |= set(any_kv.client.scan_iter(any_kv.prefix + "*"))
    assert len(names) == 6
    left = {name: any_kv.client.pttl(name) for name in names}
    assert left.pop(key(any_kv, "held").encode()) == -2
    assert all(ms > 0 for ms in left.values()), left


def test_round_trips(kv: Kv) -> None:
    kv.run(LOCK.release(taken(kv)))

    def cost(what: Any) -> tuple[Any, int]:
        before = kv.round_trips
        return kv.run(what), kv.round_trips - before

    held, trips = cost(LOCK.acquire(10))
    assert held is not None
    assert trips == 1
    kv.run(LOCK.renew(held))
    assert cost(LOCK.renew(held)) == (True, 1)
    assert cost(LOCK.try_acquire()) == (None, 1)
    assert cost(LOCK.acquire(0)) == (None, 1)
    assert cost(LOCK.acquire(0.01)) == (None, 3)
    assert cost(LOCK.release(held)) == (True, 1)


# --- time and threads ---------------------------------------------------------------------


def test_a_dead_holder_is_gone_after_its_ttl(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    kv.client.setnx(f"{kv.prefix}lock:orders", "and then it died")
    dead = taken(kv)
    clock.step(59.9)
    assert kv.run(LOCK.try_acquire()) is None
    clock.step(0.2)
    assert kv.run(LOCK.renew(dead)) is False
    assert taken(kv).fence > dead.fence
    clock.step(365 * 86_400)
    assert naive(kv).acquire("orders") is None


def test_renewed_it_lives_on(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    held = taken(kv)
    for _ in range(3):
        clock.step(40)
        assert kv.run(LOCK.renew(held)) is True
    assert kv.run(LOCK.try_acquire()) is None
    assert kv.run(LOCK.release(held)) is True


def test_a_row_refuses_lower_fences_than_it_has_seen(any_kv: Kv) -> None:
    writes = [(2, "b", True), (1, "a", False), (2, "b2", True), (3, "c", True)]
    told = [any_kv.run(fenced_set("row", value, fence)) for fence, value, _ in writes]
    assert told == [accepted for _, _, accepted in writes]
    assert any_kv.run(fenced_get("row")) == b"c"


def test_a_lock_shared_by_threads(kv: Kv) -> None:
    def holders(attempt: Callable[[], Op[Held | None]]) -> int:
        barrier = threading.Barrier(20)

        def take(_: int) -> Held | None:
            barrier.wait(10)
            return kv.run(attempt())

        with ThreadPoolExecutor(20) as threads:
            return sum(held is not None for held in threads.map(take, range(20)))

    one_token = LOCK.try_acquire()
    assert holders(lambda: one_token) == 20
    kv.clear()
    assert holders(LOCK.try_acquire) == 1


def test_an_attempt_that_arrives_after_its_release_takes_nothing(kv: Kv) -> None:
    late = LOCK.try_acquire()
    token = next(a for a in late.args if isinstance(a, str))
    assert kv.run(LOCK.release(Held(token, 0))) is False
    assert kv.run(late) is None
    kv.client.delete(key(kv, f"spent:{token}"))  # what keeps it out
    assert kv.run(late) is not None


# --- waiting -------------------------------------------------------------------------------


def test_a_release_wakes_the_waiter(kv: Kv, through: Kv, proxy: Proxy) -> None:
    held = taken(kv)
    before = through.round_trips
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(through.run, LOCK.acquire(60))
        until_blocked(kv, 1)
        assert kv.run(LOCK.release(held)) is True
        assert waiting.result(10).fence > held.fence  # sooner than MAX_BLOCK
    sent = [name for name in proxy.commands if name not in HANDSHAKE]
    assert sent == ["EVALSHA", "BLPOP", "EVALSHA"]
    assert through.round_trips - before == 3


def test_who_waits_is_remembered_a_second_longer_than_the_hold(kv: Kv) -> None:
    taken(kv)
    for _ in range(2):
        kv.run(LOCK._attempt("another", True, lambda reply: reply))
        held, waiting = (kv.client.pttl(key(kv, name)) for name in ("held", "waiting"))
        assert 900 < waiting - held <= 1001  # so that no release comes before the BLPOP
        kv.client.pexpire(key(kv, "waiting"), 5000)  # as if the hold had been renewed since


def test_one_waiter_for_each_release(kv: Kv, through: Kv, proxy: Proxy) -> None:
    held = taken(kv)
    with ThreadPoolExecutor(5) as threads:
        waiting = [threads.submit(through.run, LOCK.acquire(60)) for _ in range(5)]
        until_blocked(kv, 5)
        for left in (4, 3, 2, 1, 0):
            proxy.reset()
            kv.run(LOCK.release(held))
            while not (done := [each for each in waiting if each.done()]):
                pass
            until_blocked(kv, left)
            assert len(done) == 1
            assert proxy.commands == ["EVALSHA"]
            waiting.remove(done[0])
            held = done[0].result()


def test_wakes_only_if_somebody_waits_and_once(kv: Kv) -> None:
    wake = key(kv, "wake")
    kv.run(LOCK.release(taken(kv)))
    assert not kv.client.exists(wake)
    held = taken(kv)
    kv.run(LOCK.acquire(0.001))
    kv.run(LOCK.release(Held("d" * 32, 1)))  # not free: nothing to wake for
    assert not kv.client.exists(wake)
    kv.run(LOCK.release(held))
    assert kv.client.llen(wake) == 1
    kv.run(LOCK.release(Held("e" * 32, 1)))
    assert kv.client.llen(wake) == 1
    held = taken(kv)  # a newcomer was faster: nothing to wake for
    assert not kv.client.exists(wake)
    kv.run(LOCK.release(held))
    assert kv.client.llen(wake) == 1


@pytest.mark.parametrize("at", ["EVALSHA", "BLPOP"])
def test_interrupted_while_waiting_it_leaves_nothing_and_wakes_the_next(kv: Kv, at: str) -> None:
    held = taken(kv)
    steps = iter(LOCK.acquire(math.inf))
    next(steps)
    attempt = steps.send(0.0)  # asked at 0
    blocking = steps.send(kv.run(attempt))
    assert blocking.command == "BLPOP"
    kv.run(LOCK.release(held))
    assert kv.run(blocking) is not None  # the wake-up is with us
    assert not kv.client.exists(key(kv, "wake"))
    if at == "EVALSHA":
        steps.send(None)
        assert kv.run(steps.send(0.1)) is not None  # taken, and the answer is lost
    cleaning = steps.throw(CancelledError())
    kv.run(cleaning)
    with pytest.raises(CancelledError):
        steps.send(None)
    assert not kv.client.exists(key(kv, "held"))
    assert kv.client.llen(key(kv, "wake")) == 1


def test_an_answer_that_took_a_whole_ttl_is_no_hold(kv: Kv) -> None:
    clock = itertools.count(0, 60.0)  # a minute between any two looks
    slow = Kv(kv.client, prefix=kv.prefix, clock=lambda: next(clock))
    assert slow.run(LOCK.acquire(0)) is None
    assert not kv.client.exists(key(kv, "held"))
    slow.close()


def test_a_broken_wait_is_tried_again(kv: Kv, through: Kv, proxy: Proxy) -> None:
    held = taken(kv)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(through.run, LOCK.acquire(60))
        until_blocked(kv, 1)
        proxy.cut()
        until_blocked(kv, 0)
        until_blocked(kv, 1)
        kv.run(LOCK.release(held))
        assert waiting.result(10) is not None


# --- fences --------------------------------------------------------------------------------


def test_fences_rise_though_the_clock_goes_back(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    fences = []
    for n in range(1000):
        held = taken(kv)
        fences.append(held.fence)
        kv.run(LOCK.release(held))
        if n % 50 == 0:
            clock.step(-3600 if n % 100 else 1800)
    assert all(a < b for a, b in itertools.pairwise(fences))
    kv.client.delete(key(kv, "fence"))  # the stated limit: key gone and clock gone back
    clock.set(clock.START - 86_400)
    assert taken(kv).fence < fences[0]


def test_a_fence_stays_below_2_to_the_53(kv: Kv) -> None:
    kv.client.set(key(kv, "fence"), 2**53 - 2)
    held = taken(kv)
    assert held.fence == 2**53 - 1
    kv.run(LOCK.release(held))
    with pytest.raises(ServerRefused, match="2\\^53"):
        kv.run(LOCK.try_acquire())
    assert not kv.client.exists(key(kv, "held"))


# --- bad input, bad servers ----------------------------------------------------------------


@pytest.mark.parametrize("ttl", [0, 0.009, -1, 86_401, math.nan, math.inf, True, "9", None])
def test_ttl_out_of_bounds(ttl: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"ttl must be .* seconds from 0\.01 to 86400,"):
        Lock("x", ttl)


@pytest.mark.parametrize("wait", [-1, math.nan, True, "9", None])
def test_wait_out_of_bounds_is_refused_at_the_call(wait: Any) -> None:
    with pytest.raises(InvalidArgument, match="wait must be a number of seconds of at least 0"):
        LOCK.acquire(wait)


@pytest.mark.parametrize("fence", [0, -1, 2**53, 1.5, True, "1"])
def test_fence_out_of_bounds(fence: Any) -> None:
    with pytest.raises(InvalidArgument, match="fence must be a whole number from 1"):
        fenced_set("row", "x", fence)


@pytest.mark.parametrize("name", ["", True, 5.0, None, b"x"])
def test_a_name_is_an_id(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="name must be"):
        Lock(name, 1)


def test_any_text_is_a_lock_of_its_own(any_kv: Kv) -> None:
    names = ["a", "a\0", "a\n", "{a}", "a}:held", "a:held", "~", "\ud800", "x" * 10_000_000, "é"]
    held = [taken(any_kv, Lock(name, 60)) for name in names]
    assert all(h is not None for h in held)
    assert all(any_kv.run(Lock(n, 60).release(h)) for n, h in zip(names, held, strict=True))


@pytest.mark.parametrize("what", ["held", "fence"])
def test_a_key_of_another_type_is_told(any_kv: Kv, what: str) -> None:
    any_kv.client.rpush(key(any_kv, what), "x")
    with pytest.raises(ServerRefused, match="WRONGTYPE"):
        any_kv.run(LOCK.try_acquire())
    assert any_kv.client.lrange(key(any_kv, what), 0, -1) == [b"x"]


def test_a_value_that_is_not_ours_is_never_taken_over(any_kv: Kv) -> None:
    any_kv.client.set(key(any_kv, "held"), "somebody")
    any_kv.run(LOCK.try_acquire())
    before = any_kv.round_trips
    assert any_kv.run(LOCK.acquire(0.02)) is None
    # Without a TTL, too, it waits; over HTTP no BLPOP is sent.
    assert any_kv.round_trips - before == (2 if over_rest(any_kv) else 3)
    assert any_kv.run(LOCK.release(Held("somebody", 1))) is False
    assert any_kv.client.get(key(any_kv, "held")) == b"somebody"


def test_script_flush_in_the_middle(run: Any) -> None:
    held = run(LOCK.try_acquire())
    run.kv.client.script_flush()
    assert run(LOCK.renew(held)) is True
    run.kv.client.script_flush()
    assert run(LOCK.release(held)) is True


def test_out_of_memory_nothing_is_taken_and_what_is_held_can_be_given_back(kv: Kv) -> None:
    held, free = taken(kv), Lock("free", 60)
    kv.run(LOCK.acquire(0.001))
    kv.run(LOCK.renew(held))
    kv.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(ServerRefused, match="OOM"):
            kv.run(free.try_acquire())
        assert kv.run(LOCK.renew(held)) is True
        assert kv.run(LOCK.release(Held("a" * 32, 1))) is False
        assert kv.run(LOCK.release(held)) is True
    finally:
        kv.client.config_set("maxmemory", 0)
    assert kv.run(LOCK.try_acquire()) is not None
    assert kv.client.exists(key(kv, "held", "free")) == 0


def test_a_dead_server_is_told(proxy: Proxy, through: Kv) -> None:
    proxy.refuse()
    proxy.cut()
    with pytest.raises((ServerUnavailable, OutcomeUnknown)):
        through.run(LOCK.acquire(5))


# --- any order of steps --------------------------------------------------------------------


class LockMachine(RuleBasedStateMachine):
    """Attempts, releases, expiries, in any order and any number of times, against a model."""

    kv: Kv

    @initialize()
    def start(self) -> None:
        self.kv.clear()
        self.attempts: list[Op[Held | None]] = []
        self.holds: list[Held | None] = []  # of each attempt, once it took the lock
        self.released: dict[str, bool] = {}  # the first answer by token
        self.holder: int | None = None
        self.last_fence = 0

    @rule()
    def attempt(self) -> None:
        self.attempts.append(LOCK.try_acquire())
        self.holds.append(None)
        self.run_again(len(self.attempts) - 1)

    @rule(pick=st.integers(0, 30))
    def attempt_again(self, pick: int) -> None:
        if self.attempts:
            self.run_again(pick % len(self.attempts))

    def run_again(self, n: int) -> None:
        op = self.attempts[n]
        held = self.kv.run(op)
        token = next(arg for arg in op.args if isinstance(arg, str))
        if self.holder is None and token not in self.released:
            assert held is not None
            assert held.fence > self.last_fence
            self.holder, self.holds[n], self.last_fence = n, held, held.fence
        assert held == (self.holds[n] if self.holder == n else None)

    @rule(pick=st.integers(0, 30))
    def release(self, pick: int) -> None:
        taken = [(n, held) for n, held in enumerate(self.holds) if held is not None]
        if not taken:
            return
        n, held = taken[pick % len(taken)]
        expected = self.released.setdefault(held.token, self.holder == n)
        assert self.kv.run(LOCK.release(held)) is expected
        if self.holder == n:
            self.holder = None

    @rule(pick=st.integers(0, 30))
    def renew(self, pick: int) -> None:
        taken = [(n, held) for n, held in enumerate(self.holds) if held is not None]
        if taken:
            n, held = taken[pick % len(taken)]
            assert self.kv.run(LOCK.renew(held)) is (self.holder == n)

    @rule()
    def expire(self) -> None:
        if self.holder is not None:
            end_ttl(self.kv, key(self.kv, "held"))
            self.holder = None

    @rule()
    def wait_in_vain(self) -> None:
        if self.holder is not None:
            assert self.kv.run(LOCK.acquire(0)) is None

    @invariant()
    def held_by_the_model_s_holder(self) -> None:
        assert self.kv.client.exists(key(self.kv, "held")) == (self.holder is not None)


def test_any_order_of_steps(kv: Kv) -> None:
    machine = type("Machine", (LockMachine,), {"kv": kv})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
