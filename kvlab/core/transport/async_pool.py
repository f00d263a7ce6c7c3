"""The connections of an executor: the pool for asyncio. Its twin ``pool`` says what both do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from redis.exceptions import MaxConnectionsError

from kvlab.core.op import Raw
from kvlab.core.transport.connections import BROKEN, not_connected, patience
from kvlab.core.transport.link import is_last
from kvlab.core.transport.pool import Pool, Steps, T
from kvlab.core.wire import TransportError, transport_error
from kvlab.errors import Closed, ServerRefused


class AsyncConnections(Pool):
    """:class:`Connections` for one event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._process != os.getpid():
            # Kept open: to close the child's copies would take them out of the parent's selector.
            self._parents = [*self._idle, self.health.witness]
            self._process = os.getpid()
        if self._loop is not None:
            self.health.witness = None
        self._idle = []
        self._turns = asyncio.Semaphore(self.most)
        self._loop = loop

    async def get(self, *, extra: bool = False) -> Any:
        """See :meth:`Connections.get`."""
        if self.closed:
            raise Closed("this executor is closed; nothing was sent")
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._begin(loop)  # a second asyncio.run: the first one's sockets ended with it
        trying = self.health.outage is not None and await adone(self._is_try())
        if extra:
            return await self._ready(trying)
        await self._turn()
        try:
            connection = await self._ready(trying)
        except BaseException:
            self._turns.release()
            raise
        connection.turn = self._turns
        return connection

    async def trip(
        self,
        pack: Callable[[], tuple[bytes, int]],
        replies: list[Raw],
        blocking: float | None = None,
        *,
        extra: bool = False,
    ) -> TransportError | None:
        """Send what ``pack`` makes, and append its replies; returns what cut them short.

        When ``pack`` has nothing to send any more, nothing is sent.
        """
        try:
            connection = await self.get(extra=extra or blocking is not None)
        except BROKEN as problem:
            return not_connected(problem, self.where)
        try:
            wait = patience(blocking, self.health.timeout)
            request, due = pack()
            if due:
                await connection.round_trip(request, due, replies, wait)
        except ServerRefused:  # by HTTP, as a whole: nothing ran
            await self.ended(connection, None)
            raise
        except BROKEN as problem:
            return await self.ended(connection, problem)
        except BaseException:  # an answer may still be due: no other caller may read it
            await self.put(connection, complete=False)
            raise
        return await self.ended(connection, None, is_kept=not (replies and is_last(replies)))

    async def ended(
        self, connection: Any, problem: Exception | None, *, is_kept: bool = True
    ) -> TransportError | None:
        """Take a connection back, after a round trip that ended with ``problem`` or well."""
        try:
            if problem is None:
                return None
            await adone(self.lost(connection, problem))
            return transport_error(problem, sent=True, where=self.where)
        finally:
            await self.put(connection, complete=problem is None and is_kept)

    def idle_now(self) -> Any:
        """A shared connection that needs no waiting, or None."""
        if self.closed or self._check or self.health.outage is not None or not self._idle:
            return None
        if self._loop is not asyncio.get_running_loop() or not self._idle[-1].is_quiet:
            return None
        return self._idle.pop()

    def is_kept(self, connection: Any, replies: list[Raw]) -> bool:
        """Whether a connection that needs no waiting, and got all its answers, is idle again."""
        is_over = is_last(replies) or self.health.outage is not None
        return not is_over and self._is_kept(connection, True)

    async def _ready(self, trying: bool) -> Any:
        if trying or not self._idle:
            return await adone(self._connected(self._make(), trying))
        connection = self._idle.pop()
        try:
            if not await connection.has_news() and (
                not self._check or await adone(self._is_alive(connection))
            ):
                return connection
        except BROKEN:
            pass  # the server closed it
        await connection.disconnect()
        return await adone(self._connected(connection))

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout(self._wait):
                await self._turns.acquire()
        except TimeoutError:
            busy = f"all {self.most} connections busy for {self._wait:g} s"
            raise MaxConnectionsError(busy) from None

    async def put(self, connection: Any, *, complete: bool) -> None:
        """See :meth:`Connections.put`."""
        turn, connection.turn = connection.turn, None
        if complete and self.health.outage is not None:
            await adone(self._answered())
        if not self._is_kept(connection, complete):
            await connection.disconnect()
        if turn is not None:
            turn.release()

    def close(self) -> Steps[None]:
        """See :meth:`Connections.close`."""
        if self._loop is not asyncio.get_running_loop():
            self._idle, self.health.witness = [], None  # they ended with their loop
        return super().close()


async def adone(steps: Steps[T]) -> T:
    """Take the steps on asyncio."""
    value, problem = None, None
    try:
        while True:
            step = steps.send(value) if problem is None else steps.throw(problem)
            try:
                value, problem = await step, None
            except BaseException as raised:
                value, problem = None, raised
    except StopIteration as end:
        result: T = end.value
        return result
