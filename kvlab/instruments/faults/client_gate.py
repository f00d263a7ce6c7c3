"""Stop a redis-py client at the wire, just before or just after a named command.

With a gate a race happens every time: hold one client before its second command, let the other
client finish, and open the gate. The gate sees the packed bytes that a connection is about to
write, so it works alike for plain calls, pipelines, MULTI and code that uses connections directly.
Names are those on the wire: ``incr`` is INCRBY, a script is EVALSHA or EVAL.

    slow = gated(url, before="SET")
    thread = Thread(target=work, args=(slow,))
    thread.start()
    slow.gate.reached.wait()      # the client has read, and has not written
    other_client_writes()
    slow.gate.open()

``before``: all bytes ahead of the command are sent, the command is not sent. ``after``: the reply
has arrived (in MULTI: the QUEUED), and the caller has not seen it. With ``crash=True`` the client
crashes there: ``ClientCrashed`` is raised, the connections are dropped, and nothing that runs
later, a ``finally`` included, reaches the server through this client.

The gate stops the client once, at the ``nth`` such command of all the client's connections.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Literal

import redis
from redis.connection import ConnectionPool, UnixDomainSocketConnection

from kvlab.core.checks import boolean, real, text, whole
from kvlab.core.server_url import redis_url
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.faults.resp import HANDSHAKE, Command, Commands

HOLD_AT_MOST = 30.0


class ClientCrashed(BaseException):
    """The client crashed at its gate. Like SystemExit, it passes ``except Exception``."""


class GateTimeout(KvlabError):
    """The gate was not opened in time."""


class Gate:
    """A place at which one client stops. See the module's docstring.

    ``reached`` is set when the client has stopped; ``open()`` lets the client continue. A client
    that is held for ``hold_at_most`` seconds raises ``GateTimeout``. ``commands`` lists every
    command that was sent, without the handshake of the connections.
    """

    def __init__(
        self,
        before: str | None = None,
        *,
        after: str | None = None,
        nth: int = 1,
        crash: bool = False,
        hold_at_most: float = HOLD_AT_MOST,
    ) -> None:
        if (before is None) == (after is None):
            raise InvalidArgument(f"give before or after, got {before!r} and {after!r}")
        for side, given in (("before", before), ("after", after)):
            if given is not None:
                text(side, given)
        self._where: Literal["before", "after"] = "before" if before is not None else "after"
        self._name = (before or after or "").upper()
        self._nth = whole("nth", nth, 1)
        self._crash = boolean("crash", crash)
        self._hold_at_most = real("hold_at_most", hold_at_most, 0, above=True)
        self._seen = 0
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self.reached = threading.Event()
        self.crashed = False
        self.commands: list[str] = []

    def open(self) -> None:
        """Let the client continue. A gate that is opened first holds no client."""
        self._opened.set()

    def is_here(self, where: str, name: str) -> bool:
        """Whether the connection must stop here now; counts the command."""
        if where != self._where or name != self._name:
            return False
        with self._lock:
            self._seen += 1
            return self._seen == self._nth

    def stop(self) -> None:
        """Hold the calling thread, or crash it."""
        self.crashed = self._crash
        self.reached.set()
        if self._crash:
            raise ClientCrashed(f"{self._where} {self._name}")
        if not self._opened.wait(self._hold_at_most):
            raise GateTimeout(
                f"gate {self._where} {self._name} was not opened within {self._hold_at_most:g} s"
            )

    def refuse_if_crashed(self) -> None:
        """Raise ``ClientCrashed`` after a crash."""
        if self.crashed:
            raise ClientCrashed("this client has crashed")


class GatedMixin:
    """Added to a redis-py connection class, which gets the gate as a connection argument."""

    gate: Gate

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        self.gate = gate
        self._unanswered: deque[str] = deque()
        super().__init__(*args, **kwargs)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Write; stop where the gate is."""
        this: Any = self
        self.gate.refuse_if_crashed()
        # Connect first: the handshake is sent here too, and its commands must be queued first.
        if not this._sock:
            this.connect_check_health(check_health=False)
        if check_health:
            this.check_health()
        ready = b""
        for name, raw in _commands(command):
            if self.gate.is_here("before", name):
                self._write(ready)
                ready = b""
                self._stop()
            ready += raw
            self._unanswered.append(name)
            if name not in HANDSHAKE:
                self.gate.commands.append(name)
        self._write(ready)

    def _write(self, data: bytes) -> None:
        if data:
            super().send_packed_command([data], check_health=False)  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read; stop where the gate is."""
        try:
            reply = super().read_response(*args, **kwargs)  # type: ignore[misc]
        except redis.ResponseError:
            self._answered()
            raise
        if not kwargs.get("push_request"):
            self._answered()
        return reply

    def _answered(self) -> None:
        if self._unanswered and self.gate.is_here("after", self._unanswered.popleft()):
            self._stop()

    def _stop(self) -> None:
        try:
            self.gate.stop()
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Drop the connection and forget the commands without a reply."""
        self._unanswered.clear()
        super().disconnect(*args, **kwargs)  # type: ignore[misc]


class GatedConnection(GatedMixin, redis.Connection):
    """TCP."""


class GatedUnixConnection(GatedMixin, UnixDomainSocketConnection):
    """Unix domain socket."""


class GatedRedis(redis.Redis):
    """A redis-py client with a gate of its own, as ``client.gate``."""

    gate: Gate


def gated(
    url: str,
    before: str | None = None,
    *,
    after: str | None = None,
    nth: int = 1,
    crash: bool = False,
    hold_at_most: float = HOLD_AT_MOST,
    **client: Any,
) -> GatedRedis:
    """A client for ``url`` that stops at a ``Gate``; further arguments go to the connections."""
    text("url", url, None)
    gate = Gate(before, after=after, nth=nth, crash=crash, hold_at_most=hold_at_most)
    kind = GatedUnixConnection if url.startswith("unix://") else GatedConnection
    # For unix:// from_url sets a class of its own, so the class is set afterwards.
    pool = ConnectionPool.from_url(redis_url(url), **client)
    pool.connection_class = kind
    pool.connection_kwargs["gate"] = gate
    made = GatedRedis(connection_pool=pool)
    made.gate = gate
    return made


def _commands(packed: Any) -> list[Command]:
    pieces = [packed] if isinstance(packed, str | bytes) else packed
    data = b"".join(p.encode() if isinstance(p, str) else bytes(p) for p in pieces)
    return Commands().feed(data)
