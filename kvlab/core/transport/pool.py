"""The connections of an executor: the pool for threads. Its twin is ``async_pool``.

What one connection learns, all learn: when a connection ends in the middle, does not answer, or
is refused by a server that is no primary any more, its idle siblings are closed, and those in use
are closed when they come back. So the next caller has a new connection.
"""

from __future__ import annotations

import os
import queue
import weakref
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from redis.exceptions import MaxConnectionsError

from kvlab.core.op import Raw
from kvlab.core.transport.connections import BROKEN, REFUSED, not_connected, packed, patience
from kvlab.core.transport.health import Health, is_silence
from kvlab.core.transport.link import is_last
from kvlab.core.wire import Answer, Command, transport_error
from kvlab.errors import Closed, ServerRefused

T = TypeVar("T")
Steps = Generator[Any, Any, T]
"""Yields what calls of a connection return: a value on threads, an awaitable on asyncio."""

_MOST = 4096  # a client's pool may allow 2**31


class Pool:
    """What both pools do where it need not be fast.

    ``check``: a connection that was idle for so many seconds is asked (PING) before it is used; 0:
    never.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        most: int,
        wait: float,
        health: Health,
        check: float = 0,
        where: str = "",
    ) -> None:
        self._make, self.most, self._wait, self.where = make, min(most, _MOST), wait, where
        self.health, self._check = health, check
        self.closed = False
        self._idle: list[Any] = []
        self._generation = 0
        self._process = os.getpid()

    def _connected(self, connection: Any, trying: bool = False) -> Steps[Any]:
        if not trying and self.health.outage is not None:
            trying = yield from self._is_try()  # it began while this call waited for its turn
        connection.generation, connection.turn = self._generation, None
        began = self.health.clock()
        try:
            yield connection.connect(self.health.timeout)
            if trying:
                yield from self._ping(connection, self.health.timeout)
        except GeneratorExit:  # interrupted between two steps: the connection ends with its owner
            raise
        except BaseException as problem:
            yield connection.disconnect()
            if isinstance(problem, BROKEN) and not isinstance(problem, REFUSED):
                self.health.failed(began, problem)
            raise
        if self.health.outage is not None:
            yield from self._answered()
        return connection

    def _ping(self, connection: Any, wait: float) -> Steps[None]:
        yield connection.round_trip(packed([("PING",)]), 1, [], wait)  # an error is an answer

    def _is_alive(self, connection: Any) -> Steps[bool]:
        if self.health.clock() - connection.used < self._check:
            return True
        try:
            yield from self._ping(connection, self.health.quick)
        except BROKEN:
            yield from self.doubt()
            return False
        return True

    def _is_try(self) -> Steps[bool]:
        witness = self.health.witness
        if witness is not None:
            try:
                spoke = not witness.is_connected or (yield witness.has_news())
            except BROKEN:
                spoke = True
            if spoke:
                yield from self._answered()
        return self.health.is_try()

    def _answered(self) -> Steps[None]:
        self.health.outage = None
        yield from self._witness_closed()

    def _witness_closed(self) -> Steps[None]:
        witness, self.health.witness = self.health.witness, None
        if witness is not None:
            yield witness.disconnect()

    def doubt(self) -> Steps[None]:
        """Let no connection that there is now be used again."""
        self._generation += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            yield connection.disconnect()

    def lost(self, connection: Any, problem: Exception) -> Steps[None]:
        """The connection ended, or did not answer in time: is it the connection or the server?"""
        yield from self.doubt()
        if self.closed or not is_silence(problem):
            return
        if self.health.outage is None or not self.health.outage.pause:
            began, asking = self.health.clock(), self._make()
            try:
                yield asking.connect(self.health.quick)
                yield from self._ping(asking, self.health.quick)
            except REFUSED:
                pass  # an answer
            except BROKEN as silence:
                self.health.failed(began, silence)
            finally:
                yield asking.disconnect()
        if self.health.outage is not None and self.health.witness is None:
            self.health.witness = connection

    def _is_kept(self, connection: Any, complete: bool) -> bool:
        """Whether a connection that comes back stays open: idle, or as the witness."""
        if (
            complete
            and connection.generation == self._generation  # else closed, or doubted meanwhile
            and len(self._idle) < self.most
        ):
            if self._check:
                connection.used = self.health.clock()
            self._idle.append(connection)
            return True
        return connection is self.health.witness

    def close(self) -> Steps[None]:
        """Close the idle connections now, and the others when they come back."""
        self.closed = True
        yield from self.doubt()
        yield from self._witness_closed()


def done(steps: Steps[T]) -> T:
    """Take the steps on threads: each has been taken when it is yielded."""
    value: Any = None
    try:
        while True:
            value = steps.send(value)
    except StopIteration as end:
        result: T = end.value
        return result


class _Turns(queue.SimpleQueue["_Turn"]):
    """The turns that are free. Not a semaphore: interrupted, that leaves its lock held for ever."""


class _Turn:
    """The right to use one connection. A turn that an interrupt has lost comes back by itself."""

    __slots__ = ("_turns",)

    def __init__(self, turns: _Turns) -> None:
        self._turns = weakref.ref(turns)

    def __del__(self) -> None:
        if (turns := self._turns()) is not None:
            turns.put(_Turn(turns))


class Connections(Pool):
    """At most ``most`` connections for threads; the connection that was used last is used next.

    redis-py's pool takes twice the time, mostly for telemetry, and has no extra connection for a
    blocking command.
    """

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._begin()

    def trip(self, commands: list[Command], blocking: float | None) -> Answer:
        """Send the commands, and wait for their replies."""
        request, wait = packed(commands), patience(blocking, self.health.timeout)
        try:
            connection = self.get(extra=blocking is not None)
        except BROKEN as problem:
            return [], not_connected(problem, self.where)
        replies: list[Raw] = []
        complete = False
        try:
            connection.round_trip(request, len(commands), replies, wait)
            complete = not is_last(replies)
            return replies, None
        except ServerRefused:  # by HTTP, as a whole: nothing ran
            complete = True
            raise
        except BROKEN as problem:
            return self.without_answer(connection, problem, replies)
        finally:  # an answer may still be due, also after KeyboardInterrupt
            self.put(connection, complete=complete)

    def without_answer(self, connection: Any, problem: Exception, replies: list[Raw]) -> Answer:
        """The answer of a trip that failed after ``replies``; other connections are doubted."""
        done(self.lost(connection, problem))
        return replies, transport_error(problem, sent=True, where=self.where)

    def _begin(self) -> None:
        self._idle = []
        self._turns = _Turns()
        for _ in range(self.most):
            self._turns.put(_Turn(self._turns))
        if self._process != os.getpid():  # forked: the parent's sockets are not ours
            self.health.witness = None
            self._process = os.getpid()

    def get(self, *, extra: bool = False) -> Any:
        """A connection ready for a command; ``extra``: one more than ``most``.

        Raises redis-py's error when it cannot connect, MaxConnectionsError when no connection is
        free in time, and ConnectionError in an outage, except for the call that tries the server.
        """
        if self.closed:
            raise Closed("this executor is closed; nothing was sent")
        if self._process != os.getpid():
            self._begin()
        trying = self.health.outage is not None and done(self._is_try())
        if extra:
            return self._ready(trying)
        try:
            turn = self._turns.get(timeout=self._wait)
        except queue.Empty:
            busy = f"all {self.most} connections busy for {self._wait:g} s"
            raise MaxConnectionsError(busy) from None
        try:
            connection = self._ready(trying)
        except BaseException:
            self._turns.put(turn)
            raise
        connection.turn = turn
        return connection

    def _ready(self, trying: bool) -> Any:
        if trying or not self._idle:
            return done(self._connected(self._make(), trying))
        try:
            connection = self._idle.pop()
        except IndexError:  # another thread was faster
            return done(self._connected(self._make()))
        try:
            if not connection.has_news() and (not self._check or done(self._is_alive(connection))):
                return connection
        except BROKEN:
            pass  # the server closed it
        connection.disconnect()
        return done(self._connected(connection))

    def put(self, connection: Any, *, complete: bool) -> None:
        """Take a connection back; ``complete``: no answer is still due on it."""
        turn, connection.turn = connection.turn, None
        if complete and self.health.outage is not None:
            done(self._answered())
        if not self._is_kept(connection, complete):
            connection.disconnect()
        if turn is not None:
            self._turns.put(turn)
