"""A connection of the gateway: patient with nobody for long."""

from __future__ import annotations

import asyncio
from typing import Any

from kvlab.rest_gateway.answer import error
from kvlab.server.strict_http import StrictHttp


class HttpConnection(StrictHttp):
    """uvicorn waits for ever for the head of a request, and for a client that does not read.

    What is no HTTP gets an error of the protocol. The app has ``patience``: seconds.
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

    def refusal(self, status: int, says: str) -> tuple[str, bytes]:
        return "application/json", error(status, f"ERR {says}").body

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
