"""What a session read costs, beside plain redis-py calls with about as much data.

    python -m benchmarks.sessions [--url redis://...]

One client in a closed loop; the two sides take turns, and a turn gives the median of its calls.
Every side parses JSON, and all have one protocol and one timeout.

What the plain calls do less: they know no absolute timeout, store the id in clear text, and let a
late write bring a session back that has ended.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from benchmarks._common import median_seconds, opened, report
from kvlab import Kv, NaiveSessions, SessionStore
from kvlab.core.server_url import redis_url
from kvlab.instruments.measure.comparison import compare

DATA = {"theme": "dark", "cart": [{"sku": i, "n": 1} for i in range(10)], "csrf": "x" * 43}
OPS = 1000


def subjects(kv: Kv) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """kvlab's call and the other call, by name; one session each."""
    client: redis.Redis = kv.client
    store, naive = SessionStore(), NaiveSessions(client, prefix=kv.prefix)
    sid = kv.run(store.create(7, DATA)).id
    raw = f"{kv.prefix}raw"
    client.set(raw, json.dumps({"userId": 7, **DATA}))
    old = naive.create(7)

    def pipeline() -> Any:
        with client.pipeline(transaction=False) as pipe:
            found, _ = pipe.get(raw).expire(raw, 1800).execute()
        return json.loads(found)

    read = store.read(sid)
    script = kv.client.register_script(read.command.source)  # type: ignore[union-attr]
    script_keys, script_args = [kv.name(read.keys[0])], read.args[1:]

    def same_script() -> Any:
        _, data = script(keys=script_keys, args=script_args)
        return json.loads(data)

    def ours() -> Any:
        return kv.run(store.read(sid))

    return {
        "read / pipeline GET+EXPIRE": (ours, pipeline),
        "read / the seed's GET, then EXPIRE": (ours, lambda: naive.read(old)),
        "read / the same script by redis-py": (ours, same_script),
        "update / read": (lambda: kv.run(store.update(sid, n=1)), ours),
        "create, destroy / SET EX, DEL": (
            lambda: _create_and_destroy(kv, store),
            lambda: _setex_and_del(client, raw),
        ),
    }


def _create_and_destroy(kv: Kv, store: SessionStore) -> None:
    session = kv.run(store.create(8, DATA))
    kv.run(store.destroy(session.id))


def _setex_and_del(client: redis.Redis, key: str) -> None:
    client.set(f"{key}:2", json.dumps(DATA), ex=1800)
    client.delete(f"{key}:2")


def main() -> None:
    """Print each ratio with its interval and the medians beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=redis_url)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    with opened(given.url) as kv:
        for name, (ours, other) in subjects(kv).items():
            sides = partial(median_seconds, ours, OPS), partial(median_seconds, other, OPS)
            report(name, compare(*sides, turns=given.turns))
        kv.clear()


if __name__ == "__main__":
    main()
