"""In an exploration, ``time`` and ``os.urandom`` belong to the client that calls them.

``time.time``, ``time_ns``, ``monotonic`` and ``sleep`` are those of the client thread that runs,
where they are called through the module. ``os.urandom``, and with it ``secrets`` and ``uuid4``,
gives each client the same bytes in every run: a key named after a token has the same name in each.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.client_thread import current_client

_time, _time_ns, _monotonic, _sleep = time.time, time.time_ns, time.monotonic, time.sleep
_urandom = os.urandom
_one_exploration = threading.Lock()


def _client_time() -> float:
    client = current_client()
    return _time() if client is None else client.time()


def _client_time_ns() -> int:
    client = current_client()
    return _time_ns() if client is None else int(client.time() * 1e9)


def _client_monotonic() -> float:
    client = current_client()
    if client is None:
        return _monotonic()
    client.told_time = True
    return client.monotonic()


def _client_sleep(seconds: float) -> None:
    client = current_client()
    if client is None:
        _sleep(seconds)
    else:
        client.sleep(seconds)


def _client_urandom(size: int) -> bytes:
    client = current_client()
    return _urandom(size) if client is None else client.random_bytes(size)


_REPLACED = (
    (time, "time", _client_time),
    (time, "time_ns", _client_time_ns),
    (time, "monotonic", _client_monotonic),
    (time, "sleep", _client_sleep),
    (os, "urandom", _client_urandom),
    (random, "_urandom", _client_urandom),  # `secrets` calls this one
)


@contextmanager
def clients_own_time() -> Iterator[None]:
    """Put the clients' functions in the place of the real ones.

    Raises KvlabError while another exploration runs in this process: there can be one at a time.
    """
    if not _one_exploration.acquire(blocking=False):
        raise KvlabError("another exploration runs in this process: wait for its end")
    before = [(module, name, getattr(module, name)) for module, name, _ in _REPLACED]
    random_state = random.getstate()
    try:
        for module, name, function in _REPLACED:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)
        random.setstate(random_state)
        _one_exploration.release()
