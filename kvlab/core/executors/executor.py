"""How ops and flows are run: written once, for threads and for asyncio.

:class:`Executor` makes a generator of requests out of ops and flows. A request is a round trip, a
call of the user's code or a wait. ``Kv`` and ``AsyncKv`` only fulfil the requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self, TypeVar, cast

from kvlab.core.calls import AsyncCalls, Calls
from kvlab.core.checks import boolean, instance, shown
from kvlab.core.executors.chunks import in_chunks, listed
from kvlab.core.executors.clearing import clearing
from kvlab.core.executors.cluster import Cluster
from kvlab.core.executors.requests import (
    NOT_YET,
    UNSETTLED,
    Address,
    Doubt,
    First,
    Running,
    Trip,
    growing,
)
from kvlab.core.executors.routed import Router
from kvlab.core.flow import Call, Flow, Now, Wait, Waiting
from kvlab.core.key import Key
from kvlab.core.op import Op
from kvlab.core.settings import Settings
from kvlab.core.transport.connections import is_cluster, is_sentinel, pool_of, where_of
from kvlab.core.transport.health import Downtime, Health
from kvlab.core.wire import (
    Exchange,
    RoundTrip,
    TransportError,
    checked_ops,
    delivered,
    encode,
    fallen_back,
    outcome,
)
from kvlab.errors import InvalidArgument, Outage, ServerRefused, ServerUnavailable

T = TypeVar("T")


class Executor:
    """The common part of both executors: settings, count of round trips, how ops are run."""

    _connections: Any
    _make: partial[Any]
    _shared: Calls | AsyncCalls

    def __init__(self, client: Any, settings: Settings) -> None:
        self.settings = settings
        self._prefix = cast(str, settings.prefix)
        pool = pool_of(client)
        self._pauses: Callable[[], Iterator[float]] = getattr(
            pool.connection_class, "pauses", growing
        )
        failover = settings.deadline if is_sentinel(pool) else 0.0
        self._health = Health(settings.clock, settings.timeout, failover)
        self._router: Router | None = None
        if is_cluster(client):
            self._router = Router(Cluster(client, settings), settings)
        self.where = where_of(pool) if self._router is None else str(self._router.cluster)
        self._check = pool.connection_kwargs.get("health_check_interval") or 0
        self._most = pool.max_connections
        self._trips: dict[int, int] = {}  # of each thread: a fork could copy a lock taken

    def _pool_settings(self, at: Address | None) -> tuple[Any, ...]:
        """What a pool is made of, after the function that makes a connection."""
        health, where = self._health, self.where
        if self._router is not None and at is not None:
            health, where = self._router.cluster.health(at), f"{at[0]}:{at[1]}"
        return self._most, self.settings.deadline, health, self._check, where

    def _sharing_health(self, other: Executor) -> Self:
        """This executor, with the health of the server that ``other`` knows too."""
        if self._router is not None and other._router is not None:
            self._router.cluster = other._router.cluster
        else:
            self._health = self._connections.health = other._health
        return self

    def _to(self, at: Address | None) -> partial[Any]:
        """Makes connections to the server, or to a node of the cluster."""
        return self._make if at is None else partial(self._make, host=at[0], port=at[1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where}, prefix={self.prefix!r})"

    @property
    def prefix(self) -> str:
        """The namespace, ending in ``:``."""
        return self._prefix

    @property
    def outage(self) -> Downtime | None:
        """Since when the server does not answer, why, and when it is tried next; None if it does.

        As the last call found it; see ``kvlab.core.transport.health``. Executors ``within`` share
        it. Of a cluster: the longest outage of a node that has slots.
        """
        return self._health.outage if self._router is None else self._router.cluster.outage

    @property
    def round_trips(self) -> int:
        """How many round trips this executor has made. It can be set, to count from there."""
        return sum(list(self._trips.values()))

    @round_trips.setter
    def round_trips(self, count: int) -> None:
        self._trips = {threading.get_ident(): count}

    def clock(self) -> float:
        """The time as flows see it: monotonic, in seconds."""
        return self.settings.clock()

    def name(self, key: Key) -> str:
        """The key or channel as the server sees it."""
        return self.prefix + instance("key", key, Key, "a Key").name

    def _running(
        self, given: tuple[Any, ...], atomic: bool, return_exceptions: bool
    ) -> Running[Any]:
        if atomic is not False or return_exceptions is not False:
            boolean("atomic", atomic)
            boolean("return_exceptions", return_exceptions)
        elif len(given) == 1:
            only = given[0]
            if isinstance(only, Op):
                return (yield from self._one(only))
            if isinstance(only, Flow):
                return (yield from self._flow(only))
        if len(given) == 1 and not isinstance(given[0], Op | Flow):
            ops = checked_ops(listed(given[0]), atomic=atomic)
            if atomic:
                return list((yield from self._batch(tuple(ops), True, return_exceptions)))
            place = self._router.place if self._router else _here
            results = yield from in_chunks(ops, self._exchange, place)
            return delivered(results, return_exceptions=return_exceptions)
        return (yield from self._batch(given, atomic, return_exceptions))

    def _settled(self, op: Op[T], answer: First) -> T:
        """The result of an op, if its first answer is no error, else ``UNSETTLED``."""
        if (
            not isinstance(answer, BaseException)
            and answer[1] is None
            and not isinstance((replies := answer[0])[0], Exception)
        ):
            result: Any = outcome(op.decode, replies[0])
            if isinstance(result, Outage):
                result = fallen_back(op, result)
            if isinstance(result, BaseException):
                raise result
            return result  # type: ignore[no-any-return]
        return UNSETTLED  # type: ignore[no-any-return]

    def _one(self, op: Op[T], began: float | None = None, first: First | None = None) -> Running[T]:
        """The run of one op, which began then and has had its ``first`` answer, if these are given.

        No exchange is made for an op that its first answer settles.
        """
        began = self.clock() if began is None else began
        if first is None and self._router is None:
            try:
                first = yield Trip((op,), [encode(op, self._prefix)], op.blocking)
            except ServerRefused as refused:  # the connection itself
                first = refused
            if (result := self._settled(op, first)) is not UNSETTLED:
                return result
        exchange = yield from self._exchange((op,), False, began, first)
        (result,) = exchange.finished()
        if isinstance(result, BaseException):
            raise result
        return result

    def _batch(
        self, given: tuple[Any, ...], atomic: bool = False, return_exceptions: bool = False
    ) -> Running[tuple[Any, ...]]:
        ops = checked_ops(given, atomic=atomic)
        results = (yield from self._exchange(ops, atomic)).finished() if ops else []
        return tuple(delivered(results, return_exceptions=return_exceptions))

    def _exchange(
        self,
        ops: Sequence[Op[Any]],
        atomic: bool = False,
        began: float | None = None,
        first: First | None = None,
    ) -> Running[Exchange]:
        if self._router is not None:
            return (yield from self._router.exchange(ops, atomic))
        exchange = Exchange(ops, self.prefix, atomic=atomic)
        blocking = ops[0].blocking if len(ops) == 1 else None
        began = self.clock() if began is None else began
        pauses = self._pauses()
        while True:
            try:
                if first is None:
                    sent = [ops[i] for i in exchange.pending]
                    first = yield Trip(sent, exchange.commands(), blocking)
                answer, first = first, None
                if isinstance(answer, BaseException):
                    raise answer
                replies, error = answer
            except ServerRefused as refused:  # the connection itself
                if refused.code == NOT_YET:
                    pause = max(next(pauses), refused.retry_after)
                    if self._may_retry(began, pause):
                        yield Wait(pause)
                        continue
                exchange.refuse(refused)
                return exchange
            exchange.absorb(replies, error, self._health.moves)
            if exchange.condemned and self._health.moved(exchange):
                yield Doubt()
            if not exchange.pending:
                return exchange
            if error is not None:
                pause = next(pauses)
                if not self._may_retry(began, pause):
                    return exchange
                yield Wait(pause)

    def _may_retry(self, began: float, pause: float) -> bool:
        """Whether a call that began then may send its ops again, after a pause.

        ``deadline`` counts from the begin of the call or of the outage, whichever came first.
        """
        now, outage = self.clock(), self.outage
        if outage is not None:
            if now < outage.next_try:
                return False
            began = min(began, outage.since)
        return now - began + pause < self.settings.deadline

    def _count(self, ops: Iterable[Op[Any]], started: float, error: TransportError | None) -> None:
        if error is not None and isinstance(error, ServerUnavailable):
            return
        thread = threading.get_ident()
        self._trips[thread] = self._trips.get(thread, 0) + 1
        if self.settings.trace is not None:
            self.settings.trace(RoundTrip(tuple(ops), started, self.clock() - started, error))

    def _flow(self, flow: Flow[T]) -> Running[T]:
        steps = iter(flow)
        value: Any = None
        problem: BaseException | None = None
        while True:
            try:  # around the loop: what interrupts it anywhere is thrown into the flow
                while True:
                    step = steps.send(value) if problem is None else steps.throw(problem)
                    if type(step) is Op:
                        value, problem = (yield from self._one(step)), None
                    elif type(step) is Now:
                        value, problem = self.clock(), None
                    else:
                        value, problem = (yield from self._step(step)), None
            except BaseException as raised:
                if steps.gi_frame is None:  # type: ignore[attr-defined]  # it has ended
                    if isinstance(raised, StopIteration):
                        result: T = raised.value
                        return result
                    raise
                value, problem = None, raised

    def _step(self, step: Any) -> Running[Any]:
        match step:
            case Op():
                return (yield from self._one(step))
            case tuple():
                return (yield from self._batch(step))
            case Call() | Wait():
                return (yield step)
            case Waiting(name):
                return self._shared.waiter(self._call_name(name))
        raise InvalidArgument(f"a flow must yield ops, calls and waits, not {shown(step)}")

    def _call_name(self, name: str) -> str:
        return f"{self.where} {self.prefix}{name}"

    def _clearing(self) -> Running[int]:
        if self._router is None:
            return (yield from clearing(self._exchange, self.prefix, one_by_one=False))
        yield from self._router.known()
        removed = 0
        for node in self._router.cluster.primaries():  # keys of several slots share no command
            on = partial(self._router.exchange, at=node)
            removed += yield from clearing(on, self.prefix, one_by_one=True)
        return removed


def _here(_: Op[Any]) -> None:
    """The place of each op, where there is one server."""
