"""One hit, over the raw redis-py call of the same script and over Python peers.

``python -m benchmarks.rate_limiting``: a private Valkey, one closed-loop client, admitted hits.
Ratios of times measured in turns, with their 95 % interval; below 1, kvlab is quicker. All clients
have one protocol and one timeout.

kvlab's hit is one script: it decides by the server's clock, and answers the decision, what remains,
and when to retry. A row with a peer says what the peer's hit sends, as a proxy saw it, and what it
answers: a bool says less, and a bare INCRBY does less.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import redis

from benchmarks._common import fair, mean_seconds, report
from kvlab import FixedWindow, Kv, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.core.wire import encode
from kvlab.instruments import Comparison, Proxy, compare
from kvlab.server import engines

HITS, TURNS = 200, 11
LIMIT, WINDOW = 100_000, 3600
KINDS = (FixedWindow, SlidingWindowLog, SlidingWindowCounter, TokenBucket)


def raw(client: redis.Redis, kv: Kv, limiter: Any) -> Callable[[], Any]:
    """The same script by plain redis-py, with prepared arguments."""
    _, sha, *rest = encode(limiter.hit("raw"), kv.prefix)
    client.script_load(limiter.hit("raw").command.source)
    return lambda: client.evalsha(sha, *rest)


def peers(url: str) -> Iterator[tuple[type, str, Callable[[], Any]]]:
    """For each installed peer: the limiter to compare, the peer's name, its hit."""
    try:
        import limits
        from limits.strategies import (
            FixedWindowRateLimiter,
            MovingWindowRateLimiter,
            SlidingWindowCounterRateLimiter,
        )
    except ImportError:
        print("limits is absent: pip install limits")
    else:
        storage = limits.storage.storage_from_string(fair(url))
        item = limits.RateLimitItemPerHour(LIMIT)
        for ours, strategy in (
            (FixedWindow, FixedWindowRateLimiter),
            (SlidingWindowLog, MovingWindowRateLimiter),
            (SlidingWindowCounter, SlidingWindowCounterRateLimiter),
        ):
            hit = strategy(storage).hit
            name = f"limits {importlib.metadata.version('limits')} {strategy.__name__}"
            yield ours, name, lambda hit=hit, name=name: hit(item, name)
    try:
        from throttled import RedisStore, Throttled, rate_limiter
    except ImportError:
        print("throttled-py is absent: pip install throttled-py")
    else:
        store, quota = RedisStore(server=fair(url)), rate_limiter.per_hour(LIMIT)
        for ours, using in (
            (FixedWindow, "fixed_window"),
            (SlidingWindowCounter, "sliding_window"),
            (TokenBucket, "gcra"),
            (TokenBucket, "token_bucket"),
        ):
            limit = Throttled(using=using, quota=quota, store=store).limit
            name = f"throttled-py {importlib.metadata.version('throttled-py')} {using}"
            yield ours, name, lambda limit=limit, using=using: limit(f"k:{using}")


def sent_by_peers(url: str) -> dict[str, str]:
    """By the peer's name: the commands of a hit that is not the first, and its answer."""
    says = {}
    with Proxy(url) as proxy:
        for _, name, hit in peers(proxy.url):
            hit()
            before = len(proxy.commands)
            answer = type(hit()).__name__
            says[name] = f"sends {', '.join(proxy.commands[before:])}; answers {answer}"
    return says


def in_turns(ours: Callable[[], Any], other: Callable[[], Any]) -> Comparison:
    """Seconds of a hit, over HITS hits a turn."""
    return compare(
        partial(mean_seconds, ours, HITS), partial(mean_seconds, other, HITS), turns=TURNS
    )


def main() -> None:
    with (
        engines.start("valkey") as server,
        redis.Redis.from_url(fair(server.url)) as client,
        Kv(client, prefix="bench") as kv,
    ):
        print(f"valkey, redis-py {redis.__version__}; {TURNS} turns of {HITS} hits")
        hits = {}
        for kind in KINDS:
            limiter = kind("bench", LIMIT, WINDOW)
            hits[kind] = lambda limiter=limiter: kv.run(limiter.hit("k"))
            by_hand = raw(client, kv, limiter)
            report(f"{kind.__name__} / raw redis-py", in_turns(hits[kind], by_hand))
        says = sent_by_peers(server.url)
        for kind, name, hit in peers(server.url):
            report(f"{kind.__name__} / {name}", in_turns(hits[kind], hit), says[name])


if __name__ == "__main__":
    main()
