"""Threads that a client starts. What is given to a pool of threads is done at once.

A client is one thread for the explorer, so the calls of its pool have one order, the one in which
they were submitted. What waits for a later call of the same pool raises ``Hung``. Any other
thread that uses the server is refused; the exploration tells it, and not the thread too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kvlab.instruments.explorer.clients.client_thread import current_client
from kvlab.instruments.explorer.clients.leftovers import Refused

_submit = ThreadPoolExecutor.submit


def _at_once(
    pool: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Future[Any]:
    if current_client() is None:
        return _submit(pool, call, *args, **kwargs)
    future: Future[Any] = Future()
    try:
        future.set_result(call(*args, **kwargs))
    except BaseException as problem:
        future.set_exception(problem)
    return future


def _said_once(problem: Any) -> None:
    if not isinstance(problem.exc_value, Refused):
        threading.__excepthook__(problem)


@contextmanager
def helpers_in_hand() -> Iterator[None]:
    """Inside the block, for the threads of clients."""
    ThreadPoolExecutor.submit = _at_once  # type: ignore[assignment]
    before, threading.excepthook = threading.excepthook, _said_once
    try:
        yield
    finally:
        threading.excepthook = before
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]
