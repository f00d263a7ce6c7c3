"""redis-py connections that stop their client before they write to the server.

One write is one stop: a plain command, a pipeline, a MULTI with all that is in it. What a
connection sends by itself when it connects is no stop. A blocking command is sent without its
timeout, and the client stops where the server makes it wait; CLIENT UNBLOCK ends that wait.
"""

from __future__ import annotations

import select
from typing import Any

import hiredis
import redis

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.blocking_commands import without_timeout
from kvlab.instruments.explorer.clients.client_thread import ClientThread
from kvlab.instruments.explorer.clients.event_loop import Settle
from kvlab.instruments.explorer.clients.stops import Blocked, Command, Order, Sending

_PUBSUB = {b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"}


class SteppedConnectionBase:
    """What connections for threads and for asyncio have in common."""

    client_thread: ClientThread
    settle: Settle

    def __init__(
        self, *args: Any, client_thread: ClientThread, settle: Settle, **kwargs: Any
    ) -> None:
        self.client_thread, self.settle = client_thread, settle
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
        """Stop before these bytes are written: the commands in them, and what the explorer lets
        happen to them."""
        commands = self.commands_of(packed)
        if self.client_thread.dead and commands == [(b"UNWATCH",)]:  # from a pipeline's __del__
            raise redis.ConnectionError("this client has crashed before")
        if any(command[0].upper() in _PUBSUB for command in commands):
            name = commands[0][0].decode()
            self.client_thread.misuse = KvlabError(
                f"{name} cannot be explored: there is no pub/sub here"
            )
            raise self.client_thread.misuse
        if self.client_thread.pending_io:
            self.settle()
        order = self.client_thread.park(Sending(tuple(commands)))
        self.lost = order.startswith("lose")
        if order != "lose request":
            self.unanswered += len(commands)
            self.client_thread.pending_io += len(commands)
        return commands, order

    def blocks(self, commands: list[Command], seconds: float) -> Blocked | None:
        """Where the client waits, if the server does not answer the command at once."""
        self.settle()
        if self.readable():
            return None
        until = self.client_thread.monotonic() + seconds
        return Blocked(tuple(commands), seconds, until, self.readable, self.number)

    def readable(self) -> bool:
        """Whether the server has answered."""
        return bool(select.select([self.descriptor()], [], [], 0)[0])

    def descriptor(self) -> int:
        raise NotImplementedError

    def answered(self, reply: Any) -> None:
        """The client has read a reply."""
        if self.unanswered:
            self.unanswered -= 1
            self.client_thread.pending_io -= 1
            self.client_thread.replies.append(reply)

    def forget(self) -> None:
        """The client will read no reply any more."""
        self.client_thread.pending_io -= self.unanswered
        self.unanswered, self.lost = 0, False


class _SteppedSync(SteppedConnectionBase):
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
        timed = without_timeout(commands[0]) if len(commands) == 1 else None
        data = command if timed is None else this.pack_command(*timed[0])
        send(data, check_health=False)
        if order == "lose reply":
            for _ in commands:
                try:
                    self.answered(super().read_response())  # type: ignore[misc]
                except redis.ResponseError as error:
                    self.answered(error)
        elif timed is not None and (waits := self.blocks(commands, timed[1])):
            self.client_thread.park(waits)

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
