"""``with kv.hold(lock) as held`` and ``async with akv.hold(lock) as held``: a body under a lock.

Guarantee:

* The body starts only while the lock is held, and every end of the body releases the lock: a
  cancellation too, once or at every await (anyio), for which an async release has the executor's
  ``deadline``. A release that failed is a note on the body's error and a warning in the log
  ``kvlab``.
* A loss reaches the body. ``held.check()`` raises :class:`~kvlab.errors.LockLost` as soon as the
  server may have given the lock away. On exit the body raises the same error when the release
  finds that the lock was lost. The time is counted on the executor's monotonic clock, from before
  the acquire (or the last successful renewal) was sent, so it never ends after the server's time.

With ``renew=True`` a daemon thread or an asyncio task renews the lock every third of its TTL; it
ends with the body. A renewal without an answer is retried at the next third. A renewal that finds
the lock gone is the last one. In both cases the body learns of it by ``held.check()`` and on exit.
The body is not interrupted: neither a thread nor a cancellation can stop a write on its way.

Not promised: that a body stops in time if it does not call ``held.check()``, or is frozen after
the call. Only a resource that compares ``held.fence`` stops such a write.

Every lock with the members of :class:`HoldableLock` can be held.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from kvlab.core.checks import shown
from kvlab.core.cleanup import ended, insist, left_behind
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


class SyncExecutor(Protocol):
    """The part of an executor that ``hold`` needs: ``kvlab.Kv``."""

    @property
    def clock(self) -> Callable[[], float]: ...
    def run(self, what: Any, /) -> Any: ...


class AsyncExecutor(Protocol):
    """The part of an executor that ``ahold`` needs: ``kvlab.AsyncKv``."""

    @property
    def clock(self) -> Callable[[], float]: ...
    def run(self, what: Any, /) -> Coroutine[Any, Any, Any]: ...
    def finish(self, flow: Any, /) -> Coroutine[Any, Any, Any]: ...


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
    if not all(hasattr(lock, name) for name in ("name", "ttl", "acquire", "renew", "release")):
        raise InvalidArgument(f"lock must be a lock such as kvlab.Lock, not {shown(lock)}")
    return lock


class Holding:
    """The lock as the body of ``hold`` sees it."""

    def __init__(self, lock: HoldableLock, held: Held, clock: Callable[[], float]) -> None:
        self.lock, self.held = lock, held
        self._clock = clock
        self._until = (clock() if held.since is None else held.since) + lock.ttl
        self._gone = False
        self._trouble: Exception | None = None

    def __repr__(self) -> str:
        return f"<holding {self.lock!r}, fence {self.fence}, {self.remaining:.3f} s left>"

    @property
    def fence(self) -> int:
        """The fence of this hold; higher with each hold, at most 2**53 - 1."""
        return self.held.fence

    @property
    def remaining(self) -> float:
        """Seconds for which the lock is certainly held; 0 when it may be lost."""
        return 0.0 if self._gone else max(0.0, self._until - self._clock())

    def check(self) -> None:
        """Raise :class:`~kvlab.errors.LockLost` if the lock may have another holder by now.

        Costs no round trip. ``__cause__`` is the last failed renewal, if there is one.
        """
        if self._gone:
            raise self.lost("a renewal found it gone") from self._trouble
        if self._clock() >= self._until:
            raise self.lost(f"its {self.lock.ttl:g} s have passed") from self._trouble

    def lost(self, how: str) -> LockLost:
        """The error for this hold; ``how`` says how the lock was lost."""
        return LockLost(self.lock.name, self.fence, how)

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
            self._until, self._trouble = asked + self.lock.ttl, None
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
            released = yield from insist(self.lock.release(self.held))
        except KvlabError as failure:
            if problem is not None:
                left_behind(problem, f"releasing lock {self.lock.name!r:.80} failed: {failure}")
                return
            self._trouble = failure
            self.check()  # the time is over, and no answer says that the release came before
            raise
        if released:
            return
        if problem is None:
            raise self.lost("the release found it gone") from self._trouble
        if not isinstance(problem, LockLost):
            problem.add_note(str(self.lost("the release found it gone")))


@contextmanager
def hold(kv: SyncExecutor, lock: HoldableLock, wait: float, renew: bool) -> Iterator[Holding]:
    """See :meth:`kvlab.Kv.hold`."""
    held = kv.run(lock.acquire(wait))
    if held is None:
        raise LockNotAcquired(lock.name, wait)
    holding = Holding(lock, held, kv.clock)
    try:
        if renew:
            with _renewing(kv, holding):
                yield holding
        else:
            yield holding
    except BaseException as problem:
        kv.run(holding.end(problem))
        raise
    kv.run(holding.end(None))


@contextmanager
def _renewing(kv: SyncExecutor, holding: Holding) -> Iterator[None]:
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(holding.lock.ttl / RENEWALS_PER_TTL):
            if not kv.run(holding.renewal()):
                return

    thread = threading.Thread(target=renew, name=f"renew {holding.lock.name:.40}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@asynccontextmanager
async def ahold(
    kv: AsyncExecutor, lock: HoldableLock, wait: float, renew: bool
) -> AsyncIterator[Holding]:
    """See :meth:`kvlab.AsyncKv.hold`."""
    held = await kv.run(lock.acquire(wait))
    if held is None:
        raise LockNotAcquired(lock.name, wait)
    holding = Holding(lock, held, kv.clock)
    try:
        if renew:
            async with _arenewing(kv, holding):
                yield holding
        else:
            yield holding
    except BaseException as problem:
        await kv.finish(holding.end(problem))
        raise
    await kv.run(holding.end(None))


@asynccontextmanager
async def _arenewing(kv: AsyncExecutor, holding: Holding) -> AsyncIterator[None]:
    task = asyncio.create_task(kv.run(holding.renewals()))
    try:
        yield
    finally:
        task.cancel()
        if cancelled := await ended(task):
            raise cancelled
