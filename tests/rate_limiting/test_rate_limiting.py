"""Rate limiting: the contract, fifty at once, clocks, sizes. Orders and losses: ``explored``."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import redis
from contracts.limiter import KINDS, LONG, LimiterContract, oracle_for
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from support import SteppedClock

from kvlab import (
    Decision,
    FixedWindow,
    Kv,
    NaiveFixedWindow,
    NaiveSlidingWindow,
    Op,
    Script,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from kvlab.chapters.rate_limiting.admissions import admitted_past
from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.instruments import Proxy
from kvlab.rate_limiting import Policy
from kvlab.rate_limiting.limiters import MAX_LOG
from kvlab.server.running_server import RunningServer

Stepped = tuple[Kv, SteppedClock]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


class TestContract(LimiterContract):
    pass


def used(kv: Kv, limiter: Any, key: str = "k") -> int:
    peeked = kv.run(limiter.peek(key))
    return peeked.limit - peeked.remaining


# --- fifty at once ----------------------------------------------------------------------------


def test_naive_sliding_window_admits_all_fifty(kv: Kv, server: RunningServer) -> None:
    def check(client: redis.Redis) -> bool:
        return NaiveSlidingWindow(client, limit=10, prefix=kv.prefix).check("k")

    assert admitted_past(server.url, "ZADD", check, clients=50) == 50


@each_kind
def test_fifty_threads_at_a_barrier_twenty_times(kind: Any, kv: Kv) -> None:
    limiter = kind("api", limit=10, window=LONG)
    barrier = threading.Barrier(50)

    def hits(_: int) -> list[bool]:
        allowed = []
        for turn in range(20):
            barrier.wait(20)
            allowed.append(kv.run(limiter.hit(f"k{turn}")).allowed)
        return allowed

    with ThreadPoolExecutor(50) as pool:
        everybody = list(pool.map(hits, range(50)))
    assert [sum(turn) for turn in zip(*everybody, strict=True)] == [10] * 20


# --- what is forgotten, and a server that is down ---------------------------------------------


@each_kind
def test_a_window_later_nothing_is_left(kind: Any, stepped: Stepped) -> None:
    kv, clock = stepped
    limiter = kind("api", limit=10, window=60)
    assert kv.run(limiter.hit("k")).allowed
    assert 0 < kv.run(Op("PTTL", limiter.hit("k").keys[0])) <= 120_100
    clock.step(121)
    assert kv.run(Op("EXISTS", limiter.hit("k").keys[0])) == 0
    assert kv.run(limiter.hit("k", cost=10)).allowed


@each_kind
def test_a_server_that_is_down(kind: Any, server: RunningServer) -> None:
    with Proxy(server.url) as proxy:
        url = proxy.url
    make = functools.partial(kind, "api", limit=10, window=60)
    with redis.Redis.from_url(url) as client, Kv(client, deadline=0.1) as dead:
        with pytest.raises(ServerUnavailable):
            dead.run(make().hit("k"))
        policy = Policy("api", 10, 60)
        opened = Decision(True, 10, 0, 0.0, 0.0, None, policy)
        assert dead.run(make(outage="open").hit("k")) == opened
        closed = dead.run(make(outage="closed").peek("k"))
        assert closed == Decision(False, 10, 0, 1.0, 1.0, None, policy)
        assert (bool(opened), bool(closed)) == (True, False), "`if kv.run(limiter.hit(k)):` asks"
        assert opened.headers() == {"RateLimit-Policy": '"api";q=10;w=60'}
        assert closed.headers() == {"RateLimit-Policy": '"api";q=10;w=60', "Retry-After": "1"}


# --- against the oracles, under a clock that the test steps -----------------------------------


class Walk(RuleBasedStateMachine):
    """Hits, peeks and steps of the clock; every answer is compared with the oracle's."""

    runs = 0

    def __init__(self, kv: Kv, clock: SteppedClock, limiter: Any) -> None:
        super().__init__()
        Walk.runs += 1
        self.kv, self.clock, self.limiter = kv, clock, limiter
        self.key, self.oracle = f"walk{Walk.runs}", oracle_for(limiter)
        self.window, self.last = limiter.window, 0.0
        clock.step(3 * self.window)

    def ask(self, op: Op[Decision], cost: int, *, counting: bool) -> None:
        said = self.kv.run(op)
        assert said.at is not None
        now = round(said.at * 1e6)
        got = [said.allowed, said.remaining, said.retry_after * 1e6, said.reset_after * 1e6]
        expected = self.oracle.answer(now, cost, counting=counting)
        assert got == pytest.approx(list(expected), abs=0.01), (now, cost, self.oracle)
        self.last = 0.0 if math.isinf(said.retry_after) else said.retry_after

    @rule(costs=st.lists(st.integers(1, 9) | st.just(1), min_size=1, max_size=6))
    def hit(self, costs: list[int]) -> None:
        for cost in costs:
            self.ask(self.limiter.hit(self.key, cost), cost, counting=True)

    @rule(cost=st.integers(1, 8))
    def peek(self, cost: int) -> None:
        self.ask(self.limiter.peek(self.key, cost), cost, counting=False)

    @rule(part=st.sampled_from([0.003, 0.1, 0.31, 0.5, 0.9, 1.0, 1.7]))
    def wait(self, part: float) -> None:
        self.clock.step(part * self.window)

    @rule()
    def wait_as_told(self) -> None:
        self.clock.step(self.last)

    @rule()
    def wait_for_the_edge(self) -> None:
        self.clock.step(self.window - self.clock.now % self.window - 0.004)

    def teardown(self) -> None:
        self.oracle.check_bound()


