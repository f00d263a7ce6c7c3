"""Batches out of concurrent awaits. Part of the pattern ``kvlab.pipeline``; guarantees below."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kvlab.core.async_client import AsyncKv
from kvlab.core.checks import whole
from kvlab.core.executor import Running
from kvlab.core.flow import Call
from kvlab.core.op import Op
from kvlab.core.wire import Command, Exchange, TransportError, encode
from kvlab.errors import Closed, ServerRefused, ServerUnavailable

_PAUSE = 0.02  # seconds before an idempotent op is sent again


@dataclass(slots=True, eq=False)
class _Rider:
    """The ops of one call, and where it awaits them.

    A call of one op (``alone``) gets the op's result, or its error as a value; it has an exchange
    only when not all goes well at once. A call of several gets its exchange.
    """

    ops: Sequence[Op[Any]]
    alone: bool
    began: float
    arrived: asyncio.Future[Any]
    exchange: Exchange | None = None

    @property
    def pending(self) -> Sequence[Op[Any]]:
        if self.exchange is None:
            return self.ops
        return [self.ops[i] for i in self.exchange.pending]

    def arrive(self, what: Any) -> None:
        # Never set_exception: asyncio would complain for a caller cancelled just now.
        if not self.arrived.done():  # else its caller was cancelled: the reply is nobody's
            self.arrived.set_result(what)


class AutoBatch(AsyncKv):
    """An ``AsyncKv`` whose concurrent awaits share round trips.

    ``async with AutoBatch(akv) as auto: await auto.run(op)``: takes the place of ``akv``, with its
    client, prefix, settings and trace hook, and with connections and a count of its own.

    * What one turn of the event loop asks for leaves together, ``max_batch`` ops at a time; the
      ops of one call never part. While ``in_flight`` batches are on their way, the next gathers.
    * Each reply reaches its caller. A cancelled caller's reply is dropped; what was sent stays
      sent, what still waited is not sent.
    * An error is its caller's own: of an op that the server refuses, of a ``decode`` or a fallback
      that raises. When a connection fails, each caller gets its own
      ``OutcomeUnknown`` or ``ServerUnavailable``, at once unless its op may be sent again.
    * A caller that awaits one reply before it sends the next sees its ops run in that order, and
      the ops of one call run in theirs. Between calls batches may overtake each other.
    * At most ``max_waiting`` calls are in the queue; further ones wait, in order, to join it. A
      call whose turn comes after more than ``deadline`` seconds gets ``ServerUnavailable``:
      nothing was sent.
    * A flow's ops travel in batches too. Blocking and atomic ops travel alone, as in ``akv``.
    * ``close()`` waits for the calls begun before it; later ones raise ``Closed``.

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
        super().__init__(akv.client, **akv.settings.keywords())
        self.max_batch = whole("max_batch", max_batch, 1)
        self.max_waiting = whole("max_waiting", max_waiting, 1)
        self.in_flight = whole("in_flight", in_flight, 1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[_Rider] = deque()
        self._returning: deque[_Rider] = deque()  # to be sent again; they leave first
        self._places = asyncio.Semaphore(self.max_waiting)
        self._planned = False
        self._flying = 0
        self._flights: set[asyncio.Task[None]] = set()
        self._calls = 0
        self._no_calls = asyncio.Event()

    # --- what a caller does ---

    if not TYPE_CHECKING:  # the types are those of AsyncKv.run

        async def run(self, *ops, atomic=False, return_exceptions=False):
            """As ``AsyncKv.run``."""
            if self._stopping:
                raise Closed("this AutoBatch is closed; nothing was sent")
            self._enter()
            try:
                single = len(ops) == 1 and not atomic and not return_exceptions
                if single and type(ops[0]) is Op and ops[0].blocking is None:
                    # What _running would come to, at a fifth of its price.
                    result = await self._ride(ops, alone=True)
                    if isinstance(result, Exception):
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

    def _enter(self) -> None:
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._begin(loop)  # a second asyncio.run: nobody of the first one waits any more
        self._calls += 1

    def _leave(self) -> None:
        self._calls -= 1
        if not self._calls:
            self._no_calls.set()

    def _exchange(self, ops: Sequence[Op[Any]], atomic: bool) -> Running[Exchange]:
        if atomic or ops[0].blocking is not None:
            return (yield from super()._exchange(ops, atomic))
        exchange = yield Call(self._ride, (ops,))
        if isinstance(exchange, Exception):
            raise exchange
        return cast(Exchange, exchange)

    async def _ride(self, ops: Sequence[Op[Any]], alone: bool = False) -> Any:
        began = self.clock()
        rider = _Rider(ops, alone, began, asyncio.get_running_loop().create_future())
        await self._places.acquire()
        self._waiting.append(rider)
        self._plan()
        return await rider.arrived

    def _leave_behind(self, rider: _Rider) -> None:
        waited = f"waited {self.settings.deadline:g} s behind others; nothing was sent"
        self._deliver(rider, [], ServerUnavailable(waited))

    # --- what a batch does ---

    def _plan(self) -> None:
        """Have batches leave when this turn of the event loop is over."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        self._planned = False
        while self._flying < self.in_flight and (batch := self._board()):
            self._flying += 1
            flight = asyncio.get_running_loop().create_task(self._fly(batch))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    def _board(self) -> list[_Rider]:
        batch: list[_Rider] = []
        seats, too_late = self.max_batch, self.clock() - self.settings.deadline
        while queue := self._returning or self._waiting:
            needed = len(queue[0].pending)
            if needed > seats and batch:
                break
            rider = queue.popleft()
            if queue is self._waiting:
                self._places.release()
            if rider.began < too_late and queue is self._waiting:
                self._leave_behind(rider)
            elif not rider.arrived.done():  # else its caller was cancelled: not sent
                batch.append(rider)
                seats -= needed
        return batch

    async def _fly(self, batch: list[_Rider]) -> None:
        try:
            error = await self._trip_for(batch)
        except Exception as problem:  # the trace hook's
            error = None
            for rider in batch:
                rider.arrive(problem)
        except BaseException:  # this loop is ending
            for rider in batch:
                rider.arrived.cancel()
            raise
        finally:
            self._flying -= 1
            self._plan()
        again = [rider for rider in batch if not rider.arrived.done()]
        if again:
            if error:
                await self.settings.sleep(_PAUSE)
            self._returning.extend(again)
            self._plan()

    async def _trip_for(self, batch: list[_Rider]) -> TransportError | None:
        """Send what is to be sent, once, and hand out what comes back."""
        parts = [self._commands(rider) for rider in batch]
        sent = [op for rider in batch for op in rider.pending]
        started = self.clock()
        try:
            replies, error = await self._trip([c for part in parts for c in part], None)
        except ServerRefused as refused:  # the connection itself
            for rider in batch:
                self._refuse(rider, ServerRefused(str(refused)))
            return None
        self._count(Exchange(sent, self.prefix), list(range(len(sent))), started, error)
        at = 0
        for rider, part in zip(batch, parts, strict=True):
            mine, at = replies[at : at + len(part)], at + len(part)
            self._deliver(rider, mine, error if len(mine) < len(part) else None)
        return error

    def _commands(self, rider: _Rider) -> list[Command]:
        if rider.exchange is None:
            if rider.alone:
                return [encode(rider.ops[0], self.prefix)]
            rider.exchange = Exchange(rider.ops, self.prefix)
        return rider.exchange.commands()

    def _deliver(self, rider: _Rider, replies: list[Any], cut: TransportError | None) -> None:
        if rider.exchange is None and replies and not isinstance(replies[0], Exception):
            try:
                rider.arrive(rider.ops[0].decode(replies[0]))
            except Exception as problem:
                rider.arrive(problem)
            return
        exchange = rider.exchange = rider.exchange or Exchange(rider.ops, self.prefix)
        # Each caller gets an error of its own: tracebacks pile up on a shared one.
        exchange.absorb(replies, None if cut is None else type(cut)(str(cut)))
        too_late = cut is not None and self.clock() - rider.began + _PAUSE >= self.settings.deadline
        if too_late or not exchange.pending:
            rider.arrive(exchange.finished()[0] if rider.alone else exchange)

    def _refuse(self, rider: _Rider, refused: ServerRefused) -> None:
        exchange = rider.exchange or Exchange(rider.ops, self.prefix)
        exchange.refuse(refused)
        rider.arrive(exchange.finished()[0] if rider.alone else exchange)

    # --- life ---

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
        self._stopping = True
        if self._loop is asyncio.get_running_loop():
            while self._calls:
                self._no_calls.clear()
                await self._no_calls.wait()
            if self._flights:  # of callers that were cancelled
                await asyncio.wait(self._flights)
        await super().close()
