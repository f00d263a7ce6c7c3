"""The session's Valkey as a URL, emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from kvlab.engines import RunningServer


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
