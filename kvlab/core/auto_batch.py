"""Batches out of concurrent awaits. Part of the pattern ``kvlab.pipeline``; guarantees below."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kvlab.core.async_client import AsyncKv
from kvlab.core.batched_call import BatchedCall
from kvlab.core.checks import instance, whole
from kvlab.core.cleanup import Certain
from kvlab.core.executor import PAUSE, Request, Running
from kvlab.core.flow import Call, Flow
from kvlab.core.op import Op
from kvlab.core.transport.async_pool import adone
from kvlab.core.wire import Exchange, TransportError
from kvlab.errors import Closed, ServerRefused, ServerUnavailable

T = TypeVar("T")


class AutoBatch(AsyncKv):
    """An ``AsyncKv`` whose concurrent awaits share round trips.

    ``async with AutoBatch(akv) as auto: await auto.run(op)``: takes the place of ``akv``, with the
    client and the settings of ``akv``, and with connections and a count of round trips of its own.

    * Ops that are asked for in one turn of the event loop leave in one batch of at most
      ``max_batch`` ops. The ops of one call stay in one batch. While ``in_flight`` batches are on
      their way, the next batch gathers.
    * Each reply reaches its caller. When a caller is cancelled, its reply is dropped; an op that
      was sent stays sent, and an op that still waited is not sent.
    * An error reaches one caller only: the error of an op that the server refuses, and whatever
      a ``decode``, a fallback or a loader raises (KeyboardInterrupt and the like too). An error of
      the trace hook reaches every caller of that round trip. When a connection fails, each caller
      gets an ``OutcomeUnknown`` or ``ServerUnavailable`` of its own, at once unless its op is
      retried.
    * The ops of one call run in their order. A caller that awaits one reply before it sends the
      next op sees its ops run in that order. Between calls, batches may overtake each other.
    * At most ``max_waiting`` calls are in the queue; further calls wait, in order, to join the
      queue. A call that has waited longer than ``deadline`` gets ``ServerUnavailable``: nothing
      was sent.
    * The ops of a flow travel in batches too. Blocking and atomic ops travel alone, as in ``akv``.
    * ``close()`` waits for the calls that began before it; later calls raise ``Closed``.

    Not promised: isolation from a slow neighbour. A batch takes as long as all its ops.
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[BatchedCall] = deque()
        self._retrying: deque[BatchedCall] = deque()  # these leave first
        self._places = asyncio.Semaphore(self.max_waiting)
        self._send_is_scheduled = False
        self._on_their_way = 0  # batches
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = 0
        self._no_calls = asyncio.Event()

    # --- the calls ---

    if not TYPE_CHECKING:  # the types are those of AsyncKv.run

        async def run(self, *ops, atomic=False, return_exceptions=False):
            """As ``AsyncKv.run``."""
            if self._closing:
                raise Closed("this AutoBatch is closed; nothing was sent")
            self._enter()
            try:
                single = len(ops) == 1 and atomic is False and return_exceptions is False
                if single and type(ops[0]) is Op and ops[0].blocking is None:
                    # The same as by _running, in a fifth of the time.
                    result = await self._batched(ops, single=True)
                    if isinstance(result, BaseException):
                        raise result
                    return result
                return await self._fulfil(self._running(ops, atomic, return_exceptions))
            finally:
                self._leave()

    async def clear(self) -> int:
        """As ``AsyncKv.clear``."""
        self._enter()
        try:
            return await super().clear()
        finally:
            self._leave()

    async def finish(self, flow: Flow[T]) -> T:
        """As ``AsyncKv.finish``."""
        self._enter()
        try:
            return await super().finish(flow)
        finally:
            self._leave()

    async def _clean_up(self, running: Running[T], request: Request | None) -> T:
        if self._tasks:  # what was sent before the cancellation must not be overtaken
            with suppress(asyncio.CancelledError):
                await asyncio.wait(self._tasks, timeout=self.settings.timeout)
        return await super()._clean_up(running, request)

    def _enter(self) -> None:
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._begin(loop)  # a second asyncio.run: no caller of the first one waits any more
        self._calls += 1

    def _leave(self) -> None:
        self._calls -= 1
        if not self._calls:
            self._no_calls.set()

    def _exchange(self, ops: Sequence[Op[Any]], atomic: bool) -> Running[Exchange]:
        if atomic or ops[0].blocking is not None:
            return (yield from super()._exchange(ops, atomic))
        exchange = yield Call(self._batched, (ops,))
        if isinstance(exchange, BaseException):
            raise exchange
        return cast(Exchange, exchange)

    async def _batched(self, ops: Sequence[Op[Any]], single: bool = False) -> Any:
        began, answered = self.clock(), asyncio.get_running_loop().create_future()
        call = BatchedCall(ops, self.prefix, single, began, answered, self._health)
        await self._places.acquire()
        self._waiting.append(call)
        self._schedule()
        return await answered

    # --- the batches ---

    def _schedule(self) -> None:
        """Send the waiting calls at the end of this turn of the event loop."""
        if not self._send_is_scheduled:
            self._send_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        self._send_is_scheduled = False
        while self._on_their_way < self.in_flight and (batch := self._next_batch()):
            self._on_their_way += 1
            task = asyncio.get_running_loop().create_task(Certain(self._send(batch)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_batch(self) -> list[BatchedCall]:
        batch: list[BatchedCall] = []
        room, too_late = self.max_batch, self.clock() - self.settings.deadline
        while queue := self._retrying or self._waiting:
            needed = len(queue[0].pending)
            if needed > room and batch:
                break
            call = queue.popleft()
            if queue is self._waiting:
                self._places.release()
            if call.began < too_late and queue is self._waiting:
                waited = f"waited {self.settings.deadline:g} s behind others; nothing was sent"
                call.absorb([], ServerUnavailable(waited), retry=False)
            elif not call.over:  # else its caller was cancelled: not sent
                batch.append(call)
                room -= needed
        return batch

    async def _send(self, batch: list[BatchedCall]) -> None:
        error = None
        try:
            error = await self._round_trip(batch)
        except Exception as problem:
            for call in batch:
                call.answer(problem)
        finally:
            self._on_their_way -= 1
            self._schedule()
        if again := [call for call in batch if not call.over]:
            if error:
                await self.settings.sleep(PAUSE)
            if any(call.elsewhere for call in again):
                await adone(self._connections.doubt())
            self._retrying.extend(again)
            self._schedule()

    async def _round_trip(self, batch: list[BatchedCall]) -> TransportError | None:
        """Send what the calls have to send, once, and hand out the replies."""
        parts = [call.commands() for call in batch]
        sent = [op for call in batch for op in call.pending]
        started = self.clock()
        try:
            replies, error = await self._trip([c for part in parts for c in part], None)
        except ServerRefused as refused:  # the connection itself
            for call in batch:
                call.refuse(refused)
            return None
        try:
            self._count(Exchange(sent, self.prefix), list(range(len(sent))), started, error)
        except BaseException as problem:  # the trace hook's
            for call in batch:
                call.answer(problem)
            return None
        at = 0
        for call, part in zip(batch, parts, strict=True):
            mine, at = replies[at : at + len(part)], at + len(part)
            call.absorb(mine, error, retry=error is None or self._may_retry(call.began))
        return error

    # --- the end ---

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
            if self._loop is asyncio.get_running_loop():
                while self._calls:
                    self._no_calls.clear()
                    await self._no_calls.wait()
                if self._tasks:  # of callers that were cancelled
                    await asyncio.wait(self._tasks)
        finally:
            await super().close()
