"""The connections of :mod:`.connections` for asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import redis
from redis.asyncio.connection import Connection, UnixDomainSocketConnection

from kvlab.instruments.explorer.clients.blocking_commands import without_timeout
from kvlab.instruments.explorer.clients.connections import SteppedConnectionBase
from kvlab.instruments.explorer.clients.event_loop import ClientSelector


class _SteppedAsync(SteppedConnectionBase):
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

    def descriptor(self) -> int:
        this: Any = self
        return int(this._writer.get_extra_info("socket").fileno())

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        this: Any = self
        send = super().send_packed_command  # type: ignore[misc]
        if self.greeting:
            await send(command, check_health=False)
            return
        if not this.is_connected:
            await self.connect_check_health(check_health=False)
        commands, order = self.ask(command)
        if order == "lose request":
            return
        timed = without_timeout(commands[0]) if len(commands) == 1 else None
        data = command if timed is None else this.pack_command(*timed[0])
        await send(data, check_health=False)
        if order == "lose reply":
            for _ in commands:
                try:
                    self.answered(await super().read_response())  # type: ignore[misc]
                except redis.ResponseError as error:
                    self.answered(error)
        elif timed is not None and (waits := self.blocks(commands, timed[1])):
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
        if not kwargs.get("push_request"):
            self.answered(reply)
        return reply

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        self.number = 0
        await super().disconnect(*args, **kwargs)  # type: ignore[misc]


class SteppedAsyncConnection(_SteppedAsync, Connection):
    """TCP, for asyncio."""


class SteppedAsyncUnixConnection(_SteppedAsync, UnixDomainSocketConnection):
    """Unix domain socket, for asyncio."""
