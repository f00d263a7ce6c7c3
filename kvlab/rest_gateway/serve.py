"""``kvlab rest``: the gateway on uvicorn, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kvlab.core.executors.connect import aconnect
from kvlab.core.server_url import server_url
from kvlab.rest_gateway.answer import error
from kvlab.rest_gateway.gateway import Gateway, Tokens
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
    :class:`~kvlab.errors.KvlabError` when the gateway cannot listen.
    """
    tokens = _tokens()
    store = server_url()
    with listening(host, port) as bound:
        print("# for @vercel/kv, @upstash/redis and kvlab.connect(); Ctrl-C ends the gateway")
        if is_open(host):
            print("# WARNING: plain HTTP, open to the network: who listens in reads the tokens too")
        print(f"{URL}={address(host, bound.getsockname()[1])}")
        print(f"{TOKEN}={tokens.full}")
        print(f"{READ_ONLY}={tokens.read_only}")
        print("# for Python's upstash-redis: the same as UPSTASH_REDIS_REST_URL and _TOKEN")
        print(f"serving {_without_password(store)}", flush=True)
        asyncio.run(_serve(store, tokens, bound))


def _tokens() -> Tokens:
    new = Tokens()
    return Tokens(os.environ.get(TOKEN) or new.full, os.environ.get(READ_ONLY) or new.read_only)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


async def _serve(store: str, tokens: Tokens, bound: socket.socket) -> None:
    async with await aconnect(store, timeout=STORE_TIMEOUT) as kv:
        await server_of(Gateway(kv, tokens)).serve([bound])


def server_of(gateway: Gateway) -> uvicorn.Server:
    """A server for the gateway that is patient with no client for longer than the gateway is."""
    config = uvicorn.Config(
        gateway,
        http=_Impatient,
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


class _Impatient(H11Protocol):
    """uvicorn waits for ever for the head of a request, and for a client that does not read.

    What is no HTTP gets an error of the protocol.
    """

    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._patience = self.config.app.patience  # type: ignore[union-attr]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel()
        elif self._head is None:  # a part of the next head
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel()

    def send_400_response(self, msg: str) -> None:
        said = error(400, f"ERR the request cannot be read, or its head is too long: {msg}")
        headers = [("content-type", "application/json"), ("connection", "close")]
        length = ("content-length", str(len(said.body)))
        events = (
            h11.Response(status_code=said.status, headers=[*headers, length]),
            h11.Data(data=said.body),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self._patience, self.transport.abort)

    def _await_reader(self, unread: int) -> None:
        def check() -> None:
            left = self.transport.get_write_buffer_size()
            self.transport.abort() if left >= unread else self._await_reader(left)

        self._reader = self.loop.call_later(self._patience, check)

    def _cancel(self) -> None:
        for timer in (self._head, self._reader):
            if timer is not None:
                timer.cancel()
        self._head = self._reader = None


def main() -> None:
    """Serve on a free port: the process of ``child_process``."""
    serve(port=0)
