"""A whole web request: limit, session, flags and a cached profile, by peers and by one ``run``.

    python -m benchmarks.studies.whole_request [--save FILE]

The peers' four parts follow each other, since none of them takes part in another's round trip. They
and kvlab take turns, request by request, through one proxy that adds 0, 1 and 5 ms to each round
trip. Round trips are counted by the proxy; times are medians. Flask-Session's store is called
without Flask around it, and redis-py reads the flags, for which no peer serves plain Redis.

Not measured: Flask itself, TLS, and a server that is busy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

import kvlab
from kvlab import CacheAside, FeatureFlags, FixedWindow, Kv, SessionStore
from kvlab.bench.case import fair
from kvlab.instruments import Proxy, environment
from kvlab.server import engines

DELAYS = (0.0, 0.001, 0.005)
REQUESTS, WARM_UP = 200, 20
ROW = {"id": 7, "name": "Customer 7", "orders": [{"sku": i, "cents": 100 * i} for i in range(15)]}
FLAGS = {"new-page": False, "dark": True}
Call = Callable[[], object]


def peers(url: str) -> Mapping[str, Call]:
    """The parts of a request, by the libraries that people combine."""
    import limits
    from dogpile.cache import make_region
    from flask import Flask
    from flask_session.redis.redis import RedisSession, RedisSessionInterface

    rule = limits.parse("1000000/minute")
    limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.storage_from_string(url))
    client = redis.Redis.from_url(url)
    store = RedisSessionInterface(Flask("app"), client=client, key_prefix="session:")
    client.hset("flags", mapping={name: int(on) for name, on in FLAGS.items()})
    region = make_region().configure("dogpile.cache.redis", arguments={"url": url})
    day = timedelta(days=1)

    def session() -> object:
        found = RedisSession(store._retrieve_session_data("session:1") or {"user": "ann"})
        store._upsert_session(day, found, "session:1")  # by default at the end of every request
        return found

    return {
        f"limit: limits {version('limits')}": lambda: limiter.hit(rule, "ann"),
        f"session: Flask-Session {version('flask-session')}": session,
        f"flags: redis-py {version('redis')}": lambda: client.hgetall("flags"),
        f"profile: dogpile.cache {version('dogpile.cache')}": lambda: region.get_or_create(
            "profile", lambda: ROW
        ),
    }


def ours(kv: Kv) -> Mapping[str, Call]:
    """The same by kvlab, in one run."""
    limiter = FixedWindow("api", limit=1_000_000, window=60)
    sessions = SessionStore(idle=1800, absolute=86_400)
    flags, profiles = FeatureFlags("site", FLAGS), CacheAside("profile", ttl=300)
    session = kv.run(sessions.create("ann"))
    kv.run(profiles.fetch("7", lambda: ROW))
    ops = limiter.hit("ann"), sessions.read(session.id), flags.read_all(), profiles.read("7")
    return {"limit, session, flags, profile: kvlab": lambda: kv.run(*ops)}


def measured() -> list[dict[str, Any]]:
    """A row a part and delay: ``by``, ``part``, ``delay_ms``, ``round_trips``, ``ms``."""
    with ExitStack() as stack:
        server = stack.enter_context(engines.start("valkey"))
        proxy = stack.enter_context(Proxy(server.url))
        kv = stack.enter_context(kvlab.connect(proxy.url))
        sides = {"peers": peers(fair(proxy.url)), "kvlab": ours(kv)}
        parts = [(side, part, call) for side, of in sides.items() for part, call in of.items()]
        trips = {part: proxy.trips(call)[0] for _, part, call in parts}
        rows = []
        for delay in DELAYS:
            proxy.delay(delay)
            taken = _taken([(part, call) for _, part, call in parts])
            rows += [
                {
                    "by": side,
                    "part": part,
                    "delay_ms": delay * 1e3,
                    "round_trips": trips[part],
                    "ms": round(statistics.median(taken[part]) * 1e3, 4),
                }
                for side, part, _ in parts
            ]
        return rows


def _taken(parts: list[tuple[str, Call]]) -> Mapping[str, list[float]]:
    taken: dict[str, list[float]] = {part: [] for part, _ in parts}
    for request in range(WARM_UP + REQUESTS):
        for part, call in parts:
            began = time.perf_counter()
            call()
            if request >= WARM_UP:
                taken[part].append(time.perf_counter() - began)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the figures as JSON")
    given = parser.parse_args()
    rows = measured()
    for row in rows:
        print(
            f"{row['delay_ms']:3.0f} ms  {row['round_trips']} RT  {row['ms']:7.2f}  {row['part']}"
        )
    with engines.start("valkey") as server, kvlab.connect(server.url) as kv:
        about = environment(kv) | {"requests": REQUESTS, "load": "closed, one client"}
    if given.save:
        lines = ",\n".join(json.dumps(row) for row in rows)
        text = f'{{"environment": {json.dumps(about)},\n"rows": [\n{lines}\n]}}\n'
        given.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
