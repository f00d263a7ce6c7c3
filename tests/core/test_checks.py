"""One family of checks: the same values are refused by each number in the package."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import redis
import redis.asyncio

from kvlab import (
    AsyncFlagWatcher,
    AsyncKv,
    AutoBatch,
    CacheAside,
    FeatureFlags,
    FixedWindow,
    Flag,
    FlagSnapshot,
    FlagWatcher,
    Kv,
    Leaderboard,
    Lock,
    Op,
    SessionStore,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
    Wait,
    WriteThrough,
    aconnect,
    connect,
    fenced_set,
)
from kvlab.core import checks
from kvlab.errors import InvalidArgument
from kvlab.pipeline import add_to_counters
from kvlab.rate_limiting import client_address

NOBODY = "redis://127.0.0.1:1/0"  # nothing is sent: the arguments are refused before
CLIENT, ACLIENT = redis.Redis.from_url(NOBODY), redis.asyncio.Redis.from_url(NOBODY)
KV, AKV = Kv(CLIENT), AsyncKv(ACLIENT)
CACHE = CacheAside("users", 60)
LOCK = Lock("orders", 10)
LIMITERS: tuple[Any, ...] = (FixedWindow, SlidingWindowLog, SlidingWindowCounter, TokenBucket)
BOARD, DAILY = Leaderboard("game"), Leaderboard("game", period="daily")


SECONDS: dict[str, Callable[[Any], object]] = {
    "connect timeout": lambda bad: connect(NOBODY, timeout=bad),
    "connect deadline": lambda bad: connect(NOBODY, deadline=bad),
    "aconnect timeout": lambda bad: asyncio.run(aconnect(NOBODY, timeout=bad)),
    "aconnect deadline": lambda bad: asyncio.run(aconnect(NOBODY, deadline=bad)),
    "Kv timeout": lambda bad: Kv(CLIENT, timeout=bad),
    "Kv deadline": lambda bad: Kv(CLIENT, deadline=bad),
    "AsyncKv timeout": lambda bad: AsyncKv(ACLIENT, timeout=bad),
    "AsyncKv deadline": lambda bad: AsyncKv(ACLIENT, deadline=bad),
    "Wait seconds": Wait,
    "CacheAside ttl": lambda bad: CacheAside("c", bad),
    "CacheAside lease": lambda bad: CacheAside("c", 60, lease=bad),
    "SessionStore idle": lambda bad: SessionStore(idle=bad),
    "SessionStore absolute": lambda bad: SessionStore(absolute=bad),
    "Lock ttl": lambda bad: Lock("orders", bad),
    "fenced_set ttl": lambda bad: fenced_set("row", "v", 1, ttl=bad),
    "Leaderboard op_horizon": lambda bad: Leaderboard("game", op_horizon=bad),
    "add_to_counters ttl": lambda bad: add_to_counters("views", {"home": 1}, ttl=bad),
    "FlagWatcher resync": lambda bad: FlagWatcher(KV, FeatureFlags(), resync=bad),
    "AsyncFlagWatcher resync": lambda bad: AsyncFlagWatcher(AKV, FeatureFlags(), resync=bad),
}
SECONDS_OR_NONE: dict[str, Callable[[Any], object]] = {
    "CacheAside negative_ttl": lambda bad: CacheAside("c", 60, negative_ttl=bad),
    "WriteThrough remember": lambda bad: WriteThrough(CACHE, remember=bad),
}
SECONDS_OR_FOREVER: dict[str, Callable[[Any], object]] = {
    "Kv.hold wait": lambda bad: KV.hold(LOCK, wait=bad),
    "AsyncKv.hold wait": lambda bad: AKV.hold(LOCK, wait=bad),
    "Lock.acquire wait": LOCK.acquire,
}
NUMBERS: dict[str, Callable[[Any], object]] = {
    "CacheAside jitter": lambda bad: CacheAside("c", 60, jitter=bad),
    "CacheAside early": lambda bad: CacheAside("c", 60, early=bad),
    "Leaderboard.submit score": lambda bad: BOARD.submit("ann", bad),
    "Flag percent": Flag,
    "Leaderboard.load rows": lambda bad: next(iter(BOARD.load([("ann", bad)]))),
}
COUNTS: dict[str, Callable[[Any], object]] = {
    "AutoBatch max_batch": lambda bad: AutoBatch(AKV, max_batch=bad),
    "AutoBatch max_waiting": lambda bad: AutoBatch(AKV, max_waiting=bad),
    "AutoBatch in_flight": lambda bad: AutoBatch(AKV, in_flight=bad),
    "client_address ipv6_prefix": lambda bad: client_address("::1", None, (), ipv6_prefix=bad),
    "SessionStore max_bytes": lambda bad: SessionStore(max_bytes=bad),
    "SessionStore per_user": lambda bad: SessionStore(per_user=bad),
    "fenced_set fence": lambda bad: fenced_set("row", "v", bad),
    "Leaderboard keep": lambda bad: Leaderboard("game", period="daily", keep=bad),
    "Leaderboard.top n": BOARD.top,
    "Leaderboard.around n": lambda bad: BOARD.around("ann", bad),
    "Leaderboard.page number": lambda bad: BOARD.page(bad, 10),
    "Leaderboard.page size": lambda bad: BOARD.page(1, bad),
    "FlagSnapshot version": lambda bad: FlagSnapshot(bad, {}),
    "add_to_counters increments": lambda bad: add_to_counters("views", {"home": bad}),
}
COUNTS_OR_NONE: dict[str, Callable[[Any], object]] = {
    "CacheAside.fill version": lambda bad: CACHE.fill("k", "lease", 1, version=bad),
    "TokenBucket burst": lambda bad: TokenBucket("api", 10, 60, burst=bad),
}
for kind in LIMITERS:
    name, limiter = kind.__name__, kind("api", 10, 60)
    SECONDS[f"{name} window"] = lambda bad, kind=kind: kind("api", 10, bad)  # type: ignore[misc]
    COUNTS[f"{name} limit"] = lambda bad, kind=kind: kind("api", bad, 60)  # type: ignore[misc]
    COUNTS[f"{name}.hit cost"] = lambda bad, hit=limiter.hit: hit("k", bad)  # type: ignore[misc]
    COUNTS[f"{name}.peek cost"] = lambda bad, peek=limiter.peek: peek("k", bad)  # type: ignore[misc]
NO_NUMBERS: list[object] = [True, np.True_, math.nan, "5", b"5", Decimal(5), Fraction(1, 2), [5]]


def cases() -> list[Any]:
    infinite: list[object] = [math.inf, -math.inf, 10**400]
    made = []
    for calls, values in (
        (SECONDS, [*NO_NUMBERS, *infinite, None, -1]),
        (SECONDS_OR_NONE, [*NO_NUMBERS, *infinite, -1]),
        (SECONDS_OR_FOREVER, [*NO_NUMBERS, -math.inf, 10**400, None, -1]),
        (NUMBERS, [*NO_NUMBERS, *infinite, None]),
        (COUNTS, [*NO_NUMBERS, math.inf, -math.inf, None, 1.5, 5.0, -(10**400)]),
        (COUNTS_OR_NONE, [*NO_NUMBERS, *infinite, -1, 5.0]),
    ):
        made += [pytest.param(call, values, id=name) for name, call in calls.items()]
    return made


def refusal(call: Callable[[Any], object], bad: Any) -> str:
    try:
        call(bad)
    except InvalidArgument as refused:
        return str(refused)
    return "taken"


@pytest.mark.parametrize(("call", "values"), cases())
def test_what_is_no_number_is_refused_everywhere(
    call: Callable[[Any], object], values: list[Any]
) -> None:
    said = {f"not {bad!r:.80}": refusal(call, bad) for bad in values}
    wrong = {why: words for why, words in said.items() if not ("must be" in words and why in words)}
    assert wrong == {}


@pytest.mark.parametrize("bad", [*NO_NUMBERS, math.inf, -math.inf, 10**400])
def test_an_instant_is_a_number_or_an_aware_datetime(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="at must be an aware datetime or Unix seconds"):
        DAILY.submit("ann", 1, at=bad)


@pytest.mark.parametrize("bad", [*NO_NUMBERS, -1, -math.inf])
def test_how_long_an_op_blocks_is_a_number(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="blocking must be a number of seconds"):
        Op("BLPOP", "queue", 0, blocking=bad)
    assert Op("BLPOP", "queue", 0, blocking=math.inf).blocking == math.inf


def test_how_long_a_watcher_waits_is_a_number(kv: Kv) -> None:
    watcher = AsyncFlagWatcher(AKV, FeatureFlags())  # not started
    with FlagWatcher(kv, FeatureFlags()) as thread:
        for bad in (*NO_NUMBERS, math.inf, None, -1):
            with pytest.raises(InvalidArgument, match="timeout must be a number of seconds"):
                thread.wait_for(1, bad)  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument, match="timeout must be a number of seconds"):
                asyncio.run(watcher.wait_for(1, bad))  # type: ignore[arg-type]


class Size(IntEnum):
    THREE = 3


@pytest.mark.parametrize("good", [3, np.int64(3), np.uint8(3), Size.THREE])
def test_every_kind_of_whole_number_comes_back_as_an_int(good: Any) -> None:
    checked = checks.whole("n", good, 0, 3)
    assert (checked, type(checked)) == (3, int)


@pytest.mark.parametrize("good", [3, 3.0, np.float32(3), np.int64(3), Size.THREE])
def test_every_kind_of_number_comes_back_as_a_float(good: Any) -> None:
    checked = checks.real("x", good, 0, 3)
    assert (checked, type(checked)) == (3.0, float)


def test_a_numpy_limit_reaches_the_server(kv: Kv) -> None:
    limiter = TokenBucket("api", np.int64(10), 60.0, np.int32(3))  # type: ignore[arg-type]
    assert kv.run(limiter.hit("k", np.int64(2))).remaining == 1  # type: ignore[arg-type]


REFUSED = [
    (lambda: checks.whole("n", 0, 1), "n must be a whole number of at least 1, not 0"),
    (lambda: checks.whole("n", 9, 1, 5), "n must be a whole number from 1 to 5, not 9"),
    (lambda: checks.real("x", -1, 0), "x must be a number of at least 0, not -1"),
    (lambda: checks.real("x", 0, 0, above=True), "x must be a number above 0, not 0"),
    (
        lambda: checks.real("x", 2, 0, 0.5, above=True),
        "x must be a number above 0 and up to 0.5, not 2",
    ),
    (
        lambda: checks.seconds("ttl", 0),
        "ttl must be a number of seconds from 0.001 to 315576000, not 0",
    ),
    (lambda: checks.one_of("order", "up", ("desc", "asc")), "order must be one of desc, asc, not"),
    (lambda: checks.text("name", "", None), "name must be text that is not empty, not ''"),
    (lambda: checks.text("flag", "a\n", 9), "flag must be printable text of 1 to 9 characters"),
    (lambda: checks.text("flag", "x" * 10_000, 9), "not 'xxx"),
    (lambda: checks.whole("n", 10**5000, 1, 5), "n must be a whole number from 1 to 5, not an"),
    (lambda: checks.seconds("ttl", 10**5000), "not an unprintable int"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_a_refusal_names_the_argument_the_range_and_the_value(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        call()
    assert words in str(refused.value)
    assert len(str(refused.value)) < 200
