"""Where the server is, and what the executors' own connections are like.

An executor opens connections of its own, configured like those of the client it is given, but
without redis-py's silent retries (ten by default, of any command), in RESP2 (so that ``decode``
sees the same reply whatever the client speaks) and with its own timeouts.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import math
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    DataError,
    MaxConnectionsError,
    RedisError,
    ResponseError,
)

from kvlab.errors import InvalidArgument, RemoteNotAllowed
from kvlab.op import Raw
from kvlab.wire import Command, TransportError, refusal, transport_error

MAX_CONNECTIONS = 500
"""Most connections of a client made by ``connect``; further threads wait for one."""

BROKEN = (RedisError, OSError)
"""What a connection raises when it fails, error replies among them."""

# redis-py raises some error replies as connection errors; there too the command did not run.
_REFUSED = (AuthenticationError, AuthorizationError, ResponseError)
_NOT_TAKEN_OVER = {"retry", "retry_on_error", "retry_on_timeout", "cache", "cache_config"}
_NOT_TAKEN_OVER |= {"himport_registry", "event_dispatcher"}


def resolve(url: str | None, allow_remote: bool | None) -> str:
    """The URL to connect to: the argument, or ``KVLAB_URL``, or the embedded server's.

    Raises :class:`RemoteNotAllowed` for a host that is not loopback, unless ``allow_remote`` or
    ``KVLAB_ALLOW_REMOTE=1`` says yes; :class:`InvalidArgument` for what is no Redis URL.
    """
    url = url or os.environ.get("KVLAB_URL")
    if not url:
        from kvlab import server

        embedded = server.join()
        if embedded.note:
            warnings.warn(embedded.note, stacklevel=3)
        return embedded.url
    if allow_remote is None:
        allow_remote = os.environ.get("KVLAB_ALLOW_REMOTE") == "1"
    host = _host(url)
    if not allow_remote and not _is_loopback(host):
        raise RemoteNotAllowed(
            f"{host} is not this machine. If you mean it, pass allow_remote=True or set "
            "KVLAB_ALLOW_REMOTE=1; kvlab reads and removes only keys of its own prefix."
        )
    return url


def _host(url: str) -> str | None:
    """The host of a Redis URL; None for a unix socket."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise InvalidArgument(f"not a Redis URL: {problem}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise InvalidArgument(
            f"the URL must begin with redis://, rediss:// or unix://, not {parts.scheme or url!r}"
        )
    if parts.scheme == "unix":
        return None
    if port == 0 or (parts.path.strip("/") and not unquote(parts.path).strip("/").isdigit()):
        raise InvalidArgument(f"not a Redis URL: {parts.scheme}://HOST:PORT/DATABASE is expected")
    return host or "localhost"


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_connection(client: Any, timeout: float, **settings: Any) -> Callable[[], Any]:
    """A maker of connections like the client's, less what retries, caches or converts."""
    pool = client.connection_pool
    kwargs = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name not in _NOT_TAKEN_OVER and not name.startswith(("maint", "oss_", "orig_"))
    }
    kwargs |= {"protocol": 2, "socket_timeout": timeout, "socket_connect_timeout": timeout}
    return functools.partial(pool.connection_class, **kwargs, **settings)


class Connections:
    """At most ``most`` connections, of which the one used last is used next. For threads.

    redis-py's pool takes twice the time, most of it for telemetry, and cannot lend a blocking
    command a connection beyond its number.
    """

    def __init__(self, make: Callable[[], Any], most: int, wait: float) -> None:
        self._make, self._most, self._wait = make, most, wait
        self._begin()

    def _begin(self) -> None:
        self._idle: list[Any] = []
        self._turns = threading.Semaphore(self._most)
        self._process = os.getpid()

    def get(self, *, extra: bool = False) -> Any:
        """A connection ready for a command; ``extra``: beyond the number.

        Raises what redis-py raises when it cannot connect, MaxConnectionsError when none is
        free in time.
        """
        if self._process != os.getpid():
            self._begin()  # forked: the parent's sockets are not ours
        if extra:
            return _connected(self._make())
        if not self._turns.acquire(timeout=self._wait):
            raise MaxConnectionsError(f"all {self._most} connections busy for {self._wait:g} s")
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                return _connected(self._make())
            try:
                if not connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass  # the server closed it
            connection.disconnect()
            return _connected(connection)
        except BaseException:
            self._turns.release()
            raise

    def put(self, connection: Any, *, extra: bool = False) -> None:
        """Take back a connection, on which no answer is due unless it is disconnected."""
        if extra:
            connection.disconnect()
            return
        if connection.is_connected:
            self._idle.append(connection)
        self._turns.release()

    def close(self) -> None:
        """Close the idle ones; those in use are closed when they come back to nobody."""
        while self._idle:
            self._idle.pop().disconnect()


def _connected(connection: Any) -> Any:
    connection.connect()
    return connection


class AsyncConnections:
    """:class:`Connections` for one event loop."""

    def __init__(self, make: Callable[[], Any], most: int, wait: float) -> None:
        self._make, self._most, self._wait = make, most, wait
        self._idle: list[Any] = []
        self._turns = asyncio.Semaphore(most)

    async def get(self, *, extra: bool = False) -> Any:
        """See :meth:`Connections.get`."""
        if extra:
            return await self._connected(self._make())
        await self._turn()
        try:
            if not self._idle:
                return await self._connected(self._make())
            connection = self._idle.pop()
            try:
                if not await connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass  # the server closed it
            await connection.disconnect(nowait=True)
            return await self._connected(connection)
        except BaseException:
            self._turns.release()
            raise

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(self._wait):
                await self._turns.acquire()
        except TimeoutError:
            busy = f"all {self._most} connections busy for {self._wait:g} s"
            raise MaxConnectionsError(busy) from None

    async def _connected(self, connection: Any) -> Any:
        await connection.connect()
        return connection

    async def put(self, connection: Any, *, extra: bool = False) -> None:
        """See :meth:`Connections.put`."""
        if extra:
            await connection.disconnect(nowait=True)
            return
        if connection.is_connected:
            self._idle.append(connection)
        self._turns.release()

    async def close(self) -> None:
        """Close the idle ones."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)


def packed(connection: Any, commands: list[Command]) -> Any:
    try:
        if len(commands) == 1:
            return connection.pack_command(*commands[0])
        return connection.pack_commands(commands)
    except (DataError, TypeError, UnicodeEncodeError) as problem:
        raise InvalidArgument(f"an argument cannot be sent: {problem}") from problem


def not_connected(problem: Exception, where: str) -> TransportError:
    if isinstance(problem, _REFUSED):
        raise refusal(problem)
    return transport_error(problem, sent=False, where=where)


def cut_short(problem: Exception, replies: list[Raw], where: str) -> TransportError:
    if isinstance(problem, _REFUSED):
        raise refusal(problem)
    # A server that is loading its data runs nothing.
    sent = bool(replies) or not isinstance(problem, BusyLoadingError)
    return transport_error(problem, sent=sent, where=where)


def patience(blocking: float, timeout: float) -> float | None:
    return None if math.isinf(blocking) else blocking + timeout
