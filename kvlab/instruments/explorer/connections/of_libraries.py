"""The connections that a library makes itself, with redis-py, from a URL or from arguments.

Inside :func:`steered` every connection that redis-py makes leads to the server of the exploration,
whatever address, database and password its arguments name. What a client sends on it is a step of
this client, also on a connection out of a pool that clients share. Setup and invariant stop
nowhere. A connection closes when the client ends, as at the end of a process.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import hiredis
import redis
from redis.asyncio.connection import AbstractConnection as AnyAsyncConnection
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection as AnyConnection
from redis.connection import parse_url

from kvlab.core.transport.async_link import AsyncLink
from kvlab.core.transport.link import Link
from kvlab.instruments.explorer.clients.client_thread import (
    ClientThread,
    ThreadOfClient,
    current_client,
)
from kvlab.instruments.explorer.connections.server_side import ServerSide
from kvlab.instruments.explorer.connections.stepped import (
    Noting,
    SteppedConnectionBase,
    SteppedSync,
)
from kvlab.instruments.explorer.connections.stepped_async import ClientSelector, SteppedAsync

_UNWATCH = b"*1\r\n$7\r\nUNWATCH\r\n"
_CHANGED = ("db", "username", "password", "credential_provider", "driver_info", "retry")


class _Own(SteppedConnectionBase):
    """What both kinds have in common. ``explorer``: the thread of setup and invariant."""

    explorer: threading.Thread

    def adopt(self) -> None:
        """Become a connection of the exploration: so far redis-py's own, and not connected."""
        this: Any = self
        self._was = {name: getattr(this, name) for name in _CHANGED}
        self._unclean: set[object] = set()  # it closes at the end of the run in any case
        self._command_reader = hiredis.Reader()
        self.greeting = self._is_open = False
        self.client_thread: Any = None
        address = parse_url(self.server.url)
        this.db = address.get("db", 0)
        this.username, this.password = address.get("username"), address.get("password")
        this.credential_provider = this.driver_info = None
        this.retry = copy.copy(this.retry)
        this.retry._backoff = NoBackoff()  # as of the client that is given

    def close(self) -> None:
        """Close it, wherever that is called from."""

    def leave(self) -> None:
        """Become what it was."""
        self.close()
        self.__class__ = type(self).__bases__[1]
        vars(self).update(self._was)

    def is_clients(self, command: Any = ()) -> bool:
        """Whether a client uses it now, and not setup or the invariant. Raises Refused."""
        client: ClientThread | None = current_client()
        thread = threading.current_thread()
        after_end = client is None and isinstance(thread, ThreadOfClient)
        of_pipeline = client is not self.client_thread and b"".join(command) == _UNWATCH
        if after_end or of_pipeline:  # a __del__ can run in any thread, and late
            raise redis.ConnectionError("the client of this connection has ended")
        if client is None and thread is not self.explorer:
            raise self.server.refuse(
                "a client started a thread that uses the server: a client is one thread, or "
                "several asyncio tasks"
            )
        if client is not self.client_thread and self.client_thread is not None:
            self.client_thread.own_connections.discard(self)
        self.client_thread = client
        (self.server if client is None else client).own_connections.add(self)
        return client is not None


class _OwnSync(SteppedSync, _Own):
    def close(self) -> None:
        """Close it, wherever that is called from."""
        self.disconnect()

    def _connect(self) -> socket.socket:
        self.server.opened += 1
        address = parse_url(self.server.url)
        if "path" in address:
            opened = socket.socket(socket.AF_UNIX)
            opened.connect(address["path"])
        else:
            opened = socket.create_connection((address["host"], address["port"]))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        this: Any = self
        opened.settimeout(this.socket_timeout)
        return opened

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self.greeting or self.is_clients(command):
            super().send_packed_command(command, check_health)
            return
        self.commands_of(command)
        raw: Any = super(Noting, self)
        raw.send_packed_command(command, check_health=False)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        reply = super().read_response(*args, **kwargs)
        if self.client_thread is None and not self.greeting:
            self.server.answers.append(reply)
        return reply


class _OwnAsync(SteppedAsync, _Own):
    def close(self) -> None:
        """Close it, wherever that is called from: its loop may be closed."""
        this: Any = self
        if this._writer is not None:
            with suppress(RuntimeError):
                this._writer.transport.abort()
            this._writer.transport._sock.close()
        this._reader = this._writer = None

    async def _connect(self) -> None:
        self.server.opened += 1
        address = parse_url(self.server.url)
        if "path" in address:
            streams = await asyncio.open_unix_connection(address["path"])
        else:
            streams = await asyncio.open_connection(address["host"], address["port"])
        this: Any = self
        this._reader, this._writer = streams

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        loop: Any = asyncio.get_running_loop()
        in_loop = isinstance(getattr(loop, "_selector", None), ClientSelector)
        if current_client() is not None and not in_loop:
            raise self.server.refuse(
                "a client that is no async def runs an event loop of its own: give explore the "
                "async function"
            )
        if self.is_clients():
            await super().connect_check_health(*args, **kwargs)
            return
        raw: Any = super(Noting, self)
        self.greeting = True
        try:
            await raw.connect_check_health(*args, **kwargs)
        finally:
            self.greeting = False

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self.greeting or self.is_clients(command):
            await super().send_packed_command(command, check_health)
            return
        self.commands_of(command)
        raw: Any = super(Noting, self)
        await raw.send_packed_command(command, check_health=False)


@contextmanager
def steered(server: ServerSide) -> Iterator[None]:
    """Inside the block, whatever redis-py connects to is the server of the exploration.

    Threads that ran before, other than this one, go on as they were, and so do the explorer's own
    questions.
    """
    explorer = threading.current_thread()
    unconcerned = {*threading.enumerate(), *server.asked_by} - {explorer}
    adopted: weakref.WeakSet[Any] = weakref.WeakSet()

    @functools.cache
    def own(mixin: Any, kind: Any) -> type:
        return type(kind.__name__, (mixin, kind), {"server": server, "explorer": explorer})

    def adopting(connect: Callable[..., Any], mixin: type) -> Callable[..., Any]:
        @functools.wraps(connect)
        def adopt_and_connect(self: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(self, Noting) or {self, threading.current_thread()} & unconcerned:
                return connect(self, *args, **kwargs)
            if getattr(self, "_sock", None):  # since before the exploration
                self.disconnect()
            kind: Any = type(self)
            self.__class__ = own(mixin, kind)
            self.adopt()
            adopted.add(self)
            return self.connect_check_health(*args, **kwargs)

        return adopt_and_connect

    def refusing(connect: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(connect)
        def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() in unconcerned:
                return connect(self, *args, **kwargs)
            raise server.refuse(
                "a client made an executor of kvlab's own, which speaks past redis-py: use "
                "kv.run(…) of the client that is given"
            )

        return refuse

    with ExitStack() as ends:
        for base, mixin in ((AnyConnection, _OwnSync), (AnyAsyncConnection, _OwnAsync)):
            connect = base.connect_check_health
            ends.callback(setattr, base, "connect_check_health", connect)
            base.connect_check_health = adopting(connect, mixin)  # type: ignore[method-assign]
        for link in (Link, AsyncLink):
            ends.callback(setattr, link, "connect", link.connect)
            link.connect = refusing(link.connect)  # type: ignore[method-assign]
        yield
        for connection in adopted:
            connection.leave()
