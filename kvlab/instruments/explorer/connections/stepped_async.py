"""For asyncio: the connections of :mod:`.connections`, and a loop whose timers are the run's
clock."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import redis
from redis.asyncio.connection import Connection, UnixDomainSocketConnection

from kvlab.instruments.explorer.clients.client_thread import ClientThread
from kvlab.instruments.explorer.connections.server_side import ServerSide
from kvlab.instruments.explorer.connections.stepped import SteppedConnectionBase


class ClientSelector(selectors.DefaultSelector):
    """Waits for sockets in fact; where a timer would be waited for, the client sleeps."""

    def __init__(self, client: ClientThread, server: ServerSide) -> None:
        super().__init__()
        self.client, self.server = client, server
        self.one_connects = asyncio.Lock()

    def select(self, timeout: float | None = None) -> Any:
        if self.client.pending_io > 0:
            self.server.settle()  # else the server's speed would say which replies are there
            return super().select(timeout)
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        self.client.sleep(timeout)
        return super().select(0)


def event_loop_of(client: ClientThread, server: ServerSide) -> asyncio.AbstractEventLoop:
    """A loop for the tasks of one client."""
    loop = asyncio.SelectorEventLoop(ClientSelector(client, server))
    loop.time = client.monotonic  # type: ignore[method-assign]
    return loop


class SteppedAsync(SteppedConnectionBase):
    async def _connect(self) -> None:
        self.server.opened += 1
        await super()._connect()  # type: ignore[misc]

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        selector: ClientSelector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        async with (
            selector.one_connects
        ):  # else the order of the tasks would depend on which connects first
            self.greeting = True
            self.client_thread.pending_io += 1
            try:
                await super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
                if self.number == 0:
                    this: Any = self
                    await this.send_command("CLIENT", "ID")
                    self.number = await this.read_response()
            finally:
                self.greeting = False
                self.client_thread.pending_io -= 1

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        this: Any = self
        send = super().send_packed_command  # type: ignore[misc]
        if self.greeting:
            await send(command, check_health=False)
            return
        if not this.is_connected:
            await self.connect_check_health(check_health=False)
        commands, order = self.ask(command)
        found_closed = self.found_closed()
        if order == "lose request":
            return
        if found_closed:
            await this.disconnect(nowait=True)
            await self.connect_check_health(check_health=False)
        self.sends(commands, order)
        data, timeout = self.as_sent(command, commands, order)
        # With a timeout Python 3.11 sends in a task: perhaps after the client's next stop.
        patience, this.socket_timeout = this.socket_timeout, None
        try:
            await send(data, check_health=False)
        finally:
            this.socket_timeout = patience
        if order == "lose reply":
            for _ in commands:
                try:
                    self.answered(await super().read_response())  # type: ignore[misc]
                except redis.ResponseError as error:
                    self.answered(error)
        elif timeout is not None and (waits := self.blocks(commands, timeout)):
            self.client_thread.park(waits)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if self.lost:
            this: Any = self
            await this.disconnect(nowait=True)
            raise redis.ConnectionError("the connection was lost before the reply came")
        try:
            reply = await super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.ResponseError as error:
            self.answered(error)
            raise
        except UnicodeDecodeError as error:  # the reply came; redis-py has closed the connection
            self.client_thread.replies.append(error)
            raise
        if not kwargs.get("push_request"):
            self.answered(reply)
        return reply

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        self.number = 0
        await super().disconnect(*args, **kwargs)  # type: ignore[misc]


class SteppedAsyncConnection(SteppedAsync, Connection):
    """TCP, for asyncio."""


class SteppedAsyncUnixConnection(SteppedAsync, UnixDomainSocketConnection):
    """Unix domain socket, for asyncio."""
