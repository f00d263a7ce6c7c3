"""Batches with limits of one's own. Part of the pattern ``kvlab.pipeline``; guarantees below."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from kvlab.core.checks import instance, whole
from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.flow import Flow
from kvlab.core.transport.batches import Limits

T = TypeVar("T")


class AutoBatch(AsyncKv):
    """An ``AsyncKv`` whose batches have limits that you choose, whatever its client.

    The concurrent awaits of every ``AsyncKv`` share round trips, unless kvlab does not know the
    class of the client: see ``kvlab.core.transport.batches``. An ``AutoBatch`` shares them on any
    client, with these limits:

    * ``max_batch``: the most ops of a batch; the ops of one call stay together.
    * ``max_waiting``: the most calls that gather for the next batch; further calls wait, in order.
    * ``in_flight``: the most batches that are on their way at the same time.

    ``async with AutoBatch(akv) as auto: await auto.run(op)``: takes the place of ``akv``, with the
    client and the settings of ``akv``, and with connections and a count of round trips of its own.
    ``close()`` waits for the calls that began before it; later calls raise ``Closed``.
    """

    def __init__(
        self,
        akv: AsyncKv,
        *,
        max_batch: int = 500,
        max_waiting: int = 10_000,
        in_flight: int = 2,
    ) -> None:
        instance("akv", akv, AsyncKv, "an AsyncKv")
        super().__init__(akv.client, **akv.settings.keywords())
        self._sharing_health(akv)
        self.max_batch = whole("max_batch", max_batch, 1)
        self.max_waiting = whole("max_waiting", max_waiting, 1)
        self.in_flight = whole("in_flight", in_flight, 1)
        self._share(Limits(max_batch, max_waiting, in_flight))

    async def clear(self) -> int:
        """As ``AsyncKv.clear``."""
        return await self._counted(super().clear())

    async def finish(self, flow: Flow[T]) -> T:
        """As ``AsyncKv.finish``."""
        return await self._counted(super().finish(flow))

    async def _counted(self, call: Awaitable[T]) -> T:
        self._calls += 1
        try:
            return await call
        finally:
            self._leave()

    def within(self, part: str) -> AutoBatch:
        """A batching executor for a namespace inside this one, to be closed by itself."""
        return AutoBatch(
            super().within(part),
            max_batch=self.max_batch,
            max_waiting=self.max_waiting,
            in_flight=self.in_flight,
        )

    async def close(self) -> None:
        """Wait for the calls under way, then close the connections; harmless when repeated."""
        self._closing = True
        try:
            if self._calls:
                self._no_calls = self._no_calls or asyncio.Event()
                await self._no_calls.wait()
        finally:
            await super().close()
