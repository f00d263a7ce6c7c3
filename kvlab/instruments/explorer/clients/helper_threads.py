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


def _at_once(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
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
    """Inside the block, for the threads of clients, and for this one, of setup and invariant."""
    explorer = threading.current_thread()

    def submit(pool: ThreadPoolExecutor, /, *args: Any, **kwargs: Any) -> Future[Any]:
        ours = current_client() is not None or threading.current_thread() is explorer
        return _at_once(*args, **kwargs) if ours else _submit(pool, *args, **kwargs)

    ThreadPoolExecutor.submit = submit  # type: ignore[assignment,method-assign]
    before, threading.excepthook = threading.excepthook, _said_once
    try:
        yield
    finally:
        threading.excepthook = before
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]
