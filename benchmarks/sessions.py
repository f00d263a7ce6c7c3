"""What a session read costs, beside plain redis-py calls with about as much data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kvlab import NaiveSessions, SessionStore
from kvlab.bench import Bench, Case, Peer
from kvlab.bench.case import BARE

DATA = {"theme": "dark", "cart": [{"sku": i, "n": 1} for i in range(10)], "csrf": "x" * 43}
LESS = "knows no absolute timeout, stores the id in clear text, a late write undoes a log-out"


def cases(bench: Bench) -> Iterator[Case]:
    """One client in a closed loop; every side parses JSON."""
    kv, client = bench.kv, bench.kv.client
    store, naive = SessionStore(), NaiveSessions(client, prefix=kv.prefix)
    sid, old = kv.run(store.create(7, DATA)).id, naive.create(7)
    raw = f"{kv.prefix}raw"
    client.set(raw, json.dumps({"userId": 7, **DATA}))
    read = store.read(sid)
    script: Any = client.register_script(read.command.source)  # type: ignore[union-attr]
    keys, args = [kv.name(read.keys[0])], read.args[1:]
    ask, request = bench.bare(), bench.packed(read)

    def pipeline() -> object:
        with client.pipeline(transaction=False) as pipe:
            pipe.get(raw)
            pipe.expire(raw, 1800)
            found, _ = pipe.execute()
        return json.loads(found)

    yield Case(
        "read",
        "a session with ten items in its cart",
        bench.calls(lambda: kv.run(store.read(sid))),
        {
            "the same script by redis-py": Peer(
                bench.calls(lambda: json.loads(script(keys=keys, args=args)[1])), "redis"
            ),
            BARE: Peer(bench.calls(lambda: ask(request))),
            "pipeline of GET, EXPIRE": Peer(bench.calls(pipeline), "", LESS),
            "the seed's GET, then EXPIRE": Peer(bench.calls(lambda: naive.read(old)), "", LESS),
        },
    )

    def create_and_destroy() -> None:
        kv.run(store.destroy(kv.run(store.create(8, DATA)).id))

    def set_and_delete() -> None:
        client.set(f"{raw}:2", json.dumps(DATA), ex=1800)
        client.delete(f"{raw}:2")

    yield Case(
        "create, destroy",
        "a log-in and its log-out",
        bench.calls(create_and_destroy),
        {"SET EX, then DEL": Peer(bench.calls(set_and_delete), "", LESS)},
    )

    def set_again() -> None:
        client.set(raw, json.dumps({"userId": 7, **DATA}), keepttl=True)

    yield Case(
        "update",
        "one field of the same session",
        bench.calls(lambda: kv.run(store.update(sid, n=1))),
        {"SET KEEPTTL": Peer(bench.calls(set_again), "", "writes the whole, reads nothing")},
    )
