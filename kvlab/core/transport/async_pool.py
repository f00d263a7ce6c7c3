"""The connections of an executor: the pool for asyncio. Its twin ``pool`` says what both do."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from redis.exceptions import MaxConnectionsError

from kvlab.core.transport.connections import BROKEN
from kvlab.core.transport.pool import Pool, Steps, T
from kvlab.errors import Closed


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
        self._turns = asyncio.Semaphore(self._most)
        self._loop = loop

    async def get(self, *, extra: bool = False) -> Any:
        """See :meth:`Connections.get`."""
        if self._closed:
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
            busy = f"all {self._most} connections busy for {self._wait:g} s"
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
