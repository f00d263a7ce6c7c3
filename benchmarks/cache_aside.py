"""What a cached read costs, beside plain redis-py calls and popular Python caches.

The value has some 400 bytes. Every side decodes the value: kvlab and the plain calls from JSON, the
peers from their own format.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from kvlab import CacheAside, NaiveCacheAside, WriteThrough, aconnect
from kvlab.bench import Bench, Case, Peer
from kvlab.bench.case import BARE

ROW = {"id": 7, "name": "Customer 7", "orders": [{"sku": i, "cents": 100 * i} for i in range(15)]}
LATE_FILL = "a fill may land after an invalidation"
ONE_PROCESS = "holds back loads in its own process alone"

cache = CacheAside("bench", 300)
_numbers = itertools.count()


def row() -> dict[str, Any]:
    return ROW


def fresh() -> str:
    """A key that is not cached."""
    return f"k{next(_numbers)}"


def cases(bench: Bench) -> Iterator[Case]:
    """A hit, a miss and a save by one client in a closed loop; then the async ones."""
    kv, client = bench.kv, bench.kv.client
    naive = NaiveCacheAside(client, prefix=kv.prefix)
    kv.run(cache.fetch("hot", row))
    naive.get("hot", row)
    ask, request = bench.bare(), bench.packed(cache.read("hot"))
    hits, misses = dict[str, Peer](), dict[str, Peer]()
    for name, hit, miss in bench.installed(dogpile):
        hits[name], misses[name] = hit, miss

    def get() -> object:
        return json.loads(client.get(f"{kv.prefix}user:hot"))  # type: ignore[arg-type]

    yield Case(
        "hit",
        "fetch of one hot key",
        bench.calls(lambda: kv.run(cache.fetch("hot", row))),
        {
            "a bare GET": Peer(bench.calls(get), "", "renews nothing early"),
            BARE: Peer(bench.calls(lambda: ask(request))),
            **hits,
        },
    )
    yield Case(
        "miss",
        "fetch of a key that is not cached, by one client",
        bench.calls(lambda: kv.run(cache.fetch(fresh(), row))),
        {
            "the seed's GET, then SETEX": Peer(
                bench.calls(lambda: naive.get(fresh(), row)), "", f"no lease; {LATE_FILL}"
            ),
            **misses,
        },
    )
    yield from (by_script(bench), save(bench))
    yield from bench.installed(cashews)


def by_script(bench: Bench) -> Case:
    """A read beside the same script by redis-py."""
    read = cache.read("hot")
    script: Any = bench.kv.client.register_script(read.command.source)  # type: ignore[union-attr]
    keys, args = [bench.kv.name(key) for key in read.keys], read.args[2:]

    def by_hand() -> object:
        return json.loads(script(keys=keys, args=args)[0])

    ours = bench.calls(lambda: bench.kv.run(cache.read("hot")))
    peer = Peer(bench.calls(by_hand), "redis")
    return Case("read", "the op alone", ours, {"the same script by redis-py": peer})


def save(bench: Bench) -> Case:
    """A write-through save beside the seed's SETEX."""
    users, versions = WriteThrough(cache), itertools.count(1)

    def setex() -> object:
        return bench.kv.client.set(f"{bench.kv.prefix}user:w", json.dumps(ROW), ex=300)

    ours = bench.calls(lambda: bench.kv.run(users.save("w", lambda: (ROW, next(versions)))))
    peer = Peer(bench.calls(setex), "", "may overwrite a newer value")
    return Case("save", "write-through, after the database", ours, {"the seed's SETEX": peer})


def dogpile(bench: Bench) -> Iterator[tuple[str, Peer, Peer]]:
    """dogpile.cache with its Redis backend and a lock shared by processes."""
    from dogpile.cache import make_region

    arguments = {"url": bench.peer_url, "distributed_lock": True, "thread_local_lock": False}
    region = make_region(key_mangler=lambda key: f"{bench.kv.prefix}dogpile:{key}")
    region.configure("dogpile.cache.redis", expiration_time=300, arguments=arguments)
    region.get_or_create("hot", row)
    bench.stack.callback(region.actual_backend.reader_client.close)
    hit = bench.calls(lambda: region.get_or_create("hot", row))
    miss = bench.calls(lambda: region.get_or_create(fresh(), row))
    package = "dogpile.cache"
    yield package, Peer(hit, package, LATE_FILL), Peer(miss, package, LATE_FILL)


def cashews(bench: Bench) -> Iterator[Case]:
    """cashews with ``protected``: one load per process."""
    from cashews import Cache

    peer = Cache()
    peer.setup(bench.peer_url)

    async def row_of(key: str) -> dict[str, Any]:
        return ROW

    cached = peer.cache(ttl=300, key=bench.kv.prefix + "cashews:{key}", protected=True)
    load = cached(row_of)
    run = bench.runner.run
    akv = run(aconnect(bench.url, prefix=bench.kv.prefix, allow_remote=True))
    bench.stack.callback(lambda: run(akv.close()))
    bench.stack.callback(lambda: run(peer.close()))
    run(load("hot"))
    run(akv.run(cache.fetch("hot", row)))
    for name, ours, theirs in (
        ("async hit", lambda: akv.run(cache.fetch("hot", row)), lambda: load("hot")),
        ("async miss", lambda: akv.run(cache.fetch(fresh(), row)), lambda: load(fresh())),
    ):
        what = "one task, one await after the other"
        less = f"{ONE_PROCESS}; {LATE_FILL}"
        peers = {"cashews": Peer(bench.awaited(theirs), "cashews", less)}
        yield Case(name, what, bench.awaited(ours), peers)
