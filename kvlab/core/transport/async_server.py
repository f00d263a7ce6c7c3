"""A server as an executor for asyncio reaches it: by shared round trips where it can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from kvlab.core.op import Op, Raw
from kvlab.core.settings import Settings
from kvlab.core.transport.async_pool import AsyncConnections, adone
from kvlab.core.transport.batches import Batches, Limits
from kvlab.core.wire import Answer, TransportError
from kvlab.errors import ServerRefused

Count = Callable[[Iterable[Op[Any]], float, TransportError | None], None]


class AsyncServer:
    """The connections to one server. With ``limits`` the calls of one turn share round trips."""

    def __init__(
        self,
        connections: AsyncConnections,
        limits: Limits | None,
        settings: Settings,
        count: Count,
    ) -> None:
        self.connections, self._count = connections, count
        # Seconds to wait for what cancelled callers have sent.
        self._patience = min(settings.timeout, settings.deadline) / 4
        self.batches = None if limits is None else Batches(connections, limits, settings, count)

    def ask(
        self,
        ops: Sequence[Op[Any]],
        request: bytes,
        due: int,
        blocking: float | None,
        began: float,
    ) -> Awaitable[Answer | BaseException]:
        """Send the request; its ``due`` replies, or an error to raise."""
        if self.batches is not None and blocking is None:
            return self.batches.ask(ops, request, due, began)
        return self._alone(ops, request, due, blocking, began)

    async def _alone(
        self,
        ops: Sequence[Op[Any]],
        request: bytes,
        due: int,
        blocking: float | None,
        began: float,
    ) -> Answer | BaseException:
        replies: list[Raw] = []
        try:
            error = await self.connections.trip(lambda: (request, due), replies, blocking)
        except ServerRefused as refused:  # the connection itself
            return refused
        self._count(ops, began, error)
        return replies, error

    async def settled(self) -> None:
        """Wait until what was sent before has arrived, but not for long."""
        if self.batches is not None:
            await self.batches.settled(self._patience)

    async def left(self) -> None:
        """A caller was cancelled: what only that caller waits for is not sent any more."""
        if self.batches is not None:
            await self.batches.left()

    async def close(self) -> None:
        """Close the connections, also those that only cancelled callers still wait for."""
        if self.batches is not None:
            await self.batches.abandon(self._patience)
        await adone(self.connections.close())
