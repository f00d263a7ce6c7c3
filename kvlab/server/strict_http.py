"""uvicorn's protocol of HTTP, strict about where a request ends.

Where two parsers can read a request differently, a proxy before the server and the server may
disagree on where that request ends: the rest is then a request that the proxy never saw. RFC 9112
lets a server refuse such a request, and close the connection.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

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


class StrictHttp(H11Protocol, asyncio.BufferedProtocol):
    """For ``uvicorn.Config(http=StrictHttp)``."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.conn = _Framing(h11.SERVER, MAX_HEAD)
        self._buffer = bytearray(MAX_HEAD)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def refusal(self, status: int, says: str) -> tuple[str, bytes]:
        """The content type and the body of a refusal."""
        return "text/plain; charset=utf-8", says.encode()

    def send_400_response(self, msg: str) -> None:
        """Say what the refusal is. h11's words for it may show a token, so they are not said."""
        status = self.conn.status  # type: ignore[attr-defined]
        says = f"the request cannot be read: {HTTPStatus(status).phrase}"
        kind, body = self.refusal(status, says)
        headers = [("content-type", kind), ("connection", "close")]
        events = (
            h11.Response(
                status_code=status, headers=[*headers, ("content-length", str(len(body)))]
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()
