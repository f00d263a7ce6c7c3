"""``kvlab room``: the store, the code and the key of a room, and the server until it ends."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn

import kvlab
from kvlab.errors import KvlabError
from kvlab.server import engines
from kvlab.workshop.room.app import app_of
from kvlab.workshop.room.one_server import OneServer
from kvlab.workshop.room.room import Room

_LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
"""Without those that look alike."""


@dataclass(frozen=True, slots=True)
class Entry:
    """``code`` lets participants in; ``key`` is the trainer's."""

    code: str
    key: str


def entry_of(folder: Path) -> Entry:
    """The entry of the room in this folder; a new room gets a new one."""
    file = folder / "room.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        new = Entry("".join(secrets.choice(_LETTERS) for _ in range(6)), secrets.token_urlsafe(18))
        draft = folder / f".room.json.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(new)))
        draft.replace(file)
    return Entry(**json.loads(file.read_text()))


@contextmanager
def store(folder: Path) -> Iterator[str]:
    """The URL of the room's store: ``KVLAB_URL``, else a server that keeps its data in ``folder``.

    That server writes each change to a file before it answers the next command, so that the data
    survive the end of every process; after a power cut the last second may be missing.
    """
    if url := os.environ.get("KVLAB_URL"):
        yield url
        return
    on_disk = {"appendonly": "yes", "dir": str(folder.resolve())}
    with engines.start("valkey", options=on_disk, unix_socket=True) as server:
        yield server.url


def serve(folder: Path, host: str, port: int, server: str | None = None) -> None:
    """Serve the room until SIGINT or SIGTERM.

    ``server``: the URL of one server for all participants, with a user that may use ACL. Raises
    KvlabError when the room cannot be opened.
    """
    entry = entry_of(folder)
    with store(folder) as url, _listening(host, port) as listening:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        print(f"the trainer's page: {address}/#{entry.key}")
        print(f"participants:       kvlab lab --room {address}/{entry.code} --name NAME")
        print(f"the room is kept in {folder.resolve()}; Ctrl-C closes it", flush=True)
        asyncio.run(_serve(url, entry, frozenset({host}), listening, server))


async def _serve(
    url: str, entry: Entry, hosts: frozenset[str], listening: socket.socket, server: str | None
) -> None:
    async with AsyncExitStack() as ends:
        prefix = os.environ.get("KVLAB_PREFIX", "room")
        kv = await ends.enter_async_context(await kvlab.aconnect(url, prefix=prefix))
        one_server = None
        if server is not None:
            admin = await kvlab.aconnect(server, prefix=prefix, allow_remote=True)
            await ends.enter_async_context(admin)
            await admin.run(kvlab.Op("ACL", "WHOAMI"))  # what is wrong with it shows here
            one_server = OneServer(admin, server, entry.key)
        app = app_of(Room(kv, entry.code, entry.key, one_server=one_server), hosts)
        config = uvicorn.Config(
            app,
            proxy_headers=False,  # otherwise uvicorn believes X-Forwarded-For of any peer
            server_header=False,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=3,
        )
        await uvicorn.Server(config).serve([listening])


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on a socket whose protocol is TCP, not 0.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as problem:
        listening.close()
        raise KvlabError(f"cannot listen on {host}, port {port}: {problem.strerror}") from None
    with listening:
        yield listening
