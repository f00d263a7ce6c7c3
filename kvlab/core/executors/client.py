"""The executor for threads: every op reaches the server by :class:`Kv` or by ``AsyncKv``.

``connect`` finds the server. An executor never changes its client: see
``kvlab.core.transport.connections``.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self, TypeVar, overload

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.core.calls import Calls
from kvlab.core.checks import boolean, function, seconds
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
from kvlab.core.flow import Call, Flow, Now, Wait
from kvlab.core.hold import Hold, HoldableLock, Holding
from kvlab.core.op import A, B, C, D, Op
from kvlab.core.settings import DEADLINE, TIMEOUT, Settings, Trace
from kvlab.core.transport.at_once import stages, together
from kvlab.core.transport.connections import own_connection
from kvlab.core.transport.link import linked
from kvlab.core.transport.pool import Connections, done
from kvlab.core.wire import Answer, Command, encode
from kvlab.errors import InvalidArgument, ServerRefused

T = TypeVar("T")


class Kv(Executor):
    """Runs ops and flows on a redis-py client. Safe to share between threads.

    * ``client``: any ``redis.Redis`` (own pool, TLS, Sentinel, fakeredis) or ``RedisCluster``;
      ``kv.client``. On a cluster each op goes to the node of its keys, which must lie in one slot,
      and a batch is one round trip to each node: see ``kvlab.core.executors.routed``.
    * ``prefix``, ``timeout``, ``deadline``, ``trace``, ``clock``, ``sleep``: see
      :class:`~kvlab.core.settings.Settings`; ``kv.settings``.
    """

    client: redis.Redis
    _connections: Connections

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str | None = None,
        timeout: float = TIMEOUT,
        deadline: float = DEADLINE,
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        on_close: Callable[[], None] | None = None,
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
        self._make = own_connection(client, settings.timeout, retry, awaited=False)
        self._nodes: dict[Address, Connections] = {}
        self._connections = Connections(linked(self._make), *self._pool_settings(None))
        self._shared = Calls()

    @overload
    def run(self, op: Op[T] | Flow[T], /) -> T: ...
    @overload
    def run(self, a: Op[A], b: Op[B], /, *, atomic: bool = ...) -> tuple[A, B]: ...
    @overload
    def run(self, a: Op[A], b: Op[B], c: Op[C], /, *, atomic: bool = ...) -> tuple[A, B, C]: ...
    @overload
    def run(
        self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], /, *, atomic: bool = ...
    ) -> tuple[A, B, C, D]: ...
    @overload
    def run(self, *ops: Op[Any], atomic: bool = ...) -> tuple[Any, ...]: ...
    @overload
    def run(
        self, *ops: Op[Any], atomic: bool = ..., return_exceptions: Literal[True]
    ) -> tuple[Any, ...]: ...
    @overload
    def run(self, ops: Iterable[Op[T]], /, *, atomic: bool = ...) -> list[T]: ...
    @overload
    def run(
        self, ops: Iterable[Op[T]], /, *, atomic: bool = ..., return_exceptions: Literal[True]
    ) -> list[T | Exception]: ...
    def run(self, *ops: Any, atomic: bool = False, return_exceptions: bool = False) -> Any:
        """Run the ops in one round trip, or a flow in as many round trips as it takes.

        * ``run(op)`` → its result; ``run(flow)`` → what the flow returns.
        * ``run(a, b, …)`` → a tuple. The ops are independent; their order is not promised.
        * ``run([ops])`` → a list, also for no op or one op; a long list travels in chunks.
        * ``atomic=True``: in one MULTI, in the order given, never chunked.

        Raises :class:`~kvlab.errors.ServerUnavailable` when nothing could be sent,
        :class:`~kvlab.errors.OutcomeUnknown` when the answer never came,
        :class:`~kvlab.errors.ServerRefused` for an error reply. Of several ops,
        :class:`~kvlab.errors.BatchFailed` carries one of these for each that failed, unless
        ``return_exceptions`` puts them among the results. When the server serves none of several
        ops, the first error is raised alone.
        """
        if len(ops) == 1 and atomic is False and return_exceptions is False:
            (op,) = ops
            if type(op) is Op and self._router is None:
                return self._quickly(op)
            if type(op) is Flow:
                return self._step_by_step(op)
        return self._fulfil(self._running(ops, atomic, return_exceptions))

    def _quickly(self, op: Op[T]) -> T:
        """The same; the generator of requests is made only when more requests must follow."""
        began = self.settings.clock()
        try:
            answer: First = self._trip((op,), [encode(op, self._prefix)], op.blocking, began)
        except ServerRefused as refused:  # the connection itself
            answer = refused
        if (result := self._settled(op, answer)) is not UNSETTLED:
            return result
        return self._fulfil(self._one(op, began, answer))

    def _step_by_step(self, flow: Flow[T]) -> T:
        """Run a flow as :meth:`_flow` does, without a generator of requests around each op."""
        return _driven(iter(flow), self._step_done)

    def _step_done(self, step: Any) -> Any:
        if type(step) is Op and self._router is None:
            return self._quickly(step)
        if type(step) is Now:
            return self.clock()
        return self._fulfil(self._step(step))

    def _fulfil(self, running: Running[T]) -> T:
        return _driven(running, self._answer)

    def _answer(self, request: Request) -> Any:
        match request:
            case Trip():
                return self._trip(request.ops, request.commands, request.blocking, self.clock())
            case Trips(trips):
                return self._at_once(trips)
            case Wait(pause):
                return self.settings.sleep(pause)
            case Call(name=None):
                return _called(request)
            case Call(name=str(name)):
                name = self._call_name(name)
                return self._shared.run(name, lambda: _called(request), join=request.join)
            case Doubt():
                return done(self._connections.doubt())

    def _trip(
        self,
        ops: Sequence[Op[Any]],
        commands: list[Command],
        blocking: float | None,
        started: float,
    ) -> Answer:
        answer = self._connections.trip(commands, blocking)
        self._count(ops, started, answer[1])
        return answer

    def _at_once(self, trips: list[Trip]) -> list[First]:
        started = self.clock()
        answers = together(
            [stages(self._node(at), commands, blocking) for _, commands, blocking, at in trips]
        )
        for trip, answer in zip(trips, answers, strict=True):
            if not isinstance(answer, BaseException):
                self._count(trip.ops, started, answer[1])
        return [*answers]

    def _node(self, at: Any) -> Connections:
        if (known := self._nodes.get(at)) is None:
            fresh = Connections(linked(self._to(at)), *self._pool_settings(at))
            fresh.closed = self._connections.closed
            known = self._nodes.setdefault(at, fresh)
        return known

    def hold(
        self, lock: HoldableLock, *, wait: float = 10.0, renew: bool = False
    ) -> AbstractContextManager[Holding]:
        """``with kv.hold(lock) as held``: run the body under the lock.

        Waits at most ``wait`` seconds for the lock (0: one try), then raises
        :class:`~kvlab.errors.LockNotAcquired`. Without ``renew`` the body has the lock's TTL.
        Raises :class:`~kvlab.errors.LockLost` on exit if the lock was lost; see
        ``kvlab.core.hold``.
        """
        wait = seconds("wait", wait, 0, infinite=True)
        return Hold(self, lock, wait, boolean("renew", renew))

    def within(self, part: str) -> Kv:
        """An executor for a namespace inside this one: a participant, a test, a run.

        It has connections of its own, and is to be closed by itself.
        """
        return Kv(self.client, **self.settings.within(part).keywords())._sharing_health(self)

    def clear(self) -> int:
        """Remove the keys of this namespace and no other key; returns how many were removed.

        A key that is written meanwhile may stay. The server frees large values in the background.
        A server that uses libc's malloc (see INFO memory), as the embedded one does, is slow
        meanwhile.
        """
        return self._fulfil(self._clearing())

    def close(self) -> None:
        """Close the connections that this executor opened; harmless when repeated.

        A connection in use is closed when its call ends. A ``run`` after ``close`` raises
        :class:`~kvlab.errors.Closed`.
        """
        for connections in [self._connections, *self._nodes.values()]:
            done(connections.close())
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _called(call: Call[T]) -> Any:
    value = call.function(*call.args)
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise InvalidArgument(f"{call.function!r} must not be async on Kv; use kvlab.AsyncKv")
    return value if call.then is None else call.then(value)


def _driven(steps: Generator[Any, Any, T], done: Callable[[Any], Any]) -> T:
    """What the generator returns, when each of its steps is done by ``done``."""
    value: Any = None
    problem: BaseException | None = None
    while True:
        try:  # around the loop: what interrupts it anywhere is thrown into the generator
            while True:
                step = steps.send(value) if problem is None else steps.throw(problem)
                value, problem = done(step), None
        except BaseException as raised:
            if steps.gi_frame is None:  # type: ignore[attr-defined]  # it has ended
                if isinstance(raised, StopIteration):
                    result: T = raised.value
                    return result
                raise
            value, problem = None, raised
            if isinstance(raised, GeneratorExit):  # the user's: a flow would take it for its end
                problem = RuntimeError("a call raised GeneratorExit")
                problem.__cause__ = raised
