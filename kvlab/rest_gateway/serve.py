"""``kvlab rest``: the gateway on uvicorn, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import os
import socket

import uvicorn

from kvlab.core.executors.connect import aconnect
from kvlab.core.server_url import server_url
from kvlab.rest_gateway.gateway import Gateway
from kvlab.rest_gateway.http_connection import HttpConnection
from kvlab.rest_gateway.rights import Rights
from kvlab.rest_gateway.tokens import Tokens
from kvlab.server.listening import address, is_open, listening

URL, TOKEN, READ_ONLY = "KV_REST_API_URL", "KV_REST_API_TOKEN", "KV_REST_API_READ_ONLY_TOKEN"
KEEP_ALIVE = 75
"""Seconds for which an idle connection is kept open."""
STORE_TIMEOUT = 10.0
"""Seconds to wait for the store: a script may take long."""


def serve(host: str = "127.0.0.1", port: int = 8079) -> None:
    """Serve the embedded Valkey, or the store of ``KVLAB_URL``, until SIGINT or SIGTERM.

    The tokens are those of the environment, ``KV_REST_API_TOKEN`` and
    ``KV_REST_API_READ_ONLY_TOKEN``, else new ones. Prints what clients need. Raises
    :class:`~kvlab.errors.KvlabError` when the gateway cannot listen, and the store's own error when
    the store does not say which commands it has.
    """
    with listening(host, port) as bound:
        asyncio.run(_serve(server_url(), _tokens(), bound, host))


def _tokens() -> Tokens:
    new = Tokens()
    return Tokens(os.environ.get(TOKEN) or new.full, os.environ.get(READ_ONLY) or new.read_only)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


async def _serve(store: str, tokens: Tokens, bound: socket.socket, host: str) -> None:
    async with await aconnect(store) as kv:  # with the usual time limits: the answer is at hand
        rights = await Rights.of(kv)
    print("# for @vercel/kv, @upstash/redis and kvlab.connect(); Ctrl-C ends the gateway")
    if is_open(host):
        print("# WARNING: plain HTTP, open to the network: who listens in reads the tokens too")
    print(f"{URL}={address(host, bound.getsockname()[1])}")
    print(f"{TOKEN}={tokens.full}")
    print(f"{READ_ONLY}={tokens.read_only}")
    print("# for Python's upstash-redis: the same as UPSTASH_REDIS_REST_URL and _TOKEN")
    print(f"serving {_without_password(store)}", flush=True)
    async with await aconnect(store, timeout=STORE_TIMEOUT) as kv:
        await server_of(Gateway(kv, rights, tokens)).serve([bound])


def server_of(gateway: Gateway) -> uvicorn.Server:
    """A server for the gateway that is patient with no client for longer than the gateway is."""
    config = uvicorn.Config(
        gateway,
        http=HttpConnection,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="error",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def main() -> None:
    """Serve on a free port: the process of ``child_process``."""
    serve(port=0)
