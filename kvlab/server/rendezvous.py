"""Where the processes of one user and their supervisor meet: a private directory.

    join.lock    held by a process while it looks for a supervisor or starts one
    life.lock    held by the supervisor while it lives; the kernel frees it, after kill -9 too
    control.sock members and questions (on Windows control.json: a loopback port and a secret)
    valkey.sock  the server
    *.log        what supervisor and server wrote since the last start

A connection says "join" or "status" and gets one line of JSON. A joined connection is a membership
until it is closed, which the kernel does for a killed process."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlab.errors import ServerUnavailable

ANSWER_SECONDS = 10.0
SERVER, CLUSTER = "server", "cluster"
_SOCKET_PATH_BYTES = 103  # macOS: 104 with the closing zero; Linux has four more
_HAS_UNIX = hasattr(socket, "AF_UNIX")


@dataclass(frozen=True, slots=True)
class Place:
    """The meeting place of one user, checked to be private; ``kind``: SERVER or CLUSTER."""

    directory: Path
    kind: str = SERVER

    @property
    def join_lock(self) -> Path:
        return self.directory / "join.lock"

    @property
    def life_lock(self) -> Path:
        return self.directory / "life.lock"

    @property
    def control(self) -> Path:
        return self.directory / ("control.sock" if _HAS_UNIX else "control.json")

    @property
    def server_socket(self) -> Path:
        return self.directory / "valkey.sock"

    @property
    def supervisor_log(self) -> Path:
        return self.directory / "supervisor.log"


def default_directory(kind: str = SERVER) -> Path:
    """KVLAB_RUNTIME_DIR, or ``/tmp/kvlab-<user id>``: one place for one user.

    The members of the cluster meet in the folder ``cluster`` of that place.

    A desktop session, ssh, cron and a container's shell of one user differ in XDG_RUNTIME_DIR and
    TMPDIR. The place depends on neither, so that they all meet in one server. (Without a ``/tmp``,
    as on Windows, the place is in the folder for temporary files.)
    """
    if kind == CLUSTER:
        return default_directory() / CLUSTER
    chosen = os.environ.get("KVLAB_RUNTIME_DIR")
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    shared = Path("/tmp")
    return (shared if shared.is_dir() else Path(tempfile.gettempdir())) / f"kvlab-{user}"


def place(directory: Path | None = None, kind: str = SERVER) -> Place:
    """The meeting place, made if absent. Raises ServerUnavailable when it is not safe to use."""
    if kind == CLUSTER and directory is None:
        place()  # the folder above must be private too
    found = Place(directory or default_directory(kind), kind)
    length = len(os.fsencode(found.server_socket))
    if _HAS_UNIX and length > _SOCKET_PATH_BYTES:
        raise ServerUnavailable(
            f"the path of the socket {found.server_socket} is {length} bytes, a Unix socket allows "
            f"{_SOCKET_PATH_BYTES}: set KVLAB_RUNTIME_DIR to a shorter directory"
        )
    try:
        found.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = found.directory.lstat()
    except OSError as error:
        raise ServerUnavailable(
            f"cannot make {found.directory} ({error}): set KVLAB_RUNTIME_DIR to one of yours"
        ) from error
    if os.name == "posix":
        _check_private(found.directory, status)
    return found


def _check_private(directory: Path, status: os.stat_result) -> None:
    advice = "set KVLAB_RUNTIME_DIR to a directory of yours"
    if not stat.S_ISDIR(status.st_mode):
        raise ServerUnavailable(f"{directory} is not a directory: {advice}")
    if status.st_uid != os.getuid():
        raise ServerUnavailable(f"{directory} belongs to user id {status.st_uid}: {advice}")
    if status.st_mode & 0o077:
        raise ServerUnavailable(
            f"{directory} is open to other users: chmod 700 {directory}, or {advice}"
        )


def listen(at: Place) -> socket.socket:
    """The supervisor's listener. The caller holds ``life.lock``: an old socket file is stale."""
    at.control.unlink(missing_ok=True)
    if _HAS_UNIX:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(at.control))
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        note = {"port": listener.getsockname()[1], "secret": secrets.token_hex(16)}
        draft = at.control.with_suffix(".draft")
        draft.write_text(json.dumps(note))
        draft.replace(at.control)
    listener.listen(128)
    return listener


def expected_line(at: Place, verb: str) -> bytes:
    """The line that a client must send: the verb; on Windows a secret before it."""
    secret = "" if _HAS_UNIX else json.loads(at.control.read_text())["secret"] + " "
    return f"{secret}{verb}\n".encode()


def dial(at: Place, verb: str) -> tuple[socket.socket, dict[str, Any]] | None:
    """Ask the supervisor; its answer and the open connection, or None when there is no supervisor.

    Raises ServerUnavailable when one is there and does not answer.
    """
    connection: socket.socket | None = None
    try:
        if _HAS_UNIX:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(at.control))
        else:
            address = ("127.0.0.1", json.loads(at.control.read_text())["port"])
            connection = socket.create_connection(address, timeout=ANSWER_SECONDS)
        connection.sendall(expected_line(at, verb))
        line = _read_line(connection)
    except TimeoutError:
        _close(connection)
        raise ServerUnavailable(
            f"the supervisor in {at.directory} does not answer; its process id is in "
            f"{at.supervisor_log.name} there: end that process and try again"
        ) from None
    except (FileNotFoundError, ConnectionError):  # none, or it ended while we spoke
        _close(connection)
        return None
    except BaseException:
        _close(connection)
        raise
    if not line:
        _close(connection)
        return None
    return connection, json.loads(line)


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(4096)
        if not part:
            return b""
        line += part
    return line


def _close(connection: socket.socket | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.close()
