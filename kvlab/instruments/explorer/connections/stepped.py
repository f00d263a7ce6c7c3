"""redis-py connections that stop their client before they write to the server.

One write is one stop: a plain command, a pipeline, a MULTI with all that is in it. What a
connection sends by itself when it connects is no stop. A blocking command is sent without its
timeout, and the client stops where the server makes it wait; CLIENT UNBLOCK ends that wait.
"""

from __future__ import annotations

from typing import Any

import hiredis
import redis

from kvlab.instruments.explorer.clients.blocking_commands import (
    refuse_waits,
    waits_for_replicas,
    waits_in,
)
from kvlab.instruments.explorer.clients.client_thread import ClientThread
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.clients.stops import Blocked, Command, Order, Sending
from kvlab.instruments.explorer.connections.server_side import ServerSide

_ANSWER = b"return tonumber(ARGV[1])"
"""WAIT is answered at once: by replicas that have got all that the client wrote, or in vain."""


class Noting:
    """Notes what the commands of a connection leave, but not what it sends when it connects.

    ``unclean``: the connections on which something is left.
    """

    server: ServerSide

    def __init__(self, *args: Any, server: ServerSide, unclean: set[object], **kwargs: Any) -> None:
        self.server, self._unclean = server, unclean
        self.greeting = self._is_open = False
        self._command_reader = hiredis.Reader()
        super().__init__(*args, **kwargs)

    def commands_of(self, packed: Any) -> list[Command]:
        """The commands that are about to be written. Raises Refused."""
        reader, found = self._command_reader, []
        for piece in [packed] if isinstance(packed, str | bytes) else packed:
            reader.feed(piece.encode() if isinstance(piece, str) else piece)
        while (command := reader.gets()) is not False:
            found.append(tuple(command))
        self._is_open, changed = self.server.leftovers.note(found, self._is_open)
        if changed:
            self._unclean.add("changed")
        if self._is_open:
            self._unclean.add(self)
        else:
            self._unclean.discard(self)
        return found


class _GreetingSync(Noting):
    """Counts the connections that are opened, and knows what one sends when it connects."""

    def _connect(self) -> Any:
        self.server.opened += 1
        return super()._connect()  # type: ignore[misc]

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        self.greeting = True
        try:
            super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
            self.connected()
        finally:
            self.greeting = False

    def connected(self) -> None:
        """What a kind of connection asks more, before any command of the client."""


class _NotingSync(_GreetingSync):
    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self.greeting:
            self.commands_of(command)
        super().send_packed_command(command, check_health)  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        reply = super().read_response(*args, **kwargs)  # type: ignore[misc]
        self.server.answers.append(reply)
        return reply


class SteppedConnectionBase(Noting):
    """What connections for threads and for asyncio have in common."""

    unanswered, lost, number = 0, False, 0

    def __init__(self, *args: Any, client_thread: ClientThread, **kwargs: Any) -> None:
        self.client_thread = client_thread
        super().__init__(*args, unclean=client_thread.unclean, **kwargs)

    def ask(self, packed: Any) -> tuple[list[Command], Order]:
        """Stop before these bytes are written: the commands in them, and what the explorer lets
        happen to them."""
        try:
            commands = self.commands_of(packed)
            replicas = self.server.has_replica
            refuse_waits(commands, unseen=not self.server.tells_who_waits, replicas=replicas)
        except Refused as problem:
            self.client_thread.misuse = problem
            raise
        if self.client_thread.dead and commands == [(b"UNWATCH",)]:  # from a pipeline's __del__
            raise redis.ConnectionError("this client has crashed before")
        if self.client_thread.pending_io:
            self.server.settle()
        order = self.client_thread.park(Sending(tuple(commands)))
        self.lost = order == "lose request"
        if order.startswith("lose"):  # an executor remembers that the server was silent
            self.client_thread.unclean.add("lost")
        return commands, order

    def found_closed(self) -> bool:
        """Whether the client looks at this connection once more, and finds it closed."""
        closed, self.client_thread.closed = self.client_thread.closed, False
        return closed

    def sends(self, commands: list[Command], order: Order) -> None:
        """The server gets the commands."""
        self.lost = order == "lose reply"
        self.unanswered += len(commands)
        self.client_thread.pending_io += len(commands)
        self.client_thread.sent_by = self.number

    def as_sent(
        self, packed: Any, commands: list[Command], order: Order
    ) -> tuple[Any, float | None]:
        """What is written instead of these bytes, and the timeout of a blocking command."""
        this: Any = self
        if self.server.has_replica and (count := waits_for_replicas(commands)) is not None:
            answer = b"0" if order == "wait in vain" else count
            answering = (b"EVAL", _ANSWER, b"0", answer)
            return this.pack_commands([*commands[:-1], answering]), None
        timed = waits_in(commands)
        return (packed, None) if timed is None else (this.pack_command(*timed[0]), timed[1])

    def blocks(self, commands: list[Command], seconds: float) -> Blocked | None:
        """Where the client waits, if the server does not answer the command at once."""
        self.server.settle()
        number, waits = self.number, self.server.waits
        if not waits(number):
            return None
        until = self.client_thread.monotonic() + seconds
        return Blocked(tuple(commands), seconds, until, lambda: not waits(number), number)

    def answered(self, reply: Any) -> None:
        """The client has read a reply."""
        if self.unanswered:
            self.unanswered -= 1
            self.client_thread.pending_io -= 1
            self.client_thread.replies.append(reply)

    def forget(self) -> None:
        """The client will read no reply any more."""
        if self.unanswered:
            self.client_thread.pending_io -= self.unanswered
        self.unanswered, self.lost = 0, False


class SteppedSync(_GreetingSync, SteppedConnectionBase):
    def connected(self) -> None:
        """Learn the number by which the server knows this connection."""
        if self.number == 0:
            this: Any = self
            this.send_command("CLIENT", "ID")
            self.number = this.read_response()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        this: Any = self
        send = super().send_packed_command  # type: ignore[misc]
        if self.greeting:
            send(command, check_health=False)
            return
        if not this._sock:
            self.connect_check_health(check_health=False)
        commands, order = self.ask(command)
        found_closed = self.found_closed()
        if order == "lose request":
            return
        if found_closed:
            this.disconnect()
            self.connect_check_health(check_health=False)
        self.sends(commands, order)
        data, timeout = self.as_sent(command, commands, order)
        send(data, check_health=False)
        if order == "lose reply":
            for _ in commands:
                try:
                    self.answered(super().read_response())  # type: ignore[misc]
                except redis.ResponseError as error:
                    self.answered(error)
        elif timeout is not None and (waits := self.blocks(commands, timeout)):
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
        except UnicodeDecodeError as error:  # the reply came; redis-py has closed the connection
            self.client_thread.replies.append(error)
            raise
        if not kwargs.get("push_request"):
            self.answered(reply)
        return reply

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self.forget()
        self.number = 0
        super().disconnect(*args, **kwargs)  # type: ignore[misc]


class NotingConnection(_NotingSync, redis.Connection):
    """TCP, for setup and invariant."""


class NotingUnixConnection(_NotingSync, redis.UnixDomainSocketConnection):
    """Unix domain socket, for setup and invariant."""


class SteppedConnection(SteppedSync, redis.Connection):
    """TCP, for threads."""


class SteppedUnixConnection(SteppedSync, redis.UnixDomainSocketConnection):
    """Unix domain socket, for threads."""
