"""Calls of the user's code under a name, such as the load of a cache's key.

* A call that joins gets the result of a joining call of the same name that is under way.
* Who waits for a call that does not join learns that it failed: :class:`Waiter`.
* Who joins or waits inside a call of the same name would wait for itself: that raises
  :class:`~kvlab.errors.LoadsItself`, in the same thread or task, in the tasks that it starts, and
  in ``asyncio.to_thread``. In any other thread nobody notices: a ``threading.Thread`` and an
  executor of ``concurrent.futures`` do not take the context along.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from kvlab.errors import LoadsItself


@dataclass(slots=True, eq=False)
class _Inside:
    name: str
    over: bool = False  # a task that outlives the call that started it is no longer inside


_inside: ContextVar[tuple[_Inside, ...]] = ContextVar("inside", default=())


@dataclass(slots=True, eq=False)
class Waiter:
    """One caller that waits for the result of somebody else's call, until ``leave``.

    ``failure``: the error of a call of the name that failed in this executor meanwhile.
    """

    name: str
    _among: set[Waiter]
    failure: Exception | None = None

    def leave(self) -> None:
        self._among.discard(self)


class _Calls:
    """The common part for threads and tasks. It has no lock, which a fork could copy taken."""

    def __init__(self) -> None:
        self._waiters: set[Waiter] = set()

    def waiter(self, name: str) -> Waiter:
        """A caller that waits for a call of that name from now on."""
        _check_outside(name)
        waiter = Waiter(name, self._waiters)
        self._waiters.add(waiter)
        return waiter

    @contextmanager
    def _entered(self, name: str) -> Iterator[None]:
        mine = _Inside(name)
        _inside.set((*(one for one in _inside.get() if not one.over), mine))
        try:
            yield
        except Exception as problem:
            for waiter in list(self._waiters):
                if waiter.name == name:
                    waiter.failure = problem
            raise
        finally:
            mine.over = True


def _check_outside(name: str) -> None:
    if any(one.name == name and not one.over for one in _inside.get()):
        raise LoadsItself(name)


class Calls(_Calls):
    """The named calls of an executor for threads."""

    def __init__(self) -> None:
        super().__init__()
        self._joined: dict[tuple[int, str], Future[Any]] = {}

    def run(self, name: str, call: Callable[[], Any], *, join: bool) -> Any:
        """The result of ``call``, or with ``join`` of a joining call that is under way."""
        if not join:
            with self._entered(name):
                return call()
        _check_outside(name)
        key, mine = (os.getpid(), name), Future[Any]()  # forked: the parent's call never ends here
        while (first := self._joined.setdefault(key, mine)) is not mine:
            try:
                return first.result()
            except CancelledError:
                if not first.cancelled():
                    raise
                # The caller that made the call was interrupted: another caller repeats it.
        try:
            try:
                with self._entered(name):
                    value = call()
            finally:
                del self._joined[key]
        except Exception as problem:
            mine.set_exception(problem)
            raise
        except BaseException:
            mine.cancel()
            raise
        mine.set_result(value)
        return value


class AsyncCalls(_Calls):
    """:class:`Calls` for one event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._joined: dict[str, asyncio.Future[Any]] = {}

    async def run(self, name: str, call: Callable[[], Awaitable[Any]], *, join: bool) -> Any:
        """See :meth:`Calls.run`."""
        if not join:
            with self._entered(name):
                return await call()
        _check_outside(name)
        while (first := self._joined.get(name)) is not None:
            await asyncio.wait([first])
            if not first.cancelled():
                return first.result()
            # The caller that made the call was cancelled: another caller repeats it.
        mine = self._joined[name] = asyncio.get_running_loop().create_future()
        try:
            with self._entered(name):
                value = await call()
        except Exception as problem:
            mine.set_exception(problem)
            mine.exception()  # marks it as seen: no other caller may be waiting
            raise
        except BaseException:
            mine.cancel()
            raise
        else:
            mine.set_result(value)
            return value
        finally:
            del self._joined[name]
