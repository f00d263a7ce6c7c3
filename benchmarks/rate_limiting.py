"""One admitted hit, beside the raw redis-py call of the same script and beside Python peers.

kvlab's hit is one script: it decides by the server's clock, and answers the decision, what remains,
and when to retry. Each peer's row says what its hit sends, as a proxy saw it, and what it answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kvlab import FixedWindow, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.bench import Bench, Case, Peer
from kvlab.bench.case import BARE, fair
from kvlab.core.wire import encode
from kvlab.instruments import Proxy

LIMIT, WINDOW = 100_000, 3600
KINDS = (FixedWindow, SlidingWindowLog, SlidingWindowCounter, TokenBucket)
Hit = Callable[[], Any]
Hits = Iterator[tuple[type, str, str, Hit]]
"""The limiter to compare, the peer's name and package, its hit."""


def cases(bench: Bench) -> Iterator[Case]:
    """A case a kind of limiter."""
    peers = defaultdict[type, dict[str, Peer]](dict)
    for make in (limits, throttled):
        hits = bench.installed(lambda bench, make=make: make(bench.url, bench.kv.prefix))  # type: ignore[misc]
        says = sent(bench.url, make, bench.kv.prefix) if hits else {}
        for kind, name, package, hit in hits:
            peers[kind][name] = Peer(bench.calls(hit), package, says[name])
    for kind in KINDS:
        limiter = kind("bench", LIMIT, WINDOW)
        ours = bench.calls(lambda limiter=limiter: bench.kv.run(limiter.hit("k")))  # type: ignore[misc]
        raw = Peer(bench.calls(by_hand(bench, limiter)), "redis")
        ask, request = bench.bare(), bench.packed(limiter.hit("raw"))
        bare = Peer(bench.calls(lambda ask=ask, request=request: ask(request)))  # type: ignore[misc]
        named = {"the same script by redis-py": raw, BARE: bare, **peers[kind]}
        yield Case(f"{kind.__name__}.hit", "one admitted hit on one key", ours, named)


def by_hand(bench: Bench, limiter: Any) -> Hit:
    """The same script by plain redis-py, with prepared arguments."""
    client = bench.kv.client
    _, sha, *rest = encode(limiter.hit("raw"), bench.kv.prefix)
    client.script_load(limiter.hit("raw").command.source)
    return lambda: client.evalsha(sha, *rest)


def limits(url: str, prefix: str) -> Hits:
    """limits with its Redis storage."""
    import limits
    from limits.strategies import (
        FixedWindowRateLimiter,
        MovingWindowRateLimiter,
        SlidingWindowCounterRateLimiter,
    )

    storage = limits.storage.storage_from_string(fair(url))
    item = limits.RateLimitItemPerHour(LIMIT)
    for kind, strategy in (
        (FixedWindow, FixedWindowRateLimiter),
        (SlidingWindowLog, MovingWindowRateLimiter),
        (SlidingWindowCounter, SlidingWindowCounterRateLimiter),
    ):
        hit = partial(strategy(storage).hit, item, prefix + strategy.__name__)
        yield kind, f"limits {strategy.__name__}", "limits", hit


def throttled(url: str, prefix: str) -> Hits:
    """throttled-py with its Redis store."""
    from throttled import RedisStore, Throttled, rate_limiter

    store, quota = RedisStore(server=fair(url)), rate_limiter.per_hour(LIMIT)
    for kind, using in (
        (FixedWindow, "fixed_window"),
        (SlidingWindowCounter, "sliding_window"),
        (TokenBucket, "gcra"),
        (TokenBucket, "token_bucket"),
    ):
        limit = Throttled(using=using, quota=quota, store=store).limit
        yield kind, f"throttled-py {using}", "throttled-py", partial(limit, f"{prefix}k:{using}")


def sent(url: str, make: Callable[[str, str], Hits], prefix: str) -> dict[str, str]:
    """By the peer's name: the commands of a hit that is not the first, and its answer."""
    says = {}
    with Proxy(url) as proxy:
        for _, name, _, hit in make(proxy.url, f"{prefix}seen:"):
            hit()
            before = len(proxy.commands)
            answer = type(hit()).__name__
            says[name] = f"sends {', '.join(proxy.commands[before:])}; answers {answer}"
    return says
