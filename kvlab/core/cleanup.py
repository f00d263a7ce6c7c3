"""Clean-up after an interruption or a cancellation: what a flow and the executors need for it.

anyio, and with it Starlette, cancels a task again at each of its awaits until the task has left the
cancelled scope. So what has to be cleaned up runs in a task of its own, for which the cancelled
task waits: no such task outlives the call that made it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from kvlab.core.op import Op
from kvlab.errors import KvlabError

T = TypeVar("T")

log = logging.getLogger("kvlab")


def insist(op: Op[T]) -> Generator[Any, Any, T]:
    """In a flow's clean-up: run an idempotent op; once more when it is interrupted."""
    try:
        return (yield from op)
    except (GeneratorExit, KvlabError):
        raise  # nothing can run after the first; the executor has retried the second
    except BaseException:  # the op may not have been sent yet
        yield from op
        raise


def left_behind(problem: BaseException, what: str) -> None:
    """Say on ``problem``, which is under way, and in the log what clean-up could not do.

    In the log as well, since a cancellation is seldom shown.
    """
    problem.add_note(what)
    log.warning(what)


async def ended(task: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    """Wait until ``task`` has ended; the last cancellation of the caller that came meanwhile."""
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as again:
            cancelled = again
    return cancelled


class Certain(Coroutine[Any, Any, T]):
    """A coroutine that begins even when its task is cancelled before its first step."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work, self._begun = work, False

    def send(self, value: None) -> Any:
        self._begun = True
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        return self._work.throw(*error) if self._begun else self.send(None)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()


async def uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end; a cancellation that comes meanwhile is raised then."""
    task = asyncio.create_task(Certain(work))
    cancelled = await ended(task)
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
