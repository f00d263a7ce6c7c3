"""The redis-py clients of an exploration: for setup and invariant, and for each client program.

A program's client is made as ``redis.Redis()`` makes one, on connections that stop the program.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar, cast

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.executors.client import Kv
from kvlab.instruments.explorer.clients.client_thread import ClientThread
from kvlab.instruments.explorer.connections.server_side import ServerSide
from kvlab.instruments.explorer.connections.stepped import (
    NotingConnection,
    NotingUnixConnection,
    SteppedConnection,
    SteppedUnixConnection,
)
from kvlab.instruments.explorer.connections.stepped_async import (
    SteppedAsyncConnection,
    SteppedAsyncUnixConnection,
)

PREFIX = "kv:"
RETRIES = 10
"""As many as ``redis.Redis()`` makes by default; here without a pause between them."""

MOST = 16
"""Connections of one client, which is one thread; a client with places for more takes longer to
make."""

K = TypeVar("K", Kv, AsyncKv)


class KvRedis(redis.Redis):
    """A redis-py client that also runs ops and flows, under the prefix ``PREFIX``.

    ``unclean`` is not empty when the client, or one of its connections, should not be used in
    another run.
    """

    kv: Kv
    unclean: set[object]

    def close(self) -> None:
        """Close also what ``run`` has opened."""
        self.kv.close()
        super().close()

    def set_response_callback(self, *args: Any) -> None:
        self.unclean.add("callbacks")
        super().set_response_callback(*args)

    def _execute_command(self, *args: Any, **options: Any) -> Any:
        """redis-py's own, without its telemetry, which takes a tenth of a step's time."""
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
    unclean: set[object]

    def set_response_callback(self, *args: Any) -> None:
        self.unclean.add("callbacks")
        super().set_response_callback(*args)

    async def run(self, *ops: Any, **options: Any) -> Any:
        """:meth:`kvlab.AsyncKv.run`."""
        return await self.kv.run(*ops, **options)


class _Pool(redis.ConnectionPool):
    """For one thread. redis-py's own pool takes as long as the round trip."""

    def get_connection(self, *_: Any, **__: Any) -> Any:
        waiting: list[Any] = self._available_connections
        connection: Any = waiting.pop() if waiting else self.make_connection()
        if connection._sock is None:
            connection.connect()
        return connection

    def release(self, connection: Any) -> None:
        self._available_connections.append(connection)


class _KillablePool(_Pool):
    """The same, for connections that CLIENT KILL of a program may have ended."""

    def get_connection(self, *_: Any, **__: Any) -> Any:
        connection = super().get_connection()
        try:
            ended = connection.can_read()
        except redis.ConnectionError:
            ended = True
        if ended:
            connection.disconnect()
            connection.connect()
        return connection


def direct(url: str) -> redis.Redis:
    """A client for the explorer's own questions."""
    return _of(_KillablePool.from_url(url, driver_info=None), set())


def plain(server: ServerSide, **options: Any) -> KvRedis:
    """A client that stops nowhere, for setup and invariant."""
    pool, unclean = redis.ConnectionPool.from_url(server.url, **options), set[object]()
    _link(pool, NotingConnection, NotingUnixConnection, server=server, unclean=unclean)
    return _of(pool, unclean)


def stepped(server: ServerSide, thread: ClientThread, **options: Any) -> KvRedis:
    """A client that stops ``thread`` before each write. Its connections open when first used."""
    pool = _Pool.from_url(server.url, **_options(options))
    _link(pool, SteppedConnection, SteppedUnixConnection, server=server, client_thread=thread)
    return _of(pool, thread.unclean, clock=thread.monotonic, sleep=thread.sleep)


def _of(pool: redis.ConnectionPool, unclean: set[object], **time: Any) -> KvRedis:
    pool.max_connections = min(pool.max_connections, MOST)
    client = KvRedis(connection_pool=pool)
    client.auto_close_connection_pool = True  # or close() would leave the sockets open
    client.unclean = unclean
    closed = functools.partial(unclean.add, "closed")
    client.kv = _unnamed(Kv(client, prefix=PREFIX, on_close=closed, **time))
    return client


def stepped_async(server: ServerSide, thread: ClientThread, **options: Any) -> KvAsyncRedis:
    """The same for asyncio, to be used in an ``event_loop_of`` the thread."""
    options = _options(options, redis.asyncio.retry.Retry)
    pool = redis.asyncio.ConnectionPool.from_url(server.url, **options)
    classes = SteppedAsyncConnection, SteppedAsyncUnixConnection
    _link(pool, *classes, server=server, client_thread=thread)
    client = KvAsyncRedis(connection_pool=pool)
    client.unclean = thread.unclean

    async def closed() -> None:
        thread.unclean.add("closed")

    kv = AsyncKv(client, prefix=PREFIX, clock=thread.monotonic, on_close=closed)
    client.kv = _unnamed(kv)
    return client


def _link(pool: Any, tcp: type, unix: type, **links: Any) -> None:
    """Let the pool make connections of these classes, with these arguments too."""
    by_path = "path" in pool.connection_kwargs
    pool.connection_class = unix if by_path else tcp
    # Without the library's name: redis-py would read it from its package for each connection.
    pool.connection_kwargs = {"driver_info": None} | pool.connection_kwargs | links


def _unnamed(kv: K) -> K:
    """Let its errors name no socket: a private server has another one each time."""
    kv.where = "the server"
    return kv


def _options(given: dict[str, Any], retry: Any = Retry) -> dict[str, Any]:
    return {"retry": retry(NoBackoff(), RETRIES)} | given
