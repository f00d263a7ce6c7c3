"""The executor for asyncio: :class:`AsyncKv`, the counterpart of :class:`~kvlab.Kv`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, Literal, Self, TypeVar, overload

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from kvlab.core.calls import AsyncCalls
from kvlab.core.checks import boolean, function, seconds
from kvlab.core.cleanup import uncancelled
from kvlab.core.executors.executor import Executor
from kvlab.core.executors.requests import (
    UNSETTLED,
    Address,
    Doubt,
    First,
    Request,
    Running,
    Trip,
    Trips,
)
from kvlab.core.flow import Call, Flow, Wait
from kvlab.core.hold import AsyncHold, HoldableLock, Holding
from kvlab.core.op import A, B, C, D, Op
from kvlab.core.settings import DEADLINE, TIMEOUT, Settings, Trace
from kvlab.core.transport.async_link import alinked
from kvlab.core.transport.async_pool import AsyncConnections, adone
from kvlab.core.transport.async_server import AsyncServer
from kvlab.core.transport.batches import Limits
from kvlab.core.transport.connections import own_connection, packed
from kvlab.core.transport.link import is_plain
from kvlab.core.wire import Answer, Command, encode
from kvlab.errors import Closed, OutcomeUnknown

T = TypeVar("T")


class AsyncKv(Executor):
    """:class:`Kv` for asyncio: the same ops and flows, awaited. Belongs to one event loop.

    Concurrent calls share round trips: see ``kvlab.core.transport.batches``. A shared round trip is
    counted, and told to the ``trace`` hook, once. The answer of a cancelled ``run`` reaches nobody.

    A flow sees the cancellation, and may run ops to clean up: out of reach of further cancellations
    (anyio cancels again at each await), for at most ``deadline`` seconds. The cancelled ``run``
    ends after the clean-up.
    """

    client: redis.asyncio.Redis

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        prefix: str | None = None,
        timeout: float = TIMEOUT,
        deadline: float = DEADLINE,
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        settings = Settings(
            prefix=prefix,
            timeout=timeout,
            deadline=deadline,
            trace=trace,
            clock=clock,
            sleep=sleep,
        )
        super().__init__(client, settings)
        self.client = client
        self._on_close = None if on_close is None else function("on_close", on_close)
        retry = Retry(NoBackoff(), 0)
        self._make = own_connection(client, settings.timeout, retry, awaited=True)
        self._connections = self._pool(None)
        self._calls, self._closing = 0, False
        self._no_calls: asyncio.Event | None = None
        self._share(Limits() if is_plain(self._make, redis.asyncio.Connection) else None)
        self._shared = AsyncCalls()

    def _share(self, limits: Limits | None) -> None:
        self._limits = limits
        self._nodes: dict[Address, AsyncServer] = {}
        self._server = AsyncServer(self._connections, limits, self.settings, self._count)

    def _pool(self, at: Address | None) -> AsyncConnections:
        # With a timeout redis-py sends by asyncio.wait_for, which loses cancellations before 3.12.
        make = partial(self._to(at), socket_timeout=None)
        return AsyncConnections(alinked(make), *self._pool_settings(at))

    def _node(self, at: Any) -> AsyncServer:
        if at not in self._nodes:
            pool = self._pool(at)
            pool.closed = self._connections.closed
            self._nodes[at] = AsyncServer(pool, self._limits, self.settings, self._count)
        return self._nodes[at]

    def _servers(self) -> list[AsyncServer]:
        return [self._server, *self._nodes.values()]

    @overload
    async def run(self, op: Op[T] | Flow[T], /) -> T: ...
    @overload
    async def run(self, a: Op[A], b: Op[B], /, *, atomic: bool = ...) -> tuple[A, B]: ...
    @overload
    async def run(
        self, a: Op[A], b: Op[B], c: Op[C], /, *, atomic: bool = ...
    ) -> tuple[A, B, C]: ...
    @overload
    async def run(
        self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], /, *, atomic: bool = ...
    ) -> tuple[A, B, C, D]: ...
    @overload
    async def run(self, *ops: Op[Any], atomic: bool = ...) -> tuple[Any, ...]: ...
    @overload
    async def run(
        self, *ops: Op[Any], atomic: bool = ..., return_exceptions: Literal[True]
    ) -> tuple[Any, ...]: ...
    @overload
    async def run(self, ops: Iterable[Op[T]], /, *, atomic: bool = ...) -> list[T]: ...
    @overload
    async def run(
        self, ops: Iterable[Op[T]], /, *, atomic: bool = ..., return_exceptions: Literal[True]
    ) -> list[T | Exception]: ...
    async def run(self, *ops: Any, atomic: bool = False, return_exceptions: bool = False) -> Any:
        """Like :meth:`Kv.run`, awaited; a flow's loader may be async."""
        if self._closing:
            raise Closed(f"this {type(self).__name__} is closed; nothing was sent")
        self._calls += 1
        try:
            if (
                len(ops) != 1
                or type(ops[0]) is not Op
                or atomic is not False
                or return_exceptions is not False
                or self._router is not None
            ):
                return await self._fulfil(self._running(ops, atomic, return_exceptions))
            # One op: the same, and a generator of requests is made only when more must follow.
            (op,), began = ops, self.settings.clock()
            request = packed([encode(op, self._prefix)])
            answer = await self._server.ask(ops, request, 1, op.blocking, began)
            if (result := self._settled(op, answer)) is not UNSETTLED:
                return result
            return await self._fulfil(self._one(op, began, answer))
        except asyncio.CancelledError:
            for server in self._servers():
                await server.left()
            raise
        finally:
            self._leave()

    def _leave(self) -> None:
        self._calls -= 1
        if self._no_calls is not None and not self._calls:
            self._no_calls.set()

    async def _fulfil(self, running: Running[T]) -> T:
        answer: Any = None
        problem: BaseException | None = None
        try:
            while True:
                request = running.send(answer) if problem is None else running.throw(problem)
                try:
                    answer, problem = await self._answer(request), None
                except asyncio.CancelledError as cancelled:
                    request = running.throw(cancelled)  # raises it, but for a flow that cleans up
                    return await uncancelled(self._clean_up(running, request))
                except BaseException as raised:
                    answer, problem = None, raised
        except StopIteration as done:
            result: T = done.value
            return result

    async def finish(self, flow: Flow[T]) -> T:
        """Run a flow that cleans up, as :meth:`run` does after a cancellation: see the class."""
        return await uncancelled(self._clean_up(self._running((flow,), False, False), None))

    async def _clean_up(self, running: Running[T], request: Request | None) -> T:
        limit = asyncio.get_running_loop().time() + self.settings.deadline
        with suppress(asyncio.CancelledError):  # what was sent before must not be overtaken
            await asyncio.gather(*[server.settled() for server in self._servers()])
        try:
            while True:
                answer: Any = None
                problem: BaseException | None = None
                try:
                    async with asyncio.timeout_at(limit) as time_left:
                        if request is not None:
                            answer = await self._answer(request)
                except asyncio.CancelledError as cancelled:  # of every task: the event loop ends
                    problem = cancelled
                    if isinstance(request, Trips):
                        answer = [([], OutcomeUnknown("the event loop ends"))] * len(request.trips)
                        problem = None
                    elif isinstance(request, Trip):  # an answer was lost, at most
                        answer, problem = ([], OutcomeUnknown("the event loop ends")), None
                except BaseException as raised:
                    problem = raised
                    if time_left.expired():
                        passed = f"clean-up took longer than {self.settings.deadline:g} s"
                        problem = OutcomeUnknown(passed)
                request = running.send(answer) if problem is None else running.throw(problem)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _answer(self, request: Request) -> Any:
        match request:
            case Trip():
                return await self._trip(request.ops, request.commands, request.blocking)
            case Trips(trips):
                return await self._at_once(trips)
            case Wait(pause):
                return await self.settings.sleep(pause)
            case Call(name=None):
                return await _called(request)
            case Call(name=str(name)):
                name = self._call_name(name)
                return await self._shared.run(name, lambda: _called(request), join=request.join)
            case Doubt():
                return await adone(self._connections.doubt())

    async def _trip(
        self, ops: Sequence[Op[Any]], commands: list[Command], blocking: float | None, _: Any = None
    ) -> Answer:
        request = packed(commands)
        try:
            answer = await self._server.ask(ops, request, len(commands), blocking, self.clock())
        except asyncio.CancelledError:
            await self._server.left()
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _at_once(self, trips: list[Trip]) -> list[First]:
        began = self.clock()
        asked = []
        for ops, commands, blocking, at in trips:
            server = self._node(at)
            asked.append(server.ask(ops, packed(commands), len(commands), blocking, began))
        return await asyncio.gather(*asked)

    def hold(
        self, lock: HoldableLock, *, wait: float = 10.0, renew: bool = False
    ) -> AbstractAsyncContextManager[Holding]:
        """:meth:`Kv.hold`, for ``async with``."""
        wait = seconds("wait", wait, 0, infinite=True)
        return AsyncHold(self, lock, wait, boolean("renew", renew))

    def within(self, part: str) -> AsyncKv:
        """An executor for a namespace inside this one: a participant, a test, a run.

        It has connections of its own, and is to be closed by itself.
        """
        return AsyncKv(self.client, **self.settings.within(part).keywords())._sharing_health(self)

    async def clear(self) -> int:
        """Remove the keys of this namespace and no other; returns how many."""
        return await self._fulfil(self._clearing())

    async def close(self) -> None:
        """As :meth:`Kv.close`."""
        await uncancelled(self._close())

    async def _close(self) -> None:
        for server in self._servers():
            await server.close()
        if self._on_close is not None:
            await self._on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _called(call: Call[T]) -> Any:
    value = call.function(*call.args)
    value = await value if inspect.isawaitable(value) else value
    return value if call.then is None else call.then(value)
