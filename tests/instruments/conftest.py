"""The session's Valkey as a URL, emptied for each test; and what an exploration must not leave."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
import redis

from kvlab.engines import RunningServer

TIME_FUNCTIONS = (time.time, time.time_ns, time.monotonic, time.sleep)


@pytest.fixture
def url(server: RunningServer) -> str:
    """The server, empty."""
    with server.client() as client:
        client.flushall()
    return server.url


@pytest.fixture
def direct(url: str) -> Iterator[redis.Redis]:
    """A client that goes straight to the server."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


@pytest.fixture
def leaves_nothing_behind(server: RunningServer) -> Iterator[None]:
    this = psutil.Process()
    threads = set(threading.enumerate())
    children, descriptors = set(this.children(recursive=True)), this.num_fds()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    yield
    assert (time.time, time.time_ns, time.monotonic, time.sleep) == TIME_FUNCTIONS
    left = {thread for thread in threading.enumerate() if thread.name.startswith("client ")}
    assert left <= threads
    assert set(this.children(recursive=True)) <= children
    assert this.num_fds() <= descriptors
    if cores is not None:
        assert os.sched_getaffinity(0) == cores
        assert os.sched_getscheduler(0) == policy
