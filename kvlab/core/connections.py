"""The connections of an executor.

An executor opens connections of its own. They are configured like the connections of its client,
but without redis-py's silent retries (ten by default, of any command), in RESP2 (so that
``decode`` gets the same reply from every client), and with the executor's timeouts.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import os
import queue
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    DataError,
    MaxConnectionsError,
    RedisError,
    ResponseError,
)

from kvlab.core.wire import Command, TransportError, refusal, transport_error
from kvlab.errors import Closed, InvalidArgument

MAX_CONNECTIONS = 500
"""The most connections of a client made by ``connect``; further threads wait."""

_MOST = 4096  # a client's pool may allow 2**31

BROKEN = (RedisError, OSError)
"""The errors of a connection that fails; error replies are among them."""

# redis-py raises some error replies as connection errors; there too the command did not run.
_REFUSED = (AuthenticationError, AuthorizationError, BusyLoadingError, ResponseError)
_NOT_TAKEN_OVER = {"retry", "retry_on_error", "retry_on_timeout", "cache", "cache_config"}
_NOT_TAKEN_OVER |= {"himport_registry", "event_dispatcher", "health_check_interval"}


def own_connection(
    client: Any, timeout: float, retry: Any, *, awaited: bool
) -> functools.partial[Any]:
    """Makes connections like the client's, without retries, caches and conversions."""
    pool = client.connection_pool
    if inspect.iscoroutinefunction(pool.connection_class.connect) != awaited:
        wanted = "an async" if awaited else "a sync"
        raise InvalidArgument(f"client must be {wanted} redis-py client, not {client!r:.80}")
    kwargs = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name not in _NOT_TAKEN_OVER and not name.startswith(("maint", "oss_", "orig_"))
    }
    kwargs |= {"protocol": 2, "socket_timeout": timeout, "socket_connect_timeout": timeout}
    kwargs |= {"encoding": "utf-8", "encoding_errors": "strict", "decode_responses": False}
    if kwargs.get("db"):  # sent by SELECT; as text for the reason that encode() says
        kwargs["db"] = str(kwargs["db"])
    return functools.partial(pool.connection_class, **kwargs, retry=retry)


class Connections:
    """At most ``most`` connections for threads; the connection that was used last is used next.

    redis-py's pool takes twice the time, mostly for telemetry, and has no extra connection for a
    blocking command.
    """

    def __init__(self, make: Callable[[], Any], most: int, wait: float) -> None:
        self._make, self._most, self._wait = make, min(most, _MOST), wait
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._idle: list[Any] = []
        # A KeyboardInterrupt inside threading.Semaphore leaves its lock held for ever.
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(self._most):
            self._turns.put(None)
        self._process = os.getpid()

    def get(self, *, extra: bool = False) -> Any:
        """A connection ready for a command; ``extra``: one more than ``most``.

        Raises redis-py's error when it cannot connect, and MaxConnectionsError when no connection
        is free in time.
        """
        if self._closed:
            raise Closed("this executor is closed; nothing was sent")
        if self._process != os.getpid():
            self._begin()  # forked: the parent's sockets are not ours
        if extra:
            return self._ready()
        try:
            self._turns.get(timeout=self._wait)
        except queue.Empty:
            busy = f"all {self._most} connections busy for {self._wait:g} s"
            raise MaxConnectionsError(busy) from None
        try:
            return self._ready()
        except BaseException:
            self._turns.put(None)
            raise

    def _ready(self) -> Any:
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

    def put(self, connection: Any, *, complete: bool, extra: bool = False) -> None:
        """Take a connection back; ``complete``: no answer is still due on it."""
        if complete and not self._closed and len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            connection.disconnect()
        if not extra:
            self._turns.put(None)

    def close(self) -> None:
        """Close the idle connections now, and the others when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().disconnect()


def _connected(connection: Any) -> Any:
    connection.connect()
    return connection


class AsyncConnections:
    """:class:`Connections` for one event loop."""

    def __init__(self, make: Callable[[], Any], most: int, wait: float, timeout: float) -> None:
        self._make, self._most, self._wait, self._timeout = make, most, wait, timeout
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._idle: list[Any] = []
        self._turns = asyncio.Semaphore(self._most)
        self._loop = loop

    async def get(self, *, extra: bool = False) -> Any:
        """See :meth:`Connections.get`."""
        if self._closed:
            raise Closed("this executor is closed; nothing was sent")
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._begin(loop)  # a second asyncio.run: the first one's sockets ended with it
        if extra:
            return await self._ready()
        await self._turn()
        try:
            return await self._ready()
        except BaseException:
            self._turns.release()
            raise

    async def _ready(self) -> Any:
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
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def put(self, connection: Any, *, complete: bool, extra: bool = False) -> None:
        """See :meth:`Connections.put`."""
        if complete and not self._closed and len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            await connection.disconnect(nowait=True)
        if not extra:
            self._turns.release()

    async def close(self) -> None:
        """See :meth:`Connections.close`."""
        self._closed = True
        while self._loop is asyncio.get_running_loop() and self._idle:
            await self._idle.pop().disconnect(nowait=True)


def packed(connection: Any, commands: list[Command]) -> Any:
    try:
        if len(commands) == 1:
            return connection.pack_command(*commands[0])
        try:  # in C; on asyncio redis-py packs in Python
            pack = hiredis.pack_command
            return [b"".join([pack((*c[0].encode().split(), *c[1:])) for c in commands])]
        except TypeError:  # an argument that only redis-py's packer knows, or no packer
            return connection.pack_commands(commands)
    except (DataError, TypeError, UnicodeEncodeError) as problem:
        raise InvalidArgument(f"an argument cannot be sent: {problem}") from problem


def not_connected(problem: Exception, where: str) -> TransportError:
    if isinstance(problem, _REFUSED):
        raise refusal(problem)
    return transport_error(problem, sent=False, where=where)


def error_reply(problem: RedisError) -> RedisError:
    """The error as a reply, if the server sent it; any other error is raised."""
    if isinstance(problem, ResponseError) or problem.status_code is not None:
        return problem.with_traceback(None)
    raise problem


def patience(blocking: float, timeout: float) -> float | None:
    return None if math.isinf(blocking) else blocking + timeout
