"""A connection of uvicorn that is strict about framing, and patient with nobody for long.

Where two parsers can read a request differently, a proxy before the gateway and the gateway may
disagree on where that request ends: the rest is then a request that the proxy never saw. RFC 9112
lets a server refuse such a request, and close the connection.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from kvlab.rest_gateway.answer import error

MAX_HEAD = 16 * 1024
"""So many bytes are read at once. An unfinished head, or line of a chunk, that has more is refused;
so one connection holds the others up by the work on so many bytes."""


class _Framing(h11.Connection):
    """h11, which refuses most of what is ambiguous; ``status`` is the one of the last refusal."""

    status = 400

    def next_event(self) -> Any:
        in_head = self.their_state is h11.IDLE
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                _refuse_doubt(event)
        except h11.RemoteProtocolError as problem:
            self.status = problem.error_status_hint
            if self.status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                self.status = self._too_long() if in_head else 400
            raise
        return event

    def _too_long(self) -> int:
        return 431 if b"\n" in self.trailing_data[0] else 414


def _refuse_doubt(request: h11.Request) -> None:
    """Raise h11's error for what h11 reads, and RFC 9112 (6.1 and 2.3) doubts."""
    names, version = {name for name, _ in request.headers}, request.http_version
    if not version.startswith(b"1."):
        raise h11.RemoteProtocolError("an unknown version", error_status_hint=505)
    if b"transfer-encoding" in names and (b"content-length" in names or version == b"1.0"):
        raise h11.RemoteProtocolError("two lengths of a body")


class HttpConnection(H11Protocol, asyncio.BufferedProtocol):
    """uvicorn waits for ever for the head of a request, and for a client that does not read.

    What is no HTTP gets an error of the protocol. The app has ``patience``: seconds.
    """

    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.conn = _Framing(h11.SERVER, MAX_HEAD)
        self._patience = self.config.app.patience  # type: ignore[union-attr]
        self._buffer = bytearray(MAX_HEAD)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

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
        """Say what the refusal of ``_Framing`` is; its words may show a token, so they are not."""
        status = self.conn.status  # type: ignore[attr-defined]
        said = error(status, f"ERR the request cannot be read: {HTTPStatus(status).phrase}")
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
