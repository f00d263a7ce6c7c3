"""What a cached read costs, beside plain redis-py calls and popular Python caches.

    python -m benchmarks.cache_aside [--url redis://...] [--turns 9]

One client in a closed loop; the two sides take turns, and a turn gives the median of its calls. The
value has some 400 bytes. Every side decodes the value: kvlab and the plain calls from JSON, the
peers from their own format. All clients have one protocol and one timeout.

What the others do less: a bare GET renews nothing early, and SETEX may overwrite a newer value. The
peers let a fill land after an invalidation. cashews holds back loads in its own process alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks._common import fair, median_seconds, median_seconds_awaited, opened, report
from kvlab import AsyncKv, CacheAside, Kv, NaiveCacheAside, WriteThrough, aconnect
from kvlab.core.server_url import redis_url
from kvlab.errors import MissingExtra
from kvlab.instruments.measure.comparison import compare
from kvlab.server import engines

ROW = {"id": 7, "name": "Customer 7", "orders": [{"sku": i, "cents": 100 * i} for i in range(15)]}
OPS = 500
Measure = Callable[[], float]
Subjects = dict[str, tuple[Measure, Measure]]

cache = CacheAside("bench", 300)
_numbers = itertools.count()


def row() -> dict[str, Any]:
    return ROW


def fresh() -> str:
    """A key that is not cached."""
    return f"k{next(_numbers)}"


def plain(kv: Kv) -> Subjects:
    """Against redis-py: the same script, a bare GET, the seed's code."""
    client = kv.client
    naive = NaiveCacheAside(client, prefix=kv.prefix)
    users = WriteThrough(cache)
    kv.run(cache.fetch("hot", row))
    naive.get("hot", row)
    read = cache.read("hot")
    script = client.register_script(read.command.source)  # type: ignore[union-attr]
    keys, args = [kv.name(key) for key in read.keys], read.args[2:]
    versions = itertools.count(1)

    def by_hand() -> Any:
        return json.loads(script(keys=keys, args=args)[0])

    def get() -> Any:
        return json.loads(client.get(f"{kv.prefix}user:hot"))  # type: ignore[arg-type]

    def hit() -> Any:
        return kv.run(cache.fetch("hot", row))

    def setex() -> Any:
        return client.set(f"{kv.prefix}user:w", json.dumps(ROW), ex=300)

    def saved() -> Any:
        return kv.run(users.save("w", lambda: (ROW, next(versions))))

    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "read / the same script by redis-py": (lambda: kv.run(cache.read("hot")), by_hand),
        "hit / GET": (hit, get),
        "miss / the seed's GET, then SETEX": (
            lambda: kv.run(cache.fetch(fresh(), row)),
            lambda: naive.get(fresh(), row),
        ),
        "save / the seed's SETEX": (saved, setex),
    }
    return {
        name: (lambda a=a: median_seconds(a, OPS), lambda b=b: median_seconds(b, OPS))
        for name, (a, b) in pairs.items()
    }


@contextmanager
def dogpile(kv: Kv, url: str) -> Iterator[Subjects]:
    """dogpile.cache with its Redis backend and a lock shared by processes."""
    try:
        from dogpile.cache import make_region
    except ImportError as missing:
        raise MissingExtra("dogpile.cache", "this comparison") from missing
    arguments = {"url": fair(url), "distributed_lock": True, "thread_local_lock": False}
    region = make_region(key_mangler=lambda key: f"{kv.prefix}dogpile:{key}")
    region.configure("dogpile.cache.redis", expiration_time=300, arguments=arguments)
    region.get_or_create("hot", row)
    kv.run(cache.fetch("hot", row))
    yield {
        "hit / dogpile.cache": (
            lambda: median_seconds(lambda: kv.run(cache.fetch("hot", row)), OPS),
            lambda: median_seconds(lambda: region.get_or_create("hot", row), OPS),
        ),
        "miss / dogpile.cache": (
            lambda: median_seconds(lambda: kv.run(cache.fetch(fresh(), row)), OPS),
            lambda: median_seconds(lambda: region.get_or_create(fresh(), row), OPS),
        ),
    }
    region.actual_backend.reader_client.close()


@contextmanager
def cashews(kv: Kv, url: str) -> Iterator[Subjects]:
    """cashews with ``protected``: one load per process."""
    try:
        from cashews import Cache
    except ImportError as missing:
        raise MissingExtra("cashews", "this comparison") from missing
    peer = Cache()
    peer.setup(fair(url))

    @peer.cache(ttl=300, key=kv.prefix + "cashews:{key}", protected=True)
    async def load(key: str) -> dict[str, Any]:
        return ROW

    with asyncio.Runner() as runner:
        akv: AsyncKv = runner.run(aconnect(url, prefix=kv.prefix, allow_remote=True))
        runner.run(load("hot"))
        runner.run(akv.run(cache.fetch("hot", row)))

        def in_loop(call: Callable[[], Coroutine[Any, Any, object]]) -> Measure:
            return lambda: runner.run(median_seconds_awaited(call, OPS))

        yield {
            "async hit / cashews": (
                in_loop(lambda: akv.run(cache.fetch("hot", row))),
                in_loop(lambda: load("hot")),
            ),
            "async miss / cashews": (
                in_loop(lambda: akv.run(cache.fetch(fresh(), row))),
                in_loop(lambda: load(fresh())),
            ),
        }
        runner.run(akv.close())
        runner.run(peer.close())


def print_all(subjects: Subjects, turns: int) -> None:
    """Compare the two sides of each subject in turns."""
    for name, (ours, other) in subjects.items():
        report(name, compare(ours, other, turns=turns))


def main() -> None:
    """Print each ratio with its interval and the medians beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=redis_url)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    with ExitStack() as stack:
        # cashews knows no unix sockets, so the embedded server listens on a port of its own
        url = given.url or stack.enter_context(engines.start("valkey")).url
        kv = stack.enter_context(opened(url))
        try:
            print_all(plain(kv), given.turns)
            for peer in (dogpile, cashews):
                try:
                    with peer(kv, url) as subjects:
                        print_all(subjects, given.turns)
                except MissingExtra as missing:
                    print(f"{peer.__name__}: not compared, {missing}")
        finally:
            kv.clear()


if __name__ == "__main__":
    main()