WALKS = [kind("walk", limit=7, window=60) for kind in KINDS]
WALKS += [TokenBucket("walk", 7, 60, burst=3), TokenBucket("walk", 3, 0.5, burst=8)]


@pytest.mark.parametrize("limiter", WALKS, ids=repr)
def test_every_answer_is_the_oracles(limiter: Any, stepped: Stepped) -> None:
    run_state_machine_as_test(
        lambda: Walk(*stepped, limiter),
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@each_kind
@pytest.mark.parametrize("cost", [1, 4])
def test_retry_after_is_exact(kind: Any, cost: int, stepped: Stepped) -> None:
    kv, clock = stepped
    limiter = kind("api", limit=10, window=60)
    clock.set(clock.START + 17)
    for step in (1.0, 2.0, 3.0):
        kv.run(limiter.hit("k", cost=3))
        clock.step(step)
    kv.run(limiter.hit("k"))
    for _ in range(5):
        denied = kv.run(limiter.hit("k", cost))
        if denied.allowed:
            continue
        then = denied.at + denied.retry_after
        clock.set(then - 0.005)
        assert not kv.run(limiter.hit("k", cost)).allowed
        clock.set(then + 0.003)
        assert kv.run(limiter.hit("k", cost)).allowed


# --- the edge of a window ---------------------------------------------------------------------


def hits_over_an_edge(clock: SteppedClock, hit: Callable[[], bool]) -> int:
    """How many of 40 hits within 0.9 s are admitted, 20 on each side of an edge."""
    clock.set(clock.START + 59.5)
    before = sum(hit() for _ in range(20))
    clock.step(0.9)
    return before + sum(hit() for _ in range(20))


def test_twice_the_limit_at_an_edge_is_the_fixed_windows(stepped: Stepped) -> None:
    kv, clock = stepped

    def admitted(limiter: Any) -> int:
        return hits_over_an_edge(clock, lambda: kv.run(limiter.hit("k")).allowed)

    assert admitted(FixedWindow("edge", 10, 60)) == 20
    assert admitted(SlidingWindowLog("edge", 10, 60)) == 10
    assert admitted(SlidingWindowCounter("edge", 10, 60)) == 10
    assert admitted(TokenBucket("edge", 10, 60)) == 10
    # The seed's window opens with its first hit, so one of the first ten is spent opening it.
    naive = NaiveFixedWindow(kv.client, prefix=kv.prefix)
    clock.set(clock.START - 0.3)
    assert naive.check("ip")
    assert hits_over_an_edge(clock, lambda: naive.check("ip")) == 9 + 10


def test_a_true_interval_can_exceed_the_counters_estimate(stepped: Stepped) -> None:
    kv, clock = stepped
    limiter = SlidingWindowCounter("api", 10, 60)
    clock.set(clock.START + 59.9)
    start = [kv.run(limiter.hit("k")).allowed for _ in range(10)]
    late = []
    for second in range(1, 60):
        clock.set(clock.START + 60 + second - 0.5)
        late.append(kv.run(limiter.hit("k")).allowed)
    assert (sum(start), sum(late)) == (10, 9)  # 19 within 58.6 s


# --- clocks that are wrong --------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("back", [0.5, 25.0, 61.0, 3600.0, 30 * 86400.0])
def test_a_clock_that_goes_back(kind: Any, back: float, stepped: Stepped) -> None:
    kv, clock = stepped
    limiter = kind("api", limit=10, window=60)
    clock.set(clock.START + 20)
    kv.run(limiter.hit("k", cost=4))
    clock.step(1)
    assert sum(kv.run(limiter.hit("k")).allowed for _ in range(10)) == 6
    clock.step(-back)
    look = kv.run(limiter.peek("k", cost=10))
    denied = kv.run(limiter.hit("k", cost=10))
    longest = 120 if kind is SlidingWindowCounter else 60
    assert not look.allowed
    assert look.retry_after <= longest
    assert not denied.allowed
    assert denied.remaining == 0
    assert 0 < denied.retry_after <= longest
    assert abs(denied.at - clock.now) <= 1.01
    clock.set(denied.at + denied.retry_after + 0.003)
    assert kv.run(limiter.hit("k", cost=10)).allowed
    assert 0 < kv.run(Op("PTTL", limiter.hit("k").keys[0])) <= 120_100


def test_a_step_back_does_not_fade_what_the_counter_holds(stepped: Stepped) -> None:
    kv, clock = stepped
    limiter = SlidingWindowCounter("api", limit=10, window=60)
    clock.set(clock.START + 10)
    assert kv.run(limiter.hit("k", cost=10)).allowed
    clock.set(clock.START + 91)
    assert kv.run(limiter.hit("k", cost=5)).allowed
    clock.set(clock.START + 58)  # were ten still "the window before", they would be almost gone
    full = kv.run(limiter.hit("k"))
    assert full.remaining == 0
    assert full.retry_after <= 2 + 6 + 0.01  # as after ten hits of this window, not fifteen


@each_kind
def test_a_clock_that_jitters_over_an_edge_admits_nothing_more(kind: Any, stepped: Stepped) -> None:
    kv, clock = stepped
    limiter = kind("api", limit=10, window=60)
    admitted = 0
    for _ in range(5):
        clock.set(clock.START + 60.2)
        admitted += sum(kv.run(limiter.hit("k")).allowed for _ in range(12))
        clock.step(-0.5)
        admitted += kv.run(limiter.hit("k")).allowed
    assert admitted == 10
    clock.set(clock.START + 90)
    later = sum(kv.run(limiter.hit("k")).allowed for _ in range(12))
    assert later == (4 if kind is TokenBucket else 0)  # 29.8 s at a unit each 6 s


def at_time(op: Op[Decision], micros: int) -> Op[Decision]:
    """The op with the script's clock replaced: exact to the microsecond, on any engine."""
    assert isinstance(op.command, Script)
    time = f"{{{micros // 1_000_000}, {micros % 1_000_000}}}"
    source = op.command.source.replace("redis.call('TIME')", time)
    assert source != op.command.source
    return Op(Script("stopped", source), *op.args, decode=op.decode)


@each_kind
@pytest.mark.parametrize("window", [60, 1e6 / 7])
def test_retry_after_is_exact_to_the_microsecond(kind: Any, window: float, any_kv: Kv) -> None:
    limiter = kind("api", limit=7, window=window)
    now = 1_800_000_017_000_000
    for cost, seconds in ((3, 0), (2, 11), (1, 3), (1, 2)):
        now += seconds * 1_000_000
        assert any_kv.run(at_time(limiter.hit("k", cost), now)).allowed
    for cost in (1, 4, 7):
        if left := any_kv.run(at_time(limiter.peek("k"), now)).remaining:
            any_kv.run(at_time(limiter.hit("k", left), now))
        denied = any_kv.run(at_time(limiter.hit("k", cost), now))
        assert not denied.allowed
        now += round(denied.retry_after * 1e6)
        assert not any_kv.run(at_time(limiter.peek("k", cost), now - 1)).allowed
        assert any_kv.run(at_time(limiter.hit("k", cost), now)).allowed


# --- size -------------------------------------------------------------------------------------


def test_the_log_prunes_what_is_over_a_thousand_at_a_time(stepped: Stepped) -> None:
    kv, clock = stepped
    limiter = SlidingWindowLog("api", limit=2500, window=60)
    log = limiter.hit("k").keys[0]
    kv.run([limiter.hit("k") for _ in range(2400)])
    clock.step(59)
    kv.run(limiter.hit("k"))
    assert kv.run(Op("ZCARD", log)) == 2401
    clock.step(2)
    sizes = []
    for _ in range(4):
        assert kv.run(limiter.hit("k")).allowed
        sizes.append(kv.run(Op("ZCARD", log)))
    assert sizes == [1402, 403, 4, 5]
    assert used(kv, limiter) == 5


def test_an_entry_is_one_hit_whatever_its_cost(kv: Kv) -> None:
    limiter = SlidingWindowLog("api", limit=MAX_LOG, window=LONG)
    assert kv.run(limiter.hit("k", cost=MAX_LOG - 1)).remaining == 1
    assert kv.run(Op("ZCARD", limiter.hit("k").keys[0])) == 1


@pytest.mark.parametrize("limit", [2**53, 2**53 - 1])
@pytest.mark.parametrize("kind", [FixedWindow, SlidingWindowCounter])
def test_counts_are_exact_up_to_the_largest(kind: Any, limit: int, kv: Kv) -> None:
    limiter = kind("api", limit=limit, window=LONG)
    assert kv.run(limiter.hit("k", cost=limit - 1)).remaining == 1
    assert not kv.run(limiter.hit("k", cost=2)).allowed
    assert kv.run(limiter.hit("k")).remaining == 0
    assert not kv.run(limiter.hit("k")).allowed
    assert kv.run(limiter.peek("k")).retry_after < math.inf  # full, not never


@each_kind
def test_a_changed_limit_keeps_what_was_used(kind: Any, kv: Kv) -> None:
    kv.run(kind("api", limit=10, window=LONG).hit("k", cost=6))
    fewer, more = kind("api", limit=5, window=LONG), kind("api", limit=20, window=LONG)
    assert kv.run(fewer.peek("k")).remaining == 0
    assert kv.run(more.peek("k")).remaining == 14
    assert kv.run(more.hit("k", cost=14)).allowed
    assert not kv.run(fewer.hit("k")).allowed
    assert kv.run(kind("api", limit=5, window=LONG / 2).hit("k", cost=5)).allowed


# --- arguments --------------------------------------------------------------------------------

NOT_COUNTS = [0, -1, True, 1.5, math.nan, "10", None, 2**53 + 1]


@each_kind
def test_bad_arguments_are_refused_at_once(kind: Any) -> None:
    for limit in NOT_COUNTS:
        with pytest.raises(InvalidArgument, match="limit must be"):
            kind("api", limit=limit, window=60)
    for window in [0, -60, True, math.nan, math.inf, "60", None, 0.0001, 367 * 86400]:
        with pytest.raises(InvalidArgument, match="window must be"):
            kind("api", limit=10, window=window)
    with pytest.raises(InvalidArgument, match="outage must be"):
        kind("api", limit=10, window=60, outage="maybe")
    with pytest.raises(InvalidArgument, match="name must be printable"):
        kind(None, limit=10, window=60)
    limiter = kind("api", limit=10, window=60)
    for cost in NOT_COUNTS:
        with pytest.raises(InvalidArgument, match="cost must be"):
            limiter.hit("k", cost=cost)
    for text in (None, 1.5, b"k", True):
        with pytest.raises(InvalidArgument, match="key must be an id"):
            limiter.hit(text)
    for text in ("", 1.5, b"k", True):
        with pytest.raises(InvalidArgument, match="op_id must be an id"):
            limiter.hit("k", op_id=text)


@each_kind
def test_the_usual_hit_is_a_hit_like_others(kind: Any) -> None:
    for more in (dict[str, Any](), {"outage": "open"}, {"burst": 7} if kind is TokenBucket else {}):
        limiter = kind("api", 10, 60, **more)
        one = np.int64(1)  # is counted as 1, and is no usual 1
        assert limiter.hit("ann") == limiter.hit("ann", one)
        assert limiter.hit("bob") != limiter.hit("ann", one)


def test_bounds_of_each_kind() -> None:
    with pytest.raises(InvalidArgument, match="1000000"):
        SlidingWindowLog("api", limit=10**6 + 1, window=60)
    for burst in NOT_COUNTS:
        if burst is not None:
            with pytest.raises(InvalidArgument, match="burst must be"):
                TokenBucket("api", 10, 60, burst=burst)
    TokenBucket("api", 10**6, 86400)
    with pytest.raises(InvalidArgument, match=r"burst must be at most 104249 .* counted exactly"):
        TokenBucket("api", 999_983, 86400)


@each_kind
def test_one_round_trip_each(kind: Any, kv: Kv) -> None:
    limiter = kind("api", limit=10, window=LONG)
    kv.run(limiter.hit("warm"))
    for op in (limiter.hit("k"), limiter.hit("k", op_id="a"), limiter.peek("k")):
        before = kv.round_trips
        kv.run(op)
        assert kv.round_trips - before == 1
    before = kv.round_trips
    assert kv.run(limiter.forget("k"))
    assert kv.round_trips - before == 1


# --- headers ----------------------------------------------------------------------------------


def test_headers() -> None:
    policy = Policy("api", 10, 60)
    told = Decision(True, 10, 9, 0.0, 41.2, 1.0, policy).headers()
    assert told == {"RateLimit-Policy": '"api";q=10;w=60', "RateLimit": '"api";r=9;t=42'}
    told = Decision(False, 10, 3, 6.1, 41.2, 1.0, policy).headers()
    assert (told["RateLimit"], told["Retry-After"]) == ('"api";r=3;t=7', "7")
    told = Decision(False, 10, 3, math.inf, 41.2, 1.0, policy).headers()
    assert told["RateLimit"] == '"api";r=3;t=42'
    assert "Retry-After" not in told
    assert Decision(True, 1, 0, 0.0, 1.0, 1.0).headers() == {"RateLimit": '"default";r=0;t=1'}
    huge = Decision(True, 2**53, 2**53, 0.0, 0.0, 1.0, Policy("h", 2**53, 1.5)).headers()
    assert huge["RateLimit-Policy"] == f'"h";q={10**15 - 1}'
    assert huge["RateLimit"] == f'"h";r={10**15 - 1};t=0'
    quoted = Policy('a"b\\c', 1, 1.0, burst=5)
    assert str(quoted) == r'"a\"b\\c";q=1;w=1;kvlab-burst=5'
    assert str(Policy("é\r\nSet-Cookie: x", 1, 1)).startswith('"%C3%A9%0D%0A')
