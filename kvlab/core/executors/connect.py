"""``connect`` and ``aconnect``: the executor for a URL, or for the embedded server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.executors.client import Kv
from kvlab.core.key import Key
from kvlab.core.server_url import rest_address, server_url
from kvlab.core.settings import DEADLINE, TIMEOUT, Settings, Trace
from kvlab.core.transport.connections import MAX_CONNECTIONS
from kvlab.core.transport.members import members
from kvlab.rest.clients import async_rest_client, rest_client


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    prefix: str | None = None,
    allow_remote: bool | None = None,
    timeout: float = TIMEOUT,
    deadline: float = DEADLINE,
    trace: Trace | None = None,
) -> Kv:
    """An executor on the server at ``url``, else ``KVLAB_URL``, else the embedded Valkey.

    ``https://`` with ``token`` is a store behind HTTPS (``kvlab.rest``); the environment may name
    it too, by ``KV_REST_API_URL`` or ``UPSTASH_REDIS_REST_URL`` and the token beside it.

    ``redis+cluster://host:port,host:port`` names nodes of a cluster, ``cluster:`` the embedded one,
    ``redis+sentinel://host:port,host:port/service`` Sentinels (``kvlab.core.transport.members``).

    Nothing is sent yet (but a cluster is asked for its slots; ``ServerUnavailable`` when no node
    answers): a dead server is noticed at the first ``run``. Where no embedded server
    exists, fakeredis takes its place, and a warning says so. The settings are those of
    :class:`~kvlab.core.settings.Settings`; the default ``prefix`` is ``KVLAB_PREFIX``, else
    ``kvlab:``. Raises :class:`~kvlab.errors.RemoteNotAllowed` for a server on another machine
    without ``allow_remote``, and :class:`~kvlab.errors.InvalidArgument` for an unusable URL or
    setting.
    """
    settings = Settings(
        prefix=prefix, timeout=timeout, deadline=deadline, trace=trace, sleep=time.sleep
    )
    if (store := rest_address(url, token, allow_remote)) is not None:
        client: Any = rest_client(store, MAX_CONNECTIONS)
    elif (several := members(url, allow_remote)) is not None:
        client = several.client(timeout)
    else:
        client = redis.Redis.from_url(
            server_url(url, allow_remote),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            max_connections=MAX_CONNECTIONS,
            retry=Retry(NoBackoff(), 0),
        )
    return Kv(client, **settings.keywords(), on_close=client.close)


async def aconnect(
    url: str | None = None,
    *,
    token: str | None = None,
    prefix: str | None = None,
    allow_remote: bool | None = None,
    timeout: float = TIMEOUT,
    deadline: float = DEADLINE,
    trace: Trace | None = None,
) -> AsyncKv:
    """:func:`~kvlab.connect` for asyncio, for use in the event loop that awaits it."""
    settings = Settings(
        prefix=prefix, timeout=timeout, deadline=deadline, trace=trace, sleep=asyncio.sleep
    )
    if (store := rest_address(url, token, allow_remote)) is not None:
        client: Any = async_rest_client(store, MAX_CONNECTIONS)
    elif (several := await asyncio.to_thread(members, url, allow_remote)) is not None:
        client = several.async_client(timeout)
    else:
        # This may start the embedded server: not on the event loop's thread.
        client = redis.asyncio.Redis.from_url(
            await asyncio.to_thread(server_url, url, allow_remote),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            max_connections=MAX_CONNECTIONS,
            retry=AsyncRetry(NoBackoff(), 0),
        )
    return AsyncKv(client, **settings.keywords(), on_close=client.aclose)


def new_connection(kv: Kv | AsyncKv, key: Key, attempt: int = 0) -> Any:
    """A connection of the caller's own, not connected yet; on a cluster to the node of ``key``.

    There a second ``attempt`` leads to another node: each passes on what is published.
    """
    if kv._router is None:
        return kv._make()
    nodes = kv._router.nodes_for(key)
    return kv._to(nodes[attempt % len(nodes)])()
