"""An asyncio event loop whose timers are the run's clock."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

from kvlab.instruments.explorer.clients.client_thread import ClientThread

Settle = Callable[[], None]
"""Returns when the server has done all that was written to it before."""


class ClientSelector(selectors.DefaultSelector):
    """Waits for sockets in fact; where a timer would be waited for, the client sleeps."""

    def __init__(self, client: ClientThread, settle: Settle) -> None:
        super().__init__()
        self.client, self.settle = client, settle
        self.one_connects = asyncio.Lock()

    def select(self, timeout: float | None = None) -> Any:
        if self.client.pending_io > 0:
            self.settle()  # else the replies that are there would depend on the server's speed
            return super().select(timeout)
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        self.client.sleep(timeout)
        return super().select(0)


def event_loop_of(client: ClientThread, settle: Settle) -> asyncio.AbstractEventLoop:
    """A loop for the tasks of one client."""
    loop = asyncio.SelectorEventLoop(ClientSelector(client, settle))
    loop.time = client.monotonic  # type: ignore[method-assign]
    return loop
