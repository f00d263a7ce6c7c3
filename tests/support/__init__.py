"""What tests share beyond fixtures: the ways an op can travel, an async twin, a stepped clock."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
import redis.asyncio

from kvlab import AsyncKv, Kv, Op
from kvlab.rest.clients import async_rest_client

EVERY = dict.fromkeys(
    ("crashes", "lost_replies", "lost_requests", "expiries", "script_flushes"), True
)
"""Faults of ``explore``; of an all-time leaderboard only receipts can expire."""
ENGINES = ("valkey", "redis-6.2", "redis", "fakeredis")


_numbers = itertools.count(1)


def fresh_prefix() -> str:
    """A namespace that no other test of this process has."""
    return f"t{next(_numbers)}"


class _Sync:
    def __init__(self, kv: Kv) -> None:
        self.kv = kv

    def __call__(self, what: Any) -> Any:
        return self.kv.run(what)

    def close(self) -> None:
        pass


class _Mixed(_Sync):
    def __call__(self, what: Any) -> Any:
        if not isinstance(what, Op) or what.blocking is not None:
            return self.kv.run(what)
        before, result, after = self.kv.run(Op("ECHO", "before"), what, Op("ECHO", "after"))
        assert (before, after) == (b"before", b"after")
        return result


class _Async(_Sync):
    def __init__(self, kv: Kv) -> None:
        super().__init__(kv)
        self._loop = asyncio.new_event_loop()
        self._akv = twin(kv)

    def __call__(self, what: Any) -> Any:
        return self._loop.run_until_complete(self._akv.run(what))

    def close(self) -> None:
        self._loop.run_until_complete(self._akv.close())
        self._loop.close()


WAYS: dict[str, Callable[[Kv], _Sync]] = {"sync": _Sync, "async": _Async, "mixed": _Mixed}
TRAVELS = (
    *((way, "valkey") for way in WAYS),
    ("sync", "redis-6.2"),
    ("mixed", "redis"),
    ("async", "fakeredis"),
    ("mixed", "rest"),
    ("sync", "cluster"),
    ("async", "cluster"),
)
"""Each way on the embedded engine, and each other engine by one way: the way of an op does not
depend on the engine, nor a script on the way. "rest" is the embedded engine behind the gateway,
"cluster" six processes of the embedded engine."""


def over_rest(kv: Kv) -> bool:
    """Whether the executor speaks HTTP: the few things that HTTP cannot carry are refused there."""
    return not on_cluster(kv) and "address" in kv.client.connection_pool.connection_kwargs


def on_cluster(kv: Kv) -> bool:
    """Whether the executor speaks to a cluster."""
    return isinstance(kv.client, redis.RedisCluster)


def twin(kv: Kv, **settings: Any) -> AsyncKv:
    """An ``AsyncKv`` for the server and the namespace of ``kv``."""
    if on_cluster(kv):
        start: Any = kv.client
        node = start.get_default_node()
        cluster = redis.asyncio.RedisCluster(host=node.host, port=node.port, max_connections=500)
        return AsyncKv(cluster, prefix=kv.prefix, **settings)
    kwargs = kv.client.connection_pool.connection_kwargs
    if over_rest(kv):
        return AsyncKv(async_rest_client(kwargs["address"], 500), prefix=kv.prefix, **settings)
    client = redis.asyncio.Redis(host=kwargs["host"], port=kwargs["port"], max_connections=500)
    return AsyncKv(client, prefix=kv.prefix, **settings)


def cancelled_amid(kv: Kv, op: Callable[[Callable[[], Any]], Any]) -> None:
    """Run ``op(load)`` on asyncio, and cancel it amid its load, which does not end."""

    async def main() -> None:
        loading = asyncio.Event()

        async def load() -> None:
            loading.set()
            await asyncio.Event().wait()

        async with twin(kv) as akv:
            task = asyncio.create_task(akv.run(op(load)))
            await loading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def own_road(client: Any) -> Any:
    """The client, whose connections have a send of their own from now on."""
    pool = client.connection_pool
    send = pool.connection_class.send_packed_command

    def own_send(connection: Any, *given: Any, **how: Any) -> Any:
        return send(connection, *given, **how)

    kind = type("Own", (pool.connection_class,), {"send_packed_command": own_send})
    pool.connection_class = kind
    return client


class SteppedClock:
    """The clock of one server, set by libfaketime: it stands still, within 2 ms, until stepped."""

    START = 1_800_000_000.0

    def __init__(self, file: Path) -> None:
        self._file = file
        self._client: redis.Redis | None = None
        self._write(self.START)

    def attach(self, client: redis.Redis) -> None:
        self._client = client

    def set(self, now: float) -> None:
        """The server's time from now on, in Unix seconds; earlier than before is allowed."""
        self._write(now)
        assert self._client is not None
        # The server reads its clock once per turn of its event loop: make it turn.
        for _ in range(1000):
            seconds, micros = self._client.time()
            if abs(seconds + micros / 1e6 - now) < 0.002:
                return
        raise AssertionError(f"the server's clock did not follow to {now}")

    def _write(self, now: float) -> None:
        self.now = now
        whole = self._file.with_suffix(".new")
        # "@" would let time run on from there; a bare date freezes it.
        whole.write_text(datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S.%f"))
        whole.replace(self._file)

    def step(self, seconds: float) -> None:
        self.set(self.now + seconds)


def absent(reason: str) -> NoReturn:
    """Skip the test; under ``CI`` fail it, since a suite that skips its clock tests proves less."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def faketime_library() -> str | None:
    return next((str(p) for p in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
