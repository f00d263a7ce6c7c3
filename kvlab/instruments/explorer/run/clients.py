"""The redis-py clients that an exploration hands out: to setup and invariant, and to each client.

A client of a lane is made as ``redis.Redis()`` makes one, on connections that stop in the lane.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.core.async_client import AsyncKv
from kvlab.core.client import Kv
from kvlab.instruments.explorer.run.lanes import Lane
from kvlab.instruments.explorer.run.stepping import (
    Settle,
    SteppedAsyncConnection,
    SteppedAsyncUnixConnection,
    SteppedConnection,
    SteppedUnixConnection,
)

PREFIX = "kv:"
RETRIES = 10
"""As many as ``redis.Redis()`` has by default; here without a pause between them."""

K = TypeVar("K", Kv, AsyncKv)


class KvRedis(redis.Redis):
    """A redis-py client that also runs ops and flows, under the prefix ``PREFIX``."""

    kv: Kv

    def close(self) -> None:
        """Also what ``run`` has opened."""
        self.kv.close()
        super().close()

    def _execute_command(self, *args: Any, **options: Any) -> Any:
        """redis-py's own, less the telemetry: a tenth of a step."""
        pool, client = self.connection_pool, cast(Any, self)
        connection: Any = self.connection or pool.get_connection()
        try:
            return connection.retry.call_with_retry(
                lambda: client._send_command_parse_response(connection, args[0], *args, **options),
                lambda _: connection.disconnect(),
            )
        finally:
            if not self.connection:
                pool.release(connection)

    def run(self, *ops: Any, **options: Any) -> Any:
        """:meth:`kvlab.Kv.run`."""
        return self.kv.run(*ops, **options)


class KvAsyncRedis(redis.asyncio.Redis):
    """The same for asyncio."""

    kv: AsyncKv

    async def run(self, *ops: Any, **options: Any) -> Any:
        """:meth:`kvlab.AsyncKv.run`."""
        return await self.kv.run(*ops, **options)


class _Pool(redis.ConnectionPool):
    """For one thread: redis-py's own takes as long as the round trip."""

    def get_connection(self, *_: Any, **__: Any) -> Any:
        waiting: list[Any] = self._available_connections
        connection: Any = waiting.pop() if waiting else self.make_connection()
        if connection._sock is None:
            connection.connect()
        return connection

    def release(self, connection: Any) -> None:
        self._available_connections.append(connection)


def plain(url: str, **options: Any) -> KvRedis:
    """A client that stops nowhere."""
    client = KvRedis(connection_pool=redis.ConnectionPool.from_url(url, **options))
    client.auto_close_connection_pool = True  # or close() would leave the sockets open
    client.kv = _unnamed(Kv(client, prefix=PREFIX))
    return client


def stepped(url: str, lane: Lane, settle: Settle, **options: Any) -> KvRedis:
    """A client of ``lane``, made like ``redis.Redis()``. Its connections open when first used."""
    pool = _Pool.from_url(url, **_options(options))
    unix = url.startswith("unix://")
    pool.connection_class = SteppedUnixConnection if unix else SteppedConnection
    pool.connection_kwargs |= {"lane": lane, "settle": settle}
    client = KvRedis(connection_pool=pool)
    client.kv = _unnamed(Kv(client, prefix=PREFIX, clock=lane.monotonic, sleep=lane.sleep))
    return client


def stepped_async(url: str, lane: Lane, settle: Settle, **options: Any) -> KvAsyncRedis:
    """The same for asyncio, to be used in a loop of ``stepping.loop_of``."""
    options = _options(options, redis.asyncio.retry.Retry)
    pool = redis.asyncio.ConnectionPool.from_url(url, **options)
    unix = url.startswith("unix://")
    pool.connection_class = SteppedAsyncUnixConnection if unix else SteppedAsyncConnection
    pool.connection_kwargs |= {"lane": lane, "settle": settle}
    client = KvAsyncRedis(connection_pool=pool)
    client.kv = _unnamed(AsyncKv(client, prefix=PREFIX, clock=lane.monotonic))
    return client


def _unnamed(kv: K) -> K:
    """Its errors name no socket: that of a private server is another one each time."""
    kv.where = "the server"
    return kv


def _options(given: dict[str, Any], retry: Any = Retry) -> dict[str, Any]:
    return {"retry": retry(NoBackoff(), RETRIES)} | given
