"""A connection of redis-py that speaks HTTP: for threads. Its twin is ``async_connection``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from kvlab.rest import protocol
from kvlab.rest.address import RestAddress
from kvlab.rest.protocol import Answer, Request, pauses, replies, request

FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.ConnectionNotAvailable,
)


def failure(problem: Exception) -> Exception:
    """The failure of a connection as redis-py says it."""
    words = str(problem) or type(problem).__name__
    if isinstance(problem, httpcore.TimeoutException):
        return RedisTimeoutError(words)
    return RedisConnectionError(words)


def http_request(address: RestAddress, asked: Request, wait: float | None) -> httpcore.Request:
    """The request on the wire; ``wait``: seconds for each part of the answer."""
    return httpcore.Request(
        "POST",
        address.url.rstrip("/") + asked.path,
        headers={
            "Content-Type": "application/json",
            "Upstash-Encoding": "base64",
            "Host": urlsplit(address.url).netloc,
            "Authorization": f"Bearer {address.token}",
            "Content-Length": str(len(asked.body)),
        },
        content=asked.body,
        extensions={"timeout": {"read": wait, "write": wait}},
    )


def answer_of(response: Any, body: bytes | None) -> Answer:
    """What came back; ``body`` is None where it is too large."""
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    kind, wait = headers.get(b"content-type", ""), headers.get(b"retry-after", "")
    return Answer(response.status, kind, wait, body or b"", body is not None)


class OverHttp:
    """What connections for threads and for asyncio have in common."""

    pauses = staticmethod(pauses)
    encoder: Any

    def __init__(
        self, *, address: RestAddress, host: str, port: int, tls: Any = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.address, self.host, self.port, self._tls = address, host, port, tls
        self._http: Any = None
        self._replies: deque[Any] = deque()
        self._silent = False

    def repr_pieces(self) -> list[tuple[str, Any]]:
        return [("host", self.host), ("port", self.port)]

    @property
    def is_connected(self) -> bool:
        return self._http is not None

    @property
    def has_news(self) -> bool:
        """Whether a reply waits, or the server has closed the connection."""
        # After a lost answer there are no news: its connection is closed on our side.
        closed = self._http is None or self._http.is_closed() or self._http.has_expired()
        return bool(self._replies) or (closed and not self._silent)

    def next_reply(self, disable_decoding: bool) -> Any:
        """The next reply; an error reply is raised."""
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply if disable_decoding else decoded(self.encoder, reply)

    def _connect(self) -> Any:
        raise NotImplementedError  # connect() is ours

    def _host_error(self) -> str:
        return f"{self.host}:{self.port}"


class RestConnection(OverHttp, AbstractConnection):
    """One kept HTTP connection; ``send_packed_command`` takes what a server reads on TCP."""

    def connect(self) -> None:
        """Open the connection, by TLS if the URL says so. Nothing is asked yet."""
        if self._http is not None:
            return
        address, wait = self.address, self.socket_connect_timeout
        try:
            stream = httpcore.SyncBackend().connect_tcp(address.host, address.port, wait)
            if self._tls is not None:
                stream = stream.start_tls(self._tls, address.host, wait)
        except FAILURES as problem:
            raise failure(problem) from problem
        self._http = httpcore.HTTP11Connection(httpcore.URL(address.url).origin, stream)
        self._silent = False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Make the request, and keep its replies for ``read_response``."""
        asked = request(command if isinstance(command, bytes) else b"".join(command))
        self.connect()
        assert self._http is not None
        self._silent = True
        try:
            response = self._http.handle_request(
                http_request(self.address, asked, self.socket_timeout)
            )
            try:
                body = _joined(response.iter_stream())
            finally:
                response.close()
        except FAILURES as problem:
            raise failure(problem) from problem
        self._silent = False
        if body is None:
            self.disconnect()  # the rest of the answer is still to come on it
        self._replies = deque(replies(asked, answer_of(response, body)))

    def read_response(self, disable_decoding: bool = False, **_: Any) -> Any:
        return self.next_reply(disable_decoding)

    def can_read(self, timeout: float = 0) -> bool:
        return self.has_news

    def disconnect(self, *_: Any, **__: Any) -> None:
        """Close the connection; harmless when repeated."""
        http, self._http = self._http, None
        self._replies.clear()
        if http is not None:
            http.close()


def _joined(parts: Iterable[bytes]) -> bytes | None:
    """The body; None when it is too large."""
    body = bytearray()
    for part in parts:
        body += part
        if len(body) > protocol.MAX_ANSWER:
            return None
    return bytes(body)


def decoded(encoder: Any, reply: Any) -> Any:
    """The reply as ``decode_responses=True`` of a client wants it."""
    if isinstance(reply, list):
        return [decoded(encoder, part) for part in reply]
    return encoder.decode(reply) if isinstance(reply, bytes) else reply
