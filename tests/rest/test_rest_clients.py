"""The clients of the products, as published, against the gateway; among them the seed itself."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import upstash_redis
import upstash_redis.asyncio
from filelock import FileLock
from support import absent
from upstash_redis.errors import UpstashError

from kvlab.rest_gateway import ServedGateway, serving
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

JS = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def alone() -> Iterator[tuple[RunningServer, ServedGateway]]:
    with engines.start("valkey") as server, serving(server.url) as gateway:
        yield server, gateway


@pytest.fixture
def own(alone: tuple[RunningServer, ServedGateway]) -> ServedGateway:
    """A gateway over an empty store: these clients know no prefix."""
    server, gateway = alone
    with server.client() as direct:
        direct.flushall()
    return gateway


def node(program: str, gateway: ServedGateway) -> dict[str, Any]:
    """What the program prints, by the packages of the lock file."""
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            absent(f"{command} is absent: on Debian, apt-get install nodejs npm")
    with FileLock(JS / ".install.lock"):
        installed, locked = JS / "node_modules/.package-lock.json", JS / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
            install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(install, cwd=JS, capture_output=True, text=True, timeout=120)
            if done.returncode:
                absent(f"npm cannot install what the lock file names: {done.stderr[-300:]}")
            installed.touch()
    env = {
        **os.environ,
        "KV_REST_API_URL": gateway.url,
        "KV_REST_API_TOKEN": gateway.token,
        "UPSTASH_REDIS_REST_URL": gateway.url,
        "UPSTASH_REDIS_REST_TOKEN": gateway.token,
        "READ_ONLY_TOKEN": gateway.read_only_token,
    }
    ran = subprocess.run(
        ["node", program], cwd=JS, env=env, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_the_seed_on_vercel_kv(own: ServedGateway) -> None:
    ann, rob = {"id": 1, "name": "Ann 😀"}, {"id": 2, "name": "Rob"}
    assert node("run_seed.mjs", own) == {
        "cacheAside": [ann, ann, 300],
        "cacheAsideAbsent": [None, 0],  # absence is not cached: a load each time
        "writeThrough": [rob, rob],
        "writeThroughDeleted": [None, None],
        "fixedWindow": [True] * 10 + [False] * 2,
        "fixedWindowTtl": 60,
        "slidingWindow": [True] * 3 + [False] * 2,
        "session": [42, 604_800],
        "sessionDestroyed": [None, 0],
        "lock": ["string", None, 30],
        "lockReleased": [False, True, 0],
        "leaderboard": [2, 30, 1, 25.5],
        "leaderboardOf": [2, 25.5, None, [1, 25.5, 3, 20]],
        "counters": [1, 5],
        # Pattern 7 does not exist on this client ...
        "dashboard": "TypeError: pipeline.zrevrange is not a function",
        # ... and a flag of pattern 8 is never true: the client parses '1' into the number 1.
        "flags": [False, {"new-checkout-flow": False}],
        "flagStored": 1,
    }


def test_upstash_redis_and_ratelimit(own: ServedGateway) -> None:
    found = node("run_upstash.mjs", own)
    found["auto"].sort()
    denied = "this token has no permission to run the 'set' command"
    assert found == {
        "object": {"name": "Ann 😀", "tags": ["OK", None, 1.5]},
        "text": ["OK", "OK", "OK"],
        "none": None,
        "many": [1, "two", None],
        "hash": {"field": "value", "n": 7},
        "list": ["a", {"b": 1}],
        "zset": ["x", 1.5, "y", 2],
        "stream": "string",
        "script": ["u:k", "v", 3],
        "evalsha": [2, 4],
        "pipeline": ["OK", 2, 2],
        "multi": ["OK", 6],
        "auto": [1, 2, 3],
        "scan": ["0", True],
        "error": "UpstashError: WRONGTYPE Operation against a key holding the wrong kind of value, "
        'command was: ["lpush","u:text",1]',
        "blocked": "UpstashError: ERR BLPOP is not available over REST, "
        'command was: ["BLPOP","u:list","0"]',
        "partial": [
            {"error": "ERR value is not an integer or out of range"},
            {"result": "OK"},
        ],
        "reader": ["OK", f"UpstashError: Command failed: NOPERM {denied}"],
        "readOnlyScript": [
            "OK",
            f"UpstashError: Command failed: NOPERM {denied.replace('set', 'eval_ro')}",
        ],
        "stranger": "UpstashError: WRONGPASS invalid or missing auth token, "
        'command was: [["get","u:text"]]',
        "ratelimit": {
            kind: [True, True, True, False, False]
            for kind in ("fixedWindow", "slidingWindow", "tokenBucket")
        },
    }


def test_upstash_redis_in_python(own: ServedGateway) -> None:
    redis = upstash_redis.Redis(own.url, own.token, allow_telemetry=False)
    assert redis.set("p:a", "ü😀", ex=60) is True
    assert redis.get("p:a") == "ü😀"
    assert redis.hset("p:h", values={"a": "1", "b": "2"}) == 2
    assert redis.hgetall("p:h") == {"a": "1", "b": "2"}
    assert redis.zadd("p:z", {"x": 1.5, "y": 2}) == 2
    assert redis.zrange("p:z", 0, -1, withscores=True) == [("x", 1.5), ("y", 2.0)]
    assert redis.eval("return {KEYS[1], 1}", ["k"], []) == ["k", 1]
    assert redis.pipeline().incr("p:n").incr("p:n").exec() == [1, 2]
    assert redis.multi().incr("p:n").get("p:n").exec() == [3, "3"]
    with pytest.raises(UpstashError, match="WRONGTYPE"):
        redis.lpush("p:a", "x")
    with pytest.raises(UpstashError, match="not available over REST"):
        redis.execute(["BLPOP", "p:l", 0])
    redis.close()
    reader = upstash_redis.Redis(own.url, own.read_only_token)
    assert reader.get("p:n") == "3"
    with pytest.raises(UpstashError, match="NOPERM"):
        reader.incr("p:n")
    reader.close()

    async def count() -> int:
        async with upstash_redis.asyncio.Redis(own.url, own.token) as client:
            await asyncio.gather(*(client.incr("p:async") for _ in range(50)))
            return int(await client.get("p:async") or 0)

    assert asyncio.run(count()) == 50
