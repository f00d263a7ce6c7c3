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
from kvlab.core.server_url import naming
from kvlab.errors import KvlabError
from kvlab.server import engines
from kvlab.server.listening import address, is_open, listening
from kvlab.server.strict_http import StrictHttp
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise KvlabError(f"no room can be kept in {folder}: {problem.strerror}") from None
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
    with listening(host, port) as bound:
        entry = entry_of(folder)
        with store(folder) as url:
            _ask(url)
            room = address(host, bound.getsockname()[1])
            print(f"the trainer's page: {room}/#{entry.key}")
            print(f"participants:       kvlab lab --room {room}/{entry.code} --name NAME")
            if is_open(host):
                print("WARNING: plain HTTP, open to the network: who listens in reads the key too")
            print(f"the room is kept in {folder.resolve()}; Ctrl-C closes it", flush=True)
            asyncio.run(_serve(url, entry, frozenset({host}), bound, server))


def _ask(url: str) -> None:
    """Raises the store's error before anybody is invited."""
    with naming("KVLAB_URL"), kvlab.connect(url) as kv:  # the room's own server has a good URL
        kv.run(kvlab.Op("PING"))


async def _serve(
    url: str, entry: Entry, hosts: frozenset[str], bound: socket.socket, server: str | None
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
            http=StrictHttp,
            server_header=False,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=3,
        )
        await uvicorn.Server(config).serve([bound])
