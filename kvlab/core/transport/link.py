"""One connection for threads, with two ways to speak on it. Its twin is ``async_link``.

redis-py opens each connection, so TLS, AUTH, SELECT, Sentinel, unix sockets and credential
providers work as in the caller's client. Then :class:`Link` speaks RESP on the socket by hiredis:
redis-py's own send and read take longer than the server and the network together. A connection
class that has a send or a read of its own (fakeredis, the explorer's, the load tests') is spoken
to by its own methods: :class:`Borrowed`. Both give the same replies and errors.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import hiredis
import redis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from kvlab.core.op import Raw

READ = 65_536
"""The most bytes of one read."""
MORE = object()
CLOSED = "Connection closed by server."
_OWN = ("send_packed_command", "read_response", "can_read", "disconnect")


def error_reply(problem: RedisError) -> RedisError:
    """The error as a reply, if the server sent it; any other error is raised."""
    if isinstance(problem, ResponseError) or problem.status_code is not None:
        return problem.with_traceback(None)
    raise problem


def new_reader() -> hiredis.Reader:
    """Makes replies of bytes; an error reply becomes redis-py's error."""
    return hiredis.Reader(
        protocolError=InvalidResponse, replyError=_parsed_error, notEnoughData=MORE
    )


def _parsed_error(text: str) -> Exception:
    try:
        parsed: Exception = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]
        return parsed
    except ValueError:  # a MOVED without an address
        return ResponseError(text)


def settled(reply: Raw) -> Raw:
    """The reply, where redis-py would raise some of the errors."""
    if isinstance(reply, RedisError):
        return error_reply(reply)
    if isinstance(reply, list) and reply and isinstance(reply[0], RedisConnectionError):
        return error_reply(reply[0])
    return reply


def is_last(replies: list[Raw]) -> bool:
    """Whether the server closes the connection behind these replies: it could not read on."""
    last = replies[-1]
    return isinstance(last, ResponseError) and str(last).startswith("Protocol error")


def is_plain(make: partial[Any], plain: type) -> bool:
    """Whether the connections send and read as redis-py's own class does."""
    own = all(getattr(make.func, name) is getattr(plain, name) for name in _OWN)
    return own and "parser_class" not in make.keywords


def linked(make: partial[Any]) -> Callable[[], Borrowed]:
    """Makes the executor's connections out of redis-py's."""
    kind = Link if is_plain(make, redis.Connection) else Borrowed
    return lambda: kind(make())


class Borrowed:
    """A connection, spoken to by redis-py's methods."""

    __slots__ = ("connection", "generation", "turn", "used")

    generation: int
    turn: Any
    used: float

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def connect(self, timeout: float) -> None:
        """Connect; ``timeout`` is for this, and then for each wait for an answer."""
        self.connection.socket_timeout = self.connection.socket_connect_timeout = timeout
        self.connection.connect()

    @property
    def is_connected(self) -> bool:
        return bool(self.connection.is_connected)

    def has_news(self) -> bool:
        """Whether bytes have come, or the end: then no command may be sent."""
        return bool(self.connection.can_read())

    def round_trip(
        self, request: bytes, count: int, replies: list[Raw], wait: float | None
    ) -> None:
        """Send, then append ``count`` replies; error replies are among them.

        Waits at most ``wait`` seconds for each part of an answer (None: for ever). When this
        raises, no command may follow: an answer may still be due.
        """
        self.send(request, count, replies)
        self.receive(count, replies, wait)

    def send(self, request: bytes, count: int, replies: list[Raw]) -> None:
        """The first half of :meth:`round_trip`; replies of a server that does not read on."""
        self.connection.send_packed_command([request])

    def receive(self, count: int, replies: list[Raw], wait: float | None) -> None:
        """The second half of :meth:`round_trip`."""
        connection = self.connection
        how = {} if wait == connection.socket_timeout else {"timeout": wait}
        for _ in range(count):
            try:
                reply = connection.read_response(
                    disable_decoding=True, disconnect_on_error=False, **how
                )
            except RedisError as problem:
                reply = error_reply(problem)
            replies.append(reply)

    def disconnect(self) -> None:
        self.connection.disconnect()


class Link(Borrowed):
    """A connection whose socket is spoken to through hiredis."""

    __slots__ = ("_poll", "_reader", "_sock", "_timeout")

    def connect(self, timeout: float) -> None:
        """See :meth:`Borrowed.connect`."""
        super().connect(timeout)
        self._sock, self._reader, self._timeout = self.connection._sock, new_reader(), timeout
        self._poll: Any = None
        # eventlet takes poll away, and TLS holds bytes back.
        if hasattr(select, "poll") and not hasattr(self._sock, "pending"):
            self._poll = select.poll()
            self._poll.register(self._sock, select.POLLIN)

    def has_news(self) -> bool:
        """See :meth:`Borrowed.has_news`."""
        if self._reader.has_data():
            return True
        if self._poll is None:
            return super().has_news()
        try:
            return bool(self._poll.poll(0))
        except RuntimeError:  # another thread asks in this moment: the witness of an outage
            return super().has_news()

    def send(self, request: bytes, count: int, replies: list[Raw]) -> None:
        """See :meth:`Borrowed.send`."""
        try:
            self._sock.sendall(request)
        except TimeoutError as problem:
            raise RedisTimeoutError(f"not sent within {self._timeout:g} s") from problem
        except ConnectionError:  # a server that does not read on says why before it closes
            with suppress(RedisError, OSError):
                self.receive(count, replies, self._timeout)
            raise

    def receive(self, count: int, replies: list[Raw], wait: float | None) -> None:
        """See :meth:`Borrowed.receive`."""
        sock, reader = self._sock, self._reader
        try:
            if wait != self._timeout:
                sock.settimeout(wait)
            for _ in range(count):
                while (reply := reader.gets(False)) is MORE:
                    data = sock.recv(READ)
                    if not data:
                        raise RedisConnectionError(CLOSED)
                    reader.feed(data)
                if type(reply) is not bytes:
                    reply = settled(reply)
                replies.append(reply)
        except TimeoutError as problem:
            raise RedisTimeoutError(f"no answer for {wait:g} s") from problem
        if wait != self._timeout:
            sock.settimeout(self._timeout)
