"""What an op costs over the raw redis-py call that carries the same command.

Not promised: anything about a network that is farther away; there the ratio goes to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis.asyncio

from kvlab import Key, Op, Script, aconnect
from kvlab.bench import Bench, Case, Peer
from kvlab.bench.case import BARE

SCRIPT = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
GET: Op[Any] = Op("GET", Key("k"))
SET: Op[Any] = Op("SET", Key("k"), "v", "EX", 60)
ADD: Op[Any] = Op(SCRIPT, Key("n"), 1)


def cases(bench: Bench) -> Iterator[Case]:
    """Synchronous calls, then the same on asyncio."""
    client, kv = bench.kv.client, bench.kv
    key, number = kv.name(Key("k")), kv.name(Key("n"))
    sha = str(client.script_load(SCRIPT.source))
    ten, ask, request = [GET] * 10, bench.bare(), bench.packed(GET)

    def pipeline() -> object:
        pipe = client.pipeline(transaction=False)
        for _ in range(10):
            pipe.execute_command("GET", key)
        return pipe.execute()

    for name, ours, raw in (
        ("GET", lambda: kv.run(GET), lambda: client.execute_command("GET", key)),
        ("SET", lambda: kv.run(SET), lambda: client.execute_command("SET", key, "v", "EX", 60)),
        (
            "script",
            lambda: kv.run(ADD),
            lambda: client.execute_command("EVALSHA", sha, 1, number, 1),
        ),
        ("10 GETs", lambda: kv.run(ten), pipeline),
    ):
        peers = {"raw redis-py": Peer(bench.calls(raw), "redis")}
        if name == "GET":
            peers[BARE] = Peer(bench.calls(lambda: ask(request)))
        yield Case(name, "one client, one call after the other", bench.calls(ours), peers)
    yield from awaited(bench, key, number, sha)


def awaited(bench: Bench, key: str, number: str, sha: str) -> Iterator[Case]:
    """One task that awaits one call after the other."""
    client = redis.asyncio.Redis.from_url(bench.peer_url)
    akv = bench.runner.run(aconnect(bench.url, prefix=bench.kv.prefix, allow_remote=True))
    bench.stack.callback(lambda: bench.runner.run(client.aclose()))
    bench.stack.callback(lambda: bench.runner.run(akv.close()))
    for name, ours, raw in (
        ("async GET", lambda: akv.run(GET), lambda: client.execute_command("GET", key)),
        (
            "async script",
            lambda: akv.run(ADD),
            lambda: client.execute_command("EVALSHA", sha, 1, number, 1),
        ),
    ):
        peers = {"raw redis.asyncio": Peer(bench.awaited(raw), "redis")}
        yield Case(name, "one task, one await after the other", bench.awaited(ours), peers)
