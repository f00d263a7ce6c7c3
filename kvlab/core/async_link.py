"""One connection for asyncio. Its twin is ``link``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from kvlab.core.link import error_reply
from kvlab.core.op import Raw


def alinked(make: Callable[[], Any]) -> Callable[[], AsyncBorrowed]:
    """Makes the executor's connections out of redis-py's."""
    return lambda: AsyncBorrowed(make())


class AsyncBorrowed:
    """A connection, spoken to by redis-py's methods: for one caller at a time."""

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
        """As :meth:`kvlab.core.link.Borrowed.round_trip`."""
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
