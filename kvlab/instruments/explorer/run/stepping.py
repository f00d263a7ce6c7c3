"""redis-py connections that stop in their lane before they write, and the event loop for them.

One write is one stop: a plain command, a pipeline, a MULTI with all that is in it. What a
connection says on its own when it connects passes unnoticed. A command that blocks is sent with
its timeout taken off, and the lane waits where the server would let the client wait; CLIENT UNBLOCK
is what times it out.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from collections.abc import Callable
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.asyncio.connection import Connection as AsyncConnection
from redis.asyncio.connection import UnixDomainSocketConnection as AsyncUnixConnection

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.run.lanes import Blocked, Command, Lane, Order, Sending

_LAST = {b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BZPOPMIN", b"BZPOPMAX"}
_FIRST = {b"BLMPOP", b"BZMPOP"}
_STREAMS = {b"XREAD", b"XREADGROUP"}

_PUBSUB = {b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"}
_BLOCKING = _LAST | _FIRST | _STREAMS

Settle = Callable[[], None]
"""Returns when the server has done all that was written to it before."""


def untimed(command: Command) -> tuple[Command, float] | None:
    """A blocking command without its timeout, and that in seconds; None for any other."""
    name = command[0].upper()
    if name not in _BLOCKING:
        return None
    if name in _LAST:
        at = len(command) - 1
    elif name in _FIRST:
        at = 1
    elif (block := _block(command)) is not None:
        at = block + 1
    else:
        return None
    seconds = float(command[at]) / (1000 if name in _STREAMS else 1)
    return (*command[:at], b"0", *command[at + 1 :]), seconds


def _block(command: Command) -> int | None:
    """Where XREAD or XREADGROUP says BLOCK: among its options, not as the name of a stream."""
    words = [word.upper() for word in command]
    begin = 4 if words[0] == b"XREADGROUP" else 1
    if b"STREAMS" not in words[begin:]:
        return None
    options = words[begin : words.index(b"STREAMS", begin)]
    return begin + options.index(b"BLOCK") if b"BLOCK" in options else None


class _Stepped:
    """What connections for threads and for asyncio have in common."""

    lane: Lane
    settle: Settle

    def __init__(self, *args: Any, lane: Lane, settle: Settle, **kwargs: Any) -> None:
        self.lane, self.settle = lane, settle
        self.unanswered = 0
        self.lost = self.greeting = False
        self.number = 0
        self._command_reader = hiredis.Reader()
        super().__init__(*args, **kwargs)

    def commands_of(self, packed: Any) -> list[Command]:
        """The commands that are about to be written."""
        reader, found = self._command_reader, []
        for piece in [packed] if isinstance(packed, str | bytes) else packed:
            reader.feed(piece.encode() if isinstance(piece, str) else piece)
        while (command := reader.gets()) is not False:
            found.append(tuple(command))
        return found

    def ask(self, packed: Any) -> tuple[list[Command], Order]:
        """Stop before these bytes; what they are, and what is to become of them."""
        commands = self.commands_of(packed)
        if self.lane.dead and commands == [(b"UNWATCH",)]:  # from a pipeline's __del__
            raise redis.ConnectionError("this client has crashed before")
        if any(command[0].upper() in _PUBSUB for command in commands):
            name = commands[0][0].decode()
            self.lane.misuse = KvlabError(f"{name} cannot be explored: there is no pub/sub here")
            raise self.lane.misuse
        if self.lane.pending_io:
            self.settle()
        order = self.lane.park(Sending(tuple(commands)))
        self.lost = order.startswith("lose")
        if order != "lose request":
            self.unanswered += len(commands)
            self.lane.pending_io += len(commands)
        return commands, order

    def blocks(self, commands: list[Command], seconds: float) -> Blocked | None:
        """Where to wait if the one command sent has no answer now."""
        self.settle()
        if self.readable():
            return None
        until = self.lane.monotonic() + seconds
        return Blocked(tuple(commands), seconds, until, self.readable, self.number)

    def readable(self) -> bool:
        """Whether an answer has come."""
        return bool(select.select([self.descriptor()], [], [], 0)[0])

    def descriptor(self) -> int:
        raise NotImplementedError

    def answered(self, reply: Any) -> None:
        """One reply was read."""
        if self.unanswered:
            self.unanswered -= 1
            self.lane.pending_io -= 1
            self.lane.replies.append(reply)

    def forget(self) -> None:
        """No reply will be read."""
        self.lane.pending_io -= self.unanswered
        self.unanswered, self.lost = 0, False


class _SteppedSync(_Stepped):
    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        self.greeting = True
        try:
            super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
            if self.number == 0:
                self._learn_number()
        finally:
            self.greeting = False

    def _learn_number(self) -> None:
        this: Any = self
        this.send_command("CLIENT", "ID")
        self.number = this.read_response()

    def descriptor(self) -> int:
        this: Any = self
        return int(this._sock.fileno())

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        this: Any = self
        send = super().send_packed_command  # type: ignore[misc]
        if self.greeting:
            send(command, check_health=False)
            return
        if not this._sock:
            self.connect_check_health(check_health=False)
        commands, order = self.ask(command)
        if order == "lose request":
            return
        timed = untimed(commands[0]) if len(commands) == 1 else None
        data = command if timed is None else this.pack_command(*timed[0])
        send(data, check_health=False)
        if order == "lose reply":
            for _ in commands:
                try:
                    self.answered(super().read_response())  # type: ignore[misc]
                except redis.ResponseError as error:
                    self.answered(error)
        elif timed is not None and (waits := self.blocks(commands, timed[1])):
            self.lane.park(waits)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if self.lost:
            this: Any = self
            this.disconnect()
            raise redis.ConnectionError("the connection was lost before the reply came")
        try:
            reply = super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.ResponseError as error:
            self.answered(error)
            raise
        if not kwargs.get("push_request"):
            self.answered(reply)
        return reply

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        self.number = 0
        super().disconnect(*args, **kwargs)  # type: ignore[misc]


class SteppedConnection(_SteppedSync, redis.Connection):
    """TCP, for threads."""


class SteppedUnixConnection(_SteppedSync, redis.UnixDomainSocketConnection):
    """Unix domain socket, for threads."""


class _SteppedAsync(_Stepped):
    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        selector: _Selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        async with selector.one_connects:  # or tasks would go on as their connections happen to
            self.greeting = True
            self.lane.pending_io += 1
            try:
                await super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
                if self.number == 0:
                    this: Any = self
                    await this.send_command("CLIENT", "ID")
                    self.number = await this.read_response()
            finally:
                self.greeting = False
                self.lane.pending_io -= 1

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
        timed = untimed(commands[0]) if len(commands) == 1 else None
        data = command if timed is None else this.pack_command(*timed[0])
        await send(data, check_health=False)
        if order == "lose reply":
            for _ in commands:
                try:
                    self.answered(await super().read_response())  # type: ignore[misc]
                except redis.ResponseError as error:
                    self.answered(error)
        elif timed is not None and (waits := self.blocks(commands, timed[1])):
            self.lane.park(waits)

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


class SteppedAsyncConnection(_SteppedAsync, AsyncConnection):
    """TCP, for asyncio."""


class SteppedAsyncUnixConnection(_SteppedAsync, AsyncUnixConnection):
    """Unix domain socket, for asyncio."""


class _Selector(selectors.DefaultSelector):
    """Waits for sockets in fact, and for timers in the lane."""

    def __init__(self, lane: Lane, settle: Settle) -> None:
        super().__init__()
        self.lane, self.settle = lane, settle
        self.one_connects = asyncio.Lock()

    def select(self, timeout: float | None = None) -> Any:
        if self.lane.pending_io > 0:
            self.settle()  # so that all the replies are there, not as many as happen to be
            return super().select(timeout)
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        self.lane.sleep(timeout)
        return super().select(0)


def loop_of(lane: Lane, settle: Settle) -> asyncio.AbstractEventLoop:
    """An event loop whose time is the lane's."""
    loop = asyncio.SelectorEventLoop(_Selector(lane, settle))
    loop.time = lane.monotonic  # type: ignore[method-assign]
    return loop
