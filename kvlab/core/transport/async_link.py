"""One connection for asyncio, with two ways to speak on it. Its twin is ``link``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from kvlab.core.op import Raw
from kvlab.core.transport.link import CLOSED, MORE, error_reply, is_plain, new_reader, settled

End = Callable[[Exception | None], None]


def alinked(make: partial[Any]) -> Callable[[], AsyncBorrowed]:
    """Makes the executor's connections out of redis-py's."""
    kind = AsyncLink if is_plain(make, redis.asyncio.Connection) else AsyncBorrowed
    return lambda: kind(make())


class AsyncBorrowed:
    """A connection, spoken to by redis-py's methods: for one caller at a time."""

    is_quiet = False
    """Whether a request may begin at once: :meth:`AsyncLink.begin`."""
    generation: int
    turn: Any
    used: float

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def connect(self, timeout: float) -> None:
        """Connect within ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            await self.connection.connect()

    @property
    def is_connected(self) -> bool:
        return bool(self.connection.is_connected)

    async def has_news(self) -> bool:
        """Whether bytes have come that nobody waits for, or the end: no command may be sent."""
        return bool(await self.connection.can_read())

    async def round_trip(
        self, request: bytes, count: int, replies: list[Raw], wait: float | None
    ) -> None:
        """As :meth:`kvlab.core.transport.link.Borrowed.round_trip`."""
        now = asyncio.get_running_loop().time
        # One timer, which is moved sometimes: to set it takes longer than to read a reply.
        async with asyncio.timeout(wait) as limit:
            moved = now()
            await self.connection.send_packed_command([request])
            for _ in range(count):
                replies.append(await self._reply())
                if wait is not None and now() > moved + wait / 4:
                    moved = now()
                    limit.reschedule(moved + wait)

    async def _reply(self) -> Raw:
        try:
            return await self.connection.read_response(
                disable_decoding=True, disconnect_on_error=False
            )
        except RedisError as problem:
            return error_reply(problem)

    async def disconnect(self) -> None:
        await self.connection.disconnect(nowait=True)


class AsyncLink(AsyncBorrowed, asyncio.Protocol):
    """A connection whose transport is spoken to through hiredis."""

    _timer: asyncio.TimerHandle | None = None
    _wait: float | None = None

    async def connect(self, timeout: float) -> None:
        """See :meth:`AsyncBorrowed.connect`."""
        await super().connect(timeout)
        self._loop, self._reader = asyncio.get_running_loop(), new_reader()
        self._at_end: End | None = None  # of the request under way
        self._news = False
        self._transport = self.connection._writer.transport
        self._transport.set_protocol(self)
        if self.connection._reader.at_eof():
            raise RedisConnectionError(CLOSED)

    async def has_news(self) -> bool:
        """See :meth:`AsyncBorrowed.has_news`."""
        return self._news

    @property
    def is_quiet(self) -> bool:  # type: ignore[override]
        """See :meth:`AsyncBorrowed.is_quiet`."""
        return not self._news

    async def round_trip(
        self, request: bytes, count: int, replies: list[Raw], wait: float | None
    ) -> None:
        """See :meth:`AsyncBorrowed.round_trip`."""
        answered: asyncio.Future[Exception | None] = self._loop.create_future()

        def end(problem: Exception | None) -> None:
            if not answered.done():  # else the caller was cancelled
                answered.set_result(problem)

        self.begin(request, count, replies, wait, end)
        if (problem := await answered) is not None:
            raise problem

    def begin(
        self, request: bytes, count: int, replies: list[Raw], wait: float | None, end: End
    ) -> None:
        """:meth:`round_trip` without a task: ``end`` is called with its error or None."""
        self._replies, self._due, self._at_end = replies, count, end
        self._heard = self._loop.time()
        if self._news:
            self._loop.call_soon(self.end, RedisConnectionError(CLOSED))
            return
        if self._timer is None or wait != self._wait:
            self._set_timer(wait)
        self._transport.write(request)

    def _set_timer(self, wait: float | None) -> None:
        # One timer for many requests: to set it takes longer than to read a reply.
        if self._timer is not None:
            self._timer.cancel()
        self._wait, self._timer = wait, None
        if wait is not None:
            self._timer = self._loop.call_later(wait, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._wait is None or self._at_end is None:
            return
        if (left := self._heard + self._wait - self._loop.time()) > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self.end(TimeoutError())

    def data_received(self, data: bytes) -> None:
        """Add the replies that have come; the last one ends the round trip."""
        if self._at_end is None:  # a late answer, or what nobody asked for
            self._news = True
            return
        self._heard = self._loop.time()
        replies, gets = self._replies, self._reader.gets
        try:
            self._reader.feed(data)
            while len(replies) < self._due:
                if (reply := gets(False)) is MORE:
                    return
                replies.append(reply if type(reply) is bytes else settled(reply))
        except RedisError as problem:
            self.end(problem)
        else:
            self._news = bool(self._reader.has_data())
            self.end(None)

    def eof_received(self) -> None:
        """The server has closed the connection."""
        self._news = True
        self.end(RedisConnectionError(CLOSED))

    def connection_lost(self, problem: Exception | None) -> None:
        """The connection has ended."""
        self._news = True
        said = CLOSED if problem is None else f"Error while reading from socket: {problem.args}"
        self.end(RedisConnectionError(said))

    def end(self, problem: Exception | None) -> None:
        """End the round trip under way, with ``problem`` or well."""
        at_end, self._at_end = self._at_end, None
        if at_end is not None:
            at_end(problem)

    async def disconnect(self) -> None:
        """Close the connection now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await super().disconnect()
