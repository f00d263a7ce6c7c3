"""A private server: a process on a free port of 127.0.0.1 that keeps nothing on disk.

The process ends with the process that started it (``guarded_process``). What it is comes from the
server itself (INFO), since a binary on PATH may be anything.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.server.guarded_process import Guarded

_NOTHING_ON_DISK = ("--save", "", "--appendonly", "no", "--daemonize", "no")
_START_SECONDS = 15.0
_CLUSTER_BUS_LIMIT = 55_535  # a cluster node also listens on its port + 10000


@dataclass(frozen=True, slots=True)
class Engine:
    """A server program. Exactly one of ``command`` and ``missing`` is None."""

    name: str
    version: str | None
    command: tuple[str, ...] | None
    missing: str | None


class RunningServer:
    """A private server. ``name`` is the engine's; ``version`` is what the server said of itself.

    With ``unix_socket`` the server listens there and on no port, with ``port`` on that port. The
    server runs until ``kill``.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        options: Mapping[str, str],
        env: Mapping[str, str],
        unix_socket: Path | None = None,
        port: int = 0,
    ) -> None:
        if engine.command is None:
            raise ServerUnavailable(f"engine {engine.name} is not here: {engine.missing}")
        if engine.name == "fakeredis" and options:
            raise InvalidArgument(f"options is {dict(options)!r}; fakeredis takes none")
        self.name = engine.name
        self.version = engine.version or "unknown"
        self._command = engine.command
        self._directory = directory
        self._options = options
        self._env = env
        self._unix_socket = unix_socket
        self._child: Guarded | None = None
        self.port = port
        if unix_socket is None and not port:
            self._start_on_a_free_port()
        elif not self._start():
            raise ServerUnavailable(f"port {port} was taken by another process")

    @property
    def url(self) -> str:
        """A redis-py URL, without a password if one was set by options."""
        if self._unix_socket is not None:
            return f"unix://{quote(str(self._unix_socket))}?db=0"
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id. Raises ServerUnavailable after ``kill``."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What the server has written to its log so far."""
        path = self._directory / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def client(self, **kwargs: Any) -> redis.Redis:
        """A new redis-py client; the caller closes it."""
        password = self._options.get("requirepass")
        if self._unix_socket is not None:
            return redis.Redis(unix_socket_path=str(self._unix_socket), password=password, **kwargs)
        return redis.Redis(self.host, self.port, password=password, **kwargs)

    def has_ended(self) -> bool:
        """Whether the process has ended, by ``kill`` or by itself."""
        return self._child is None or self._child.has_ended()

    def kill(self) -> None:
        """Kill the process (SIGKILL) and wait for its end. May be called again."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): it accepts connections and answers nothing."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a frozen process (SIGCONT)."""
        self._running().signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill the server if it still runs, and start an empty one on the same port."""
        self.kill()
        if not self._start():
            raise ServerUnavailable(f"port {self.port} was taken during a restart")

    def _running(self) -> Guarded:
        if self._child is None:
            raise ServerUnavailable(f"{self.name} on port {self.port} was killed")
        return self._child

    def _start_on_a_free_port(self) -> None:
        for _ in range(10):
            self.port = free_port()
            if self._start():
                return
        raise ServerUnavailable(f"{self.name} lost the race for a free port ten times")

    def _start(self) -> bool:
        """Start on ``self.port``; False when another process took the port first."""
        log_length = len(self.log)
        self._child = child = Guarded(
            (*self._command, *self._arguments()),
            log=self._directory / "server.log",
            directory=self._directory,
            env=self._env,
            own_watch=self.name == "fakeredis",
        )
        try:
            self._wait_until_ready(child)
        except BaseException:
            self.kill()
            if "already in use" in self.log[log_length:]:
                return False
            raise
        return True

    def _arguments(self) -> tuple[str, ...]:
        if self.name == "fakeredis":
            return (str(self.port),)
        options = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        address: tuple[str, ...] = (
            "--bind",
            self.host,
            "--port",
            str(self.port),
            "--dir",
            str(self._directory),
        )
        if self._unix_socket is not None:
            address += ("--unixsocket", str(self._unix_socket), "--unixsocketperm", "700")
        if "requirepass" in self._options:  # a command line can be read by every user
            (path := self._directory / "server.conf").touch(mode=0o600)
            path.write_text("".join(f"{n} {_quoted(v)}\n" for n, v in self._options.items()))
            return (str(path), *_NOTHING_ON_DISK, *address)
        return (*_NOTHING_ON_DISK, *address, *options)

    def _wait_until_ready(self, child: Guarded) -> None:
        deadline = time.monotonic() + _START_SECONDS
        quick = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 1, "driver_info": None}
        with self.client(**quick) as client:
            while time.monotonic() < deadline:
                if child.has_ended():
                    raise ServerUnavailable(
                        f"{self.name} ended at its start, exit status {child.process.returncode}:\n"
                        + last_lines(self.log)
                    )
                try:
                    if self._is_ours(client, child):
                        return
                except (redis.ConnectionError, redis.TimeoutError):
                    pass  # not listening yet
                time.sleep(0.01)
        raise ServerUnavailable(
            f"{self.name} did not answer within {_START_SECONDS:.0f} s:\n" + last_lines(self.log)
        )

    def _is_ours(self, client: redis.Redis, child: Guarded) -> bool:
        if self.name == "fakeredis":  # knows no INFO
            return f"serving, process id {child.pid}\n" in self.log and bool(client.ping())
        # Another server may have taken the port while ours is about to fail on it.
        if client.info("server")["process_id"] != child.pid:
            return False
        _, self.version = identify(client)
        return True


def _quoted(value: str) -> str:
    """A value as a file of the server's options has it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def identify(client: redis.Redis) -> tuple[str, str]:
    """What a server says it is: ("valkey" or "redis", version).

    Valkey also answers a ``redis_version``, that of the Redis it is compatible with.
    """
    info = client.info("server")
    if "valkey_version" in info:
        return "valkey", str(info["valkey_version"])
    return "redis", str(info["redis_version"])


def last_lines(text: str) -> str:
    """The end of a log, indented, for an error message."""
    lines = text.strip().splitlines()[-8:] or ["(its log is empty)"]
    return "\n".join(f"    {line}" for line in lines)


def free_port() -> int:
    """A port of 127.0.0.1 that is free now and low enough for a cluster node."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= _CLUSTER_BUS_LIMIT:
            return port
