"""Calls of one event loop that share round trips: what one turn asks for leaves in one write.

* The ops that are asked for in one turn of the event loop leave in one batch of at most
  ``max_batch`` ops and about ``MAX_BYTES``, on a connection that no other batch uses meanwhile. The
  ops of one call, a MULTI among them, stay in one batch.
* While ``in_flight`` batches are on their way, the next batch gathers. At most ``max_waiting``
  calls gather; further calls wait, in order. A call that has gathered for longer than ``deadline``
  gets ``ServerUnavailable``: nothing was sent.
* Each reply reaches its caller, when the whole batch has arrived. So a huge reply delays the calls
  of its own batch, and no others.
* The reply of a caller that was cancelled is dropped; an op that was sent stays sent, and an op
  that still waited is not sent.
* When a connection fails, each caller of its batch gets an error of its own. An error of the trace
  hook, which is told each batch once, reaches every caller of that batch.
* The ops of one call run in their order, and so do those of a caller that awaits each reply.
  Between calls, batches may overtake each other.

Blocking ops do not come here: each has a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError

from kvlab.core.cleanup import Certain, ended
from kvlab.core.op import Op, Raw
from kvlab.core.settings import Settings
from kvlab.core.transport.async_pool import AsyncConnections
from kvlab.core.transport.link import is_last
from kvlab.core.wire import Answer, TransportError
from kvlab.errors import OutcomeUnknown, ServerRefused, ServerUnavailable

MAX_BYTES = 1_000_000
"""A batch of several calls has at most so many bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """At most ``in_flight`` batches of ``max_batch`` ops, while ``max_waiting`` calls wait."""

    max_batch: int = 500
    max_waiting: int = 10_000
    in_flight: int = 8


class _Call(NamedTuple):
    """What one call sends, and the future of its answer: an ``Answer``, or an error to raise."""

    answered: asyncio.Future[Answer | BaseException]
    request: bytes
    due: int
    ops: Sequence[Op[Any]]
    asked: float

    @property
    def waits(self) -> bool:
        """Whether its caller was not cancelled."""
        return not self.answered.done()


