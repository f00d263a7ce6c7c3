"""``with kv.hold(lock) as held`` and ``async with akv.hold(lock) as held``: a body under a lock.

Guarantee:

* The body starts only while the lock is held, and every end of the body releases the lock: an
  interrupt (Ctrl-C) at any point too, and a cancellation, once or at every await (anyio), for
  which an async release has the executor's ``deadline``. A release that failed is a note on the
  body's error and a warning in the log ``kvlab``.
* A loss reaches the body. ``held.check()`` raises :class:`~kvlab.errors.LockLost` as soon as the
  server may have given the lock away. On exit the body raises the same error when the release
  finds that the lock was lost. The time is counted on the executor's monotonic clock, from before
  the acquire (or the last successful renewal) was sent, so it never ends after the server's time.

With ``renew=True`` a daemon thread or an asyncio task renews the lock every third of its TTL; it
ends with the body. A renewal without an answer is retried at the next third. A renewal that finds
the lock gone is the last one. In both cases the body learns of it by ``held.check()`` and on exit.
The body is not interrupted: neither a thread nor a cancellation can stop a write on its way.

Not promised: a release when Ctrl-C comes in the instant between the body's last step and the first
of ``__exit__``, which no Python code can guard; renewals end then, and the TTL frees the lock. Nor
that a body stops in time if it does not call ``held.check()``, or is frozen after
the call. Nor that ``held.check()`` counts the time in which the machine slept: on Linux and macOS
the monotonic clock stands still then. Only a resource that compares ``held.fence`` stops such a
write.

Every lock with the members of :class:`HoldableLock` can be held.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from kvlab.core.checks import shown
from kvlab.core.cleanup import ended, left_behind
from kvlab.core.flow import Flow, Now, Wait, flow
from kvlab.core.op import Op
from kvlab.errors import InvalidArgument, KvlabError, LockLost, LockNotAcquired

RENEWALS_PER_TTL = 3


@dataclass(frozen=True, slots=True)
class Held:
    """One hold of a lock.

    * ``fence``: higher than the fence of every earlier hold; send it with each write.
    * ``since``: the executor's monotonic clock just before the acquire was sent, in seconds; None
      in the answer of a bare op, which reads no clock.
    """

    token: str = field(repr=False)
    fence: int
    since: float | None = field(default=None, compare=False)


class HoldableLock(Protocol):
    """The part of a lock that ``hold`` needs."""

    @property
    def name(self) -> str: ...
    @property
    def ttl(self) -> float: ...
    def acquire(self, wait: float) -> Flow[Held | None]: ...
    def renew(self, held: Held) -> Op[bool]: ...
    def release(self, held: Held) -> Op[bool]: ...


def holdable(lock: HoldableLock) -> HoldableLock:
    """``lock``, which has the members of :class:`HoldableLock`."""
    try:
        _ = lock.name, lock.ttl, lock.acquire, lock.renew, lock.release
    except AttributeError:
        said = f"lock must be a lock such as kvlab.Lock, not {shown(lock)}"
        raise InvalidArgument(said) from None
    return lock


class Holding:
    """The lock as the body of ``hold`` sees it."""

    def __init__(self, lock: HoldableLock, held: Held | None, clock: Callable[[], float]) -> None:
        self.lock, self._held, self._clock = lock, held, clock
        self._since = clock()
        self._gone = self._over = False
        self._trouble: Exception | None = None

    def __repr__(self) -> str:
        if self._held is None:  # a debugger's view of a hold that waits
            return f"<not yet holding {self.lock!r}>"
        return f"<holding {self.lock!r}, fence {self.fence}, {self.remaining:.3f} s left>"

    @property
    def held(self) -> Held:
        """The hold, with its token."""
        assert self._held is not None
        return self._held

    @property
    def taken(self) -> bool:
        """Whether the lock was acquired, and nothing answered its release yet."""
        return self._held is not None and not self._over

    @property
    def fence(self) -> int:
        """The fence of this hold; higher with each hold, at most 2**53 - 1."""
        return self.held.fence

    @property
    def remaining(self) -> float:
        """Seconds for which the lock is certainly held; 0 when it may be lost."""
        return 0.0 if self._gone else max(0.0, self._since + self.lock.ttl - self._clock())

    def check(self) -> None:
        """Raise :class:`~kvlab.errors.LockLost` if the lock may have another holder by now.

        Costs no round trip. ``__cause__`` is the last failed renewal, if there is one.
        """
        if self._gone:
            raise self.lost("a renewal found it gone") from self._trouble
        if not self.remaining:
            raise self.lost(f"its {self.lock.ttl:g} s have passed") from self._trouble

    def lost(self, how: str) -> LockLost:
        """The error for this hold; ``how`` says how the lock was lost."""
        return LockLost(self.lock.name, self.fence, how)

    @flow
    def begin(self, wait: float) -> Generator[Any, Any, None]:
        """Acquire the lock; :class:`~kvlab.errors.LockNotAcquired` if it does not get free."""
        # Kept in the step in which it comes: an interrupt would lose what a call returns.
        self._held = yield from self.lock.acquire(wait)
        if self._held is None:
            raise LockNotAcquired(self.lock.name, wait)
        self._since = self._clock() if self._held.since is None else self._held.since

    @flow
    def renewal(self) -> Generator[Any, Any, bool]:
        """Renew once; False when the lock is gone, so that no retry can help."""
        asked = yield from Now()
        try:
            renewed = yield from self.lock.renew(self.held)
        except Exception as problem:  # check() raises it when the time is over
            self._trouble = problem
            return True
        if renewed:
            self._since, self._trouble = asked, None
        else:
            self._gone = True
        return renewed

    @flow
    def renewals(self) -> Generator[Any, Any, None]:
        """Renew every third of the TTL until the lock is gone."""
        while True:
            yield Wait(self.lock.ttl / RENEWALS_PER_TTL)
            if not (yield from self.renewal()):
                return

    @flow
    def end(self, problem: BaseException | None) -> Generator[Any, Any, None]:
        """Release. A failed release becomes a note of ``problem``, which ended the body."""
        try:
            released = yield from self.lock.release(self.held)
        except KvlabError as failure:
            self._over = True
            if problem is not None:
                left_behind(problem, f"releasing lock {self.lock.name!r:.80} failed: {failure}")
                return
            self._trouble = failure
            self.check()  # the time is over, and no answer says that the release came before
            raise
        self._over = True
        if released:
            return
        if problem is None:
            raise self.lost("the release found it gone") from self._trouble
        problem.add_note(str(self.lost("the release found it gone")))


class _Hold:
    """The common part of both context managers. Each body has a ``Holding`` of its own."""

    def __init__(self, kv: Any, lock: HoldableLock, wait: float, renew: bool) -> None:
        self._kv, self._lock, self._wait, self._renew = kv, holdable(lock), wait, renew
        self._holding: Any = None  # a Holding from the begin of a body on

    def _new(self) -> Holding:
        if self._holding is not None and self._holding.taken:
            raise InvalidArgument("this hold has a body; make a hold for each body")
        self._holding = holding = Holding(self._lock, None, self._kv.clock)
        return holding


class Hold(_Hold, AbstractContextManager[Holding]):
    """See :meth:`kvlab.Kv.hold`. Not a generator: of an interrupt there only its end is noticed."""

    _thread: threading.Thread | None = None

    def __enter__(self) -> Holding:
        holding = self._new()
        try:
            self._kv.run(holding.begin(self._wait))
            if self._renew:
                self._start_renewals(holding)
            return holding
        except BaseException as problem:
            self.__exit__(type(problem), problem, None)
            raise

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        try:
            self._end(problem)
        except BaseException as interrupt:
            if self._holding.taken:  # the release may not have been sent
                self._end(interrupt)
            raise

    def _end(self, problem: BaseException | None) -> None:
        if self._thread is not None:
            self._ended.put(None)
            if self._thread.is_alive():  # else its start was interrupted
                self._thread.join()
        if self._holding.taken:
            self._kv.run(self._holding.end(problem))

    def _start_renewals(self, holding: Holding) -> None:
        # Not an Event: interrupted, that leaves its lock held for ever.
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended, kv, with_statement = ended, self._kv, weakref.ref(self)

        def renew() -> None:
            while True:
                with suppress(queue.Empty):
                    return ended.get(timeout=holding.lock.ttl / RENEWALS_PER_TTL)
                # None: an interrupt came just before __exit__, so nobody will release.
                if with_statement() is None or not kv.run(holding.renewal()):
                    return None

        name = f"renew {self._lock.name:.40}"
        self._thread = threading.Thread(target=renew, name=name, daemon=True)
        self._thread.start()


class AsyncHold(_Hold, AbstractAsyncContextManager[Holding]):
    """See :meth:`kvlab.AsyncKv.hold`."""

    _renewals: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Holding:
        holding = self._new()
        try:
            await self._kv.run(holding.begin(self._wait))
            if self._renew:
                self._renewals = asyncio.create_task(self._kv.run(holding.renewals()))
            return holding
        except BaseException as problem:
            await self.__aexit__(type(problem), problem, None)
            raise

    async def __aexit__(self, _: object, problem: BaseException | None, __: object) -> None:
        try:
            await self._end(problem)
        except BaseException as interrupt:
            if self._holding.taken:
                await self._end(interrupt)
            raise

    async def _end(self, problem: BaseException | None) -> None:
        if self._renewals is not None:
            self._renewals.cancel()
            if cancelled := await ended(self._renewals):
                raise cancelled
        if self._holding.taken:
            run = self._kv.run if problem is None else self._kv.finish
            await run(self._holding.end(problem))
