"""redis-py clients whose connections speak HTTP to a store; see ``kvlab.rest``."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio

from kvlab.errors import MissingExtra
from kvlab.rest.address import RestAddress


def rest_client(address: RestAddress, connections: int) -> redis.Redis:
    """A client with at most so many connections."""
    settings = _settings(address)
    from kvlab.rest.connection import RestConnection

    pool = redis.ConnectionPool(RestConnection, max_connections=connections, **settings)
    return redis.Redis(connection_pool=pool)


def async_rest_client(address: RestAddress, connections: int) -> redis.asyncio.Redis:
    """:func:`rest_client` for asyncio."""
    settings = _settings(address)
    from kvlab.rest.async_connection import AsyncRestConnection

    pool = redis.asyncio.ConnectionPool(
        AsyncRestConnection, max_connections=connections, **settings
    )
    return redis.asyncio.Redis(connection_pool=pool)


def _settings(address: RestAddress) -> dict[str, Any]:
    try:
        # The part of httpx that speaks on one connection: httpx opens a connection when it sends,
        # so it could not be told that nothing was sent to a store that is down.
        import httpcore
    except ImportError:
        raise MissingExtra("httpcore", "a store behind HTTPS", extra="rest") from None
    return {
        "address": address,
        "host": address.host,
        "port": address.port,
        # One for all connections: making it takes many milliseconds.
        "tls": httpcore.default_ssl_context() if address.secure else None,
        "protocol": 2,
        "driver_info": None,  # each connection would tell it to the server
    }