@dataclass(slots=True, eq=False)
class _Batch:
    """The calls of one round trip. ``task`` sends them when no connection is ready."""

    calls: list[_Call]
    started: float
    replies: list[Raw] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    connection: Any = None
    sent: bool = False
    over: asyncio.Future[None] | None = None

    def ended(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future that is done when all replies have been handed out."""
        self.over = self.over or loop.create_future()
        return self.over

    def pack(self) -> tuple[bytes, int]:
        """What to send now: nothing of a caller that was cancelled meanwhile."""
        self.sent = True
        self.calls = [call for call in self.calls if call.waits]
        request = b"".join([call.request for call in self.calls])
        return request, sum([call.due for call in self.calls])


class Batches:
    """The calls that wait, and the batches on their way, each on a connection of its own."""

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        connections: AsyncConnections,
        limits: Limits,
        settings: Settings,
        count: Callable[[Iterable[Op[Any]], float, TransportError | None], None],
    ) -> None:
        self.limits, self._settings, self._count = limits, settings, count
        self._connections, self._in_flight = connections, min(limits.in_flight, connections.most)
        self._flying: set[_Batch] = set()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[_Call] = deque()
        self._door, self._outside = asyncio.Lock(), 0
        self._opened: asyncio.Future[None] = loop.create_future()
        self._flying = set()
        self._is_scheduled = False

    def ask(
        self, ops: Sequence[Op[Any]], request: bytes, due: int, asked: float
    ) -> Awaitable[Answer | BaseException]:
        """Send the request in this turn's batch; its ``due`` replies, or an error to raise.

        A plain function: each coroutine that waits is one more object for the garbage collector.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a second asyncio.run: nobody of the first waits any more
            self._begin(loop)
        call = _Call(loop.create_future(), request, due, ops, asked)
        if self._outside or len(self._waiting) >= self.limits.max_waiting:
            return self._enter(call)
        self._add(call)
        return call.answered

    def _add(self, call: _Call) -> None:
        self._waiting.append(call)
        if not self._is_scheduled:
            self._is_scheduled = True
            call.answered.get_loop().call_soon(self._send_waiting)

    async def _enter(self, call: _Call) -> Answer | BaseException:
        """Join a full queue, in the order of the callers."""
        self._outside += 1
        try:
            async with self._door:
                while len(self._waiting) >= self.limits.max_waiting:
                    self._opened = asyncio.get_running_loop().create_future()
                    await self._opened
                self._add(call)
        finally:
            self._outside -= 1
        return await call.answered

    async def left(self) -> None:
        """A caller was cancelled: a batch of which no caller is left is not sent any more."""
        for batch in self._flying:
            if batch.task and not batch.sent and not any(call.waits for call in batch.calls):
                batch.task.cancel()
                await ended(batch.task)
                return

    async def settled(self, timeout: float | None = None) -> None:
        """Wait until the batches that are on their way now have arrived."""
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._flying:
            await asyncio.wait([batch.ended(loop) for batch in self._flying], timeout=timeout)

    async def abandon(self, patience: float) -> None:
        """Wait for what is on its way, then end the batches of which no caller is left."""
        await self.settled(patience)
        for batch in [*self._flying]:
            if not any(call.waits for call in batch.calls):
                if batch.task is not None:
                    batch.task.cancel()
                else:
                    batch.connection.end(RedisConnectionError("closed"))  # which makes the task
                assert batch.task is not None
                await ended(batch.task)

    def _send_waiting(self) -> None:
        self._is_scheduled = False
        while self._waiting and len(self._flying) < self._in_flight:
            if calls := self._next_calls():
                self._send(_Batch(calls, self._settings.clock()))

    def _next_calls(self) -> list[_Call]:
        calls: list[_Call] = []
        commands, size = self.limits.max_batch, MAX_BYTES
        too_late = self._settings.clock() - self._settings.deadline
        while self._waiting:
            call = self._waiting[0]
            commands, size = commands - call.due, size - len(call.request)
            if calls and (commands < 0 or size < 0):
                break
            self._waiting.popleft()
            if not call.waits:
                continue
            if call.asked < too_late:
                waited = f"waited {self._settings.deadline:g} s behind others; nothing was sent"
                call.answered.set_result(([], ServerUnavailable(waited)))
                continue
            calls.append(call)
        if self._outside and not self._opened.done():
            self._opened.set_result(None)
        return calls

    def _send(self, batch: _Batch) -> None:
        self._flying.add(batch)
        batch.connection = connection = self._connections.idle_now()
        if connection is None:
            batch.task = _task(self._by_task(batch))
        else:
            wait = self._connections.health.timeout
            end = partial(self._arrived, batch, connection)
            connection.begin(*batch.pack(), batch.replies, wait, end)

    def _arrived(self, batch: _Batch, connection: Any, problem: Exception | None) -> None:
        if problem is None and self._connections.is_kept(connection, batch.replies):
            self._finish(batch, None)
        else:
            batch.task = _task(self._by_task(batch, connection, problem))

    async def _by_task(
        self, batch: _Batch, connection: Any = None, problem: Exception | None = None
    ) -> None:
        error: Exception | None = None
        try:
            if connection is None:
                error = await self._connections.trip(batch.pack, batch.replies, extra=True)
            else:
                is_kept = problem is None and not is_last(batch.replies)
                error = await self._connections.ended(connection, problem, is_kept=is_kept)
        except Exception as raised:
            error = raised
        except BaseException:  # the event loop ends, or nobody waits any more
            kind = OutcomeUnknown if batch.sent else ServerUnavailable
            error = kind("the event loop ends")
            raise
        finally:
            self._finish(batch, error)

    def _finish(self, batch: _Batch, error: Exception | None) -> None:
        self._flying.discard(batch)
        problem: BaseException | None = None
        if batch.calls and (error is None or isinstance(error, TransportError)):
            try:
                ops = (op for call in batch.calls for op in call.ops)
                self._count(ops, batch.started, error)
            except BaseException as raised:  # the trace hook's
                problem = raised
        at = 0
        for call in batch.calls:
            replies, at = batch.replies[at : at + call.due], at + call.due
            if call.waits:
                call.answered.set_result(problem or _answer(replies, call.due, error))
        if batch.over is not None:
            batch.over.set_result(None)
        if self._waiting and not self._is_scheduled:
            self._send_waiting()


def _answer(replies: list[Raw], count: int, error: Exception | None) -> Answer | Exception:
    """The answer to a call of ``count`` commands, in a batch that ended with ``error`` or well."""
    if error is None or len(replies) == count:
        return replies, None
    # Each caller gets an error of its own: tracebacks pile up on a shared one.
    if isinstance(error, TransportError):
        return replies, type(error)(str(error))
    return ServerRefused(str(error)) if isinstance(error, ServerRefused) else error


def _task(work: Any) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(Certain(work))
