"""A connection of redis-py that speaks HTTP: for asyncio. Its twin is ``connection``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable
from typing import Any

import httpcore
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from kvlab.rest import protocol
from kvlab.rest.connection import FAILURES, OverHttp, answer_of, failure, http_request
from kvlab.rest.protocol import replies, request


class _Stream(httpcore.AsyncNetworkStream):
    """asyncio's own stream: closing it does not wait, so no cancellation can come between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return await self._reader.read(max_bytes)
        except OSError as problem:
            raise httpcore.ReadError(problem) from problem

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._writer.write(buffer)
            await self._writer.drain()
        except OSError as problem:
            raise httpcore.WriteError(problem) from problem

    async def aclose(self) -> None:
        self._writer.close()

    def get_extra_info(self, info: str) -> Any:
        return self._reader.at_eof() if info == "is_readable" else None


class AsyncRestConnection(OverHttp, AbstractConnection):
    """:class:`~kvlab.rest.connection.RestConnection` for asyncio; its callers set time limits."""

    async def connect(self) -> None:
        """Open the connection, by TLS if the URL says so. Nothing is asked yet."""
        if self._http is not None:
            return
        address = self.address
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                streams = await asyncio.open_connection(address.host, address.port, ssl=self._tls)
        except OSError as problem:
            if isinstance(problem, TimeoutError):
                raise
            raise RedisConnectionError(str(problem)) from problem
        self._http = httpcore.AsyncHTTP11Connection(
            httpcore.URL(address.url).origin, _Stream(*streams)
        )
        self._silent = False

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Make the request, and keep its replies for ``read_response``."""
        asked = request(command if isinstance(command, bytes) else b"".join(command))
        await self.connect()
        assert self._http is not None
        self._silent = True
        try:
            response = await self._http.handle_async_request(
                http_request(self.address, asked, None)
            )
            try:
                body = await _joined(response.aiter_stream())
            finally:
                await response.aclose()
        except FAILURES as problem:
            raise failure(problem) from problem
        self._silent = False
        if body is None:
            await self.disconnect()  # the rest of the answer is still to come on it
        self._replies = deque(replies(asked, answer_of(response, body)))

    async def read_response(
        self, disable_decoding: bool = False, timeout: Any = None, **_: Any
    ) -> Any:
        return self.next_reply(disable_decoding)

    async def can_read(self, timeout: float = 0) -> bool:
        return self.has_news

    async def disconnect(self, *_: Any, **__: Any) -> None:
        """Close the connection; harmless when repeated."""
        http, self._http = self._http, None
        self._replies.clear()
        if http is not None:
            await http.aclose()


async def _joined(parts: AsyncIterable[bytes]) -> bytes | None:
    """The body; None when it is too large."""
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > protocol.MAX_ANSWER:
            return None
    return bytes(body)
